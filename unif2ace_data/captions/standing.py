"""Whether a sentence still stands when a piece of it is gone: what speaks against it, counted, by word classes alone."""

from __future__ import annotations

from collections.abc import Sequence

from unif2ace_data.captions.tokens import Token
from unif2ace_data.captions.wordclass import (
    ADV,
    AUX,
    COMMA,
    CONJ,
    DET,
    ED,
    EDGE,
    ING,
    MARK,
    NEG,
    PREP,
    PRON,
    REL,
    SUB,
    VERB,
    WORD,
    grammar,
)

NOMINATIVE = frozenset(["he", "she", "they", "it", "i", "we"])
OWNERS = frozenset(["his", "her", "their", "its", "the"])
ATTACHING = frozenset(
    ("on", "under", "of", "below", "beneath", "across", "over", "around", "between", "at", "to", "from", "onto", "into")
    + ("along", "above", "toward", "towards", "upon")
)
VERB_OR_AUX = frozenset((VERB, AUX))


def objections(classes: Sequence[str], tokens: Sequence[Token], i: int, j: int, end: int) -> int:
    """How many things are wrong with the sentence without [i, j)."""
    left = classes[i - 1] if i else EDGE
    right = classes[j] if j < end else EDGE
    piece = classes[i:j]
    count = 4 * hanging(classes, tokens, i, j, left, right)
    count += 2 * torn(classes, i, j, left, right)
    count += verbless(classes, i, j, end, left, right)
    if tokens[i].word == "of" or (j < end and tokens[j].word == "of"):
        count += 2
    if (
        right == PREP
        and piece[-1] != COMMA
        and (tokens[j].word in ATTACHING or any(c in (VERB, AUX, ING, ED) for c in piece))
    ):
        count += 1
    if (
        bare_phrase(classes, tokens, i)
        and right in (EDGE, COMMA, CONJ, MARK)
        and piece[0] in (ED, ADV, WORD, ING, PREP)
    ):
        count += 1
    after = classes[j + 1] if j + 1 < end else EDGE
    if piece[-1] == MARK and left not in (EDGE, MARK):
        count += 1
    if piece[0] == MARK and right not in (EDGE, MARK):
        count += 1
    if MARK in piece[1:-1] and not (left in (EDGE, MARK) and right in (EDGE, MARK)):
        count += 1
    if piece[0] == COMMA and right == COMMA and after in (VERB, AUX):
        count += 1
    if left == PREP and right == PRON and tokens[j].word in NOMINATIVE:
        count += 1
    if left == PREP and i == 1 and piece[-1] == COMMA and VERB_OR_AUX.intersection(upto_comma(classes[j:end])):
        count += 1
    if piece[0] in (PREP, ING, ED) and right == CONJ and left != COMMA and after in (WORD, DET):
        count += 1
    return count


def bare_phrase(classes: Sequence[str], tokens: Sequence[Token], i: int) -> bool:
    """Whether what stands before i is "with her chin" or ", her chin": nothing without what is said of it."""
    k = i - 1
    while k > 0 and classes[k] == WORD:
        k -= 1
    if k == i - 1 or k <= 0 or classes[k] != DET or tokens[k].word not in OWNERS:
        return False
    return classes[k - 1] == COMMA or tokens[k - 1].word == "with"


def upto_comma(classes: Sequence[str]) -> Sequence[str]:
    return classes[: classes.index(COMMA)] if COMMA in classes else classes


def hanging(classes: Sequence[str], tokens: Sequence[Token], i: int, j: int, left: str, right: str) -> int:
    """Words at the joint that wait for what is gone."""
    word = tokens[i - 1].word if i else ""
    closes = right in (EDGE, COMMA, MARK, CONJ, REL, SUB)
    count = 0
    if left == DET and right not in (WORD, ED, ING, ADV):
        count += 1
    particle = classes[i] in (CONJ, COMMA, MARK)  # "head-on and …": a preposition with nothing to govern
    if left == PREP and not particle and right not in (WORD, DET, ING, PRON, ADV, ED, NEG):
        count += 1
    if left in (CONJ, SUB, REL, NEG) and (
        closes or (left != REL and right in (PREP,) and i > 1 and classes[i - 2] != COMMA and left == SUB)
    ):
        count += 1
    if left == AUX and (closes or right in (VERB, AUX)):
        count += 1
    if (
        left in (VERB, ING, ED, WORD)
        and word in grammar()["transitive"]
        and left != WORD
        and (closes or right in (PREP, VERB, AUX))
    ):
        count += 1
    if left == COMMA and right in (EDGE, COMMA, MARK, VERB, AUX):
        count += 1
    if left == MARK and right in (COMMA, CONJ, EDGE, MARK):
        count += 1
    if left == EDGE and right in (COMMA, CONJ, MARK, VERB, AUX, NEG):
        count += 1
    if right in (VERB, AUX) and left in (PREP, SUB, DET):
        count += 1
    return count


def torn(classes: Sequence[str], i: int, j: int, left: str, right: str) -> int:
    """Phrases torn apart: a noun from its adjectives, a preposition from its noun."""
    piece = classes[i:j]
    first, last = piece[0], piece[-1]
    adjectives = all(c in (WORD, ED, ING, ADV, COMMA, CONJ, NEG) for c in piece)
    count = 0
    if (
        right in (WORD, ED)
        and last in (WORD, ED, DET, ADV, NEG, PREP, AUX, VERB, ING)
        and not (adjectives and left in (DET, WORD, PREP, VERB, ING, ED, COMMA, CONJ, EDGE, AUX, ADV))
    ):
        count += 1
    clause = last == SUB and left in (EDGE, MARK) and any(c in (VERB, AUX) for c in piece)
    if right in (WORD, DET, PRON, ING, ED) and last in (PREP, DET, VERB, AUX, REL, SUB, NEG) and not clause:
        count += 1
    if left in (WORD, ADV) and first == WORD and not (adjectives and right in (WORD, ED)):
        count += 1
    if left in (DET, NEG) and not (adjectives and right in (WORD, ED, ADV)):
        count += 1
    if left == WORD and right in (WORD, DET, PRON) and not adjectives:
        count += 1
    if left == WORD and right == PRON:
        count += 1
    if adjectives and left == DET and right in (WORD, ED) and last in (COMMA,) and first == COMMA:
        count += 1
    if last == CONJ and left not in (DET, PREP, VERB, AUX, ING, ED, EDGE, COMMA, WORD, MARK, PRON, ADV):
        count += 1
    if last == CONJ and right in (VERB, AUX) and not any(c in (VERB, AUX) for c in piece):
        count += 1
    if last == CONJ and first in (PREP, ING, ED) and right not in (PREP, ING, ED) and left not in (DET,):
        count += 1
    if last == CONJ and first == DET and right not in (DET, WORD, PRON):
        count += 1
    if first == CONJ and last in (COMMA,):
        count += right != CONJ and right != ING
    if (
        right == CONJ
        and last not in (COMMA,)
        and first not in (COMMA, PREP, ING, ED, REL, ADV, SUB)
        and left in (COMMA, DET, PREP, VERB, AUX, CONJ, EDGE)
    ):
        count += 1
    joints = (EDGE, COMMA, MARK, CONJ)
    if COMMA in piece[1:-1] and not adjectives and left not in joints and right not in joints:
        count += 1  # from the middle of one phrase into the middle of another
    if right == PREP and left in (VERB, AUX, PREP, DET, CONJ) and first not in (ADV,):
        count += left != VERB and left != AUX
    return count


def verbless(classes: Sequence[str], i: int, j: int, end: int, left: str, right: str) -> int:
    """Clauses that lose their verb and keep their subject, or the other way round; a sentence without a verb."""
    piece = classes[i:j]
    count = 0
    had = any(c in (VERB, AUX) for c in classes[:end])
    rest = [*classes[:i], *classes[j:end]]
    if had and not has_main_verb(rest):
        count += 1
    if any(c in (VERB, AUX) for c in piece):
        first = piece[0]
        body = next((c for c in piece if c not in (COMMA, CONJ, MARK, SUB, ADV)), EDGE)
        opens = first in (CONJ, SUB, REL, COMMA, MARK) or left in (EDGE, MARK, COMMA, CONJ)
        shared = body in (VERB, AUX) and (first == CONJ or (piece[-1] == CONJ and right in (VERB, AUX, ADV)))
        relative = first == REL or (first == COMMA and len(piece) > 1 and piece[1] == REL)
        whole = (
            opens
            and body not in (VERB, AUX)
            and (right in (EDGE, MARK, COMMA, CONJ, SUB, REL) or piece[-1] in (COMMA, CONJ, MARK, SUB))
        )
        if not (shared or relative or whole):
            count += 1
        if whole and not relative and first not in (CONJ, SUB, COMMA, MARK) and left not in (EDGE, MARK):
            count += 1
        if relative and right not in (EDGE, MARK, COMMA, CONJ, AUX, VERB, SUB):
            count += 1
        if whole and piece[-1] not in (CONJ, COMMA, MARK, SUB) and left in (EDGE,) and right not in (EDGE,):
            count += 1
        if (
            first == COMMA
            and not relative
            and len(piece) > 1
            and piece[1] not in (CONJ, SUB, WORD, DET, PRON, PREP, ING, ED)
        ):
            count += 1
    elif right in (VERB, AUX) and left in (EDGE, COMMA, MARK, CONJ, SUB):
        count += 3
    elif REL in piece and piece[0] not in (REL, COMMA):
        count += 1
    return count


def has_main_verb(classes: Sequence[str]) -> bool:
    """Whether a finite verb with something before it stands outside relative and subordinate clauses."""
    inside = False
    subject = False
    for c in classes:
        if c == REL and subject:
            inside = True
        elif c in (VERB, AUX):
            if not inside and subject:
                return True
            inside = inside and classes[0] == SUB
        elif c == SUB:
            inside = True
        elif c in (COMMA, MARK):
            inside = False
        elif c in (WORD, PRON, ING):
            subject = True
    return False
