"""`plan`: what a build will keep, take and fill, foretold from a sample of its source before money is spent.

The sample is built for real, in a folder that goes away, in two sizes: what both take is start-up, what the larger one
takes more is the work itself. The smaller one is packed twice: what a process does only once, the first time, is start-up.
A plan lies in `shards.work/plan.json`; the build puts beside it what happened.
"""

from __future__ import annotations

import hashlib
import heapq
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from unif2ace_data.curate.intervals import wilson
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.report import MAX_SAMPLES
from unif2ace_data.run.build import LOCAL, Summary, build, check_places, listed
from unif2ace_data.run.captioning import caption_engine, foreseen
from unif2ace_data.run.clock import Clock
from unif2ace_data.run.estimate import scaled_plan
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.private import work_folder
from unif2ace_data.run.qa_gen import estimated
from unif2ace_data.shards import write_bytes
from unif2ace_data.sources.manifest import load_manifest

PLAN = "plan.json"
SMALLER = 4  # the first size of the sample is a fourth of it
LEAST = 4  # inputs: of fewer nothing can be told
SPREAD_OUT = ("hashing", "analysing", "describing")  # stages that workers share; the rest is the driver's
NOISE = 0.15  # our choice: a machine's own ups and downs, at least so much to both sides of a time
GROUPS = 4  # of the sample's chunks, whose rates differ by chance


@dataclass(frozen=True, slots=True)
class Measured:
    """What one size of the sample took."""

    inputs: int
    summary: Summary
    work_bytes: int
    shard_bytes: int

    @property
    def kept(self) -> int:
        return self.summary.counts.get("kept", 0)


def plan(
    recipe: Recipe,
    out: Path,
    sample: int,
    on: Executor = LOCAL,
    there: int = 0,
    rate: float = 10.0,
    quiet: bool = False,
) -> dict[str, Any]:
    """The plan (docs/plan.md lists its fields). `there`: also for so many workers; `rate`: requests a second of the model.

    Raises UserError: as `build` does, too few inputs to tell anything.
    """
    check_places(recipe, out)
    clock = Clock()
    chosen, total = drawn(recipe, sample)
    clock.lap("listing")
    if len(chosen) < LEAST:
        raise UserError(f"{total} inputs are too few for a plan: build them", 2)
    with tempfile.TemporaryDirectory(prefix="unif2ace-plan-") as folder:
        place = Path(folder) / "shards"
        smaller = chosen[: max(1, len(chosen) // SMALLER)]
        sizes = [measured(recipe, place, part, on, quiet) for part in (smaller, smaller, chosen)]
        rates = rates_of(place, on.workers)
        stages = times(sizes, total, rates, clock.seconds["listing"])
        model = asked(recipe, place, sizes[-1], total, rate)
    told = told_of(sizes[-1], total, stages, spread_of(rates), on.workers, there) | {
        "model": model,
        "recipe": recipe.name,
    }
    folder_of_plan = work_folder(out)
    folder_of_plan.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_bytes(folder_of_plan / PLAN, orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    return told


def drawn(recipe: Recipe, count: int) -> tuple[list[str], int]:
    """(source ids by the order of their hash, the number of all inputs): the same draw on every machine."""
    manifests = [load_manifest(spec.manifest) for spec in recipe.sources]
    total = 0

    def names() -> Iterable[str]:
        nonlocal total
        for ref in listed(recipe, manifests, None, None):
            total += 1
            yield ref.source_id

    chosen = heapq.nsmallest(count, ((hashlib.sha256(name.encode()).digest(), name) for name in names()))
    return [name for _, name in chosen], total


def measured(recipe: Recipe, place: Path, chosen: list[str], on: Executor, quiet: bool) -> Measured:
    """Build the chosen inputs, with grounded captions: nothing is asked of a model that costs money.

    What an earlier call at this `place` measured is taken over; everything from packing on is done anew.
    """
    shutil.rmtree(place, ignore_errors=True)
    changes = {
        "captions": recipe.captions.model_copy(update={"engine": "grounded"}),
        "alarm": recipe.alarm.model_copy(update={"max_failed": 1.0}),
    }
    try:
        summary = build(recipe.model_copy(update=changes), place, on, quiet=quiet, only=frozenset(chosen))
    except UserError as error:
        why, cut, _ = error.message.partition("; the output was not touched")
        if not cut:
            raise
        raise UserError(
            f"{why}, in a sample of the source. `build --limit {len(chosen)}` shows every one's reason"
        ) from None
    return Measured(len(chosen), summary, folder_bytes(work_folder(place)), shard_bytes(place))


def shard_bytes(out: Path) -> int:
    return sum(path.stat().st_size for path in out.glob("*.tar"))


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def rates_of(place: Path, workers: int) -> np.ndarray:
    """(GROUPS,) inputs a second of the analysis in consecutive parts of the last run, once every worker had begun."""
    events = [orjson.loads(line) for line in (work_folder(place) / "log.jsonl").read_bytes().splitlines()]
    begun = max(i for i, event in enumerate(events) if event["event"] == "analyse")
    chunks = [(event["time"], len(event["sources"])) for event in events[begun:] if event["event"] == "analysed"]
    if len(chunks) < workers + 2 * GROUPS:  # a small sample: all of its run, start-up included
        seconds = max(1e-3, chunks[-1][0] - events[begun]["time"])
        return np.full(GROUPS, sum(count for _, count in chunks) / seconds)
    chunks = chunks[workers:]
    ends = np.linspace(0, len(chunks) - 1, GROUPS + 1).astype(int)
    at, done = np.array([c[0] for c in chunks]), np.cumsum([c[1] for c in chunks])
    return np.asarray(np.diff(done[ends]) / np.maximum(np.diff(at[ends]), 1e-3))


def times(sizes: list[Measured], total: int, rates: np.ndarray, listing: float) -> dict[str, tuple[float, float]]:
    """Seconds of each stage for `total` inputs: (start-up, work). `sizes`: the smaller, the same again, the larger."""
    first, small, large = sizes
    kept = round(large.kept / large.inputs * total)
    found = {}
    for stage, seconds in large.summary.stages.items():
        before, after = amount(stage, small.inputs, small.kept), amount(stage, large.inputs, large.kept)
        cold, warm = (size.summary.stages.get(stage, 0.0) for size in (first, small))
        slope = max(0.0, seconds - min(cold, warm)) / max(1, after - before)  # the second may have been held up
        found[stage] = (max(0.0, cold - slope * before), slope * amount(stage, total, kept))
    rate = float(len(rates) / np.sum(1 / rates))
    begun = max(0.0, large.summary.stages["analysing"] - (large.inputs - small.inputs) / rate)
    return found | {"listing": (0.0, listing), "hashing": (0.0, 0.0), "analysing": (begun, total / rate)}


def amount(stage: str, inputs: int, kept: int) -> int:
    """What a stage's work grows with: the inputs, but for the report, which shows so many samples and no more."""
    return min(kept, MAX_SAMPLES) if stage == "report" else inputs


def spread_of(rates: np.ndarray) -> float:
    """How far off a time may be, as a share of it: twice the standard error of the rates, at least NOISE."""
    return max(NOISE, float(2 * rates.std(ddof=1) / np.sqrt(len(rates)) / rates.mean()))


def told_of(
    sample: Measured, total: int, stages: dict[str, tuple[float, float]], spread: float, workers: int, there: int
) -> dict[str, Any]:
    share, (low, high) = sample.kept / sample.inputs, wilson(min(sample.kept, sample.inputs), sample.inputs)
    kept = {"share": round(share, 4), "low": round(low, 4), "high": round(max(high, share), 4)}
    each = sample.shard_bytes / max(1, sample.kept)
    reasons = Counter(sample.summary.reasons)
    return {
        "inputs": total,
        "sampled": sample.inputs,
        "kept": {"samples": round(share * total), **kept},
        "reasons": {reason: round(count / sample.inputs, 4) for reason, count in reasons.most_common()},
        "workers": workers,
        "here": with_ranges(stages, spread, 1.0),
        "there": {"workers": there, **with_ranges(stages, spread, workers / there)} if there else None,
        "disk": {
            "shards": [round(each * total * one) for one in (kept["share"], kept["low"], kept["high"])],
            "work": round(sample.work_bytes / sample.inputs * total),
        },
    }


def with_ranges(stages: dict[str, tuple[float, float]], spread: float, ratio: float) -> dict[str, Any]:
    """Seconds by stage and in all, [expected, low, high]. `ratio`: of the workers here to those that it is told for."""

    def ranged(seconds: float) -> list[float]:
        return [round(seconds * factor, 1) for factor in (1.0, max(0.0, 1 - spread), 1 + spread)]

    rows = {stage: begin + work * (ratio if stage in SPREAD_OUT else 1.0) for stage, (begin, work) in stages.items()}
    return {
        "stages": {stage: ranged(seconds) for stage, seconds in rows.items()},
        "seconds": ranged(sum(rows.values())),
    }


def asked(recipe: Recipe, place: Path, sample: Measured, total: int, rate: float) -> dict[str, Any]:
    """What a model would be asked for captions and for questions, where the recipe names one (run/estimate.py)."""
    kept = round(sample.kept / sample.inputs * total)
    engine = caption_engine(recipe)
    found = {"captions": foreseen(recipe, engine, kept, rate)} if engine is not None else {}
    if recipe.qa.engine != "templates":
        found["questions"] = scaled_plan(estimated(place, recipe, rate), max(1, round(kept / max(1, sample.kept))))
    return found


# ------------------------------------------------------------------ what happened


def with_what_happened(summary: Summary) -> dict[str, Any] | None:
    """The plan of this build with what came, also written beside it; None without a plan, or of a run that did less."""
    file = summary.work / PLAN
    try:
        told: dict[str, Any] = orjson.loads(file.read_bytes())
        planned = told["inputs"]
    except (OSError, ValueError, KeyError):
        return None
    if summary.inputs != planned or summary.analysed < 0.9 * planned:
        return None
    told["happened"] = {
        "kept": summary.counts.get("kept", 0),
        "stages": summary.stages,
        "seconds": summary.seconds,
        "shards": shard_bytes(summary.out),
        "work": folder_bytes(summary.work),
    }
    write_bytes(file, orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    return told
