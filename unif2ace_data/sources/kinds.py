"""What a file is, by its name or its first bytes, and how its name becomes part of a `source_id`."""

from __future__ import annotations

import os
import re
from typing import Literal

Kind = Literal["image", "video", "tar", "table", "archive", "other"]

IMAGES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".heif",
        ".jp2",
        ".ppm",
    }
)
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"})
TABLES = frozenset({".parquet", ".arrow"})
SIDECARS = (".json", ".txt")
ARCHIVE = re.compile(r"\.(tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst|lz4)|zip|7z|rar)$", re.IGNORECASE)
HEAD = 512  # bytes that tell what a file is: a tar says so at byte 257

IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
ARCHIVE_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c", b"Rar!")
IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")


def kind_by_name(name: str) -> Kind | None:
    """None where the name's extension says nothing, and the first bytes must."""
    suffix = suffix_of(name)
    if suffix in IMAGES:
        return "image"
    if suffix in VIDEOS:
        return "video"
    if suffix == ".tar":
        return "tar"
    if suffix in TABLES:
        return "table"
    if ARCHIVE.search(name):
        return "archive"
    return "other" if suffix in SIDECARS else None


def kind_by_content(head: bytes) -> Kind:
    """What begins with these bytes (HEAD of them, fewer at the end of a file)."""
    if head.startswith(IMAGE_MAGIC) or (head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"):
        return "image"
    if head[:4] == b"RIFF":
        return {b"WEBP": "image", b"AVI ": "video"}.get(head[8:12], "other")  # type: ignore[return-value]
    if head[4:8] == b"ftyp":
        return "image" if head[8:12] in IMAGE_BRANDS else "video"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video"
    if head.startswith((b"PAR1", b"ARROW1")):
        return "table"
    if head[257:262] == b"ustar":
        return "tar"
    return "archive" if head.startswith(ARCHIVE_MAGIC) else "other"


def suffix_of(name: str) -> str:
    """The last extension in lower case, with its dot; none for `.hidden`."""
    base = name.rpartition("/")[2]
    stem, dot, last = base.rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


def stems_of(name: str) -> tuple[str, ...]:
    """What a sidecar of this file may be called without its extension: all before the last dot, or before the first.

    Folders go by the first rule (`IMG.2024.jpg`, `IMG.2024.txt`), WebDataset's keys by the second.
    """
    folder, slash, base = name.rpartition("/")
    suffix = suffix_of(name)
    last = base[: len(base) - len(suffix)] if suffix else base
    first = base[0] + base[1:].partition(".")[0] if base else base
    return tuple(dict.fromkeys((folder + slash + last, folder + slash + first)))


def clean(name: str) -> str:
    """A file name as printable UTF-8 for a `source_id`; two names never become one.

    Bytes that are not UTF-8 and control characters are written `\\xNN`, `#` (which sets off tar members and table rows)
    as `\\x23`, a backslash as two.
    """
    text = os.fsencode(name).replace(b"\\", rb"\\").replace(b"#", rb"\x23").decode("utf-8", "backslashreplace")
    return "".join(c if c >= " " and c != "\x7f" else f"\\x{ord(c):02x}" for c in text)
