"""What may be asked about a sample: the values that validated evidence settles, and what hides the others.

Where validated records of one attribute disagree, or an attribute's value and what would hide it are both there, the
attribute is not asked about.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unif2ace_data.captions.verdict import excluded, judge
from unif2ace_data.qa.phrasings import Fact
from unif2ace_data.schema import NOT_VISIBLE, Attribute, Evidence, Verdict
from unif2ace_data.taxonomy import load_taxonomy


@dataclass(frozen=True, slots=True)
class Facts:
    """`values`: settled value by attribute. `hidden`: attribute -> the fact that makes it impossible to see.

    An attribute may be in both: teeth that are `hidden` by what the attribute itself says.
    """

    values: dict[str, str]
    hidden: dict[str, Fact]


def facts_of(attributes: Iterable[Attribute]) -> Facts:
    """The facts of a sample; only validated records count, in whatever order they come."""
    return facts_from(tuple(sorted({(a.name, a.value) for a in attributes if a.validated})))


@functools.lru_cache(1 << 14)
def facts_from(records: tuple[Fact, ...]) -> Facts:
    """The facts that these validated (attribute, value) records, sorted, settle."""
    taxonomy = load_taxonomy()
    known = [(name, value) for name, value in records if name in taxonomy and value in taxonomy[name].values]
    if any(itertools.starmap(excluded, itertools.combinations(records, 2))):  # else nothing speaks against any of them
        evidence = [assumed(fact) for fact in records]
        known = [fact for fact in known if judge(*fact, False, evidence)[0] == "supported"]
    values = dict(known)
    named = {name for name, _ in records}
    hidden: dict[str, Fact] = {}
    for entry in taxonomy.attributes.values():
        reason = next(((n, values[n]) for n, hiding in entry.hidden_by.items() if values.get(n) in hiding), None)
        own = entry.hidden_by.get(entry.name, [])
        if reason is None:
            continue
        if entry.name not in named or values.get(entry.name) in own:
            hidden[entry.name] = reason
        else:
            values.pop(entry.name, None)
    return Facts(values, hidden)


def assumed(fact: Fact) -> Attribute:
    """A validated record of this fact."""
    name, value = fact
    group = load_taxonomy()[name].group if name in load_taxonomy() else "appearance"
    return Attribute(name=name, group=group, value=value, confidence=1, validated=True, evidence=Evidence(by="assumed"))


@functools.cache
def excludes(fact: Fact, other: Fact) -> bool:
    """Whether evidence of `fact` contradicts `other`."""
    verdict: Verdict = judge(*other, False, [assumed(fact)])[0]
    return verdict == "contradicted"


def settle(fact: Fact, facts: Facts, evidence: Sequence[Attribute]) -> Verdict:
    """Whether the evidence supports or contradicts the fact; NOT_VISIBLE is a value as any other."""
    name, value = fact
    if value == NOT_VISIBLE:
        if name in facts.hidden:
            return "supported"
        return "contradicted" if name in facts.values else "unverified"
    if name in facts.hidden and name not in facts.values:
        return "contradicted"
    return judge(name, value, False, evidence)[0]
