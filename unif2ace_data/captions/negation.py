"""What English denies: the words that negate, how far each reaches, and words after a noun that deny it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unif2ace_data.captions.lexicon import Match, lexicon
from unif2ace_data.captions.tokens import Token

LIST_AHEAD = 9  # words in which the "or" of "no glasses, hat or tie" must come for the comma to be a list's
AFTER_AHEAD = 9  # words between a noun and what denies it: "the lenses that so many wear are absent"
EXCEPTED = 6  # words between "no" and its "except"
CLOSING = frozenset((",", ".", "!", "?"))
NO = ("no", "none", "absent", "nil", "without", "nope")
LISTING = (
    "free",
    "devoid",
    "bare",
    "without",
    "lack",
    "lacks",
    "lacking",
    "bereft",
    "clear",
    "innocent",
    "sans",
    "minus",
)
CONJUNCTIONS = frozenset(("and", "but", "though", "although", "yet", "while", "whereas", "because", "since", "if"))
NOMINAL = frozenset((*LISTING, "no", "zero", "absence"))  # negators of nouns: the verb behind is not theirs
PERSONAL = frozenset(
    ("smiles", "grins", "beams", "laughs", "frowns", "looks", "gazes", "stares", "peers", "glances", "wears", "sports")
    + ("faces", "tilts", "turns", "leans", "cocks", "sits", "stands")
)  # verbs of persons
DOING = frozenset(("smiling", "grinning", "beaming", "looking", "gazing", "staring", "facing", "wearing", "laughing"))
OPENERS = frozenset(
    [
        "a",
        "an",
        "the",
        "with",
        "has",
        "have",
        "is",
        "are",
        "was",
        "his",
        "her",
        "their",
        "he",
        "she",
        "it",
        "they",
        "wears",
        "wearing",
    ]
)
SUBJECTS = frozenset(
    [
        "he",
        "she",
        "they",
        "it",
        "his",
        "her",
        "their",
        "the",
        "is",
        "are",
        "was",
        "were",
        "has",
        "have",
        "wears",
        "looks",
    ]
)


@dataclass(frozen=True, slots=True)
class Negator:
    """Tokens [first, end) deny what begins inside [end, reach)."""

    first: int
    end: int
    reach: int
    firm: bool = False


def negators_in(tokens: Sequence[Token], first: int, last: int, taken: frozenset[int]) -> list[Negator]:
    """The negators of one sentence, longest first where they overlap, in order."""
    found = sorted(lexicon().before.matches(tokens, first, last, taken), key=lambda m: (-len(m.at), m.at))
    kept: list[Match] = []
    for match in found:
        if not any(set(match.at) & set(other.at) for other in kept):
            kept.append(match)
    kept = sorted((m for m in kept if not outdoes(tokens, m, last)), key=lambda m: m.at)
    kept = [m for k, m in enumerate(kept) if not (k and excepts(m) and m.at[0] - kept[k - 1].at[-1] <= EXCEPTED)]
    firm = lexicon().firm
    return [
        Negator(m.at[0], m.at[-1] + 1, reach(tokens, m.at[-1] + 1, last, m.rule.stands_for), m.rule.stands_for in firm)
        for m in kept
    ]


def outdoes(tokens: Sequence[Token], match: Match, last: int) -> bool:
    """Whether the negator praises: "could hardly be darker", "nothing could be blacker"."""
    if match.rule.stands_for not in ("nothing", "not", "hardly", "scarcely", "never"):
        return False
    ahead = [t.word for t in tokens[match.at[-1] + 1 : min(last, match.at[-1] + 6)]]
    if "could" not in (*ahead[:1], tokens[max(0, match.at[0] - 1)].word):
        return False
    return any(
        w == "be" and any(x in ("any", "more") or x.endswith("er") for x in ahead[k:]) for k, w in enumerate(ahead)
    )


def excepts(match: Match) -> bool:
    """Whether it names an exception: behind another negator ("no colour except green") that is what is there."""
    return str(match.rule.stands_for).startswith(("except", "other than"))


def reach(tokens: Sequence[Token], start: int, last: int, negator: str) -> int:
    """Where the scope of a negator that ends at `start` ends. "Free of studs and hoops": there "and" goes on."""
    ends = lexicon().ends
    for k in range(start, last):
        word = tokens[k].word
        if word == "and" and negator.split()[0] in LISTING and k + 1 < last and tokens[k + 1].word not in OPENERS:
            continue
        if word == "but" and k > start and tokens[k - 1].word == "anything":
            continue  # "would hardly take her for anything but a woman"
        if k > start and over(tokens, k, negator):
            return k
        if (word in ends and not (k == start and word.isalpha() and word not in CONJUNCTIONS)) or word == "nor":
            return k
        if k > start and negator.split()[0] in NOMINAL and predicate(tokens, k):
            return k  # "a man with no glasses smiles"
        if word == "," and (k == start or not list_goes_on(tokens, k, last)):
            return k
    return last


def over(tokens: Sequence[Token], k: int, negator: str) -> bool:
    """Whether the word at k ends a denial: "nothing shy about her grin", "anything but a male face that we see"."""
    relative = tokens[k].word in ("that", "which") and bool(lexicon().topics.get(tokens[k - 1].word))
    return relative or (negator == "nothing" and tokens[k].word == "about")


def predicate(tokens: Sequence[Token], k: int) -> bool:
    """Whether the word at k is what a person does, behind the noun that is denied: "without glasses smiling"."""
    doing = tokens[k].word in DOING and bool(lexicon().topics.get(tokens[k - 1].word))
    return tokens[k].word in PERSONAL or doing


def list_goes_on(tokens: Sequence[Token], comma: int, last: int) -> bool:
    for token in tokens[comma + 1 : min(last, comma + LIST_AHEAD)]:
        if token.word in ("or", "nor"):
            return True
        if token.word in SUBJECTS or token.word in lexicon().ends:
            return False
    return False


def denials(tokens: Sequence[Token], at: Sequence[int], negators: Sequence[Negator]) -> list[Negator]:
    """The negators that deny the words at these indices: before the last of them, and not among them."""
    first, last = at[0], at[-1]
    named = set(at)
    denying = []
    for n in negators:
        met = next((i for i in at if i >= n.end), None)
        own = bool(named.intersection(range(n.first, n.end)))
        if met is not None and n.reach > met and not own and (n.end <= first or first < n.first < last):
            denying.append(n)
    return denying


def denied_after(tokens: Sequence[Token], at: int, last: int, thing: bool) -> int | None:
    """Index behind the words that deny the noun at `at` from behind ("… are absent", "glasses: none"), or None.

    Of what is no `thing` only its presence can be denied so: "the smile is nowhere to be seen".
    """
    if at + 2 < last and tokens[at + 1].word in (":", "-", "?", ",") and tokens[at + 2].word in NO:
        return at + 3 if at + 3 >= last or tokens[at + 3].word in (".", ",", ";") else None
    if at + 1 < last and tokens[at + 1].word == "free" and tokens[at + 1].start == tokens[at].end + 1:
        return at + 2  # "necklace-free"
    ends = lexicon().ends
    end = at + 1
    while end < min(last, at + AFTER_AHEAD) and tokens[end].word not in ends and tokens[end].word != ",":
        end += 1
    stop = min(last, end + 3)
    for book in (lexicon().after, lexicon().after_things) if thing else (lexicon().after,):
        for match in book.matches(tokens, at + 1, stop, frozenset()):
            behind = match.at[-1] + 1
            if (
                tokens[match.at[-1]].word == "not"
                and len(match.at) == 2
                and behind < last
                and tokens[behind].word not in lexicon().ends | CLOSING
            ):
                continue  # "the lenses are not tinted"
            if match.at[0] < end:
                return behind
    return None
