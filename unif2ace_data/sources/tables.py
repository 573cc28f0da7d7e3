"""Parquet files and HF `datasets` folders as sources: one input a row of the image column."""

from __future__ import annotations

import bisect
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from unif2ace_data.errors import InputError
from unif2ace_data.schema import InputRef
from unif2ace_data.sources.sidecars import ATTRIBUTES, NAMES, from_record

# Where several columns could hold pictures and none says so, these names decide.
IMAGE_NAMES = ("image", "img", "photo", "picture", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "content")
ROWS = 4096  # rows of annotation columns read at once
BROKEN = (pa.ArrowException, OSError, ValueError, IndexError, KeyError)  # what pyarrow raises on damaged files


def list_table(path: Path, source_id: str, dataset: str, stamp: str) -> Iterator[InputRef]:
    """One ref a row; picture bytes are not read. A damaged table gives one ref for itself besides the rows it still has."""

    def itself(code: str, message: str) -> InputRef:
        return InputRef(source_id, dataset, "table", os.fspath(path), stamp, problem=(code, message))

    def refs(row: int, record: dict[str, Any]) -> Iterator[InputRef]:
        # Zero-padded, so that the order of names is the order of rows and a row group is read once.
        name = f"{source_id}#row{row:09d}"
        try:
            said = from_record(record)
        except InputError as error:
            said = from_record({n: value for n, value in record.items() if n.lower() != ATTRIBUTES})
            problem = (error.code, f"not used: {error}")
            yield InputRef(f"{name}#{ATTRIBUTES}", dataset, "table", os.fspath(path), stamp, problem=problem,
                           problem_status="dropped")  # fmt: skip
        yield InputRef(name, dataset, "table", os.fspath(path), stamp, column, row, annotations=said)

    column = ""
    try:
        schema, rows = shape(path)
        column = image_column(schema)
        if not column:
            names = ", ".join(f"{f.name} ({f.type})" for f in schema)
            yield itself(
                "no_image_column", f"none of its columns holds pictures as bytes or {{bytes, path}}: {names}"[:500]
            )
            return
        if rows == 0:
            yield itself("empty_table", "it has no rows")
    except BROKEN as error:
        yield itself("broken_table", f"it cannot be opened ({error})")
        return
    row = 0
    try:
        for records in annotation_batches(path, annotation_columns(schema, column)):
            for record in records:
                yield from refs(row, record)
                row += 1
    except BROKEN as error:
        yield itself("broken_table", f"its annotation columns cannot be read from row {row} on ({error})")
    for left in range(row, rows):
        yield from refs(left, {})


def shape(path: Path) -> tuple[pa.Schema, int]:
    """Schema and number of rows, from the file's own index."""
    if is_parquet(path):
        with parquet(path) as table:
            return table.schema_arrow, table.metadata.num_rows
    batches = arrow_batches(path)
    return batches[0].schema if batches else pa.schema([]), sum(batch.num_rows for batch in batches)


def image_column(schema: pa.Schema) -> str:
    """The column that holds pictures: the one that HF `datasets` marks, or the one whose type fits (then by name).

    Fitting types: binary, and a struct with `bytes`. Empty where none fits, or several do and none has a usual name.
    """
    with contextlib.suppress(KeyError, TypeError, AttributeError, orjson.JSONDecodeError):
        features = orjson.loads(schema.metadata[b"huggingface"])["info"]["features"]
        marked = [
            n for n, f in features.items() if isinstance(f, dict) and f.get("_type") == "Image" and n in schema.names
        ]
        if marked:
            return str(marked[0])
    structs = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    binary = [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    for fitting in (structs, binary):
        usual = [name for known in IMAGE_NAMES for name in fitting if name.lower() == known]
        if usual or len(fitting) == 1:
            return str(usual[0] if usual else fitting[0])
    return ""


def annotation_columns(schema: pa.Schema, picture: str) -> list[str]:
    """Columns that say something of the picture. A column `attributes` of another type than a mapping is not ours."""

    def ours(field: pa.Field) -> bool:
        return field.name.lower() != ATTRIBUTES or bool(pa.types.is_struct(field.type) or pa.types.is_map(field.type))

    return [field.name for field in schema if field.name.lower() in NAMES and field.name != picture and ours(field)]


def annotation_batches(path: Path, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    if not columns:
        return
    if is_parquet(path):
        with parquet(path) as table:
            for batch in table.iter_batches(ROWS, columns=columns):
                yield batch.to_pylist()
    else:
        for batch in arrow_batches(path):
            for start in range(0, batch.num_rows, ROWS):
                yield batch.select(columns).slice(start, ROWS).to_pylist()


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1" or path.suffix.lower() == ".parquet"


def parquet(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(pa.OSFile(os.fsencode(path)))  # as bytes: names need not be UTF-8


def arrow_batches(path: Path) -> list[pa.RecordBatch]:
    """Batches in the mapped file (nothing is read until it is touched): HF's `save_to_disk` streams, or Arrow files."""
    mapped = pa.memory_map(os.fsencode(path))
    try:
        file = pa.ipc.open_file(mapped)
        return [file.get_batch(i) for i in range(file.num_record_batches)]
    except pa.ArrowInvalid:
        mapped.seek(0)
        return list(pa.ipc.open_stream(mapped))


# ------------------------------------------------------------------ reading rows


@dataclass(slots=True)
class OpenTable:
    """The table that this process read last, with its last row group: neighbouring rows come in runs."""

    key: tuple[str, str, str]  # path, stamp, column
    starts: list[int]  # first row of each group
    fetch: Callable[[int], Any]
    group: int = -1
    values: Any = None


_last: list[OpenTable] = []


def read_row(path: str, stamp: str, column: str, row: int) -> bytes:
    """The bytes in one row. Raises InputError: broken_table, no_bytes."""
    try:
        if not _last or _last[0].key != (path, stamp, column):
            _last[:] = [open_table(Path(path), stamp, column)]
        table = _last[0]
        group = bisect.bisect_right(table.starts, row) - 1
        if group != table.group:
            table.values = None  # two groups at once would double the memory
            table.group, table.values = group, table.fetch(group)
        value = table.values[row - table.starts[group]].as_py()
    except BROKEN as error:
        _last.clear()
        raise InputError("broken_table", f"row {row} cannot be read ({error})") from None
    if isinstance(value, dict):
        if not value.get("bytes") and value.get("path"):
            message = f"row {row} only names a file ({value['path']}): give the folder of the files, or embed them"
            raise InputError("no_bytes", message)
        value = value.get("bytes")
    if value is None:
        raise InputError("no_bytes", f"row {row} of {column} holds no bytes")
    return bytes(value)


def open_table(path: Path, stamp: str, column: str) -> OpenTable:
    key = (os.fspath(path), stamp, column)
    if is_parquet(path):
        table = parquet(path)
        sizes = [table.metadata.row_group(g).num_rows for g in range(table.num_row_groups)]
        return OpenTable(key, starts(sizes), lambda g: table.read_row_group(g, columns=[column]).column(column))
    batches = arrow_batches(path)
    return OpenTable(key, starts([b.num_rows for b in batches]), lambda g: batches[g].column(column))


def starts(sizes: list[int]) -> list[int]:
    return [0, *accumulate(sizes)][:-1]
