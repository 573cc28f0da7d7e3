"""A claim against the evidence: supported, contradicted or unverified, and whose record decides.

Only validated records count. relations.yaml says what one attribute's value says of another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from unif2ace_data.schema import Attribute, Verdict

PATH = Path(__file__).with_name("relations.yaml")

Fact = tuple[str, str]  # attribute, value


@dataclass(frozen=True, slots=True)
class Relations:
    together: frozenset[frozenset[Fact]]
    implies: dict[Fact, tuple[Fact, ...]]
    excludes: frozenset[frozenset[Fact]]


def judge(attribute: str, value: str, negated: bool, evidence: Sequence[Attribute]) -> tuple[Verdict, str]:
    """The verdict on `attribute = value` (`negated`: that it is not so), and Evidence.by of the record that decides.

    Supported where a validated record says or implies the claim, contradicted where one excludes it; unverified ("")
    where none bears on it, or where those that do disagree with each other. The most confident one is named.
    """
    claim = (attribute, value)
    bearing: list[tuple[bool, Attribute]] = []
    for record in evidence:
        if not record.validated:
            continue
        fact = (record.name, record.value)
        if claim in closure(fact):
            bearing.append((not negated, record))
        elif excluded(fact, claim):
            bearing.append((negated, record))
    if not bearing or len({holds for holds, _ in bearing}) > 1 or at_odds([record for _, record in bearing]):
        return "unverified", ""
    best = max((record for _, record in bearing), key=lambda r: (r.confidence, r.name == attribute, r.evidence.by))
    return ("supported" if bearing[0][0] else "contradicted"), best.evidence.by


def at_odds(records: Sequence[Attribute]) -> bool:
    return any(excluded((one.name, one.value), (other.name, other.value)) for one, other in combinations(records, 2))


@lru_cache(1 << 16)
def excluded(fact: Fact, claim: Fact) -> bool:
    """Whether the two cannot both hold of one face, by themselves or by what they imply."""
    return any(incompatible(a, b) for a in closure(fact) for b in closure(claim))


def incompatible(one: Fact, other: Fact) -> bool:
    pair = frozenset((one, other))
    if one[0] == other[0]:
        return one[1] != other[1] and pair not in relations().together
    return pair in relations().excludes


@cache
def closure(fact: Fact) -> tuple[Fact, ...]:
    """The fact and all that it implies."""
    known = [fact]
    for one in known:
        known += [other for other in relations().implies.get(one, ()) if other not in known]
    return tuple(known)


@cache
def relations() -> Relations:
    """The table that travels with the package."""
    data: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return Relations(
        together=frozenset(
            frozenset(((name, a), (name, b)))
            for name, groups in data["together"].items()
            for group in groups
            for a, b in combinations(group, 2)
        ),
        implies={fact(one): tuple(map(fact, others)) for one, others in data["implies"].items()},
        excludes=frozenset(
            frozenset((fact(one), fact(other))) for one, others in data["excludes"].items() for other in others
        ),
    )


def fact(text: str) -> Fact:
    name, _, value = text.partition("=")
    return name, value
