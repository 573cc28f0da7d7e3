"""A caption beside the evidence: its claims with their verdicts, and the scissors for what is contradicted or forbidden.

Two readers find the claims, the model that wrote and ours, which works on the words alone; neither gives a verdict. What
the evidence contradicts is cut out of the text, what must not be said goes with its sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from unif2ace_data.captions.cut import cut
from unif2ace_data.captions.extract import find_claims
from unif2ace_data.captions.forbidden import forbidden_spans
from unif2ace_data.captions.verdict import judge
from unif2ace_data.schema import Attribute, Claim
from unif2ace_data.taxonomy import load_taxonomy

LEAST_CHARS = 20  # our choice: less is no caption
PASSES = 3  # of the scissors: a cut may leave words that read as another statement

Listed = tuple[str, str, bool, str]  # attribute, value, negated, the words that a model quotes


def judged(caption: str, listed: Sequence[Listed], attributes: Sequence[Attribute]) -> list[Claim]:
    """Our reading of the caption, and what the model listed beside it where its quote stands in the caption.

    Where both speak of the same words and attribute, ours counts: a model's label of its own words is no evidence.
    """
    claims = []
    for found in find_claims(caption):
        verdict, by = judge(found.attribute, found.value, found.negated, attributes)
        claims.append(
            Claim(
                attribute=found.attribute, value=found.value, negated=found.negated,
                span=[found.start, found.end], verdict=verdict, by=by,
            )
        )  # fmt: skip
    own = list(claims)
    for attribute, value, negated, quote in listed:
        place = re.search(re.escape(quote), caption, re.IGNORECASE) if quote else None
        if place is None:
            continue
        same = [c for c in claims if c.attribute == attribute]
        if any((c.value, c.negated) == (value, negated) for c in same):
            continue
        if any(c.attribute == attribute and c.span[0] < place.end() and place.start() < c.span[1] for c in own):
            continue
        verdict, by = judge(attribute, value, negated, attributes)
        claims.append(
            Claim(
                attribute=attribute, value=value, negated=negated,
                span=[place.start(), place.end()], verdict=verdict, by=by,
            )
        )  # fmt: skip
    return sorted(claims, key=lambda c: (c.span, c.attribute, c.value, c.negated))


def without_contradicted(
    caption: str, claims: list[Claim], attributes: Sequence[Attribute]
) -> tuple[str, list[Claim], list[str]]:
    """The caption without the words of contradicted claims; the claims that are left, in their new places; names of the cut."""
    settled: dict[tuple[str, str, bool], Claim] = {}  # verdicts that were given, also by asking again, stay given
    for turn in range(PASSES + 1):
        for claim in claims:
            settled.setdefault(stated(claim), claim)
        wrong = [c for c in claims if c.verdict == "contradicted"]
        if not wrong:
            break
        keep = [c for c in claims if c.verdict == "supported" or (c.verdict == "unverified" and not holds(c, wrong))]
        listed = [(c.attribute, c.value, c.negated, caption[c.span[0] : c.span[1]]) for c in keep]
        if turn < PASSES:
            caption = cut(caption, spans(wrong), spans(keep))
        else:
            caption = without_sentences(caption, spans(wrong))
        claims = [
            settled.get(stated(c), c).model_copy(update={"span": c.span}) for c in judged(caption, listed, attributes)
        ]
    return caption, [c for c in claims if c.verdict != "contradicted"], names_of([*settled.values()], "contradicted")


def holds(claim: Claim, wrong: Sequence[Claim]) -> bool:
    """Whether the words of a wrong claim are all the claim's own: then nothing of it is worth keeping for."""
    return any(claim.span[0] <= w.span[0] and w.span[1] <= claim.span[1] for w in wrong)


def stated(claim: Claim) -> tuple[str, str, bool]:
    return claim.attribute, claim.value, claim.negated


def spans(claims: Sequence[Claim]) -> list[tuple[int, int]]:
    return [(c.span[0], c.span[1]) for c in claims]


def without_forbidden(caption: str) -> tuple[str, list[str]]:
    """The caption without the sentences that say what may not be said, and the kinds of what was cut."""
    found = forbidden_spans(caption)
    if not found:
        return caption, []
    return without_sentences(caption, [(start, end) for start, end, _ in found]), [kind for _, _, kind in found]


def without_sentences(caption: str, places: Sequence[tuple[int, int]]) -> str:
    """The caption without every sentence that overlaps one of `places`."""
    kept = []
    for match in re.finditer(r".+?(?:[.!?]+(?=\s|$)|$)", caption, re.DOTALL):
        start, end = match.span()
        if not any(a < end and start < b for a, b in places):
            kept.append(match.group().strip())
    return " ".join(kept)


def facts_of(attributes: Sequence[Attribute]) -> list[str]:
    """The validated evidence in plain words, one fact an attribute and value, in the order given."""
    taxonomy = load_taxonomy()
    facts: dict[str, None] = {}
    for attribute in attributes:
        if attribute.validated and attribute.name in taxonomy:
            facts[f"{attribute.name.replace('_', ' ')}: {taxonomy[attribute.name].said(attribute.value)}"] = None
    return list(facts)


def mistakes_of(caption: str, claims: Sequence[Claim], attributes: Sequence[Attribute]) -> list[dict[str, str]]:
    """For the repair: the words of every contradicted claim, and what the evidence says of that attribute instead."""
    right = {a.name: fact for a in attributes for fact in facts_of([a])}
    return [
        {"quote": caption[c.span[0] : c.span[1]], "right": right.get(c.attribute, "")}
        for c in claims
        if c.verdict == "contradicted"
    ]


def names_of(claims: Sequence[Claim], verdict: str) -> list[str]:
    found = (f"{c.attribute}{'!=' if c.negated else '='}{c.value}" for c in claims if c.verdict == verdict)
    return list(dict.fromkeys(found))
