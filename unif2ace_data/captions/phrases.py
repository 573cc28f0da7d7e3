"""The wording in phrases.yaml, read once: phrases per value, sentence frames, contradictions, and the file's hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).with_name("phrases.yaml")


@dataclass(frozen=True, slots=True)
class Phrase:
    """How one value of one attribute may be worded; tuples hold variants. The head of phrases.yaml explains them."""

    name: str
    value: str
    section: str
    order: int  # place of the attribute in phrases.yaml
    part: str = ""
    weight: int = 5
    tight: bool = False  # no comma before this adjective: "short brown hair"
    private: bool = False  # stated only where the recipe asks for complexion
    negative: bool = False  # last in a list: "earrings and no glasses"
    men: bool = False  # stated only where the apparent gender is stated as male
    adj: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    pred: tuple[str, ...] = ()
    does: tuple[str, ...] = ()
    adv: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    shot: tuple[str, ...] = ()
    noun: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    mass: tuple[str, ...] = ()
    clause: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    noun: str
    count: str  # one | many | mass


@dataclass(frozen=True, slots=True)
class Phrases:
    values: dict[tuple[str, str], Phrase]
    parts: dict[str, Part]
    pronouns: dict[str, dict[str, str]]
    image: list[str]
    frames: dict[str, list[str]]
    leads: dict[str, list[str]]
    never_together: frozenset[frozenset[tuple[str, str]]]
    never_beside: dict[tuple[str, str], frozenset[tuple[str, str]]]  # the same by each of the two


@cache
def phrases() -> Phrases:
    data: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    values: dict[tuple[str, str], Phrase] = {}
    for order, (name, attribute) in enumerate(data["attributes"].items()):
        for value, entry in attribute["values"].items():
            merged: dict[str, Any] = {k: v for k, v in attribute.items() if k != "values"} | entry
            merged["pred"] = merged.pop("is", [])
            fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in merged.items()}
            values[name, value] = Phrase(**{"name": name, "value": value, "order": order} | fields)
    never_together = frozenset(
        frozenset((pair(one), pair(other))) for one, others in data["never_together"].items() for other in others
    )
    return Phrases(
        values=values,
        parts={part: Part(**spec) for part, spec in data["parts"].items()},
        pronouns=data["pronouns"],
        image=data["image"],
        frames=data["frames"],
        leads=data["leads"],
        never_together=never_together,
        never_beside={one: frozenset().union(*(two for two in never_together if one in two)) - {one} for one in values},
    )


def pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


@cache
def phrases_sha256() -> str:
    """SHA-256 (hex) of phrases.yaml: the grounded captioner's `prompt_sha256`."""
    return hashlib.sha256(PATH.read_bytes()).hexdigest()
