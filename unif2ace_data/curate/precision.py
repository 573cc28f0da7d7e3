"""How often a dataset's statements are right, by what people answered: with intervals, and weighted back to the whole.

A review draws from every stratum alike, so that rare things are seen; counted as drawn, they would weigh too much. Each
answered item therefore stands for (items of its stratum) / (answered items of it), and the weighted precision is the share
of that weight which is right. Its interval is Wilson's at Kish's effective number of cases, (sum of weights)^2 / sum of
squares. Strata without an answer stand for nothing; `covers` says how much of the dataset the others hold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from unif2ace_data.curate.intervals import wilson
from unif2ace_data.curate.review import Asked, Draw, Stratum


def kappa(pairs: Iterable[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two people's answers to the same items; None where chance alone makes them agree in all."""
    counts = Counter(pairs)
    total = counts.total()
    if not total:
        return None
    one: Counter[str] = Counter()
    other: Counter[str] = Counter()
    for (a, b), n in counts.items():
        one[a] += n
        other[b] += n
    agreed = sum(n for (a, b), n in counts.items() if a == b) / total
    chance = sum(one[answer] * other[answer] for answer in one) / total**2
    return None if chance == 1 else (agreed - chance) / (1 - chance)


@dataclass(slots=True)
class Group:
    """Items of one kind: weights of the right and of the wrong ones, how many could not be told, how many are disputed."""

    right: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)
    cannot_tell: int = 0
    disputed: int = 0
    covered: int = 0
    size: int = 0

    def told(self) -> dict[str, Any]:
        cases = len(self.right) + len(self.wrong)
        row: dict[str, Any] = {"answered": cases, "right": len(self.right)}
        if cases:
            low, high = wilson(len(self.right), cases)
            weight = sum(self.right) + sum(self.wrong)
            share = sum(self.right) / weight
            effective = weight**2 / sum(w * w for w in (*self.right, *self.wrong))
            weighted_low, weighted_high = wilson(share * effective, effective)
            row |= {"precision": round(len(self.right) / cases, 4), "low": round(low, 4), "high": round(high, 4)}
            row |= {
                "weighted": round(share, 4), "weighted_low": round(weighted_low, 4), "weighted_high": round(weighted_high, 4),
            }  # fmt: skip
        row |= {"cannot_tell": self.cannot_tell, "disputed": self.disputed}
        if self.size:
            row["covers"] = round(self.covered / self.size, 4)
        return row


def precision_report(draw: Draw, answers: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Measured precision overall, by attribute, by verdict and by who states it; agreement between reviewers.

    answers: as captions/people.py has them, of people who looked at the dataset `draw.root`. Several people's answers to
    one item count once; where they differ it is disputed and counts for neither side.
    """
    given: dict[Asked, dict[str, str]] = defaultdict(dict)
    for one in answers:
        given[one["key"], one["attribute"], one["value"]][one["reviewer"]] = one["answer"]
    outcomes = [(item, outcome(given[item.asked].values())) for item in draw.items if item.asked in given]
    decided: Counter[Stratum] = Counter(item.stratum for item, answer in outcomes if answer in ("yes", "no"))
    overall = Group()
    attributes: dict[str, Group] = defaultdict(Group)
    verdicts: dict[str, Group] = defaultdict(Group)
    engines: dict[str, Group] = defaultdict(Group)
    for item, answer in outcomes:
        weight = draw.sizes[item.stratum] / decided[item.stratum] if decided[item.stratum] else 0.0
        for group in (overall, attributes[item.attribute], verdicts[item.stratum[1]]):
            count(group, answer, item.statements[0][1], weight)
        for engine, denies in item.statements:
            count(engines[engine], answer, denies, weight)
    for stratum, size in draw.sizes.items():
        groups = [overall]
        groups += [attributes[stratum[0]]] if stratum[0] in attributes else []
        groups += [verdicts[stratum[1]]] if stratum[1] in verdicts else []
        for group in groups:
            group.size += size
            group.covered += size if decided[stratum] else 0
    return {
        "root_sha256": draw.root,
        "statements": sum(draw.sizes.values()),
        "strata": len(draw.sizes),
        "drawn": len(draw.items),
        "reviewers": sorted({reviewer for said in given.values() for reviewer in said}),
        "overall": overall.told(),
        "by_attribute": {name: group.told() for name, group in sorted(attributes.items())},
        "by_verdict": {name: group.told() for name, group in sorted(verdicts.items())},
        "by_engine": {name: group.told() for name, group in sorted(engines.items())},
        "agreement": agreement(given),
    }


def outcome(answers: Iterable[str]) -> str:
    """yes, no, cannot_tell (nobody can), or disputed."""
    decided = {answer for answer in answers if answer != "cannot_tell"}
    return "disputed" if len(decided) > 1 else decided.pop() if decided else "cannot_tell"


def count(group: Group, answer: str, denies: bool, weight: float) -> None:
    if answer == "disputed":
        group.disputed += 1
    elif answer == "cannot_tell":
        group.cannot_tell += 1
    else:
        (group.right if (answer == "yes") != denies else group.wrong).append(weight)


def agreement(given: Mapping[Asked, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Of every two reviewers who answered the same items: how many, on how many they agree, and Cohen's kappa."""
    together: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for said in given.values():
        for one, other in combinations(sorted(said), 2):
            together[one, other].append((said[one], said[other]))
    found = []
    for reviewers, pairs in sorted(together.items()):
        k = kappa(pairs)
        found.append(
            {
                "reviewers": list(reviewers),
                "items": len(pairs),
                "agreed": sum(a == b for a, b in pairs),
                "kappa": None if k is None else round(k, 4),
            }
        )
    return found
