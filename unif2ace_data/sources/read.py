"""An input's bytes, wherever they lie. Workers call this; nothing is written anywhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from unif2ace_data.errors import InputError
from unif2ace_data.schema import InputRef
from unif2ace_data.sources.tables import read_row

MAX_IMAGE, MAX_VIDEO = (
    1 << 29,
    1 << 31,
)  # bytes; our choice: more is no photograph and no clip, and would not fit beside others


def stamp_of(status: os.stat_result) -> str:
    """What changes when the bytes of a file may have changed."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def read_input(ref: InputRef) -> bytes:
    """The picture's or video's raw bytes.

    Raises InputError: the ref's own problem, unreadable, vanished, changed (since it was listed), too_large,
    broken_table, no_bytes.
    """
    if ref.problem is not None:
        raise InputError(*ref.problem)
    try:
        status = Path(ref.path).stat()
        if not stat.S_ISREG(status.st_mode) or stamp_of(status) != ref.stamp:
            raise InputError("changed", f"{ref.source_id} is not what it was when the source was listed: run again")
        if ref.kind == "table":
            return read_row(ref.path, ref.stamp, ref.member, ref.offset)
        size = ref.size if ref.member else status.st_size
        limit = MAX_VIDEO if ref.kind == "video" else MAX_IMAGE
        if size > limit:
            raise InputError("too_large", f"{ref.source_id} has {size} bytes, more than {limit}")
        with Path(ref.path).open("rb") as file:
            file.seek(ref.offset if ref.member else 0)
            data = file.read(size)
    except FileNotFoundError:
        raise InputError("vanished", f"{ref.source_id} was there when the source was listed and is gone") from None
    except OSError as error:
        raise InputError("unreadable", f"{ref.source_id}: {error.strerror or error}") from None
    if len(data) != size:
        raise InputError("changed", f"{ref.source_id} is shorter than when the source was listed: run again")
    return data
