"""`join`: annotations and a local copy of the photographs become the dataset again, checked by SHA-256.

Crops are made by the code that made them first, from the file's bytes, the corners and the recipe, so shards, index and
root hash are those of the original where the libraries decode and encode alike. What is missing is told, one by one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from unif2ace_data.curate.licences import manifests_in
from unif2ace_data.errors import InputError, UserError
from unif2ace_data.faces.align import crop_jpeg
from unif2ace_data.recipe import Align, SourceSpec
from unif2ace_data.release.annotations_index import DATA, DATASET
from unif2ace_data.release.read import read_mapping
from unif2ace_data.run.card import recount
from unif2ace_data.run.describe import companions, descriptions, files_of, write_descriptions
from unif2ace_data.run.pack import ledger_part, write_table
from unif2ace_data.schema import InputRef, Sample
from unif2ace_data.shards import INDEX, read_index, write_bytes, write_index, write_shard
from unif2ace_data.sources.listing import list_inputs, source_prefixes
from unif2ace_data.sources.manifest import load_manifest
from unif2ace_data.sources.read import read_input

MISSING = "photo_missing"  # the index's reason for a sample that could not be made again


@dataclass(frozen=True, slots=True)
class Missing:
    """A sample without its picture. `reason`: missing, other_hash (a photograph of that id has other bytes), not_cut."""

    key: str
    source_id: str
    sha256: str
    reason: str
    detail: str = ""


@dataclass(slots=True)
class Joined:
    """What a join did. `identical`: every shard has the bytes that the annotations' index names."""

    samples: int = 0
    shards: int = 0
    identical: int = 0
    root_sha256: str = ""
    ledger: str = ""
    missing: list[Missing] = field(default_factory=list)


def join(annotations: Path, sources: list[SourceSpec], out: Path, partial: bool = False) -> Joined:
    """Make the dataset at `out`, a new folder, from annotations and photographs.

    Samples without their photograph are listed in `OUT.missing.jsonl`. Where there are any, nothing else is written
    unless `partial`: then the dataset holds the others. Raises UserError: no annotations, no such source, `out` in use.
    """
    if not (annotations / DATASET / INDEX).is_file():
        raise UserError(f"no annotations at {annotations}: give the folder that `unif2ace-data annotations` wrote", 2)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} exists and is not empty: choose a new folder", 2)
    index, recipe = read_index(annotations / DATASET), read_mapping(annotations / DATASET / "recipe.yaml")
    align = Align.model_validate((recipe.get("faces") or {}).get("align") or {})
    wanted = {
        sample.source.sha256: sample.source.id for s in index["shards"] for sample in records(annotations, s["name"])
    }
    photos, ids = find_photos(sources, set(wanted), set(wanted.values()))
    done = Joined(shards=len(index["shards"]))
    work = out.with_name(f".{out.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(annotations / DATASET, work)
    (work / INDEX).unlink()
    entries = []
    for shard in index["shards"]:
        made = write_shard(work / shard["name"], samples(annotations, shard["name"], photos, ids, align, done))
        done.samples += made.samples
        done.identical += made.sha256 == shard["sha256"]
        entries.append({**shard, "samples": made.samples, "bytes": made.bytes, "sha256": made.sha256})
    ledger = out.with_name(f"{out.name}.missing.jsonl")
    if done.missing:
        write_bytes(ledger, b"".join(orjson.dumps(asdict(m)) + b"\n" for m in done.missing))
        done.ledger = str(ledger)
        if not (partial and done.samples):
            shutil.rmtree(work)
            return done
    else:
        ledger.unlink(missing_ok=True)
    done.root_sha256 = complete(work, index, [e for e in entries if e["samples"]], recipe, done.missing)
    if out.is_dir():
        out.rmdir()
    work.replace(out)
    return done


def records(annotations: Path, shard: str) -> Iterator[Sample]:
    """The records of one shard, in order. Raises UserError where the file is missing or of another schema."""
    path = annotations / DATA / f"{shard.removesuffix('.tar')}.parquet"
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                yield from (Sample.model_validate(row) for row in batch.to_pylist())
    except (OSError, pa.ArrowInvalid, ValidationError) as error:
        raise UserError(f"{path} cannot be read as annotations: {str(error).splitlines()[0]}") from None


def find_photos(
    sources: list[SourceSpec], hashes: set[str], wanted_ids: set[str]
) -> tuple[dict[str, InputRef], dict[str, str]]:
    """(SHA-256 -> input) of the photographs wanted, and (source id -> what is wrong) of inputs that bear a wanted id only.

    By hash, so that a copy in other folders will do.
    """
    manifests = [load_manifest(spec.manifest) for spec in sources]
    for spec in sources:
        if not Path(spec.path).exists():
            raise UserError(f"--src {spec.path}: there is no such file or folder", 2)
    found: dict[str, InputRef] = {}
    odd: dict[str, str] = {}
    prefixes = source_prefixes(sources, manifests)
    for spec, manifest, prefix in zip(sources, manifests, prefixes, strict=True):
        for ref in list_inputs(spec, manifest, prefix):
            try:
                digest = hashlib.sha256(read_input(ref)).hexdigest()
            except InputError as error:
                odd[ref.source_id] = error.message
                continue
            if digest in hashes:
                found.setdefault(digest, ref)
            elif ref.source_id in wanted_ids:
                odd[ref.source_id] = f"its SHA-256 is {digest}"
    return found, odd


def samples(
    annotations: Path, shard: str, photos: dict[str, InputRef], odd: dict[str, str], align: Align, done: Joined
) -> Iterator[tuple[str, bytes, Sample]]:
    """(key, JPEG, sample) of a shard's records whose photograph is there; the others go into `done.missing`."""
    for sample in records(annotations, shard):
        ref, source = photos.get(sample.source.sha256), sample.source
        if ref is None:
            reason = "other_hash" if source.id in odd else "missing"
            done.missing.append(Missing(sample.uid, source.id, source.sha256, reason, odd.get(source.id, "")))
            continue
        try:
            # Our choice: a record does not tell which frame of a clip it shows, so clips are not cut again.
            if ref.kind == "video":
                raise InputError("video", "a clip: which of its frames was taken stands in no record")
            data = read_input(ref)
            if hashlib.sha256(data).hexdigest() != source.sha256:
                raise InputError("changed", f"{ref.source_id} changed while it was read")
            jpeg, side, _ = crop_jpeg(data, np.array(sample.image.quad, np.float64), align)
        except InputError as error:
            done.missing.append(Missing(sample.uid, source.id, source.sha256, "not_cut", error.message))
            continue
        if side != sample.image.width:
            detail = f"the crop has {side} pixels a side, its record says {sample.image.width}"
            done.missing.append(Missing(sample.uid, source.id, source.sha256, "not_cut", detail))
            continue
        yield sample.uid, jpeg, sample


def complete(
    out: Path, index: dict[str, Any], shards: list[dict[str, Any]], recipe: dict[str, Any], missing: list[Missing]
) -> str:
    """Ledgers, descriptions and index of the joined shards; returns the root hash."""
    lost = {m.key for m in missing}
    names = {shard["name"] for shard in shards}
    for shard in index["shards"]:
        part = ledger_part(out, shard["name"])
        if shard["name"] not in names:
            (out / shard["name"]).unlink()
            part.unlink()
        elif lost:
            table = pq.read_table(part)
            write_table(part, table.filter(pa.array([key not in lost for key in table["key"].to_pylist()])))
    counts = dict(index["counts"])
    if lost:
        kept = {row for s in shards for row in pq.read_table(ledger_part(out, s["name"]))["source_id"].to_pylist()}
        gone = counts["inputs_kept"] - len(kept)
        counts |= {
            "kept": counts["kept"] - len(lost), "failed": counts["failed"] + len(lost),
            "inputs_kept": len(kept), "inputs_failed": counts["inputs_failed"] + gone,
            "reasons": {**counts["reasons"], MISSING: len(lost)},
        }  # fmt: skip
    stats = recount(out, {**index, "counts": counts})
    write_descriptions(out, descriptions(out, stats, recipe, manifests_in(recipe), shards))
    return write_index(out, shards, files_of(out, companions(shards)), counts)
