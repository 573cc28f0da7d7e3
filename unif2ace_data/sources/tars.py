"""WebDataset tars as sources: an index of members, read at random by offset. Nothing is ever unpacked to disk."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from unif2ace_data.schema import InputRef
from unif2ace_data.sources.kinds import IMAGES, VIDEOS, clean
from unif2ace_data.sources.sidecars import MOST, from_files

SIDECARS = (".txt", ".json")


def list_tar(path: Path, source_id: str, dataset: str, stamp: str) -> Iterator[InputRef]:
    """One ref for each member that is a picture or a video, in the archive's order.

    Members that point outside (`../`, absolute, links) get a row and are never followed. Sidecars are joined by key over
    the whole archive: interleaved keys, which mix up readers that stream, are harmless here. A tar that breaks off
    gives the rows before the break, and one for itself.
    """

    def ref(member: str = "", offset: int = 0, size: int = 0, problem: tuple[str, str] | None = None) -> InputRef:
        name = f"{source_id}#{clean(member)}" if member else source_id
        kind = "video" if PurePosixPath(member).suffix.lower() in VIDEOS else "tar"
        return InputRef(name, dataset, kind, os.fspath(path), stamp, member, offset, size, problem)  # type: ignore[arg-type]

    found: list[InputRef] = []
    sidecars: dict[str, dict[str, tuple[int, int]]] = {}
    names: dict[str, int] = {}
    broken: str = ""
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if info.isdir():
                    continue
                names[info.name] = names.get(info.name, 0) + 1
                member = info.name if names[info.name] == 1 else f"{info.name}~{names[info.name]}"
                suffix = PurePosixPath(info.name).suffix.lower()
                if not info.isreg() or unsafe(info.name):
                    found.append(
                        ref(member, problem=("unsafe_member", f"{info.name} is a link or points outside the archive"))
                    )
                elif suffix in IMAGES or suffix in VIDEOS:
                    found.append(ref(member, info.offset_data, info.size))
                elif suffix in SIDECARS:
                    sidecars.setdefault(key_of(info.name), {})[suffix] = (info.offset_data, info.size)
                else:
                    other = ref(
                        member, problem=("not_media", f"{suffix or 'no extension'}: neither a picture nor a sidecar")
                    )
                    other.problem_status = "dropped"
                    found.append(other)
    except (tarfile.TarError, OSError, EOFError) as error:
        advice = (
            "; decompress it first: members are read by their place"
            if path.suffix in (".gz", ".tgz", ".bz2", ".xz")
            else ""
        )
        broken = f"{path.name}: {error}{advice}"
    pictures = {key_of(r.member) for r in found if not r.problem}
    with path.open("rb") as file:
        for entry in found:
            beside = sidecars.get(key_of(entry.member), {})
            if beside and not entry.problem:
                parts = {s: read_at(file, *place) for s, place in beside.items()}
                entry.annotations = from_files(parts.get(".txt"), parts.get(".json"))
            yield entry
    for key in sorted(set(sidecars) - pictures):
        yield ref(
            f"{key}{next(iter(sidecars[key]))}",
            problem=("no_picture", "a caption or record without a picture of its key"),
        )
    if broken:
        yield ref(problem=("broken_tar", broken))


def read_at(file: object, offset: int, size: int) -> bytes:
    file.seek(offset)  # type: ignore[attr-defined]
    return bytes(file.read(min(size, MOST)))  # type: ignore[attr-defined]


def unsafe(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def key_of(name: str) -> str:
    """WebDataset's key: the path up to the first dot of its last part."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.split('.', 1)[0]}" if folder else last.split(".", 1)[0]
