"""An input's bytes, in whatever it lies. Workers call this; nothing is written anywhere."""

from __future__ import annotations

from pathlib import Path

from unif2ace_data.schema import InputError, InputRef
from unif2ace_data.sources.tables import read_row


def read_input(ref: InputRef) -> bytes:
    """The picture's or video's raw bytes. Raises InputError: unreadable, vanished, changed, broken_table, empty."""
    if ref.problem:
        raise InputError(*ref.problem)
    if ref.kind == "table":
        return read_row(ref.path, ref.member, ref.offset)
    try:
        with Path(ref.path).open("rb") as file:
            if not ref.member:
                return file.read()
            file.seek(ref.offset)
            data = file.read(ref.size)
    except FileNotFoundError:
        raise InputError("vanished", f"{ref.source_id} was there when the source was listed and is gone") from None
    except OSError as error:
        raise InputError("unreadable", f"{ref.source_id}: {error.strerror or error}") from None
    if len(data) != ref.size:
        raise InputError("changed", f"{ref.source_id}: the archive is shorter than when it was listed; run again")
    return data
