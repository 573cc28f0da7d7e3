"""Listing a source: one InputRef for every entry, good or bad, in a fixed order, without opening a picture.

Memory holds one folder's names, one tar's index, or a few thousand table rows at a time (and, for a known dataset, what
its annotation files say), so a million photographs are no matter.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import SourceSpec
from unif2ace_data.schema import InputRef, Status
from unif2ace_data.sources.annotations import Layout
from unif2ace_data.sources.kinds import (
    HEAD,
    SIDECARS,
    Kind,
    clean,
    kind_by_content,
    kind_by_name,
    stems_of,
)
from unif2ace_data.sources.layouts import open_layout
from unif2ace_data.sources.manifest import Manifest
from unif2ace_data.sources.read import stamp_of
from unif2ace_data.sources.sidecars import MAX_BYTES, beside, sidecars_of
from unif2ace_data.sources.tables import list_table
from unif2ace_data.sources.tars import UNPACK, list_tar

COMPANIONS = frozenset({"dataset_info.json", "dataset_dict.json", "state.json"})  # of a saved HF dataset: no inputs
MEDIA = ("image", "video")


def list_inputs(spec: SourceSpec, manifest: Manifest, prefix: str = "") -> Iterator[InputRef]:
    """Every entry of `spec.path`: a folder (recursively), or one picture, video, tar or table.

    `prefix` begins every `source_id` in place of the manifest's name; source_prefixes gives distinct ones. Entries that
    cannot be used carry a `problem`. Leaving no ref of their own: folders, sidecars of a picture (they are in its
    annotations), and the dataset's own annotation files. Raises UserError where there is nothing at `spec.path`.
    """
    root = Path(spec.path).absolute()
    if not root.exists():
        raise UserError(f"source {spec.path}: there is no such file or folder", 2)
    base = root if root.is_dir() else root.parent
    listing = Listing(base, prefix or manifest.name, manifest.name, open_layout(base, manifest))
    refs = walk(listing) if root.is_dir() else one_file(listing, root)
    for ref in refs:
        if ref.problem is not None:  # messages name files, and a ledger is UTF-8
            code, message = ref.problem
            ref.problem = (code, message.encode("utf-8", "backslashreplace").decode())
        yield ref


def notes(spec: SourceSpec, manifest: Manifest) -> list[str]:
    """What to know of this source: annotation files that are missing, broken, or not the published ones."""
    root = Path(spec.path).absolute()
    return open_layout(root if root.is_dir() else root.parent, manifest).notes


def source_prefixes(specs: list[SourceSpec], manifests: list[Manifest]) -> list[str]:
    """Distinct prefixes for `list_inputs`: the manifest's name; for later sources of one manifest, `name@folder`.

    The first source of a manifest keeps its ids when others are added behind it.
    """
    prefixes: list[str] = []
    for spec, manifest in zip(specs, manifests, strict=True):
        prefix, number = manifest.name, 1
        while prefix in prefixes:
            prefix = f"{manifest.name}@{clean(Path(spec.path).absolute().name)}{f'~{number}' if number > 1 else ''}"
            number += 1
        prefixes.append(prefix)
    return prefixes


@dataclass(slots=True)
class Listing:
    """What stays the same during one listing. `followed`: real folders that are walked (the root, targets of links)."""

    root: Path
    prefix: str
    dataset: str
    layout: Layout
    followed: list[Path] = field(default_factory=list)

    def ref(self, path: Path, inside: str, stamp: str, problem: tuple[str, str] | None, status: Status) -> InputRef:
        source_id = f"{self.prefix}/{clean(inside)}"
        return InputRef(
            source_id, self.dataset, "file", os.fspath(path), stamp, problem=problem, problem_status=status
        )  # fmt: skip

    def bad(self, path: Path, inside: str, code: str, message: str, status: Status = "failed") -> InputRef:
        return self.ref(path, inside, "", (code, message), status)


class Folder:
    """One folder on the way: its entries in order, and which of them are sidecars of which pictures.

    `inside`: its path below the root, with a slash at the end, or empty. `told`: sidecars whose damage was reported.
    """

    def __init__(self, path: Path, inside: str, names: list[str]) -> None:
        self.path, self.inside, self.names = path, inside, iter(names)
        self.sidecars = {name for name in names if name.endswith(SIDECARS)}
        pictures = [name for name in names if kind_by_name(name) in MEDIA] if self.sidecars else []
        self.used = {sidecar for name in pictures for sidecar in sidecars_of(name, self.sidecars)}
        self.told: set[str] = set()


def walk(listing: Listing) -> Iterator[InputRef]:
    listing.followed.append(listing.root.resolve())
    stack: list[Folder] = []  # not recursion: folders may lie deeper than Python's stack
    trouble = enter(listing, listing.root, "", stack)
    if trouble is not None:
        yield trouble
    while stack:
        folder = stack[-1]
        name = next(folder.names, None)
        if name is None:
            stack.pop()
            continue
        path, inside = folder.path / name, folder.inside + name
        try:
            status = path.lstat()
            link = stat.S_ISLNK(status.st_mode)
            if link:
                status = path.stat()
            if not stat.S_ISDIR(status.st_mode):
                yield from listed_file(listing, folder, name)
                continue
            if kind_by_name(name) in ("image", "video", "tar", "archive"):
                message = "a folder with the name of a file; what lies in it is listed"
                yield listing.bad(path, inside, "is_a_directory", message, "dropped")
            trouble = leads_back(listing, path, inside) if link else None
            trouble = trouble or enter(listing, path, inside + "/", stack)
            if trouble is not None:
                yield trouble
        except OSError as error:
            yield listing.bad(path, inside, *os_problem(path, error))


def one_file(listing: Listing, path: Path) -> Iterator[InputRef]:
    sidecars = [
        s + suffix for s in stems_of(path.name) for suffix in SIDECARS if (path.parent / (s + suffix)).is_file()
    ]
    try:
        yield from listed_file(listing, Folder(path.parent, "", [path.name, *sidecars]), path.name)
    except OSError as error:
        yield listing.bad(path, path.name, *os_problem(path, error))


def enter(listing: Listing, path: Path, inside: str, stack: list[Folder]) -> InputRef | None:
    """Put a folder on the stack; what is wrong where it cannot be read."""
    try:
        with os.scandir(path) as entries:
            names = sorted((entry.name for entry in entries), key=os.fsencode)
    except OSError as error:
        return listing.bad(path, inside.rstrip("/"), "unreadable", f"the folder cannot be read ({error.strerror})")
    stack.append(Folder(path, inside, names))
    return None


def leads_back(listing: Listing, path: Path, inside: str) -> InputRef | None:
    """Why a link to a folder is not followed; None where it leads out of all that is walked anyway."""
    target, here = path.resolve(), path.parent.resolve()
    if here.is_relative_to(target) or any(root != target and root.is_relative_to(target) for root in listing.followed):
        return listing.bad(path, inside, "symlink_loop", "a link back to a folder that it lies in")
    if any(target.is_relative_to(root) for root in listing.followed):
        message = "a link to a folder that is listed under its own name"
        return listing.bad(path, inside, "symlink_inside", message, "dropped")
    listing.followed.append(target)
    return None


def os_problem(path: Path, error: OSError) -> tuple[str, str]:
    if error.errno == errno.ELOOP:
        return "symlink_loop", "a link that leads back to itself"
    if isinstance(error, FileNotFoundError):
        return ("dangling_link", "a link to nothing") if path.is_symlink() else ("vanished", "it is gone again")
    return "unreadable", error.strerror or str(error)


def listed_file(listing: Listing, folder: Folder, name: str) -> Iterator[InputRef]:
    """The refs of one file. Raises OSError where it cannot be looked at."""
    path, inside = folder.path / name, folder.inside + name
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        yield listing.bad(path, inside, "not_a_file", "a socket, a pipe or a device", "dropped")
        return
    if name in COMPANIONS or listing.layout.is_annotation(inside):
        return
    kind, stamp = kind_of(path, name), stamp_of(status)
    ref = listing.ref(path, inside, stamp, None, "failed")
    if kind in MEDIA:
        ref.kind, ref.size = "video" if kind == "video" else "file", status.st_size
        if aside := listing.layout.aside(inside):
            ref.problem, ref.problem_status = ("not_a_photo", aside), "dropped"
        else:
            yield from annotate(listing, folder, name, ref)
        yield ref
    elif kind == "tar":
        yield from list_tar(path, ref.source_id, listing.dataset, stamp, listing.layout)
    elif kind == "table":
        yield from list_table(path, ref.source_id, listing.dataset, stamp)
    elif kind == "archive":
        ref.problem = ("compressed_archive", UNPACK)
        yield ref
    elif name not in folder.used:
        ref.problem, ref.problem_status = ("not_media", "neither a picture, a video, a tar nor a table"), "dropped"
        yield ref


def kind_of(path: Path, name: str) -> Kind:
    kind = kind_by_name(name)
    if kind is None:
        with path.open("rb") as file:
            kind = kind_by_content(file.read(HEAD))
    return kind


def annotate(listing: Listing, folder: Folder, name: str, ref: InputRef) -> Iterator[InputRef]:
    """Put into `ref` what its sidecars and its dataset say; yields the sidecars that cannot be used."""

    def read(sidecar: str) -> bytes:
        with (folder.path / sidecar).open("rb") as file:
            return file.read(MAX_BYTES + 1)

    folder.used.update(sidecars_of(name, folder.sidecars))  # a picture may be known by its content only
    ref.annotations, broken = beside(name, folder.sidecars, read)
    listing.layout.annotate(ref, folder.inside + name)
    for sidecar, message in broken:
        if sidecar not in folder.told:
            folder.told.add(sidecar)
            path, inside = folder.path / sidecar, folder.inside + sidecar
            yield listing.bad(path, inside, "broken_sidecar", message, "dropped")
