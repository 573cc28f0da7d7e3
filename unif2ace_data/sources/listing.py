"""Listing a source: one InputRef for every entry, good or bad, without opening a picture.

A walk in sorted order; flat memory apart from one folder's names and one archive's index. What a dataset's own
annotation files say (layouts.py) is attached on the way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from unif2ace_data.recipe import SourceSpec
from unif2ace_data.schema import Annotations, InputRef
from unif2ace_data.sources.kinds import clean, kind_of
from unif2ace_data.sources.layouts import Layout, open_layout
from unif2ace_data.sources.manifest import Manifest
from unif2ace_data.sources.sidecars import MOST, from_files
from unif2ace_data.sources.tables import list_table
from unif2ace_data.sources.tars import list_tar

# Files that describe a folder and are no inputs (HF datasets, webdataset and this toolkit's own).
COMPANIONS = {
    "dataset_info.json",
    "state.json",
    "dataset_dict.json",
    "license",
    "license.txt",
    "readme.md",
    "source.md",
}


def list_inputs(spec: SourceSpec, manifest: Manifest, prefix: str = "") -> Iterator[InputRef]:
    """Every entry under `spec.path` (a folder, or one file), by sorted path.

    `prefix` keeps two sources of one manifest apart: it stands behind the dataset's name in `source_id`.
    """
    root = Path(spec.path)
    layout = open_layout(root, manifest)
    base = f"{manifest.name}/{prefix}" if prefix else manifest.name
    if root.is_file():
        yield from list_file(root, f"{base}/{clean(root.name)}", root.name, manifest.name, layout, set())
    else:
        yield from walk(root, "", base, manifest.name, layout, (root.resolve(),))


def notes(spec: SourceSpec, manifest: Manifest) -> list[str]:
    """What the user should know of this source: annotation files that are missing, for example."""
    return open_layout(Path(spec.path), manifest).notes


def walk(
    folder: Path, inside: str, base: str, dataset: str, layout: Layout, above: tuple[Path, ...]
) -> Iterator[InputRef]:
    """`inside`: path of `folder` below the source's root, with a slash at its end; `above`: real paths on the way."""
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as error:
        yield bad(base, inside.rstrip("/"), dataset, folder, "unreadable", f"folder: {error.strerror}")
        return
    names = {e.name for e in entries}
    for entry in entries:
        path, relative = Path(entry.path), inside + entry.name
        source_id = f"{base}/{clean(relative)}"
        try:
            if entry.is_dir():
                if kind_of(path.suffix.lower(), b"") and path.suffix:
                    yield bad(base, relative, dataset, path, "is_a_directory", "a folder with the name of a file")
                real = path.resolve()
                if real in above:
                    yield bad(base, relative, dataset, path, "symlink_loop", f"a link back to {clean(real.name)}")
                elif not layout.is_annotation(relative + "/"):
                    yield from walk(path, relative + "/", base, dataset, layout, (*above, real))
            elif entry.is_file():
                yield from list_file(path, source_id, relative, dataset, layout, names)
            elif entry.is_symlink():
                yield bad(base, relative, dataset, path, "dangling_link", "a link to nothing")
            else:
                yield bad(base, relative, dataset, path, "not_a_file", "a socket, a pipe or a device")
        except OSError as error:
            code = "symlink_loop" if error.errno == 40 else "unreadable"
            yield bad(base, relative, dataset, path, code, error.strerror or str(error))


def list_file(
    path: Path, source_id: str, relative: str, dataset: str, layout: Layout, names: set[str]
) -> Iterator[InputRef]:
    suffix, stem = path.suffix.lower(), path.name[: len(path.name) - len(path.suffix)]
    status = path.stat()
    stamp = f"{status.st_size}-{status.st_mtime_ns}"
    head = b""
    if not suffix:
        with path.open("rb") as file:
            head = file.read(512)
    kind = kind_of(suffix, head)
    if kind == "tar":
        yield from list_tar(path, source_id, dataset, stamp)
    elif kind == "table":
        yield from list_table(path, source_id, dataset, stamp)
    elif kind in ("file", "video"):
        ref = InputRef(source_id, dataset, kind, os.fspath(path), stamp)  # type: ignore[arg-type]
        ref.annotations = layout.annotations(relative) or beside(path, stem, names)
        yield ref
    elif not layout.is_annotation(relative) and not is_sidecar(path, stem, names):
        ref = InputRef(source_id, dataset, "file", os.fspath(path), stamp)
        ref.problem, ref.problem_status = (
            ("not_media", f"{suffix or 'no extension'}: neither a picture, a video nor a container"),
            "dropped",
        )
        yield ref


def beside(path: Path, stem: str, names: set[str]) -> Annotations:
    parts = {}
    for suffix in (".txt", ".json"):
        if stem + suffix in names:
            with path.with_name(stem + suffix).open("rb") as file:
                parts[suffix] = file.read(MOST)
    return from_files(parts.get(".txt"), parts.get(".json"))


def is_sidecar(path: Path, stem: str, names: set[str]) -> bool:
    """A caption or record of a picture that stands beside it, or a file that describes the folder."""
    if path.name.lower() in COMPANIONS:
        return True
    if path.suffix.lower() not in (".txt", ".json"):
        return False
    return any(
        kind_of(Path(name).suffix.lower(), b"") in ("file", "video") for name in names if Path(name).stem == stem
    )


def bad(base: str, relative: str, dataset: str, path: Path, code: str, message: str) -> InputRef:
    return InputRef(
        f"{base}/{clean(relative)}".rstrip("/"), dataset, "file", os.fspath(path), "", problem=(code, message)
    )
