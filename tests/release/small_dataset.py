"""A small dataset as `build` leaves it: shards, ledgers of the kept, recipe, and the private full ledger beside it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image as Picture

from unif2ace_data.recipe import Recipe
from unif2ace_data.schema import (
    SCHEMA_VERSION,
    Attribute,
    Captioner,
    Claim,
    Evidence,
    Face,
    Image,
    Sample,
    Source,
    sample_key,
)
from unif2ace_data.shards import write_shard

NAN = float("nan")
MEASURES = ("score", "face_px", "yaw", "pitch", "roll", "sharpness", "brightness", "age", "p_female")
FULL_LEDGER = pa.schema(
    [(name, pa.string()) for name in ("source_id", "dataset", "key", "status", "reason", "detail", "sha256", "split")]
    + [(name, pa.int32()) for name in ("face", "width", "height", "n_faces")]
    + [(name, pa.float64()) for name in ("value", "threshold")]
    + [(name, pa.float32()) for name in MEASURES]
)
PRIVATE = ("status", "reason", "value", "threshold", "detail")  # columns that the ledgers of the kept do not have


@dataclass
class Dataset:
    out: Path
    work: Path

    @property
    def ledger(self) -> Path:
        return self.work / "ledger.parquet"


def jpeg(side: int = 96, colour: tuple[int, int, int] = (180, 120, 90)) -> bytes:
    buffer = io.BytesIO()
    Picture.new("RGB", (side, side), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sample(name: str, split: str = "train", **changes: Any) -> Sample:
    """A person who smiles, with grey hair; two of three attributes are claimed."""

    def attribute(name: str, value: str, confidence: float) -> Attribute:
        evidence = Evidence(by="face_landmarker", revision="ab12", measured="0.41")
        return Attribute(
            name=name, group="appearance", value=value, confidence=confidence, validated=True, evidence=evidence
        )

    fields: dict[str, Any] = {
        "uid": sample_key(sha(name), 0, True),
        "schema_version": SCHEMA_VERSION,
        "split": split,
        "source": Source(
            dataset="folder", id=f"folder/{name}.jpg", sha256=sha(name), licence="CC0-1.0", author="A. Person", url=""
        ),
        "image": Image(
            width=96, height=96, align="ffhq", quad=[[0, 0], [96, 0], [96, 96], [0, 96]],
            source_width=200, source_height=240, padded=0,
        ),
        "face": Face(
            box=[20, 20, 70, 80], landmarks=[[30, 40], [60, 40], [45, 55], [35, 70], [55, 70]],
            score=0.9, face_px=60, yaw=5, pitch=-3, roll=1, sharpness=120, brightness=130,
        ),
        "attributes": [
            attribute("smile", "broad", 0.95), attribute("hair", "grey", 0.91), attribute("gaze", "left", 0.8),
        ],
        "caption": "A person with grey hair smiles broadly.",
        "captioner": Captioner(engine="grounded", model="", revision="1", prompt_sha256=""),
        "claims": [
            Claim(attribute="hair", value="grey", span=[14, 23], verdict="supported"),
            Claim(attribute="smile", value="broad", span=[24, 38], verdict="supported"),
        ],
        "qa": [],
    }  # fmt: skip
    return Sample(**(fields | changes))


def row(source_id: str, status: str = "dropped", **facts: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("key", "reason", "detail", "split"), "")
    numbers = dict.fromkeys(("value", "threshold", *MEASURES), NAN)
    return {
        "source_id": source_id, "dataset": "folder", "status": status, "sha256": sha(source_id), "face": -1,
        "width": 200, "height": 240, "n_faces": 1, **blank, **numbers, **facts,
    }  # fmt: skip


def kept_row(sample: Sample) -> dict[str, Any]:
    face = sample.face.model_dump(exclude={"box", "landmarks"})
    facts = {"key": sample.uid, "split": sample.split, "face": 0, "sha256": sample.source.sha256, **face}
    return row(sample.source.id, "kept", dataset=sample.source.dataset, **facts)


def write_dataset(folder: Path, samples: list[tuple[Sample, bytes]], lost: list[dict[str, Any]]) -> Dataset:
    """One shard a split, as `build` writes them."""
    data = Dataset(folder / "shards", folder / "shards.work")
    (data.out / "ledger").mkdir(parents=True)
    data.work.mkdir()
    samples = sorted(samples, key=lambda pair: pair[0].uid)
    for split in ("train", "validation", "test"):
        mine = [(s.uid, picture, s) for s, picture in samples if s.split == split]
        if mine:
            write_shard(data.out / f"{split}-000000.tar", mine)
            kept = pa.Table.from_pylist([kept_row(s) for _, _, s in mine], FULL_LEDGER).drop_columns(list(PRIVATE))
            pq.write_table(kept, data.out / "ledger" / f"kept-{split}-000000.parquet")
    rows = [kept_row(s) for s, _ in samples] + lost
    pq.write_table(pa.Table.from_pylist(rows, FULL_LEDGER), data.ledger)
    (data.out / "recipe.yaml").write_text(yaml.safe_dump(Recipe(name="small").model_dump(), sort_keys=False))
    return data
