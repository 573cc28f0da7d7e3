"""`verify`: does the dataset hold what its index says, down to the byte, and does it keep the house's rules?

Every finding names the file (and the sample) and what is wrong. Nothing is written.
"""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image
from pydantic import ValidationError

from unif2ace_data.errors import UserError
from unif2ace_data.records import read_record
from unif2ace_data.release.annotations_index import PART, annotations_at, check_rows
from unif2ace_data.release.read import read_parquet
from unif2ace_data.schema import SCHEMA_VERSION
from unif2ace_data.shards import INDEX, contents, read_index, root_hash, sha256_file

# Column and field names that must never travel: biometrics, and measurements kept for audits only.
PRIVATE_NAMES = ("embedding", "skin", "ita", "identity", "cluster", "phash", "dhash")
OWN_FILES = {
    INDEX,
    "recipe.yaml",
    "stats.json",
    "report.html",
    "DATASHEET.md",
    "README.md",
    "croissant.json",
    "removed.json",
}
EXTENSIONS = ("jpg", "json", "txt")


@dataclass(slots=True)
class Verdict:
    """What was looked at and every problem found, as `file: what`."""

    shards: int = 0
    samples: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.problems


def verify(
    out: Path, hashes_only: bool = False, tick: Callable[[int], None] = lambda n: None, extras: bool = True
) -> Verdict:
    """Check the dataset at `out`. `hashes_only`: files against the index, nothing inside them. `tick(bytes)` as it goes.

    `extras`: a file that the index does not name is a problem (not so for somebody who takes only what it names).
    A folder of annotations is checked as far as it goes: its files, and the number of records. Raises UserError where
    there is no dataset.
    """
    verdict = Verdict()
    alone = annotations_at(out)
    try:
        index = alone or read_index(out)
    except UserError as error:
        if error.exit_code == 2:  # no dataset at all: nothing that could be good or bad
            raise
        verdict.problems.append(error.message)
        return verdict
    say = verdict.problems.append
    if index.get("schema_version") != SCHEMA_VERSION:
        say(f"{INDEX}: schema_version {index.get('schema_version')!r}, this toolkit reads {SCHEMA_VERSION!r}")
    entries = {s["name"]: s for s in index.get("shards", [])} | dict(index["files"])
    if index.get("root_sha256") != root_hash((name, entry["sha256"]) for name, entry in entries.items()):
        say(f"{INDEX}: root_sha256 is not the hash of the files it lists")
    for name in sorted(entries):
        check_file(out, name, entries[name], say)
        verdict.bytes += int(entries[name].get("bytes", 0))
        tick(int(entries[name].get("bytes", 0)))
    if extras:
        for name in sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()):
            if name not in entries and name not in (OWN_FILES if alone is None else (INDEX,)):
                say(f"{name}: not in {INDEX} (an extra file; remove it)")
    if alone is not None:
        verdict.shards, verdict.samples = sum(1 for name in entries if PART.fullmatch(name)), alone["samples"]
        if not hashes_only:
            check_rows(out, alone, say)
    elif not hashes_only:
        seen: dict[str, str] = {}
        for shard in index["shards"]:
            verdict.shards += 1
            verdict.samples += check_shard(out, shard, seen, say)
        check_sums(out, index, say)
    return verdict


def check_file(out: Path, name: str, entry: dict[str, Any], say: Callable[[str], None]) -> None:
    path = out / name
    if not path.is_file():
        say(f"{name}: missing")
    elif path.stat().st_size != entry["bytes"]:
        say(f"{name}: {path.stat().st_size} bytes, the index says {entry['bytes']}")
    elif sha256_file(path) != entry["sha256"]:
        say(f"{name}: its bytes are not the ones that were written (SHA-256 differs)")


def check_shard(out: Path, shard: dict[str, Any], seen: dict[str, str], say: Callable[[str], None]) -> int:
    """Members, samples and the shard's ledger part; returns the number of samples read."""
    name, path = shard["name"], out / shard["name"]
    keys: list[str] = []
    try:
        for key, files in samples(path):
            keys.append(key)
            for problem in sample_problems(key, files, shard):
                say(f"{name}: sample {key}: {problem}")
            if key in seen:
                say(f"{name}: sample {key}: also in {seen[key]}")
            seen[key] = name
    except FileNotFoundError:
        return 0
    except (tarfile.TarError, OSError) as error:
        say(f"{name}: not a sound tar: {error}")
        return len(keys)
    if keys != sorted(keys, key=key_order):
        say(f"{name}: samples are not in key order")
    if len(keys) != shard["samples"]:
        say(f"{name}: {len(keys)} samples, the index says {shard['samples']}")
    check_ledger(out, shard, keys, say)
    return len(keys)


def key_order(key: str) -> tuple[str, int, str]:
    """By hash, then by the face's number; a strange key is only a string."""
    number = key[33:]
    return key[:32], int(number) if number.isdigit() else 0, number


def samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Like shards.read_samples, but a key that comes back after another is a problem, and so is a strange member."""
    key, files = "", dict[str, bytes]()
    finished: set[str] = set()
    for entry, data, padding in contents(path):
        stem, _, extension = entry.name.partition(".")
        if stem != key:
            if files:
                yield key, files
                finished.add(key)
            if stem in finished:
                raise tarfile.ReadError(f"files of sample {stem} are not contiguous")
            key, files = stem, {}
        if extension in files:
            raise tarfile.ReadError(f"{entry.name} stands twice")
        files[extension] = data
        if padding.strip(b"\0"):
            raise tarfile.ReadError(f"data in the padding of {entry.name}")
    if files:
        yield key, files


def sample_problems(key: str, files: dict[str, bytes], shard: dict[str, Any]) -> Iterator[str]:
    if sorted(files) != sorted(EXTENSIONS):
        yield f"holds {', '.join(sorted(files))} instead of {', '.join(EXTENSIONS)}"
        return
    try:
        sample = read_record(files["json"])
    except ValidationError as error:
        first = error.errors()[0]
        yield f"json does not follow the schema: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        return
    if sample.uid != key:
        yield f"uid is {sample.uid}"
    if sample.source.sha256[:32] != key[:32]:
        yield "the key is not the beginning of the source's hash"
    if sample.split != shard["split"] or not key.startswith(shard["prefix"]):
        yield f"belongs to split {sample.split} and another shard"
    if files["txt"] != sample.caption.encode():
        yield "txt is not the caption"
    for claim in sample.claims:
        start, end = claim.span
        if not 0 <= start < end <= len(sample.caption):
            yield f"claim {claim.attribute}: span {claim.span} lies outside the caption"
    private = [a.name for a in sample.attributes if is_private(a.name)]
    if private:
        yield f"private attribute {private[0]} inside"
    try:
        width, height = decoded_size(files["jpg"])
        if (width, height) != (sample.image.width, sample.image.height):
            yield f"jpg is {width} x {height}, json says {sample.image.width} x {sample.image.height}"
    except (OSError, SyntaxError, ValueError) as error:
        yield f"jpg cannot be decoded: {error}"


def decoded_size(jpeg: bytes) -> tuple[int, int]:
    """(width, height) of a picture that can be decoded to its end. Raises what Pillow raises for one that cannot.

    Our choice: a JPEG is decoded at an eighth of its size in grey. Every bit of it is read, which is all that can fail; the
    rest of a decoder's work makes pixels, and nobody looks at them here.
    """
    with Image.open(io.BytesIO(jpeg)) as image:
        size = image.size
        if image.mode == "RGB":
            image.draft("L", (1, 1))
        image.load()
        return size


@functools.lru_cache(1024)
def is_private(name: str) -> bool:
    return any(word in PRIVATE_NAMES for word in name.split("_"))


def check_ledger(out: Path, shard: dict[str, Any], keys: list[str], say: Callable[[str], None]) -> None:
    """The ledger part of a shard has one row for each of its samples, in order, and nothing private."""
    name = f"ledger/kept-{shard['name'].removesuffix('.tar')}.parquet"
    try:
        table = read_parquet(out / name)
    except FileNotFoundError:
        return  # check_file has said so
    except (pa.ArrowInvalid, OSError) as error:
        say(f"{name}: not a sound parquet file: {error}")
        return
    rows = table.column("key").to_pylist()
    for key in sorted(set(keys) - set(rows)):
        say(f"{name}: no row for sample {key}")
    for key in sorted(set(rows) - set(keys)):
        say(f"{name}: a row for {key}, which is not in {shard['name']}")
    private = [c for c in table.column_names if is_private(c.lower())]
    if private:
        say(f"{name}: private column {private[0]}")


def check_sums(out: Path, index: dict[str, Any], say: Callable[[str], None]) -> None:
    """inputs = kept + dropped + failed, in the index, and in the private full ledger where it lies beside."""
    counts = index["counts"]
    if counts["inputs"] != counts["inputs_kept"] + counts["inputs_dropped"] + counts["inputs_failed"]:
        say(f"{INDEX}: inputs are not kept + dropped + failed: {counts}")
    if counts["rows"] != counts["kept"] + counts["dropped"] + counts["failed"]:
        say(f"{INDEX}: ledger rows are not kept + dropped + failed: {counts}")
    if counts["kept"] != sum(s["samples"] for s in index["shards"]):
        say(f"{INDEX}: {counts['kept']} kept, but the shards hold {sum(s['samples'] for s in index['shards'])} samples")
    if sum(counts["reasons"].values()) != counts["dropped"] + counts["failed"]:
        say(f"{INDEX}: the reasons do not add up to dropped + failed")
    full = out.resolve().with_name(out.resolve().name + ".work") / "ledger.parquet"
    if full.is_file():
        statuses = read_parquet(full, ["status"]).column("status").value_counts().to_pylist()
        found = {s["values"]: s["counts"] for s in statuses}
        for status in ("kept", "dropped", "failed"):
            if found.get(status, 0) != counts[status]:
                say(
                    f"{full.parent.name}/ledger.parquet: {found.get(status, 0)} rows {status}, the index says {counts[status]}"
                )
