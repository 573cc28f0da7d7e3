"""Leaks planted on purpose: copies of photographs, and samples moved into another split with the project's own writer."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance, ImageOps

from unif2ace_data.schema import Sample
from unif2ace_data.shards import read_index, read_samples, sha256_file, write_index, write_shard

WAYS = ("re-encoded", "cropped", "mirrored", "relit")


def copy_of(image: Image.Image, way: str) -> bytes:
    """A photograph as somebody else would have it, as JPEG."""
    image = image.convert("RGB")
    if way == "cropped":
        width, height = image.size
        image = image.crop((width // 20, height // 25, width - width // 16, height - height // 18))
    elif way == "mirrored":
        image = ImageOps.mirror(image)
    elif way == "relit":
        ramp = np.linspace(0.55, 1.25, image.width)[None, :, None]  # light from the right
        lit = np.clip(np.asarray(image) * ramp, 0, 255).astype(np.uint8)
        image = ImageEnhance.Color(Image.fromarray(lit)).enhance(0.8)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=68 if way == "re-encoded" else 88)
    return buffer.getvalue()


def move(out: Path, target: Path, to: dict[str, str]) -> Path:
    """A copy of the dataset `out` at `target` with samples (by source id) moved to the splits named; index and ledgers hold."""
    shutil.copytree(out, target)
    index = read_index(out)
    splits: dict[str, list[tuple[str, bytes, Sample]]] = {}
    tables = []
    for entry in index["shards"]:
        tables.append(pq.read_table(out / "ledger" / f"kept-{Path(entry['name']).stem}.parquet"))
        for key, files in read_samples(out / entry["name"]):
            sample = Sample.model_validate_json(files["json"])
            sample = sample.model_copy(update={"split": to.get(sample.source.id, sample.split)})
            splits.setdefault(sample.split, []).append((key, files["jpg"], sample))
        (target / entry["name"]).unlink()
        (target / "ledger" / f"kept-{Path(entry['name']).stem}.parquet").unlink()
    rows = {row["key"]: row for row in pa.concat_tables(tables).to_pylist()}
    entries, files = [], dict(index["files"])
    files = {name: entry for name, entry in files.items() if not name.startswith("ledger/")}
    for split, samples in sorted(splits.items()):
        samples.sort(key=lambda triple: triple[0])
        info = write_shard(target / f"{split}-000000.tar", samples)
        part = target / "ledger" / f"kept-{split}-000000.parquet"
        pq.write_table(
            pa.Table.from_pylist([{**rows[k], "split": split} for k, _, _ in samples], tables[0].schema), part
        )
        entries.append(
            {
                "name": f"{split}-000000.tar", "split": split, "prefix": "", "samples": info.samples,
                "bytes": info.bytes, "sha256": info.sha256,
            }
        )  # fmt: skip
        files[f"ledger/{part.name}"] = {"bytes": part.stat().st_size, "sha256": sha256_file(part)}
    write_index(target, entries, files, index["counts"])
    return target


def people_of(out: Path) -> dict[str, tuple[str, str]]:
    """source id -> (key, split) of every sample."""
    found = {}
    for entry in read_index(out)["shards"]:
        for key, files in read_samples(out / entry["name"]):
            record = orjson.loads(files["json"])
            found[record["source"]["id"]] = (key, entry["split"])
    return found
