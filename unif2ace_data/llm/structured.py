"""Structured answers: the JSON schemas that we ask with, and how an answer is read.

Strings are bounded by `pattern`. `maxLength` lets control characters into strings with some back ends, which JSON parsers
refuse; an unbounded string may run into max_tokens; and a character class may be repeated 128 times at most with
xgrammar, so that longer prose is a bounded number of bounded words.
"""

from __future__ import annotations

from typing import Any

import orjson

CHAR = r"[!#-\[\]-~]"  # printable ASCII without blank, quotation mark and backslash: nothing that JSON must escape
LONGEST_WORD = 20
CHARS_A_WORD = 7  # our choice: English prose has about six, blank included
MOST_REPEATS = 128


def object_of(**properties: dict[str, Any]) -> dict[str, Any]:
    """An object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def line(most: int, least: int = 1) -> dict[str, Any]:
    """A string of `least` to `most` (at most 128) characters."""
    if most > MOST_REPEATS:
        raise ValueError(f"a line of {most} characters: use prose")
    return {"type": "string", "pattern": rf"^[ !#-\[\]-~]{{{least},{most}}}$"}


def prose(chars: int) -> dict[str, Any]:
    """A string of about `chars` characters at most: 4 words and up."""
    words = max(4, min(MOST_REPEATS, chars // CHARS_A_WORD))
    return {
        "type": "string",
        "pattern": f"^(?:{CHAR}{{1,{LONGEST_WORD}}} ){{3,{words - 1}}}{CHAR}{{1,{LONGEST_WORD}}}$",
    }


def list_of(item: dict[str, Any], most: int, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": least, "maxItems": most}


def one_of(values: list[str]) -> dict[str, Any]:
    return {"type": "string", "enum": values}


def fields_of(text: str) -> dict[str, Any]:
    """A JSON object, also where a model put a fence or words around it. Raises ValueError."""
    start, end = text.find("{"), text.rfind("}")
    data = orjson.loads(text[start : end + 1] if 0 <= start < end else text)
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    return data


def strings_in(text: str, name: str, count: int) -> list[str]:
    """The list of `count` strings called `name` in an answer. Raises ValueError."""
    said = fields_of(text).get(name)
    if not isinstance(said, list) or len(said) != count or not all(isinstance(s, str) for s in said):
        raise ValueError(f"not {count} {name}")
    return said
