"""What a file is by its name or its first bytes, and how names that are not UTF-8 are written down."""

from __future__ import annotations

import os

IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".jp2"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"}
TARS = {".tar", ".tgz", ".gz", ".bz2", ".xz"}
TABLES = {".parquet", ".arrow"}
MAGIC = (
    (b"\xff\xd8\xff", "file"),
    (b"\x89PNG\r\n", "file"),
    (b"GIF8", "file"),
    (b"BM", "file"),
    (b"II*\0", "file"),
    (b"MM\0*", "file"),
    (b"PAR1", "table"),
    (b"\x1aE\xdf\xa3", "video"),
)


def kind_of(suffix: str, head: bytes) -> str:
    """file (a picture), video, tar, table or "" by extension; by magic bytes where there is no extension."""
    for kind, suffixes in (("file", IMAGES), ("video", VIDEOS), ("tar", TARS), ("table", TABLES)):
        if suffix in suffixes:
            return kind
    if suffix:
        return ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "file"
    if head[4:8] == b"ftyp":
        return "file" if head[8:12] in (b"avif", b"heic", b"mif1") else "video"
    if head[257:262] == b"ustar":
        return "tar"
    return next((kind for magic, kind in MAGIC if head.startswith(magic)), "")


def clean(name: str) -> str:
    """A file name as UTF-8 text; bytes that are not UTF-8, and backslashes, are written as escapes, so names stay distinct."""
    return os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
