"""Small English: marked claims inside a text, agreement, articles, lists, capitals. Nothing here knows an attribute.

A text under construction carries marks (private-use characters) around the words that state a claim, so that spans
survive every later change; `finished` takes the marks out and gives the spans.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

OPEN, NAME_END, CLOSE = "\ue000", "\ue001", "\ue002"
MARK = f"(?:{OPEN}[^{NAME_END}]*{NAME_END}|{CLOSE})"
OPENING = re.compile(f"{OPEN}[^{NAME_END}]*{NAME_END}")
EITHER = re.compile(f"({MARK})")
ARTICLE = re.compile(rf"~(?<=[aA]~)(?=(?:\s|{MARK})*([a-zA-Z]))")
FIRST = re.compile(rf"^((?:{MARK})*)(\w)")
PUNCTUATION = re.compile(r"[^\w\s]")
VERB = re.compile(r"([\w']+)/([\w']+)(?:/([\w']+))?")

SINGULAR, PLURAL, PARTICIPLE = 0, 1, 2


def marked(name: str, text: str) -> str:
    """`text`, marked as the words that state attribute `name`."""
    return f"{OPEN}{name}{NAME_END}{text}{CLOSE}"


def plain(text: str) -> str:
    return OPENING.sub("", text.replace(CLOSE, ""))


@lru_cache(1 << 12)  # a few hundred frames and variants, in three forms
def agree(text: str, form: int) -> str:
    """Resolve `sg/pl/participle` verbs; a form that is not given falls back to the singular."""

    def one(match: re.Match[str]) -> str:
        return (match.group(form + 1) or match.group(1)).replace("_", " ")

    return VERB.sub(one, text) if "/" in text else text


def series(items: Sequence[str], oxford: bool, word: str = "and") -> str:
    """ "a", "a and b", "a, b and c" (or "a, b, and c"); the last comma is always there where an item holds "and"."""
    if len(items) < 2:
        return "".join(items)
    inner = " and " in "\n".join(items)
    comma = "," if inner or (oxford and len(items) > 2) else ""
    return f"{', '.join(items[:-1])}{comma} {word} {items[-1]}"


def with_articles(text: str) -> str:
    """Resolve every `a~` into "a" or "an" by the next letter (marks in between do not count)."""
    return ARTICLE.sub(lambda m: "n" if m[1] in "aeiouAEIOU" else "", text)


def sentence(text: str) -> str:
    """First letter in upper case, full stop at the end."""
    return FIRST.sub(lambda m: m[1] + m[2].upper(), text, count=1) + "."


def finished(text: str) -> tuple[str, list[tuple[str, int, int]]]:
    """The text without marks, and (name, start, end) of every marked stretch, in order."""
    out: list[str] = []
    spans: list[tuple[str, int, int]] = []
    length = 0
    opened: list[tuple[str, int]] = []
    for piece in EITHER.split(text):
        if piece.startswith(OPEN):
            opened.append((piece[1:-1], length))
        elif piece == CLOSE:
            name, start = opened.pop()
            spans.append((name, start, length))
        else:
            out.append(piece)
            length += len(piece)
    return "".join(out), spans


def token_count(text: str) -> int:
    """Words and punctuation marks, about what a BPE tokenizer makes of plain English."""
    words, marks = PUNCTUATION.subn(" ", text)
    return len(words.split()) + marks
