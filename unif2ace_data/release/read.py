"""Reading a finished dataset, for those who describe it: kept ledgers, records, a strided choice of samples.

The shards are listed by name, not from index.json: that is written last, with the hashes of these descriptions in it.
"""

from __future__ import annotations

import contextlib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from unif2ace_data.errors import UserError
from unif2ace_data.schema import SPLITS, Sample
from unif2ace_data.shards import BLOCK
from unif2ace_data.storage import refuse_url

SHARD_NAME = re.compile(rf"({'|'.join(SPLITS)})-\d{{6,}}")


def shard_paths(out: Path) -> list[Path]:
    """`{split}-NNNNNN.tar` of a dataset: train, validation, test, each by name. UserError where `out` is no dataset."""
    refuse_url(out)
    if not out.is_dir():
        raise UserError(f"no dataset at {out}: there is no such folder", 2)
    found = [path for path in out.glob("*.tar") if SHARD_NAME.fullmatch(path.stem)]
    if not found and not (out / "ledger").is_dir():
        raise UserError(f"no dataset at {out}: it holds neither shards ({{split}}-NNNNNN.tar) nor a ledger folder", 2)
    order = {split: place for place, split in enumerate(SPLITS)}
    return sorted(found, key=lambda path: (order[split_of(path)], path.name))


def split_of(shard: Path) -> Any:
    """The split that a shard's name begins with."""
    return shard.stem.split("-")[0]


def kept_ledgers(out: Path) -> list[Path]:
    """`ledger/kept-{split}-NNNNNN.parquet`, one for each shard, in their order."""
    expected = [out / "ledger" / f"kept-{shard.stem}.parquet" for shard in shard_paths(out)]
    odd = sorted(path.name for path in set((out / "ledger").glob("kept-*.parquet")).symmetric_difference(expected))
    if odd:
        raise UserError(f"{out}: shards and ledger/ do not match ({', '.join(odd[:3])}); run unif2ace-data verify")
    return expected


def ledger_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of at most 65,536 rows. UserError where the file is broken or lacks a column."""
    try:
        with pq.ParquetFile(path) as ledger:
            missing = [name for name in columns if name not in ledger.schema_arrow.names]
            if missing:
                raise UserError(f"{path} is not a ledger of this schema: no column {', '.join(missing)}")
            yield from ledger.iter_batches(65_536, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"cannot read {path} ({error}); run unif2ace-data verify, or build again") from None


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A whole file, or some columns of it. Not `pq.read_table`, which imports pandas: a sixth of what `verify` takes."""
    with pq.ParquetFile(path) as file:
        return file.read(columns)


def walk(shard: Path, data: mmap.mmap) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each member's data.

    Our choice: name and size only. tarfile's own reading of headers takes 60 us a sample, a minute for every million;
    this takes 6. Checksums are for `verify`.
    """
    at, end = 0, len(data)
    while at + BLOCK <= end and data[at] != 0:
        name, digits = data[at : at + 100].rstrip(b"\0"), data[at + 124 : at + 136].rstrip(b"\0 ")
        start = at + BLOCK
        if not digits.isdigit() or start + int(digits, 8) > end:
            raise UserError(f"{shard}: no tar member at byte {at}; run unif2ace-data verify")
        size = int(digits, 8)
        yield name.decode("utf-8", "replace"), start, start + size
        at = start + size + -size % BLOCK


@contextlib.contextmanager
def mapped(shard: Path) -> Iterator[mmap.mmap]:
    """The shard's bytes. UserError where it cannot be opened or is empty."""
    try:
        with shard.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {shard} ({error}); run unif2ace-data verify") from None


def sample_records(shard: Path) -> Iterator[dict[str, Any]]:
    """Every `{key}.json` of a shard as a plain dict, unchecked: `verify` checks, this is for counting."""
    for name, data in sample_jsons(shard):
        yield parse_record(shard, name, data)


def sample_jsons(shard: Path) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of every `{key}.json` of a shard."""
    with mapped(shard) as data:
        for name, start, end in walk(shard, data):
            if name.endswith(".json"):
                yield name, data[start:end]


def parse_record(shard: Path, name: str, data: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError:
        record = None
    if not isinstance(record, dict):
        raise UserError(f"{shard}: {name} is not a JSON object; run unif2ace-data verify")
    return record


def strided_samples(out: Path, most: int) -> Iterator[tuple[Sample, bytes]]:
    """(sample, JPEG) of at most `most` samples, evenly strided over the keys of train, then validation, then test."""
    ledgers = kept_ledgers(out)
    sizes = [pq.read_metadata(path).num_rows for path in ledgers]
    total = sum(sizes)
    count = min(most, total)
    wanted = [i * total // count for i in range(count)]
    first = 0
    for ledger, size in zip(ledgers, sizes, strict=True):
        here = [i - first for i in wanted if first <= i < first + size]
        first += size
        if here:
            keys = read_parquet(ledger, ["key"])["key"].to_pylist()
            yield from pick(out / f"{ledger.stem.removeprefix('kept-')}.tar", {keys[i] for i in here})


def pick(shard: Path, keys: set[str]) -> Iterator[tuple[Sample, bytes]]:
    """(sample, JPEG) of these keys of one shard, in its order. UserError where one is missing or does not hold."""
    files: dict[str, dict[str, bytes]] = {}
    with mapped(shard) as data:
        for name, start, end in walk(shard, data):
            key, _, extension = name.partition(".")
            if key in keys:
                files.setdefault(key, {})[extension] = data[start:end]
    lacking = sorted(key for key in keys if not {"jpg", "json"} <= files.get(key, {}).keys())
    if lacking:
        raise UserError(f"{shard} lacks the picture or the record of {lacking[0]}; run unif2ace-data verify")
    for key, parts in files.items():
        yield parse_sample(shard, key, parts["json"]), parts["jpg"]


def parse_sample(shard: Path, key: str, data: bytes) -> Sample:
    try:
        return Sample.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{shard}: {key}.json: {where}: {first['msg']}; run unif2ace-data verify") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML or JSON mapping, empty where the file is absent."""
    if not path.is_file():
        return {}
    try:
        data = orjson.loads(path.read_bytes()) if path.suffix == ".json" else yaml.safe_load(path.read_text("utf-8"))
    except (orjson.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is broken: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} is broken: it should hold a mapping")
    return data
