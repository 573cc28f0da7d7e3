"""`diff`: what changed from one dataset to another: samples, recipe, what was lost, distributions, and what confounds.

Samples are compared as they lie in the shards, in one pass and bounded memory; distributions are those of stats.json, which
every command that writes shards counts anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unif2ace_data.curate.shifts import Distribution, Measure, distributions, measures
from unif2ace_data.errors import UserError
from unif2ace_data.release.read import read_mapping
from unif2ace_data.release.stats import funnel_place, published_stats
from unif2ace_data.run.diff_reasons import Reasons
from unif2ace_data.run.diff_samples import Samples, compare_samples
from unif2ace_data.run.private import work_folder
from unif2ace_data.run.progress import Progress
from unif2ace_data.shards import read_index

# Our choice of what is worth naming before two models are compared:
RATIO = 1.1  # a size or mean that is this many times the other's, or more
VARIATION = 0.1  # a distribution of which so much lies elsewhere, where at least one value's interval leaves out 0
ABOVE_CHANCE = 0.05  # a share of questions that can be answered blindly, further apart than this
SHARED = 0.9  # samples in both, as a share of those in either
SIZES = ("train samples", "caption tokens", "attributes per caption", "questions per sample")
TOLD = ("split", "caption tokens", "questions per sample")  # distributions of which the means or sizes tell


@dataclass(frozen=True, slots=True)
class Dataset:
    """One side. `ledger`: whether its private full ledger is at hand."""

    path: str
    recipe: str
    root_sha256: str
    schema_version: str
    samples: int
    splits: dict[str, int]
    inputs: int
    ledger: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of recipe.yaml with another value; None: the key is null, or not there. What was used stands under `resolved`."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """Ledger rows of each that were dropped or failed, by reason."""

    reason: str
    status: str
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Confounder:
    """What besides a change under study may make two models differ. `name`: samples, held_out, pictures, or a measure's or
    distribution's; a, b: its value on each side (a distribution's: share of the value that differs most)."""

    name: str
    a: float
    b: float
    text: str


@dataclass(slots=True)
class Diff:
    """`same`: no sample, setting or loss differs; nor does, then, any distribution."""

    a: Dataset
    b: Dataset
    same: bool
    samples: Samples
    recipe: list[Setting]
    lost: list[Lost]
    measures: list[Measure]
    distributions: list[Distribution]
    confounders: list[Confounder]
    notes: list[str] = field(default_factory=list)


def diff(a: Path, b: Path, quiet: bool = True) -> Diff:
    """Compare the datasets at `a` and `b`; nothing is written.

    The private full ledgers are read where they lie beside. Raises UserError: no dataset, an unfinished one, statistics that
    are missing or of another schema, a shard that is broken.
    """
    stats_a, stats_b = published_stats(a), published_stats(b)
    index_a, index_b = read_index(a), read_index(b)
    sides = dataset(a, index_a, stats_a), dataset(b, index_b, stats_b)
    progress = Progress("comparing", sides[0].samples + sides[1].samples, quiet)
    try:
        samples = compare_samples(
            a, b, index_a["shards"], index_b["shards"], reasons(a), reasons(b), lambda n: progress.advance(n, [])
        )
    finally:
        progress.close()
    settings = sorted(
        differing("", tidy(read_mapping(a / "recipe.yaml")), tidy(read_mapping(b / "recipe.yaml"))),
        key=lambda s: (s.key.startswith("resolved."), s.key),
    )
    try:
        lost = losses(stats_a, stats_b)
        numbers, spreads = measures(stats_a, stats_b), distributions(stats_a, stats_b)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the stats.json of {a} and {b} are not both of this schema ({error!r}): run unif2ace-data card on them"
        ) from None
    unchanged = not (samples.only_a.count or samples.only_b.count or samples.rekeyed.count or samples.changed.count)
    same = unchanged and not settings and not lost
    return Diff(
        *sides,
        same,
        samples,
        settings,
        lost,
        numbers,
        spreads,
        confounders(samples, numbers, spreads),
        notes(*sides, samples),
    )


def as_json(found: Diff) -> dict[str, Any]:
    return asdict(found)


def dataset(out: Path, index: Mapping[str, Any], stats: Mapping[str, Any]) -> Dataset:
    splits: dict[str, int] = {}
    for shard in index["shards"]:
        splits[shard["split"]] = splits.get(shard["split"], 0) + shard["samples"]
    return Dataset(
        str(out), str(read_mapping(out / "recipe.yaml").get("name", "")), index["root_sha256"], index["schema_version"],
        sum(splits.values()), splits, int(stats.get("inputs", 0)), full_ledger(out) is not None,
    )  # fmt: skip


def full_ledger(out: Path) -> Path | None:
    path = work_folder(out) / "ledger.parquet"
    return path if path.is_file() else None


def reasons(out: Path) -> Reasons:
    return Reasons(out, full_ledger(out))


def notes(a: Dataset, b: Dataset, samples: Samples) -> list[str]:
    said = []
    for name, side, missing in (("A", a, samples.only_b.count), ("B", b, samples.only_a.count)):
        if missing and not side.ledger:
            said.append(
                f"why {missing} samples are not in {name} is not known: its full ledger (SHARDS.work) is not at hand"
            )
    if a.schema_version != b.schema_version:
        said.append(f"A is of schema {a.schema_version}, B of {b.schema_version}")
    return said


# ------------------------------------------------------------------ recipe and losses


def tidy(recipe: Any) -> Any:
    """Lists of named things as mappings, so that each is compared with its namesake."""
    if isinstance(recipe, dict):
        return {str(key): tidy(value) for key, value in recipe.items()}
    if isinstance(recipe, list) and recipe:
        for label in ("name", "manifest"):
            names = [item.get(label) if isinstance(item, dict) else None for item in recipe]
            if None not in names and len(set(names)) == len(names):
                return {str(name): tidy(item) for name, item in zip(names, recipe, strict=True)}
    return recipe


def differing(key: str, a: Any, b: Any) -> Iterator[Setting]:
    """Every key whose values differ; a section that one side lacks is one difference."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in {**a, **b}:
            yield from differing(f"{key}.{name}" if key else name, a.get(name), b.get(name))
    elif a != b:
        yield Setting(key, a, b)


def losses(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Lost]:
    """Reasons that took another number of rows, in the order of the funnel."""
    mine, yours = ({(r["status"], r["reason"]): int(r["rows"]) for r in stats["reasons"]} for stats in (a, b))
    return [
        Lost(reason, status, mine.get((status, reason), 0), yours.get((status, reason), 0))
        for status, reason in sorted({**mine, **yours}, key=funnel_place)
        if mine.get((status, reason)) != yours.get((status, reason))
    ]


# ------------------------------------------------------------------ what confounds


def confounders(samples: Samples, numbers: list[Measure], spreads: list[Distribution]) -> list[Confounder]:
    """What a comparison of models trained on A and on B should name, unless it is what is compared."""
    return [*of_samples(samples), *of_measures(numbers), *of_distributions(spreads)]


def of_samples(samples: Samples) -> Iterator[Confounder]:
    either = samples.a + samples.b - samples.common
    if samples.common < SHARED * either:
        yield Confounder(
            "samples",
            samples.a,
            samples.b,
            f"only {samples.common:,} of {either:,} samples are in both ({samples.common / either:.1%})",
        )
    crossed = {moved: found.count for moved, found in samples.moved.items() if "train" in moved.split(" -> ")}
    into = sum(n for moved, n in crossed.items() if moved.endswith(" train"))
    if crossed:
        out = sum(crossed.values()) - into
        yield Confounder(
            "held_out", into, out,
            f"samples that A holds out in B's train: {into:,}, that B holds out in A's: {out:,}; neither held-out split is "
            "fair to both",
        )  # fmt: skip
    if pictures := samples.aspects["picture"].count:
        yield Confounder(
            "pictures", samples.common, samples.common - pictures,
            f"the pictures of {pictures:,} of {samples.common:,} samples in both differ",
        )  # fmt: skip


def of_measures(numbers: list[Measure]) -> Iterator[Confounder]:
    asked = all(m.a and m.b for m in numbers if m.name == "questions")
    for m in numbers:
        low, high = sorted((m.a, m.b))
        if m.name in SIZES and high >= RATIO * low and high > low:
            times = f" ({m.ratio:.2f} times)" if m.ratio else ""
            yield Confounder(m.name, m.a, m.b, f"{m.name}: {m.a:,g} in A, {m.b:,g} in B{times}")
        elif m.name == "blind readers above chance" and asked and high - low > ABOVE_CHANCE:
            yield Confounder(
                m.name, m.a, m.b,
                f"questions can be answered without the picture {100 * m.a:.1f} points above chance in A, {100 * m.b:.1f} in B",
            )  # fmt: skip


def of_distributions(spreads: list[Distribution]) -> Iterator[Confounder]:
    for d in spreads:
        most = next((v for v in d.values if v.clear), None)
        if d.total_variation >= VARIATION and most and d.name not in TOLD:
            title = d.name if d.group in ("attribute", "measured") else f"{d.group}, {d.name}"
            yield Confounder(
                title, most.share_a, most.share_b,
                f"{title}: {d.total_variation:.0%} lies elsewhere; {most.value} {most.share_a:.1%} in A, "
                f"{most.share_b:.1%} in B",
            )  # fmt: skip
