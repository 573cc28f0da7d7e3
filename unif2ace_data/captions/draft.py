"""One draft of a caption: its choices, and the phrases that sentences are made of, each with its claims marked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from unif2ace_data.captions.phrases import Phrase, phrases
from unif2ace_data.captions.wording import PLURAL, SINGULAR, agree, marked, series

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

IMAGE = "\ue003"  # stands for a name of the photograph until the whole text is known

LAST = ("of ", "neither ", "turned ")  # predicates that come after simple ones: "oval and of average length"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draft:
    """One attempt at one caption. `facts` (attribute name -> wording, in natural order) is all that it may state;
    `sections`: their names by section (sections_of). `seed`: the hash of key and attempt (seed_of)."""

    seed: Hash
    facts: dict[str, Phrase]
    sections: dict[str, list[str]]
    pronouns: dict[str, str]  # noun, subj, poss, obj

    def pick(self, slot: str, options: Sequence[T]) -> T:
        """The option that the hash of key, attempt and slot falls on."""
        return options[self.drawn(slot) % len(options)] if len(options) > 1 else options[0]

    def coin(self, slot: str, of: int = 2) -> bool:
        """True once in `of`."""
        return self.drawn(slot) % of == 0

    def drawn(self, slot: str) -> int:
        hashed = self.seed.copy()
        hashed.update(slot.encode())
        return int.from_bytes(hashed.digest()[:8], "big")

    def within(self, section: str) -> list[str]:
        return self.sections.get(section, [])

    def series(self, items: Sequence[str], word: str = "and") -> str:
        return series(items, len(items) > 2 and self.coin("oxford"), word)


def seed_of(key: str, attempt: int) -> Hash:
    return hashlib.sha256(f"{key}\n{attempt}\n".encode())


def sections_of(facts: dict[str, Phrase]) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for name, phrase in facts.items():
        sections.setdefault(phrase.section, []).append(name)
    return sections


def fill(draft: Draft, text: str, form: int = SINGULAR, subj: str = "", **slots: str) -> str:
    """A frame or variant with its verbs in `form` and every slot filled."""
    if "{" not in text:
        return agree(text, form)
    pronouns = draft.pronouns
    return agree(text, form).format(
        subj=subj or pronouns["subj"], poss=pronouns["poss"], obj=pronouns["obj"], image=IMAGE, **slots
    )


def wanted(text: str, **slots: Callable[[], str]) -> dict[str, str]:
    """Of these slots those that the frame has: no words are sought for the others."""
    return {slot: words() for slot, words in slots.items() if f"{{{slot}}}" in text}


def subject(draft: Draft, slot: str) -> tuple[str, int]:
    """A subject for one sentence and the number of its verb: mostly the pronoun, now and then "the woman"."""
    if draft.coin(f"{slot} subject", 4):
        return f"the {draft.pronouns['noun']}", SINGULAR
    return draft.pronouns["subj"], PLURAL if draft.pronouns["subj"] == "they" else SINGULAR


def says(draft: Draft, name: str, variants: tuple[str, ...], form: int = SINGULAR, slot: str = "") -> str:
    """One variant, marked whole."""
    return marked(name, fill(draft, draft.pick(f"{name} {slot}", variants), form))


def predicate(draft: Draft, name: str) -> str:
    """What is said of the attribute's part: "closed", "of average width" (not marked)."""
    phrase = draft.facts[name]
    return fill(draft, draft.pick(f"{name} is", phrase.pred or phrase.adj + phrase.post))


def by_part(draft: Draft, names: Sequence[str]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(draft.facts[name].part, []).append(name)
    return parts


def predicates(draft: Draft, names: Sequence[str]) -> str:
    """ "oval and of average length"; long ones come last."""
    said = sorted(((name, predicate(draft, name)) for name in names), key=lambda pair: pair[1].startswith(LAST))
    return draft.series([marked(name, text) for name, text in said])


def part_states(draft: Draft, names: Sequence[str], copula: bool) -> list[str]:
    """Per part "eyes narrowed", or with the copula "{poss} eyes are narrowed", several predicates joined."""
    items = []
    for key, group in by_part(draft, names).items():
        part = phrases().parts[key]
        link = "" if not copula else " are" if part.count == "many" else " is"
        found = [(name, predicate(draft, name)) for name in group]
        if len(found) > 1:
            found.sort(key=lambda pair: pair[1].startswith(LAST))
        (first, opens), *others = found
        said = [marked(first, f"{part.noun}{link} {opens}")] + [marked(name, text) for name, text in others]
        owner = f"{draft.pronouns['poss']} " if copula else ""
        items.append(owner + series(said, oxford=False))
    return items


def states(draft: Draft, names: Sequence[str]) -> str:
    """ "mouth closed, eyebrows raised and eyes narrowed"; the caller puts a possessive before it."""
    return draft.series(part_states(draft, names, copula=False))


def clauses(draft: Draft, names: Sequence[str]) -> str:
    """ "her mouth is closed and her eyebrows are raised"."""
    return draft.series(part_states(draft, names, copula=True))


def described(draft: Draft, part_key: str, names: Sequence[str], article: bool = True) -> str:
    """A noun phrase: "a long, oval face", "short brown hair", "lips of medium fullness"."""
    part = phrases().parts[part_key]
    before: list[tuple[str, str, bool]] = []
    after: list[tuple[str, str]] = []
    for name in names:
        phrase = draft.facts[name]
        variant = draft.pick(f"{name} np", phrase.adj + phrase.post)
        if variant in phrase.adj:
            before.append((name, variant, phrase.tight))
        else:
            after.append((name, variant))
    noun = part.noun
    if before:
        noun = marked(before[-1][0], f"{before[-1][1]} {noun}")
    elif after:
        noun = marked(after[0][0], f"{noun} {after[0][1]}")
    text = ""
    for (name, variant, _), (_, _, next_is_tight) in pairwise(before):
        text += marked(name, variant) + (" " if next_is_tight else ", ")
    text += noun
    for i, (name, variant) in enumerate(after):
        if i or before:
            text += (" and " if i else " ") + marked(name, variant)
    return f"a~ {text}" if article and part.count == "one" else text


def noun_phrases(draft: Draft, names: Sequence[str]) -> list[str]:
    """One noun phrase per part, and the attributes that bring their own; negative ones ("no glasses") last."""
    items: list[tuple[bool, str]] = []
    described_names = [n for n in names if draft.facts[n].part and (draft.facts[n].adj or draft.facts[n].post)]
    for key, group in by_part(draft, [n for n in described_names if not draft.facts[n].has]).items():
        items.append((False, described(draft, key, group)))
    for name in names:
        phrase = draft.facts[name]
        if phrase.has:
            items.append((phrase.negative, says(draft, name, phrase.has, slot="has")))
    return [text for _, text in sorted(items, key=lambda item: item[0])]
