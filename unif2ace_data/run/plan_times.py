"""How long a build takes, from what the trials of a `plan` took: start-up and work told apart, and how far off it may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from unif2ace_data.release.report import MAX_SAMPLES
from unif2ace_data.run.planned import Ranged
from unif2ace_data.run.private import work_folder

SPREAD_OUT = ("hashing", "analysing", "describing")  # stages that workers share; the rest is the driver's
NOISE = 0.15  # our choice: a machine's own ups and downs, at least so much to both sides of a time
GROUPS = 4  # of the sample's chunks, whose rates differ by chance


@dataclass(frozen=True, slots=True)
class Trial:
    """A build of so many inputs: how many were kept, how many photographs analysed, and seconds by stage."""

    inputs: int
    kept: int
    analysed: int
    stages: dict[str, float]


def rates_of(place: Path, workers: int) -> np.ndarray:
    """(GROUPS,) inputs a second of the analysis in consecutive parts of a trial, once every worker had begun.

    Of the trials at this `place` the one that analysed most: the last may have met only copies of what was measured.
    """
    runs: list[list[dict[str, Any]]] = []
    for line in (work_folder(place) / "log.jsonl").read_bytes().splitlines():
        event = orjson.loads(line)
        if event["event"] == "analyse":
            runs.append([event])
        elif event["event"] == "analysed":
            runs[-1].append(event)
    begun, *analysed = max(runs, key=lambda run: sum(len(event["sources"]) for event in run[1:]))
    chunks = [(event["time"], len(event["sources"])) for event in analysed]
    if len(chunks) < workers + 2 * GROUPS:  # a small sample: all of its run, start-up included
        seconds = max(1e-3, chunks[-1][0] - begun["time"])
        return np.full(GROUPS, sum(count for _, count in chunks) / seconds)
    chunks = chunks[workers:]
    ends = np.linspace(0, len(chunks) - 1, GROUPS + 1).astype(int)
    at, done = np.array([c[0] for c in chunks]), np.cumsum([c[1] for c in chunks])
    return np.asarray(np.diff(done[ends]) / np.maximum(np.diff(at[ends]), 1e-3))


def times(
    sizes: list[Trial], total: int, readable: int, rates: np.ndarray, listing: float
) -> dict[str, tuple[float, float]]:
    """Seconds of each stage for `total` inputs, of which so many can be analysed: (start-up, work).

    `sizes`: a small trial, the same again, a larger one.
    """
    first, small, large = sizes
    kept = round(large.kept / large.inputs * total)
    found = {}
    for stage, seconds in large.stages.items():
        before, after = amount(stage, small.inputs, small.kept), amount(stage, large.inputs, large.kept)
        cold, warm = (size.stages.get(stage, 0.0) for size in (first, small))
        slope = max(0.0, seconds - min(cold, warm)) / max(1, after - before)  # the second may have been held up
        found[stage] = (max(0.0, cold - slope * before), slope * amount(stage, total, kept))
    rate = float(len(rates) / np.sum(1 / rates))
    begun = max(0.0, large.stages["analysing"] - large.analysed / rate)
    return found | {"listing": (0.0, listing), "hashing": (0.0, 0.0), "analysing": (begun, readable / rate)}


def amount(stage: str, inputs: int, kept: int) -> int:
    """What a stage's work grows with: the inputs, but for the report, which shows so many samples and no more."""
    return min(kept, MAX_SAMPLES) if stage == "report" else inputs


def spread_of(rates: np.ndarray) -> float:
    """How far off a time may be, as a share of it: twice the standard error of the rates, at least NOISE."""
    return max(NOISE, scatter(rates))


def scatter(values: np.ndarray) -> float:
    """Twice the standard error of the mean, as a share of it; of a single value nothing is known: 1."""
    return float(2 * values.std(ddof=1) / np.sqrt(len(values)) / values.mean()) if len(values) > 1 else 1.0


def with_ranges(
    stages: dict[str, tuple[float, float]], spread: float, ratio: float, captioning: Ranged | None = None
) -> dict[str, Any]:
    """Seconds by stage and in all. `ratio`: of the workers here to those that it is told for; `captioning`: a model's."""
    rows: dict[str, Ranged] = {}
    for stage, (begin, work) in stages.items():
        seconds = begin + work * (ratio if stage in SPREAD_OUT else 1.0)
        rows[stage] = (seconds, seconds * max(0.0, 1 - spread), seconds * (1 + spread))
    if captioning:
        rows["captioning"] = captioning
    return {
        "stages": {stage: [round(seconds, 1) for seconds in row] for stage, row in rows.items()},
        "seconds": [round(sum(column), 1) for column in zip(*rows.values(), strict=True)],
    }
