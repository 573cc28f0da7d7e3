"""What people answered about a sample in a review, and what follows for its attributes and its caption.

A person who looked at the crop outranks every measurement: what people say replaces what was measured of that attribute,
and what they deny goes. Where two of them disagree, nothing is stated.

An answer is a mapping of texts: key, attribute, value, reviewer, answer (yes | no: has the attribute this value?) and
right (with "no": the value that it has instead, or "").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from unif2ace_data.attributes.measure import PEOPLE
from unif2ace_data.captions.check import LEAST_CHARS, names_of, without_contradicted
from unif2ace_data.captions.grounded import caption_of
from unif2ace_data.captions.grounded import captioner as grounded_captioner
from unif2ace_data.captions.verdict import Fact, closure, excluded, incompatible, judge
from unif2ace_data.schema import Attribute, Captioner, Claim, Evidence
from unif2ace_data.taxonomy import load_taxonomy


@dataclass(frozen=True, slots=True)
class Said:
    """What people say of one attribute of one sample: the values that it has, and those that it has not.

    `by`: as in Evidence.by. `disputed`: they disagree; then nothing else of this record counts.
    """

    attribute: str
    values: tuple[str, ...]
    denied: tuple[str, ...]
    by: str
    disputed: bool = False


def said_of(key: str, answers: Iterable[Mapping[str, str]]) -> list[Said]:
    """What the answers about one sample come to, an attribute each; answers about other samples are passed over."""
    has: dict[str, dict[str, set[str]]] = {}
    has_not: dict[str, dict[str, set[str]]] = {}
    for one in answers:
        if one["key"] != key or one["answer"] not in ("yes", "no"):
            continue
        name, reviewer = one["attribute"], one["reviewer"]
        has.setdefault(name, {})
        has_not.setdefault(name, {})
        if one["answer"] == "yes":
            has[name].setdefault(one["value"], set()).add(reviewer)
        else:
            has_not[name].setdefault(one["value"], set()).add(reviewer)
            if one["right"]:
                has[name].setdefault(one["right"], set()).add(reviewer)
    said = []
    for name in sorted(has):
        values, denied = sorted(has[name]), sorted(has_not[name])
        at_odds = any(incompatible((name, a), (name, b)) for a, b in combinations(values, 2))
        who = set().union(*(has[name] or has_not[name]).values())
        disputed = at_odds or bool(has[name].keys() & has_not[name].keys())
        said.append(Said(name, tuple(values), tuple(denied), PEOPLE + "+".join(sorted(who)), disputed))
    return said


def with_people(attributes: Sequence[Attribute], said: Sequence[Said]) -> list[Attribute]:
    """The attributes after people have spoken, in the taxonomy's order.

    Of an attribute for which people name a value theirs are the only records; of one that is disputed there is none. Records
    of other attributes go, too, where they cannot hold beside what people say (captions/relations.yaml).
    """
    if not said:
        return [record for record in attributes if not record.evidence.by.startswith(PEOPLE)]
    settled = {s.attribute: s for s in said}
    true = [(s.attribute, value) for s in said if not s.disputed for value in s.values]
    false = {(s.attribute, value) for s in said if not s.disputed for value in s.denied}
    kept = []
    for record in attributes:
        fact = (record.name, record.value)
        own = settled.get(record.name)
        if record.evidence.by.startswith(PEOPLE) or (own and (own.disputed or own.values)):
            continue
        if not false.isdisjoint(closure(fact)) or any(excluded(fact, other) for other in true):
            continue
        kept.append(record)
    if not true:
        return kept
    taxonomy = load_taxonomy()
    for name, value in true:
        evidence = Evidence(by=settled[name].by, measured="looked at")
        group = taxonomy[name].group
        kept.append(Attribute(name=name, group=group, value=value, confidence=1.0, validated=True, evidence=evidence))
    place = {name: i for i, name in enumerate(taxonomy.attributes)}
    return sorted(kept, key=lambda a: place.get(a.name, len(place)))


def rejudged(claims: Sequence[Claim], attributes: Sequence[Attribute], said: Sequence[Said]) -> list[Claim]:
    """The claims with the verdicts that the evidence and people's denials give; `attributes`: those after people spoke."""
    disputed = {s.attribute for s in said if s.disputed}
    denied: dict[Fact, str] = {(s.attribute, value): s.by for s in said if not s.disputed for value in s.denied}
    found = []
    for claim in claims:
        facts = closure((claim.attribute, claim.value))
        by = next((denied[fact] for fact in facts if fact in denied), "")
        if claim.attribute in disputed:
            found.append(claim.model_copy(update={"verdict": "unverified", "by": ""}))
        elif by:
            verdict = "supported" if claim.negated else "contradicted"
            found.append(claim.model_copy(update={"verdict": verdict, "by": by}))
        else:
            verdict, by = judge(claim.attribute, claim.value, claim.negated, attributes)
            same = verdict == "unverified" == claim.verdict  # keeps who was asked about it again
            found.append(claim if same else claim.model_copy(update={"verdict": verdict, "by": by}))
    return found


def caption_after(
    key: str, caption: str, claims: Sequence[Claim], captioner: Captioner, attributes: Sequence[Attribute],
    said: Sequence[Said], *, complexion: bool,
) -> tuple[str, list[Claim], Captioner]:  # fmt: skip
    """A model's caption after people have spoken: what they contradict is cut, as in captions/vlm.py; no model is asked.

    Where nothing is left of it, a grounded caption takes its place.
    """
    if not said:
        return caption, list(claims), captioner
    judged = rejudged(claims, attributes, said)
    wrong = names_of(judged, "contradicted")
    if not wrong:
        return caption, judged, captioner
    caption, judged, cut = without_contradicted(caption, judged, attributes)
    removed = " ".join(dict.fromkeys([*captioner.removed.split(), *wrong, *cut]))
    if len(caption) < LEAST_CHARS:
        caption, judged = caption_of(key, list(attributes), complexion=complexion)
        captioner = grounded_captioner()
    return caption, judged, captioner.model_copy(update={"removed": removed})
