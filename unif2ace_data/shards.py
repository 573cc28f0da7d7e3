"""WebDataset shards whose bytes depend on their samples alone, and the index that is written last.

Tar members carry fixed times and owners (USTAR), samples are sorted by key, a sample's three files stand together.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel

from unif2ace_data.errors import UserError
from unif2ace_data.schema import SCHEMA_VERSION, SPLITS, Sample, Split
from unif2ace_data.storage import refuse_url

BLOCK = 512
END = b"\0" * (2 * BLOCK)
OCTAL = b"01234567"
INDEX = "index.json"
INDEX_KIND = "unif2ace-index"
ANNOTATIONS_KIND = "unif2ace-annotations"  # release/annotations_index.py


class FileEntry(BaseModel):
    bytes: int
    sha256: str


class ShardEntry(FileEntry):
    name: str
    split: Split
    prefix: str
    samples: int


class Counts(BaseModel):
    """Sums of the ledger: inputs by what became of each, rows by status, and rows by reason."""

    inputs: int
    inputs_kept: int
    inputs_dropped: int
    inputs_failed: int
    rows: int
    kept: int
    dropped: int
    failed: int
    reasons: dict[str, int]


class Index(BaseModel):
    """index.json."""

    kind: Literal["unif2ace-index"]
    schema_version: str
    root_sha256: str
    shards: list[ShardEntry]
    files: dict[str, FileEntry]
    counts: Counts


@dataclass(frozen=True, slots=True)
class ShardInfo:
    sha256: str
    bytes: int
    samples: int


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar; `offset` is where its data begins."""

    name: str
    offset: int
    size: int


def write_shard(path: Path, samples: Iterable[tuple[str, bytes, Sample]]) -> ShardInfo:
    """Write (key, JPEG, sample) in the order given to `path`, durably (a temporary file, then fsync and rename)."""
    return write_files(path, ((key, jpeg, sample_json(s), s.caption.encode()) for key, jpeg, s in samples))


def write_files(path: Path, samples: Iterable[tuple[str, bytes, bytes, bytes]]) -> ShardInfo:
    """write_shard of samples whose record is JSON already: (key, JPEG, sample_json, caption)."""
    digest, count, size = hashlib.sha256(), 0, 0
    with writing(path) as file:
        for key, jpeg, record, caption in samples:
            blob = b"".join(
                (*member(f"{key}.jpg", jpeg), *member(f"{key}.json", record), *member(f"{key}.txt", caption))
            )
            digest.update(blob)
            size += file.write(blob)
            count += 1
        digest.update(END)
        size += file.write(END)
    return ShardInfo(digest.hexdigest(), size, count)


def sample_json(sample: Sample) -> bytes:
    return orjson.dumps(sample, default=vars)  # what model_dump gives, at a third of its cost: nothing is copied


def member(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, data and padding of one tar member."""
    return header(name, len(data)), data, b"\0" * (-len(data) % BLOCK)


def header(name: str, size: int) -> bytes:
    """The 512 bytes that tarfile writes (USTAR, fixed time and owner).

    Our choice: name, size and checksum are put into one header of tarfile's, which costs a tenth of making each anew.
    """
    raw = name.encode()
    if len(raw) > 100 or size >= 8**11:
        return tar_header(name, size)
    digits = b"%011o\0" % size
    total = b"%06o\0 " % (EMPTY_SUM + sum(raw) + sum(digits))
    return b"".join((raw.ljust(100, b"\0"), EMPTY[100:124], digits, EMPTY[136:148], total, EMPTY[156:]))


def tar_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, 0, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


EMPTY = tar_header("", 0)
EMPTY_SUM = sum(EMPTY[:124]) + sum(EMPTY[136:148]) + 8 * ord(" ") + sum(EMPTY[156:])


@contextlib.contextmanager
def writing(path: Path) -> Iterator[io.BufferedWriter]:
    """A file that appears under its name whole or not at all. Raises UserError where the disk does not take it."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. Finished work is kept; mend this and run the command again"
        ) from None


def write_bytes(path: Path, data: bytes) -> None:
    with writing(path) as file:
        file.write(data)


# ------------------------------------------------------------------ reading


def members(path: Path) -> Iterator[Member]:
    """Walk a tar's headers. Raises tarfile.TarError on anything that is not a sound archive to its last byte."""
    total = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        at = 0
        while found := member_at(os.pread(file.fileno(), BLOCK, at), at, total):
            yield found
            at = found.offset + found.size + -found.size % BLOCK
        check_end(os.pread(file.fileno(), BLOCK + 1, at + BLOCK))


def contents(path: Path) -> Iterator[tuple[Member, bytes, bytes]]:
    """(member, data, padding) of a tar, read from front to back. Raises as `members` does."""
    total = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while found := member_at(file.read(BLOCK), at, total):
            padded = file.read(found.size + -found.size % BLOCK)
            yield found, padded[: found.size], padded[found.size :]
            at = found.offset + len(padded)
        check_end(file.read(BLOCK + 1))


def member_at(block: bytes, at: int, total: int) -> Member | None:
    """The member whose header `block` stands at byte `at` of `total`; None at the end. Raises tarfile.TarError."""
    if block == END[:BLOCK]:
        return None
    raw, digits = block[:100].rstrip(b"\0"), block[124:135]
    if raw.isascii() and digits and not digits.strip(OCTAL) and block == header(raw.decode(), int(digits, 8)):
        name, size = raw.decode(), int(digits, 8)
    else:  # none that we wrote; tarfile reads any, in ten times the time, and says what is wrong with one
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except UnicodeDecodeError as error:
            raise tarfile.ReadError(f"a name that is no UTF-8 at byte {at}: {error}") from None
        name, size = info.name, info.size
    if at + BLOCK + size > total:
        raise tarfile.ReadError(f"{name} runs beyond the end of the file")
    return Member(name, at + BLOCK, size)


def check_end(rest: bytes) -> None:
    """`rest`: what stands behind the first of the two empty blocks."""
    if rest != END[:BLOCK]:
        raise tarfile.ReadError("data behind the end of the archive")


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, {extension: data}) of each sample of one of our shards, in order."""
    key, files = "", dict[str, bytes]()
    for entry, data, _ in contents(path):
        name, _, extension = entry.name.partition(".")
        if name != key and files:
            yield key, files
            files = {}
        key = name
        files[extension] = data
    if files:
        yield key, files


def read_sample(out: Path, key: str) -> tuple[Sample, bytes]:
    """(sample, JPEG) by key or an unambiguous beginning of it. Raises UserError."""
    found: dict[str, tuple[Sample, bytes]] = {}
    for shard in dataset_shards(out):
        for name, files in read_samples(shard):
            if name.startswith(key):
                found[name] = (Sample.model_validate_json(files["json"]), files["jpg"])
    if not found:
        raise UserError(f"no sample {key!r} in {out}")
    if key not in found and len(found) > 1:
        raise UserError(f"{key!r} begins {len(found)} keys: {', '.join(sorted(found)[:4])} …")
    return found[key] if key in found else next(iter(found.values()))


def dataset_shards(out: Path) -> list[Path]:
    """The shards that the index names. Raises UserError where there is no dataset."""
    return [out / shard["name"] for shard in read_index(out)["shards"]]


def read_index(out: Path) -> dict[str, Any]:
    """index.json. Raises UserError where it is missing (an unfinished build) or broken."""
    path = out / INDEX
    refuse_url(out)
    if not out.is_dir():
        raise UserError(f"no dataset at {out}: there is no such folder", 2)
    if not path.is_file() and not begun(out):
        raise UserError(
            f"no dataset at {out}: the folder holds neither {INDEX} nor shards, and no {out.absolute().name}.work lies beside "
            "it. Give the folder that `unif2ace-data build --out` wrote",
            2,
        )
    if not path.is_file():
        raise UserError(
            f"no dataset at {out}: {INDEX} is missing (it is written last: run the command that was ended, or "
            "`unif2ace-data build`, again to finish)"
        )
    try:
        index = orjson.loads(path.read_bytes())
        if isinstance(index, dict) and index.get("kind") == ANNOTATIONS_KIND:
            raise UserError(
                f"{out} holds annotations without pictures: `unif2ace-data join {out} --src PHOTOGRAPHS` makes a dataset of them",
                2,
            )
        Index.model_validate(index)
    except (ValueError, TypeError) as error:  # a pydantic ValidationError is a ValueError
        first = str(error).splitlines()[0]
        raise UserError(f"{INDEX} is broken ({first}): run `unif2ace-data build` again to write it anew") from None
    return dict(index)


def begun(out: Path) -> bool:
    """Whether a build has worked on `out`: shards in it, or its private folder beside it."""
    shards = (path for split in SPLITS for path in out.glob(f"{split}-*.tar"))
    whole = out.absolute()
    return whole.with_name(whole.name + ".work").is_dir() or next(shards, None) is not None


# ------------------------------------------------------------------ the index


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def root_hash(entries: Iterable[tuple[str, str]]) -> str:
    """One hash for the dataset: SHA-256 over `name sha256` lines, sorted by name."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(entries))
    return hashlib.sha256(lines.encode()).hexdigest()


def index_bytes(
    shards: list[dict[str, Any]], files: dict[str, dict[str, Any]], counts: dict[str, Any]
) -> tuple[bytes, str]:
    """(index.json, the dataset's root hash).

    shards: {name, split, prefix, samples, bytes, sha256}; files: name -> {bytes, sha256} of everything else that
    travels; counts: sums of the ledger.
    """
    root = root_hash([(s["name"], s["sha256"]) for s in shards] + [(n, f["sha256"]) for n, f in files.items()])
    index = {
        "kind": INDEX_KIND,
        "schema_version": SCHEMA_VERSION,
        "root_sha256": root,
        "shards": shards,
        "files": files,
        "counts": counts,
    }
    return orjson.dumps(index, option=orjson.OPT_INDENT_2) + b"\n", root


def write_index(
    out: Path, shards: list[dict[str, Any]], files: dict[str, dict[str, Any]], counts: dict[str, Any]
) -> str:
    """Write index.json (index_bytes says what goes in); returns the dataset's root hash."""
    data, root = index_bytes(shards, files, counts)
    write_bytes(out / INDEX, data)
    return root
