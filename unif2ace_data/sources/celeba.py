"""MM-CelebA-HQ: images/0.jpg …, text/celeba-caption/0.txt (ten lines), CelebAMask-HQ-attribute-anno.txt (40 labels).

CelebA's labels were given by people, so they count as validated. The captions were generated from those labels by a
grammar. "Attractive" is a judgement and is not taken over.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from unif2ace_data.errors import UserError
from unif2ace_data.schema import Annotations
from unif2ace_data.sources.annotations import Layout, find, people_said, wrong_size
from unif2ace_data.sources.manifest import Manifest

LABELS = ("CelebAMask-HQ-attribute-anno.txt", "celeba-hq-attribute.txt")
CAPTIONS = ("text/celeba-caption", "celeba-caption")
OWN_FILES = re.compile(
    r"(^|/)(celeba-caption/\d+\.txt|(train|test)/filenames\.pickle"
    r"|CelebAMask-HQ-(attribute|pose)-anno\.txt|celeba-hq-attribute\.txt|CelebA-HQ-to-CelebA-mapping\.txt)$"
)
DERIVED = frozenset({"label", "labels", "mask", "masks", "sketch", "rmebg", "CelebAMask-HQ-mask-anno"})
SIGNS = {"1": 1, "-1": 0}


def open_celeba(root: Path, manifest: Manifest) -> Layout:
    notes: list[str] = []
    names: list[str] = []
    rows: dict[str, bytes] = {}
    revision = ""
    path = find(root, *LABELS)
    if path is None:
        notes.append(f"mm-celeba-hq: no {LABELS[0]} at the source: none of CelebA's 40 labels is known")
    else:
        notes += wrong_size(path, manifest)
        try:
            revision = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            names, rows, left_out = read_labels(path)
            if left_out:
                notes.append(f"mm-celeba-hq: {left_out} rows of {path.name} cannot be read")
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not CelebA's label file, or damaged: {error}", 2) from None
    captions = find(root, *CAPTIONS)
    if captions is None:
        notes.append(f"mm-celeba-hq: no {CAPTIONS[0]}/ at the source: no captions of its own")

    def said_of(stem: str) -> Annotations:
        said = Annotations()
        if captions is not None and stem.isdecimal():
            said.captions = read_captions(captions / f"{stem}.txt")
        if stem in rows:
            labels = {name: bool(value) for name, value in zip(names, rows[stem], strict=True)}
            said.attributes = people_said(labels, "mm-celeba-hq", revision)
        return said

    return Layout(said_of, lambda inside: bool(OWN_FILES.search(inside)), DERIVED, notes)


def read_labels(path: Path) -> tuple[list[str], dict[str, bytes], int]:
    """(label names, one byte a label by file stem, rows left out): a count line, a line of names, rows of `0.jpg -1 1 …`."""
    rows: dict[str, bytes] = {}
    left_out = 0
    with path.open(encoding="utf-8") as file:
        if not file.readline().strip().isdecimal():
            raise ValueError("its first line is not the number of photos")
        names = file.readline().split()
        if not names or set(names) & set(SIGNS):
            raise ValueError("its second line does not name the labels")
        for line in file:
            photo, *signs = line.split() or [""]
            if not photo:
                continue
            if len(signs) == len(names) and set(signs) <= set(SIGNS):
                rows[photo.rpartition(".")[0] or photo] = bytes(SIGNS[s] for s in signs)
            else:
                left_out += 1
    return names, rows, left_out


def read_captions(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return []
