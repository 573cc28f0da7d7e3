"""index.json of a folder of annotations: every file by size and SHA-256 under one root hash, and no picture among them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from unif2ace_data.schema import SCHEMA_VERSION
from unif2ace_data.shards import ANNOTATIONS_KIND, INDEX, FileEntry, root_hash, sha256_file, write_bytes

DATA, DATASET = "data", "dataset"
ANNOTATIONS = "annotations"  # folder in OUT.work, from which they are published
PART = re.compile(rf"{DATA}/(train|validation|test)-\d+\.parquet", re.ASCII)
PART_LEDGER = re.compile(rf"{DATASET}/ledger/kept-[\w-]+\.parquet", re.ASCII)
PAGE = re.compile(rf"README\.md|{DATASET}/\w[\w-]*\.(json|md|yaml)", re.ASCII)


class AnnotationsIndex(BaseModel):
    """index.json beside data/ and dataset/. (That of the dataset, with its shards' hashes, is dataset/index.json.)"""

    kind: Literal["unif2ace-annotations"]
    schema_version: str
    root_sha256: str
    samples: int
    files: dict[str, FileEntry]


def write_annotations_index(folder: Path, samples: int) -> str:
    """Write index.json over every other file of `folder`; returns the root hash."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {n: {"bytes": (folder / n).stat().st_size, "sha256": sha256_file(folder / n)} for n in names if n != INDEX}
    root = root_hash((name, str(entry["sha256"])) for name, entry in files.items())
    index = {
        "kind": ANNOTATIONS_KIND,
        "schema_version": SCHEMA_VERSION,
        "root_sha256": root,
        "samples": samples,
        "files": files,
    }
    write_bytes(folder / INDEX, orjson.dumps(index, option=orjson.OPT_INDENT_2) + b"\n")
    return root


def is_part(name: str) -> bool:
    """Whether annotations have a file of this name (which says that it is no picture, and leads nowhere else)."""
    return any(pattern.fullmatch(name) for pattern in (PART, PART_LEDGER, PAGE))


def annotations_at(folder: Path) -> dict[str, Any] | None:
    """index.json of `folder` if it is one of annotations."""
    try:
        index: dict[str, Any] = orjson.loads((folder / INDEX).read_bytes())
        AnnotationsIndex.model_validate(index)
    except (OSError, ValueError):  # a pydantic ValidationError is a ValueError
        return None
    return index


def check_rows(folder: Path, index: dict[str, Any], say: Callable[[str], None]) -> None:
    """As many records as the index says, in files that are parquet."""
    rows = 0
    for name in filter(PART.fullmatch, index["files"]):
        try:
            rows += pq.read_metadata(folder / name).num_rows
        except FileNotFoundError:
            return  # whoever compares files with the index has said so
        except (pa.ArrowInvalid, OSError) as error:
            say(f"{name}: not a sound parquet file: {error}")
            return
    if rows != index["samples"]:
        say(f"{DATA}/: {rows} records, the index says {index['samples']}")
