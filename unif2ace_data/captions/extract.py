"""Claims in English prose, found by rule: which attribute has which value, and the words that say so.

Two kinds of evidence in the words: phrases that state a value on their own ("clean-shaven"), and state words that say
something only of the noun that governs them ("dark" of a suit is its tone, of hair nothing). vocabulary.yaml holds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from unif2ace_data.captions.lexicon import Match, lexicon, scope_words
from unif2ace_data.captions.negation import Negator, denials, denied_after, negators_in
from unif2ace_data.captions.scope import governed, pointing, topics_at
from unif2ace_data.captions.tokens import Token, sentences_of, tokens_of
from unif2ace_data.taxonomy import load_taxonomy

SHE = frozenset(["she", "her", "hers", "herself"])
HE = frozenset(["he", "him", "his", "himself"])
OWNERS = frozenset(["his", "her", "their"])
MARKS = frozenset([",", ";", ":", ".", "!", "?", "-", "(", ")"])
SEVERAL = 2  # values; of more than so many one names the rest
NEAR = 6  # words between a negator and what it denies for both to be one span


@dataclass(frozen=True, slots=True)
class Found:
    """`text[start:end]` states `attribute = value` (`negated`: that it is not so)."""

    attribute: str
    value: str
    negated: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One value read off the words at these token indices; `topic`: the noun that a state word is about, or None."""

    attribute: str
    value: str
    at: tuple[int, ...]
    topic: int | None = None


def find_claims(text: str) -> list[Found]:
    """Every claim that the text makes in the taxonomy's words, in order of place; spans may overlap.

    Negation is resolved: of yes/no attributes, those with two values and those with a value `none` a denial becomes the
    opposite value; of others it stays (`negated`). Pronouns state the apparent gender once, at the first of them.
    """
    tokens = joined(tokens_of(text))
    found: list[Found] = []
    before = 0
    for first, last in sentences_of(text, tokens):
        found += in_sentence(tokens, before if tokens[first].word in ("it", "its") else first, first, last)
        before = first
    tied = any(f.attribute == "wearing_necktie" and f.value == "yes" for f in found)  # a jacket goes over the shirt
    if tied or any(t.word in scope_words()["over_shirt"] for t in tokens):
        found = [f for f in found if not about_shirt(text, f)]
    return sorted(set(once(text, found) + pronoun(tokens)), key=lambda f: (f.start, f.end, f.attribute, f.value))


def about_shirt(text: str, claim: Found) -> bool:
    """Whether a tone is that of a shirt: "a white shirt and a dark suit" says that the clothing is dark."""
    if claim.attribute != "clothing_tone":
        return False
    words = [t.word for t in tokens_of(text[claim.start : claim.end + len(" button-down shirt")])]
    return any("shirt" in lexicon().topics.get(w, ()) for w in words)


def once(text: str, found: Sequence[Found]) -> list[Found]:
    """The apparent gender is stated by the first noun that names it; "the man" after it only refers to the person."""
    out: list[Found] = []
    for claim in found:
        again = any(o.attribute == claim.attribute and o.value == claim.value for o in out)
        refers = text[: claim.start].lower().endswith(("the ", "this ", "that "))
        if claim.attribute != "apparent_gender" or not (again and refers):
            out.append(claim)
    return out


def joined(tokens: Sequence[Token]) -> list[Token]:
    """Compounds that are not about their last word ("facial hair") as one word."""
    out: list[Token] = []
    for token in tokens:
        if out and (out[-1].word, token.word) in lexicon().compounds:
            out[-1] = Token(f"{out[-1].word}_{token.word}", out[-1].start, token.end)
        else:
            out.append(token)
    return out


def in_sentence(tokens: Sequence[Token], before: int, first: int, last: int) -> list[Found]:
    """The claims of tokens [first, last); the subject of a state word may stand from `before` on."""
    words = lexicon()
    ignored = frozenset(i for m in words.ignored.matches(tokens, first, last, frozenset()) for i in m.at)
    says = longest(list(words.says.matches(tokens, first, last, ignored)))
    fixed = [(m.rule.stands_for[0], m.at) for m in says if len(m.at) > 1 and m.at[-1] - m.at[0] == len(m.at) - 1]
    negators = negators_in(tokens, first, last, ignored)
    states = [
        Reading(attribute, value, match.at, topic)
        for match in words.states.matches(tokens, first, last, ignored)
        for topic, meanings in governed(tokens, match, before, last)
        for attribute, value in meanings
    ]
    states = [s for s in states if not any(covers(*one, s) for one in fixed)]
    readings = strongest([*states, *(of_eyes(tokens, m) for m in says)])
    shared = [r.topic for r in readings]
    readings = [r for r in readings if not surpassed(tokens, r, readings)]
    read = [(r, c) for r in readings if (c := claimed(tokens, r, negators, last, shared)) is not None]
    firm = {c for r, c in read if c.negated and any(n.firm for n in denials(tokens, with_topic(r), negators))}
    claims = middle([c for _, c in read])
    return [settled(c, claims, c in firm) for c in claims if not partial(c, claims)]


def covers(attribute: str, at: Sequence[int], state: Reading) -> bool:
    """Whether a fixed phrase about something else holds the state word: "dark circles", "full face"."""
    more = len(at) - len(state.at) - (attribute == state.attribute)
    return more > 0 and set(state.at) <= set(at) and state.topic in (None, *at)


def of_eyes(tokens: Sequence[Token], match: Match) -> Reading:
    """What a phrase states; "eyes turned to the camera" says nothing of the head."""
    attribute, value = match.rule.stands_for
    reading = Reading(attribute, value, match.at)
    if reading.attribute != "head_turn" or reading.topic is not None:
        return reading
    verb = reading.at[0]
    if "turn" not in topics_at(tokens, verb) or pointing(tokens, verb, 0) == verb:
        return reading
    return Reading("gaze", "camera" if reading.value == "frontal" else "away", reading.at)


def longest(matches: list[Match]) -> list[Match]:
    """Per attribute the matches that name most words (of equal ones the tightest); none shares a word with another."""
    kept: list[Match] = []
    for match in sorted(matches, key=lambda m: (-len(m.at), m.at[-1] - m.at[0], m.at)):
        attribute = match.rule.stands_for[0]
        if not any(o.rule.stands_for[0] == attribute and overlap(o.at, match.at) for o in kept):
            kept.append(match)
    return kept


def overlap(one: Sequence[int], other: Sequence[int]) -> bool:
    return one[0] <= other[-1] and other[0] <= one[-1]


def strongest(readings: list[Reading]) -> list[Reading]:
    """Of readings of one attribute that share a word, the one that names most: "teeth … hidden" outdoes "teeth"."""
    kept: list[Reading] = []
    for one in sorted(readings, key=lambda r: (r.value.startswith("!"), -weight(r), r.topic is None, r.at)):
        if not any(kind(o) == kind(one) and clash(o, one) for o in kept):
            kept.append(one)
    return kept


def weight(reading: Reading) -> int:
    return len(reading.at) + (reading.topic is not None)


def kind(reading: Reading) -> str:
    return "smile" if reading.attribute == "smiling" else reading.attribute


def clash(one: Reading, other: Reading) -> bool:
    return overlap(one.at, other.at) or one.topic in other.at or other.topic in one.at


def claimed(
    tokens: Sequence[Token], reading: Reading, negators: Sequence[Negator], last: int, shared: Sequence[int | None]
) -> Found | None:
    """The reading as a claim: denied or not, with its span."""
    if "?" in (reading.attribute, reading.value):
        return None
    at = reading.at
    denying = denials(tokens, with_topic(reading), negators)
    if reading.attribute == "emotion" and presupposed(tokens, at, last):
        denying = []
    start, end = at[0], at[-1] + 1
    if reading.topic is not None and shared.count(reading.topic) == 1 and close(tokens, at, reading.topic):
        start, end = min(start, reading.topic), max(end, reading.topic + 1)
    behind = None
    if (reading.topic is None or reading.topic > at[-1]) and reading.attribute != "apparent_gender":
        behind = denied_after(tokens, at[-1], last, reading.attribute in lexicon().things)
    for negator in denying:
        if 0 <= start - negator.first <= NEAR and not crowded(tokens, negator, start):
            start = negator.first
    if behind is not None:
        end = max(end, behind)
    negated = (len(denying) + (behind is not None)) % 2 == 1
    value = reading.value
    if value.startswith("!"):
        value, negated = value[1:], not negated
    return Found(reading.attribute, value, negated, tokens[start].start, tokens[end - 1].end)


def surpassed(tokens: Sequence[Token], reading: Reading, readings: Sequence[Reading]) -> bool:
    """ "Not just parted but wide open": whether the words only lead up to another value of the attribute."""
    before = [t.word for t in tokens[max(0, reading.at[0] - 5) : reading.at[-1]]]
    leads = any(a == "not" and b in ("just", "merely", "only", "simply") for a, b in pairwise(before))
    return leads and any(
        o.attribute == reading.attribute and o.value != reading.value and o.at[0] > reading.at[-1] for o in readings
    )


def with_topic(reading: Reading) -> tuple[int, ...]:
    """The words of the reading, and its noun where that stands behind them."""
    return reading.at if reading.topic is None or reading.topic < reading.at[-1] else (*reading.at, reading.topic)


def presupposed(tokens: Sequence[Token], at: Sequence[int], last: int) -> bool:
    """Whether the words stand between an owner and a face: "not a cloud darkens her cheerful face" calls it cheerful."""
    owned = at[0] > 0 and tokens[at[0] - 1].word in OWNERS
    return (
        owned and at[-1] + 1 < last and any(t in ("face", "expression", "eyes") for t in topics_at(tokens, at[-1] + 1))
    )


def close(tokens: Sequence[Token], at: Sequence[int], topic: int) -> bool:
    """Whether noun and state word stand in one stretch without a mark."""
    between = tokens[min(*at, topic) : max(*at, topic)]
    return len(between) <= 2 * NEAR and not any(t.word in MARKS for t in between)


def crowded(tokens: Sequence[Token], negator: Negator, start: int) -> bool:
    """Whether the negator denies a list ("no glasses, hat or tie"): then it is nobody's own."""
    return any(t.word in ("or", ",") for t in tokens[negator.end : start]) or any(
        t.word == "or" for t in tokens[start : negator.reach]
    )


def settled(claim: Found, others: Sequence[Found], firm: bool = False) -> Found:
    """A denial turned into the opposite value where there is one and the sentence does not name the true value itself."""
    values = load_taxonomy()[claim.attribute].values
    if not claim.negated:
        return claim
    if len(values) == 2:
        return replace(claim, value=next(v for v in values if v != claim.value), negated=False)
    named = any(o.attribute == claim.attribute and not o.negated for o in others)
    fact = (claim.attribute, claim.value)
    left = (lexicon().firmly.get(fact) if firm else None) or lexicon().opposite.get(fact)
    if left is not None and not named and not denied_too(left, claim, others):
        return replace(claim, value=left, negated=False)
    if "none" in values and claim.value != "none" and fact not in lexicon().specific and not named:
        return replace(claim, value="none", negated=False)
    return claim


def denied_too(value: str, claim: Found, others: Sequence[Found]) -> bool:
    return any(o.negated and o.attribute == claim.attribute and o.value == value for o in others)


def partial(claim: Found, others: Sequence[Found]) -> bool:
    """Whether the sentence itself corrects the claim: "bare cheeks and a goatee", "turned neither left nor right"."""
    same = [o for o in others if o.attribute == claim.attribute and not o.negated]
    if claim.negated:
        return claim.attribute in lexicon().open_ended and any(o.value == claim.value for o in same)
    if claim.attribute == "background_hue" and claim.value != "multi" and any(o.value == "multi" for o in same):
        return len({o.value for o in same}) > SEVERAL  # "a jumble of colours, red here, green there"
    return (claim.attribute, claim.value) == ("facial_hair", "none") and any(o.value != "none" for o in same)


def middle(found: list[Found]) -> list[Found]:
    """ "Neither raised nor lowered": where all but one of an attribute's values are denied in a sentence, it is that one."""
    out = list(found)
    for attribute in {f.attribute for f in found if f.negated}:
        values = load_taxonomy()[attribute].values
        denied = [f for f in found if f.attribute == attribute and f.negated]
        left = [v for v in values if v not in {f.value for f in denied}]
        if len(left) == 1:
            out = [f for f in out if f not in denied]
            start, end = min(f.start for f in denied), max(f.end for f in denied)
            out.append(replace(denied[0], value=left[0], negated=False, start=start, end=end))
    return out


def pronoun(tokens: Sequence[Token]) -> list[Found]:
    for token in tokens:
        if token.word in SHE or token.word in HE:
            value = "female" if token.word in SHE else "male"
            return [Found("apparent_gender", value, False, token.start, token.end)]
    return []
