"""How the distributions of two datasets differ, from their statistics: shares of values, total variation, plain sums.

The interval of a difference takes both datasets for independent draws. Samples that lie in both make the difference more
certain than that, so it is too wide rather than too narrow; of questions, several of one sample, it is a guide only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unif2ace_data.curate.intervals import newcombe

QUANTILES = (0.1, 0.5, 0.9)
NOT_STATED = "(not stated)"
Stats = Mapping[str, Any]  # stats.json


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of each dataset; `ratio` is b / a, None where a is 0."""

    name: str
    a: float
    b: float
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Share:
    """How often one value occurs: counts, shares (0 to 1), and the difference b - a in points with its 95 % interval."""

    value: str
    a: int
    b: int
    share_a: float
    share_b: float
    points: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Distribution:
    """One property in both datasets: `a`, `b` cases, `total_variation` from 0 (alike) to 1 (nothing in common).

    `values` from the greatest difference. Of what is measured, values are bins; means are exact, the quantiles (10, 50,
    90 %) interpolated within their bin.
    """

    group: str
    name: str
    a: int
    b: int
    total_variation: float
    values: list[Share]
    unit: str = ""
    mean_a: float | None = None
    mean_b: float | None = None
    quantiles_a: list[float] = field(default_factory=list)
    quantiles_b: list[float] = field(default_factory=list)


def measures(a: Stats, b: Stats) -> list[Measure]:
    """Sizes and means of both, in a fixed order. Raises KeyError where stats.json is of another schema."""
    return [
        Measure(name, x, y, round(y / x, 4) if x else None)
        for (name, x), (_, y) in zip(numbers_of(a), numbers_of(b), strict=True)
    ]


def numbers_of(stats: Stats) -> Iterator[tuple[str, float]]:
    captions, qa, claims = stats["captions"], stats["qa"], stats["claims"]
    yield "samples", stats["kept"]
    for split, sums in stats["splits"].items():
        yield f"{split} samples", sums["samples"]
    yield "caption tokens", captions["tokens_mean"]
    yield "attributes per caption", captions["attributes_per_caption"]
    yield "varied attributes per caption", captions["varied_attributes_per_caption"]
    yield "attributes per sample", stats["attributes_per_sample"]
    yield "claims per caption", round(claims["total"] / max(stats["kept"], 1), 2)
    yield "share of claims unverified", round(claims["unverified"] / max(claims["total"], 1), 4)
    yield "questions", qa["total"]
    yield "questions per sample", qa["per_sample"]
    yield "questions answered that it cannot be seen", qa["not_visible"]
    yield "blind readers above chance", qa["blind"]["above_chance"]


def distributions(a: Stats, b: Stats) -> list[Distribution]:
    """Every property that both have cases of, from the one that differs most. Raises KeyError as `measures` does."""
    mine, yours = counted(a), counted(b)
    found = [
        compared(place, mine.get(place, {}), yours.get(place, {}))
        for place in {**mine, **yours}
        if place[0] != "attribute"
    ]
    for place in {p for p in (*mine, *yours) if p[0] == "attribute"}:
        absent = [{NOT_STATED: stats["kept"]} for stats in (a, b)]
        found.append(compared(place, mine.get(place, absent[0]), yours.get(place, absent[1])))
    found += [measured(name, a, b) for name in histograms(a) if name in histograms(b)]
    return sorted((d for d in found if d.a and d.b), key=lambda d: (-d.total_variation, d.group, d.name))


def counted(stats: Stats) -> dict[tuple[str, str], dict[str, int]]:
    """(group, name) -> value -> cases."""
    qa = stats["qa"]
    found: dict[tuple[str, str], dict[str, int]] = {
        ("samples", "split"): {split: sums["samples"] for split, sums in stats["splits"].items()},
        ("samples", "source"): {name: sums["kept"] for name, sums in stats["datasets"].items() if sums["kept"]},
        ("samples", "licence"): {name or NOT_STATED: n for name, n in stats["licences"].items()},
        ("captions", "captioner"): dict(stats["captions"]["engines"]),
        ("captions", "verdict"): {v: stats["claims"][v] for v in ("supported", "contradicted", "unverified")},
        ("questions", "questions per sample"): dict(qa["samples_by_questions"]),
    }
    for name in ("kind", "group", "attribute", "verdict", "source"):
        found["questions", name] = dict(qa[f"{name}s"])
    for size, letters in qa["letters"].items():
        found["questions", f"right letter of {size}"] = dict(letters)
    for entry in stats["attributes"]:
        values = {v["value"]: v["samples"] for v in entry["values"]}
        found["attribute", entry["name"]] = {**values, NOT_STATED: stats["kept"] - entry["samples"]}
    for dimension, cells in stats["fairness"].get("balance", {}).items():
        found["apparent group", dimension] = {cell["group"]: cell["samples"] for cell in cells}
    return found


def compared(place: tuple[str, str], a: Mapping[str, int], b: Mapping[str, int]) -> Distribution:
    cases_a, cases_b = sum(a.values()), sum(b.values())
    values = [share(value, a.get(value, 0), cases_a, b.get(value, 0), cases_b) for value in {**a, **b}]
    shown = [v for v in values if v.a or v.b]
    return Distribution(
        *place, cases_a, cases_b, round(sum(abs(v.share_b - v.share_a) for v in shown) / 2, 4),
        sorted(map(rounded, shown), key=lambda v: (-abs(v.points), v.value)),
    )  # fmt: skip


def share(value: str, a: int, cases_a: int, b: int, cases_b: int) -> Share:
    share_a, share_b = a / max(cases_a, 1), b / max(cases_b, 1)
    low, high = newcombe(a, cases_a, b, cases_b)
    return Share(value, a, b, share_a, share_b, 100 * (share_b - share_a), 100 * low, 100 * high)


def rounded(v: Share) -> Share:
    shares, points = (round(v.share_a, 4), round(v.share_b, 4)), (round(v.points, 2), round(v.low, 2), round(v.high, 2))
    return Share(v.value, v.a, v.b, *shares, *points)


# ------------------------------------------------------------------ what is measured


def histograms(stats: Stats) -> dict[str, dict[str, Any]]:
    """By name: unit, edges, counts of the samples, mean."""
    captions = stats["captions"]
    tokens = {"unit": "words, numbers and punctuation marks", "edges": captions["token_edges"]}
    tokens |= {"kept": captions["token_counts"], "mean": captions["tokens_mean"]}
    return {"caption tokens": tokens, **stats["distributions"]}


def measured(name: str, a: Stats, b: Stats) -> Distribution:
    mine, yours = histograms(a)[name], histograms(b)[name]
    if mine["edges"] != yours["edges"]:
        raise KeyError(f"bins of {name}")
    edges = mine["edges"]
    bins = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
    plain = compared(("measured", name), *(dict(zip(bins, h["kept"], strict=True)) for h in (mine, yours)))
    return Distribution(
        plain.group, name, plain.a, plain.b, plain.total_variation, plain.values, mine["unit"], mine["mean"], yours["mean"],
        quantiles(edges, mine["kept"]), quantiles(edges, yours["kept"]),
    )  # fmt: skip


def quantiles(edges: Sequence[float], counts: Sequence[int], shares: Sequence[float] = QUANTILES) -> list[float]:
    """Quantiles of binned values, taken to lie evenly within their bin; [] where there are none."""
    total = sum(counts)
    found = []
    for wanted in (s * total for s in shares if total):
        below = 0
        for (low, high), count in zip(itertools.pairwise(edges), counts, strict=True):
            if count and below + count >= wanted:
                found.append(round(low + (high - low) * (wanted - below) / count, 2))
                break
            below += count
    return found
