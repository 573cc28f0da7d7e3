"""WebDataset tars as sources: an index of members, read at random by their place. Nothing is ever unpacked to disk.

Interleaved keys (a.jpg b.jpg a.txt b.txt) are usable: pictures are read by offset and sidecars joined by key over the
whole tar, so nothing can get mixed up; only readers that stream, and cut where the key changes, mix them up.
"""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from unif2ace_data.schema import InputRef, Status
from unif2ace_data.sources.annotations import Layout
from unif2ace_data.sources.kinds import HEAD, SIDECARS, clean, kind_by_content, kind_by_name
from unif2ace_data.sources.sidecars import MAX_BYTES, beside, sidecars_of

UNPACK = "members are read by their place, which compression hides: decompress it first (gunzip, unxz, unzstd, unzip)"


@dataclass(slots=True)
class Member:
    """`what`: image, video, sidecar, or a reason why it is no input, with its message and status."""

    name: str
    offset: int
    size: int
    what: str
    message: str = ""
    status: Status = "failed"


def list_tar(path: Path, source_id: str, dataset: str, stamp: str, layout: Layout) -> Iterator[InputRef]:
    """One ref for every member but folders and sidecars of a picture, in the tar's order.

    A tar that cannot be read to its end gives what lies before the damage, and one ref for itself. Of several members
    with one name the last counts, as when the tar is unpacked.
    """
    with path.open("rb") as file:
        members, trouble = index(file, layout)
        last = {member.name: member for member in members}
        times: Counter[str] = Counter()
        sidecars = {name: member for name, member in last.items() if member.what == "sidecar"}
        pictures = [name for name, member in last.items() if member.what in ("image", "video")]
        used = {sidecar for name in pictures for sidecar in sidecars_of(name, sidecars)}
        told: set[str] = set()

        def read(name: str) -> bytes:
            file.seek(sidecars[name].offset)
            return file.read(min(sidecars[name].size, MAX_BYTES + 1))

        def ref(member: Member, problem: tuple[str, str] | None = None, status: Status = "failed") -> InputRef:
            name = clean(member.name)
            kind: Literal["tar", "video"] = "video" if member.what == "video" else "tar"
            return InputRef(
                f"{source_id}#{name}", dataset, kind, os.fspath(path), stamp, name, member.offset, member.size,
                problem, status,
            )  # fmt: skip

        for member in members:
            times[member.name] += 1
            if member is not last[member.name]:
                earlier = ref(member, ("replaced_member", "a later member of this name replaces it"), "dropped")
                earlier.source_id += f"#{times[member.name]}"
                yield earlier
            elif member.what in ("image", "video"):
                picture = ref(member)
                picture.annotations, broken = beside(member.name, sidecars, read)
                layout.annotate(picture, member.name)
                for name, message in broken:
                    if name not in told:
                        told.add(name)
                        yield ref(sidecars[name], ("broken_sidecar", message), "dropped")
                yield picture
            elif member.what != "sidecar":
                yield ref(member, (member.what, member.message), member.status)
            elif member.name not in used and not layout.is_annotation(member.name):
                yield ref(member, ("not_media", "a caption or record without a picture of its name"), "dropped")
    if trouble or not members:
        problem = trouble or ("empty_tar", "it has no members")
        yield InputRef(source_id, dataset, "tar", os.fspath(path), stamp, problem=problem)


def index(file: BinaryIO, layout: Layout) -> tuple[list[Member], tuple[str, str] | None]:
    """The members that are not folders, and what is wrong with the tar as a whole."""
    members: list[Member] = []
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    if kind_by_content(file.read(HEAD)) == "archive":
        return members, ("compressed_tar", UNPACK)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep a kilobyte for each
                member = examined(file, info, length, layout)
                if member is not None:
                    members.append(member)
            return members, ending(file, tar.offset)
    except Exception as error:  # tarfile raises nearly anything on broken headers
        return members, ("broken_tar", f"it cannot be read to its end ({type(error).__name__}: {error})")


def examined(file: BinaryIO, info: tarfile.TarInfo, length: int, layout: Layout) -> Member | None:
    member = Member(info.name, info.offset_data, info.size, "")
    kind = kind_by_name(info.name)
    if info.isdir():
        if kind not in ("image", "video", "tar"):
            return None
        member.what, member.message, member.status = "is_a_directory", "a folder with the name of a file", "dropped"
    elif unsafe(info.name):
        member.what, member.message = "unsafe_member", "its name points outside the tar (absolute, or with ..)"
    elif info.issym() or info.islnk():
        member.what, member.message = "unsafe_member", f"a link to {clean(info.linkname)}; it may point outside the tar"
    elif not info.isreg() or info.issparse():
        member.what, member.message = "not_a_file", "a device, a pipe or a sparse file"
    elif info.size < 0 or info.offset_data + info.size > length:
        member.what, member.message = "truncated_member", "the tar ends before this member does"
    else:
        if kind is None:
            kind = kind_by_content(head_of(file, info))
        if kind in ("image", "video"):
            aside = layout.aside(info.name)
            member.what = "not_a_photo" if aside else kind
            member.message, member.status = aside, "dropped"
        elif info.name.endswith(SIDECARS):
            member.what = "sidecar"
        elif kind in ("tar", "table", "archive"):
            member.what, member.message = (
                "nested_container",
                "a container inside a tar is not read: unpack the outer one",
            )
        else:
            member.what, member.message, member.status = "not_media", "neither a picture nor a video", "dropped"
    return member


def head_of(file: BinaryIO, info: tarfile.TarInfo) -> bytes:
    here = file.tell()
    file.seek(info.offset_data)
    head = file.read(min(info.size, HEAD))
    file.seek(here)
    return head


def ending(file: BinaryIO, offset: int) -> tuple[str, str] | None:
    """What is wrong where the last member ends: tarfile takes any end for the end."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        return "broken_tar", "it ends without its end mark: members may be missing"
    if any(block):
        return "broken_tar", f"no header can be read at byte {offset}: what follows is not listed"
    while block := file.read(1 << 20):
        if any(block):
            return "broken_tar", f"data after its end mark (two tars joined?), behind byte {offset}: it is not listed"
    return None


def unsafe(name: str) -> bool:
    return name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:3] in (":\\", ":/")
