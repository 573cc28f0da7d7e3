"""What the tests of sources share: tiny pictures, tars from pairs, and a listing keyed by what follows the dataset's name."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from unif2ace_data.recipe import SourceSpec
from unif2ace_data.schema import InputRef
from unif2ace_data.sources.listing import list_inputs
from unif2ace_data.sources.manifest import load_manifest


def picture(shade: int = 0, format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(buffer, format)
    return buffer.getvalue()


def put(path: Path, data: bytes | str = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def put_tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> bytes:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def listed(path: Path, manifest: str = "folder") -> dict[str, InputRef]:
    refs = list(list_inputs(SourceSpec(path=str(path), manifest=manifest), load_manifest(manifest)))
    found = {ref.source_id.removeprefix(f"{manifest}/"): ref for ref in refs}
    assert len(found) == len(refs), "two inputs have one source_id"
    for ref in refs:
        for text in (ref.source_id, ref.stamp, ref.member, *(ref.problem or ())):
            text.encode("utf-8")
    return found


def reasons(found: dict[str, InputRef]) -> dict[str, str]:
    """Source id -> the problem's code, or nothing for what can be used."""
    return {name: ref.problem[0] if ref.problem else "" for name, ref in found.items()}
