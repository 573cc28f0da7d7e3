"""What the modules of known datasets (ffhq.py, celeba.py, celebv.py) share: a Layout, and records of what a source says.

`validated` follows who annotated: people (CelebA, CelebV-HQ) have looked at the pictures, so their labels count as shown;
a machine's (FFHQ's features) were never checked here and only support what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unif2ace_data.errors import InputError
from unif2ace_data.schema import Annotations, Attribute, Evidence, InputRef
from unif2ace_data.sources.kinds import stems_of
from unif2ace_data.sources.manifest import Manifest
from unif2ace_data.sources.sidecars import add
from unif2ace_data.taxonomy import load_taxonomy


@dataclass(slots=True)
class Layout:
    """`said_of(stem)`: annotations of the photograph with this file name (no folder, no extension); may raise InputError.

    `is_annotation(path below the root)`: the file holds annotations and is no input. `set_aside`: folders whose
    pictures are no photographs (masks, sketches). `notes`: what is missing.
    """

    said_of: Callable[[str], Annotations] = lambda stem: Annotations()
    is_annotation: Callable[[str], bool] = lambda inside: False
    set_aside: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    def annotate(self, ref: InputRef, inside: str) -> None:
        """Add what the dataset says of the photograph at this path; a broken entry becomes the ref's problem."""
        try:
            add(ref.annotations, self.said_of(stems_of(inside)[0].rpartition("/")[2]))
        except InputError as error:
            ref.problem = (error.code, error.message)

    def aside(self, inside: str) -> str:
        """Why the picture at this path is no photograph, or nothing."""
        folder = next((part for part in inside.split("/")[:-1] if part in self.set_aside), "")
        return f"{folder}/ holds pictures made from the photographs (masks, sketches, cut-outs)" if folder else ""


def find(root: Path, *names: str) -> Path | None:
    """The first of these files or folders that is there, below `root` or beside it (where `root` is the photos' folder)."""
    return next((base / name for name in names for base in (root, root.parent) if (base / name).exists()), None)


def wrong_size(path: Path, manifest: Manifest) -> list[str]:
    """A note where the file is not as long as the published one."""
    expected = manifest.expected.files.get(path.name)
    if expected is None or path.stat().st_size == expected.bytes:
        return []
    return [f"{manifest.name}: {path.name} has {path.stat().st_size} bytes, the published one {expected.bytes}"]


def attribute(
    name: str, value: str, by: str, *, confidence: float, validated: bool, revision: str = "", measured: str = ""
) -> dict[str, Any]:
    """A record for `Annotations.attributes`: Attribute.model_dump()."""
    taxonomy = load_taxonomy()
    return Attribute(
        name=name,
        group=taxonomy[name].group if name in taxonomy else "appearance",
        value=value,
        confidence=round(min(1.0, max(0.0, confidence)), 3),
        validated=validated,
        evidence=Evidence(by=f"source:{by}", revision=revision, measured=measured),
    ).model_dump()


def people_said(labels: dict[str, bool], by: str, revision: str) -> list[dict[str, Any]]:
    """Attributes from the yes/no labels that people gave one picture (CelebA's or CelebV-HQ's names).

    Confidence 1: the datasets publish no error rates. Labels that contradict each other, or the taxonomy's one value,
    state nothing: of brown and black hair neither, of a goatee with a moustache neither.
    """
    given = {name.strip().lower().replace(" ", "_"): value for name, value in labels.items()}
    hair = [n for n in ("black_hair", "brown_hair", "blond_hair", "blonde_hair", "gray_hair") if given.get(n)]
    beard = [n for n in ("goatee", "mustache", "5_o_clock_shadow") if given.get(n)]
    unclear = set(hair) if len(hair) > 1 else set()
    if len(beard) > 1 or (given.get("sideburns") and not beard):  # "not no beard" may mean just the sideburns
        unclear |= {*beard, "no_beard"}
    if given.get("eyeglasses") and "sunglasses" not in given:  # CelebA counts sunglasses among them
        unclear.add("eyeglasses")
    clear = {name: value for name, value in given.items() if name not in unclear}
    return [
        attribute(name, value, by, confidence=1.0, validated=True, revision=revision)
        for name, value in load_taxonomy().from_labels(clear)
    ]
