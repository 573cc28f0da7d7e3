"""`plan`: what a build will keep, take and fill, foretold from a sample of its source before money is spent.

The sample is built for real, in a folder that goes away, in two sizes: what both take is start-up, what the larger one
takes more is the work itself. The smaller one is packed twice: what a process does only once, the first time, is start-up.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unif2ace_data.curate.intervals import wilson
from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe
from unif2ace_data.run.build import LOCAL, Summary, build, check_places, listed
from unif2ace_data.run.captioning import caption_engine, foreseen
from unif2ace_data.run.clock import Clock
from unif2ace_data.run.estimate import ranged_plan
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.plan_times import Trial, rates_of, scatter, spread_of, times, with_ranges
from unif2ace_data.run.planned import Ranged, digest_of, folder_bytes, shard_bytes, write_plan
from unif2ace_data.run.qa_gen import estimated
from unif2ace_data.shards import members
from unif2ace_data.sources.manifest import load_manifest

SMALLER = 4  # the first size of the sample is a fourth of it
LEAST = 4  # inputs: of fewer nothing can be told


def plan(
    recipe: Recipe,
    out: Path,
    sample: int,
    on: Executor = LOCAL,
    there: int = 0,
    rate: float = 10.0,
    quiet: bool = False,
    servers: int = 1,
) -> dict[str, Any]:
    """The plan (docs/plan.md lists its fields), which is also written into `out.work`.

    `there`: also for so many workers, and `servers` times as many of a model; `rate`: requests a second that those here
    answer. Raises UserError: as `build` does, too few inputs to tell anything.
    """
    check_places(recipe, out)
    clock = Clock()
    chosen, total, readable = drawn(recipe, sample)
    clock.lap("listing")
    if len(chosen) < LEAST:
        raise UserError(f"{total} inputs are too few for a plan: build them", 2)
    with tempfile.TemporaryDirectory(prefix="unif2ace-plan-") as folder:
        place = Path(folder) / "shards"
        sizes, whole = trials(recipe, place, chosen, on, quiet)
        rates = rates_of(place, on.workers)
        stages = times(sizes, total, readable, rates, clock.seconds["listing"])
        told = amounts(recipe, place, len(chosen), whole, total, rate)
    spread, captioning = spread_of(rates), model_seconds(told["model"].get("captions"), rate)
    elsewhere = there or (on.workers if servers > 1 else 0)
    told |= {
        "inputs": total,
        "readable": readable,
        "workers": on.workers,
        "here": with_ranges(stages, spread, 1.0, captioning),
        "there": None,
        "recipe": recipe.name,
        "digest": digest_of(recipe),
    }
    if elsewhere:
        captioning = model_seconds(told["model"].get("captions"), rate * servers)
        told["there"] = {"workers": elsewhere, "servers": servers}
        told["there"] |= with_ranges(stages, spread, on.workers / elsewhere, captioning)
    write_plan(out, told)
    return told


def drawn(recipe: Recipe, count: int) -> tuple[list[str], int, int]:
    """(source ids by the order of their hash, the number of all inputs, of those that can be read as they are listed).

    The same draw on every machine.
    """
    manifests = [load_manifest(spec.manifest) for spec in recipe.sources]
    total = readable = 0

    def names() -> Iterable[str]:
        nonlocal total, readable
        for ref in listed(recipe, manifests, None, None):
            total += 1
            readable += ref.problem is None
            yield ref.source_id

    chosen = heapq.nsmallest(count, ((hashlib.sha256(name.encode()).digest(), name) for name in names()))
    return [name for _, name in chosen], total, readable


def trials(recipe: Recipe, place: Path, chosen: list[str], on: Executor, quiet: bool) -> tuple[list[Trial], Summary]:
    """A smaller part of the inputs, the same again, all of them; and what came of all.

    The smaller part is the first quarter of which something is kept. Only all of them may keep nothing (UserError).
    """

    def trial(part: list[str]) -> tuple[Trial, Summary]:
        summary = measured(recipe, place, part, on, quiet)
        return Trial(len(part), summary.counts.get("kept", 0), summary.analysed, summary.stages), summary

    count = max(1, len(chosen) // SMALLER)
    smaller = [Trial(0, 0, 0, {})] * 2
    for start in range(0, len(chosen), count):
        with contextlib.suppress(UserError):
            smaller = [trial(chosen[start : start + count])[0] for _ in range(2)]
            break
    larger, summary = trial(chosen)
    return [*smaller, larger], summary


def measured(recipe: Recipe, place: Path, chosen: list[str], on: Executor, quiet: bool) -> Summary:
    """Build the chosen inputs, with grounded captions: nothing is asked of a model that costs money.

    What an earlier call at this `place` measured is taken over; everything from packing on is done anew.
    """
    shutil.rmtree(place, ignore_errors=True)
    changes = {
        "captions": recipe.captions.model_copy(update={"engine": "grounded"}),
        "alarm": recipe.alarm.model_copy(update={"max_failed": 1.0}),
    }
    try:
        return build(recipe.model_copy(update=changes), place, on, quiet=quiet, only=frozenset(chosen))
    except UserError as error:
        why, cut, _ = error.message.partition("; the output was not touched")
        if not cut:
            raise
        raise UserError(
            f"{why}, in a sample of the source. `build --limit {len(chosen)}` shows every one's reason"
        ) from None


def amounts(recipe: Recipe, place: Path, inputs: int, sample: Summary, total: int, rate: float) -> dict[str, Any]:
    """What `total` inputs will keep, fail on and fill, and what a model would be asked, as a sample of `inputs` has it."""
    kept, failed = (shares(sample.counts.get(status, 0), inputs) for status in ("kept", "failed"))
    samples = (kept[0] * total, kept[1] * total, kept[2] * total)
    off = scatter(sample_sizes(place))
    wide = (1.0, max(0.0, 1 - off), 1 + off)

    def filled(size: int) -> list[int]:
        """Of the private folder this is more range than it has: what is dropped leaves its measurements there."""
        return [round(size / sample.counts["kept"] * w * count) for w, count in zip(wide, samples, strict=True)]

    return {
        "sampled": inputs,
        "kept": {"samples": round(samples[0]), **named(kept)},
        "reasons": {reason: round(count / inputs, 4) for reason, count in Counter(sample.reasons).most_common()},
        "failed": {**named(failed), "max_failed": recipe.alarm.max_failed},
        "disk": {"shards": filled(shard_bytes(place)), "work": filled(folder_bytes(sample.work))},
        "model": asked(recipe, place, sample.counts["kept"], samples, rate),
    }


def shares(count: int, inputs: int) -> Ranged:
    """The share and its interval; where each face is a sample there may be more of them than inputs."""
    share, (low, high) = count / inputs, wilson(min(count, inputs), inputs)
    return share, low, max(high, share)


def named(range_: Ranged) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(("share", "low", "high"), range_, strict=True)}


def sample_sizes(out: Path) -> np.ndarray:
    """Bytes of every sample in the shards."""
    sizes: Counter[str] = Counter()
    for shard in out.glob("*.tar"):
        for member in members(shard):
            sizes[member.name.partition(".")[0]] += member.size
    return np.array(list(sizes.values()), float)


def asked(recipe: Recipe, place: Path, sampled: int, kept: Ranged, rate: float) -> dict[str, Any]:
    """What a model would be asked for captions and for questions, where the recipe names one (run/estimate.py)."""
    engine = caption_engine(recipe)
    found = {"captions": ranged_plan(foreseen(recipe, engine, 1, rate), kept)} if engine is not None else {}
    if recipe.qa.engine != "templates":
        expected, low, high = (count / sampled for count in kept)
        found["questions"] = ranged_plan(estimated(place, recipe, rate), (expected, low, high))
    return found


def model_seconds(captions: dict[str, Any] | None, rate: float) -> Ranged | None:
    """How long a model writes captions, at `rate` requests a second."""
    if captions is None:
        return None
    return captions["requests"] / rate, captions["low"]["requests"] / rate, captions["high"]["requests"] / rate
