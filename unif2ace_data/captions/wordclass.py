"""Word classes of English by short lists and endings: just enough to see whether a sentence still stands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from unif2ace_data.captions.tokens import Token

PATH = Path(__file__).with_name("grammar.yaml")

# The classes, as one letter each.
DET, PREP, CONJ, SUB, REL, AUX, PRON, NEG, ADV, VERB, ING, ED, WORD, COMMA, MARK, EDGE = "DPCSRAONYVIEW,.|"
CLASSES = {
    "determiners": DET,
    "conjunctions": CONJ,
    "subordinators": SUB,
    "relatives": REL,
    "auxiliaries": AUX,
    "pronouns": PRON,
    "negations": NEG,
    "prepositions": PREP,
    "nouns": WORD,
    "participles": ED,
    "verbs": VERB,
    "adverbs": ADV,
}
CLOSED = frozenset((DET, CONJ, SUB, REL, AUX, PRON, NEG, PREP))
AFTER_NOMINAL = frozenset((DET, PREP))


@cache
def grammar() -> dict[str, Any]:
    """grammar.yaml with every list as a set."""
    data: dict[str, Any] = yaml.load(PATH.read_text(encoding="utf-8"), getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    return {name: frozenset(body) if isinstance(body, list) else body for name, body in data.items()}


def classes_of(tokens: Sequence[Token]) -> list[str]:
    """The class of every token. A word that may be verb or noun is a noun behind a determiner, adjective or preposition."""
    out: list[str] = []
    for token in tokens:
        before = out[-1] if out else EDGE
        out.append(class_of(token.word, before))
    return out


def class_of(word: str, before: str) -> str:
    if word == ",":
        return COMMA
    if not word[0].isalnum() and word[0] != "'":
        return MARK
    words = grammar()
    if word == "'s":
        return AUX if before == PRON else DET
    found = [letter for name, letter in CLASSES.items() if word in words[name]]
    if WORD in found and VERB in found:
        return WORD if before in (DET, PREP, WORD, ADV) and before != PRON else VERB
    if found and found[0] in CLOSED:
        if AUX in found and word in ("look", "looks") and before == DET:
            return WORD
        return found[0]
    if VERB in found:
        return WORD if before in AFTER_NOMINAL else VERB
    if found:
        return found[0]
    if word.endswith("ly") and len(word) > 4:
        return ADV
    if word.endswith("ing") and len(word) > 4:
        return ING if before not in (DET,) else WORD
    if word.endswith("ed") and len(word) > 3:
        return ED if before not in (DET,) else WORD
    return WORD
