"""Samples with real evidence: what people said of 405 portraits (benchmarks/labels/portraits.csv), as validated records."""

from __future__ import annotations

import csv
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

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
)
from unif2ace_data.taxonomy import load_taxonomy

LABELS = Path(__file__).resolve().parents[2] / "benchmarks" / "labels" / "portraits.csv"


def attribute(name: str, value: str, validated: bool = True) -> Attribute:
    return Attribute(
        name=name, group=load_taxonomy()[name].group, value=value, confidence=0.95, validated=validated,
        evidence=Evidence(by="labeller"),
    )  # fmt: skip


def sample(key: str, attributes: Iterable[Attribute], claims: Iterable[Claim] = ()) -> Sample:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return Sample(
        uid=digest[:32], schema_version=SCHEMA_VERSION, split="train",
        source=Source(dataset="folder", id=f"folder/{key}", sha256=digest, licence="CC0-1.0", author="", url=""),
        image=Image(width=96, height=96, align="box", quad=[[0, 0], [96, 0], [96, 96], [0, 96]], source_width=96, source_height=96, padded=0),
        face=Face(box=[0, 0, 96, 96], landmarks=[[30, 40], [60, 40], [45, 55], [35, 70], [55, 70]], score=0.9, face_px=90, yaw=0, pitch=0, roll=0, sharpness=100, brightness=120),
        attributes=list(attributes), caption="", captioner=Captioner(engine="grounded", model="", revision="", prompt_sha256=""),
        claims=list(claims), qa=[],
    )  # fmt: skip


def person(**values: str) -> Sample:
    """One sample whose validated evidence is this."""
    return sample(repr(values), [attribute(name, value) for name, value in values.items()])


@functools.cache
def portraits() -> tuple[Sample, ...]:
    """One sample for each labelled portrait, in the order of the file."""
    lines = [line for line in LABELS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found: dict[str, Sample] = {}
    for row in csv.DictReader(lines):
        file = row.pop("file")
        del row["labeller"]
        known = {n: v for n, v in row.items() if v in load_taxonomy()[n].values}
        found.setdefault(file, sample(file, [attribute(n, v) for n, v in known.items()]))
    return tuple(found.values())
