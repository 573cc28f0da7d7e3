"""Which noun a state word is about, by light syntax: the noun it stands before, the noun it is predicated of, or the
nearest one behind it in the clause.
"""

from __future__ import annotations

from collections.abc import Sequence

from unif2ace_data.captions.lexicon import Match, lexicon, scope_words
from unif2ace_data.captions.tokens import Token
from unif2ace_data.captions.wordclass import grammar

AHEAD = 6  # words between an adjective and its noun: "short, neatly combed gray hair"
BACK, FORWARD = 16, 9  # words between a noun and its predicate
BETWEEN = frozenset(("between", "halfway", "midway"))  # said of what is before
OBJECTS = frozenset(("no", "not", "any", "a", "an", "the", "his", "her", "their"))  # behind a verb that takes an object
NEAR = 5  # words between a noun and "up" or "down"
BREAKS = frozenset((",", "and", "but", "with", "while"))
HARD = frozenset(";:.!?")
TONES = frozenset(("tone", "tones", "shade", "color", "colour", "hue"))
MEASURES = frozenset(("fullness", "width", "thickness", "length"))  # "of average width" stands behind its noun
BLOCKED = -1
TURNED = frozenset(("turned", "pointed", "directed", "angled", "twisted", "curled"))
TURNING = ("head", "nose", "face", "chin", "eyes", "gaze")
TURNS = ("turn", "tilt", "gaze", "light", "shadow")

Meanings = tuple[tuple[str, str], ...]


def governed(tokens: Sequence[Token], match: Match, first: int, last: int) -> list[tuple[int, Meanings]]:
    """(index of the noun, what the state word says of it): one, or none where no noun gives it a meaning."""
    means = lexicon().state_is[match.rule.stands_for]
    begin, end = match.at[0], match.at[-1] + 1
    direction = tokens[begin].word in scope_words()["directions"]
    if direction and adverb(tokens, begin, last):
        return []
    if direction and (noun := sided(tokens, end, last)) is not None:
        return meaning(tokens, noun, means)
    if end == begin + 1 and tokens[begin].word in scope_words()["particles"]:
        noun = particle(tokens, begin, first, last, means)
        return meaning(tokens, noun, means) if noun is not None else []
    thing = tokens[begin].word in ("light", "shadow", "shadows") and end == begin + 1 and is_noun(tokens, begin, last)
    measure = "of" in (tokens[begin].word, tokens[max(0, begin - 1)].word) and tokens[end - 1].word in MEASURES
    transitive = end == begin + 1 and end < last and tokens[begin].word.endswith("ing") and tokens[end].word in OBJECTS
    if transitive:
        noun = noun_behind(tokens, end, last, means, direction)
        return meaning(tokens, noun, means) if noun is not None else []
    if not direction and not measure and not any(tokens[k].word in BETWEEN for k in match.at):
        if (
            begin > first
            and end < last
            and tokens[end].word == ","
            and any(t in means for t in topics_at(tokens, begin - 1))
        ):
            return meaning(tokens, begin - 1, means)  # "smiling slightly, evenly lit"
        predicate = begin > first and not is_state(tokens, begin - 1)
        predicate = predicate and any(t not in lexicon().verbs for t in topics_at(tokens, begin - 1))
        noun = noun_ahead(tokens, begin, end, last, predicate)
        if noun is not None:
            return meaning(tokens, noun, means)
    if thing:
        return []
    noun = subject_of(tokens, begin, first, means, scope_words()["looked_past"] if direction else frozenset())
    if noun == BLOCKED:
        return []
    if noun is not None:
        if direction or "turn" in topics_at(tokens, noun):
            noun = pointing(tokens, noun, first)
        return meaning(tokens, noun, means)
    noun = None if measure else noun_behind(tokens, end, last, means, direction)
    return meaning(tokens, noun, means) if noun is not None else []


def meaning(tokens: Sequence[Token], noun: int, means: dict[str, Meanings]) -> list[tuple[int, Meanings]]:
    for topic in topics_at(tokens, noun):
        if topic in means:
            return [(noun, means[topic])]
    return []


def topics_at(tokens: Sequence[Token], i: int) -> tuple[str, ...]:
    return lexicon().topics.get(tokens[i].word, ())


def is_state(tokens: Sequence[Token], i: int) -> bool:
    return tokens[i].word in lexicon().state_words


def is_noun(tokens: Sequence[Token], begin: int, last: int) -> bool:
    """Whether "light" or "shadow" is the thing and not a tone: it is so only behind a copula, a conjunction or a noun."""
    before = tokens[begin - 1].word if begin else ""
    after = tokens[begin + 1].word if begin + 1 < last else "."
    if after in TONES:
        return False
    acts = after in grammar()["verbs"] or after in grammar()["auxiliaries"] or after in scope_words()["light_from"]
    toned = before in scope_words()["copulas"] or before in scope_words()["tone_after"]
    return acts or not (toned or (begin > 0 and bool(topics_at(tokens, begin - 1))))


def adverb(tokens: Sequence[Token], at: int, last: int) -> bool:
    """Whether "left" or "right" says nothing here: "right into the lens"."""
    after = tokens[at + 1].word if at + 1 < last else ""
    before = tokens[at - 1].word if at else ""
    if tokens[at].word not in ("left", "right"):
        return False  # "leftward" is always a side
    if "than" in (before, tokens[max(0, at - 2)].word):
        return True  # "darker than the left" compares
    if after in scope_words()["parts"]:
        return True  # "his right ear"
    return after in scope_words()["anywhere"] and before not in scope_words()["sided"]


def sided(tokens: Sequence[Token], end: int, last: int) -> int | None:
    """The noun that "left" or "right" stands right before ("a rightward slant"), or the light on the side it names."""
    if end >= last:
        return None
    if any(t in TURNS for t in topics_at(tokens, end)):
        return end
    if tokens[end].word in scope_words()["halves"]:
        for i in range(end + 1, min(last, end + BACK)):
            if tokens[i].word in HARD or tokens[i].word in ("while", "but"):
                return None
            if any(t in ("light", "shadow") for t in topics_at(tokens, i)):
                return i
    return None


def particle(tokens: Sequence[Token], at: int, first: int, last: int, means: dict[str, Meanings]) -> int | None:
    """The noun or verb close before "up" or "down" that it belongs to: "chin held up", not "lights up his face"."""
    if at == first:
        return noun_behind(tokens, at + 1, last, means, False)  # "up goes the chin"
    for i in range(at - 1, max(first, at - NEAR) - 1, -1):
        topics = topics_at(tokens, i)
        if tokens[i].word in BREAKS or tokens[i].word in HARD:
            return None
        if not topics or (is_state(tokens, i) and not any(t in means for t in topics)):
            continue
        if "turn" in topics and not any(
            t in TURNING for k in range(max(first, i - BACK), i) for t in topics_at(tokens, k)
        ):
            return noun_behind(tokens, at + 1, last, means, False)  # "turning up his nose", not "he turned up"
        return pointing(tokens, i, first)
    return None


def noun_ahead(tokens: Sequence[Token], begin: int, end: int, last: int, predicate: bool) -> int | None:
    """The noun that the adjective stands before ("short gray hair", "a silver head of hair").

    `predicate`: a noun stands right before the word ("mouth shut and eyes open").
    """
    predicate = predicate or any(t.word in scope_words()["copulas"] for t in tokens[max(0, begin - 4) : begin])
    i = end
    while i < min(last, end + AHEAD):
        word = tokens[i].word
        plain_noun = i + 1 < last and bool(topics_at(tokens, i + 1)) and not is_state(tokens, i + 1)
        if word in lexicon().through and i + 1 < last and tokens[i + 1].word == "of":
            i += 2
            if i < last and tokens[i].word in ("his", "her", "their", "the"):
                i += 1
            continue
        if word == "of" and i == end and tokens[end - 1].word.endswith("est"):
            i += 1  # "the widest of smiles"
            continue
        if word in scope_words()["closers"] or word in TONES:
            return None
        if (word == "," and (predicate or plain_noun)) or (word == "and" and plain_noun and predicate):
            return None
        if topics_at(tokens, i) and not (is_state(tokens, i) and i + 1 < last and joins(tokens, i + 1)):
            return i
        i += 1
    return None


def joins(tokens: Sequence[Token], i: int) -> bool:
    """Whether the word at i may go on the noun phrase: "bright" is a noun in "is bright", an adjective in "bright wall"."""
    return bool(topics_at(tokens, i)) or is_state(tokens, i)


def in_phrase(tokens: Sequence[Token], i: int, first: int) -> bool:
    """Whether the noun at i hangs on a preposition ("the hair on his head")."""
    for k in range(i - 1, max(first, i - 4) - 1, -1):
        word = tokens[k].word
        if word in scope_words()["skipped"]:
            return True
        if word in (",", "and", "is", "are", "has", "with") or (topics_at(tokens, k) and not is_state(tokens, k)):
            return False
    return False


def in_relative(tokens: Sequence[Token], i: int, first: int) -> bool:
    """Whether the noun at i stands in a relative clause of another ("the hair that covers his head")."""
    for k in range(i - 1, max(first, i - 4), -1):
        if tokens[k].word in ("that", "which"):
            return bool(topics_at(tokens, k - 1))
    return False


def subject_of(
    tokens: Sequence[Token], begin: int, first: int, means: dict[str, Meanings], past: frozenset[str]
) -> int | None:
    """The nearest noun before the word that gives it a meaning, unless another noun stands between as its subject.

    `past`: topics that do not count as such a subject. BLOCKED where the word is predicated of another noun.
    """
    best: int | None = None
    anaphors, copulas = scope_words()["anaphors"], scope_words()["copulas"]
    for i in range(begin - 1, max(first, begin - BACK) - 1, -1):
        word = tokens[i].word
        if word in HARD:
            if best is None and i + 1 < begin and tokens[i + 1].word in anaphors:
                continue
            if word == ":" and best is None and i > first and topics_at(tokens, i - 1):
                continue
            break
        topics = topics_at(tokens, i) if word not in anaphors else ()
        verb = all(t in lexicon().verbs for t in topics)
        if not topics:
            if best is not None and (word in copulas or word in (",", "and", "but", "while", "with")):
                break
        elif any(t in means for t in topics):
            if best is not None:
                return i
            best = i
            if verb or not in_phrase(tokens, i, first):
                break
        elif (
            best is None
            and not in_phrase(tokens, i, first)
            and not in_relative(tokens, i, first)
            and not all(t in lexicon().verbs or t in past for t in topics)
        ):
            return BLOCKED if i == begin - 1 or tokens[begin - 1].word in copulas else None
    return best


def pointing(tokens: Sequence[Token], noun: int, first: int) -> int:
    """Of "tilts her head to the left" the verb; of "eyes turned left" the eyes."""
    topics = topics_at(tokens, noun)
    near = range(noun - 1, max(first, noun - 5) - 1, -1)
    if "head" in topics:
        for i in near:
            if any(t in ("tilt", "turn") for t in topics_at(tokens, i)):
                return i
    if "turn" in topics:
        for i in near:
            found = topics_at(tokens, i)
            if any(t in ("eyes", "gaze") for t in found):
                return i
            if found and not all(t in lexicon().verbs or t in scope_words()["turning"] for t in found):
                return i if tokens[noun].word in TURNED else noun
            if found:
                break
    return noun


def noun_behind(
    tokens: Sequence[Token], end: int, last: int, means: dict[str, Meanings], direction: bool
) -> int | None:
    """The first noun behind the word that gives it a meaning ("closed are the lips", "the left side is brighter")."""
    for i in range(end, min(last, end + (BACK if direction else FORWARD))):
        word = tokens[i].word
        if word in HARD or (word in (",", "but", "while", "with") and not direction):
            return None
        topics = topics_at(tokens, i) if word != "against" else ()
        if any(t in means and (not direction or t in TURNS) for t in topics):
            return i
    return None
