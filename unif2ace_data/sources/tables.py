"""Parquet files and HF `datasets` folders as sources: one input a row of the image column."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unif2ace_data.schema import InputError, InputRef
from unif2ace_data.sources.sidecars import AUTHOR, CAPTION, LICENCE, URL, from_mapping

IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "picture", "photo", "bytes", "content")
NOTE_NAMES = {*AUTHOR, *LICENCE, *URL, *CAPTION}


def list_table(path: Path, source_id: str, dataset: str, stamp: str) -> Iterator[InputRef]:
    """One ref a row; a table that cannot be read, or has no image column, gives one row that says so."""

    def trouble(code: str, message: str) -> InputRef:
        return InputRef(source_id, dataset, "table", os.fspath(path), stamp, problem=(code, message))

    try:
        schema = table_schema(path)
        column = image_column(schema)
        if column is None:
            yield trouble("no_image_column", f"columns: {', '.join(schema.names)}; none holds bytes or {{bytes, path}}")
            return
        wanted = [name for name in schema.names if name.lower() in NOTE_NAMES]
        row = 0
        for batch in batches(path, wanted):
            notes = batch.to_pylist() if wanted else [{}] * batch.num_rows
            for record in notes:
                yield InputRef(
                    f"{source_id}#row{row}", dataset, "table", os.fspath(path), stamp, column, row,
                    annotations=from_mapping(record),
                )  # fmt: skip
                row += 1
    except (pa.ArrowException, OSError) as error:
        yield trouble("broken_table", f"{path.name}: {error}")


def image_column(schema: pa.Schema) -> str | None:
    """The column that holds pictures: binary, or a struct with `bytes`; a known name first, then the first that fits."""

    def fits(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    fitting = [f.name for f in schema if fits(f.type)]
    return next((n for n in fitting if n.lower() in IMAGE_NAMES), fitting[0] if fitting else None)


def read_row(path: str, column: str, row: int) -> bytes:
    """The bytes of one picture. Raises InputError: broken_table, empty (null or no bytes)."""
    try:
        first, values = group_with(path, column, row, Path(path).stat().st_mtime_ns)
        value = values[row - first].as_py()
    except (pa.ArrowException, OSError, IndexError) as error:
        raise InputError("broken_table", f"row {row}: {error}") from None
    if isinstance(value, dict):
        value = value.get("bytes")
    if not value:
        raise InputError("empty", f"row {row} of {column} holds no bytes (a path alone is not followed)")
    return bytes(value)


@functools.lru_cache(maxsize=1)
def group_with(path: str, column: str, row: int, mtime: int) -> tuple[int, Any]:
    return cached_group(path, column, group_start(path, row), mtime)


@functools.lru_cache(maxsize=2)
def cached_group(path: str, column: str, start: int, mtime: int) -> tuple[int, Any]:
    """(first row, values) of one row group; rows are read in order, so one group at hand serves a whole run of them."""
    if path.endswith(".arrow"):
        return 0, open_arrow(Path(path)).read_all().column(column)
    with pq.ParquetFile(path) as table:
        first = 0
        for group in range(table.num_row_groups):
            if first == start:
                return first, table.read_row_group(group, columns=[column]).column(column)
            first += table.metadata.row_group(group).num_rows
    raise IndexError(f"no row group begins at {start}")


@functools.lru_cache(maxsize=8)
def starts(path: str, mtime: int) -> tuple[int, ...]:
    with pq.ParquetFile(path) as table:
        sizes = [table.metadata.row_group(g).num_rows for g in range(table.num_row_groups)]
    found = [0]
    for size in sizes:
        found.append(found[-1] + size)
    return tuple(found)


def group_start(path: str, row: int) -> int:
    if path.endswith(".arrow"):
        return 0
    return max(s for s in starts(path, Path(path).stat().st_mtime_ns)[:-1] if s <= row)


def table_schema(path: Path) -> pa.Schema:
    return open_arrow(path).schema if path.suffix == ".arrow" else pq.read_schema(path)


def batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of the named columns only; pictures are not read."""
    if path.suffix == ".arrow":
        yield from (batch.select(columns) for batch in open_arrow(path))
    else:
        with pq.ParquetFile(path) as table:
            if columns:
                yield from table.iter_batches(10_000, columns=columns)
            else:
                for group in range(table.num_row_groups):
                    rows = table.metadata.row_group(group).num_rows
                    yield pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["nothing"])


def open_arrow(path: Path) -> Any:
    """HF `save_to_disk` writes the stream format; other tools the file format."""
    source = pa.memory_map(os.fspath(path))
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        return pa.ipc.open_file(pa.memory_map(os.fspath(path)))
