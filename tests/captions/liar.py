"""A planted liar: an engine that writes prose only, and slips three false statements into every caption.

Its statements (liar.yaml) were written without knowledge of the reader of claims. It tells the truth beside its lies: the
grounded caption, and two true statements in its own words. Asked to refine or to repair, it insists; asked for a list of
claims, it goes on writing prose.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unif2ace_data.captions.grounded import caption_of
from unif2ace_data.captions.vlm import Stage, Subject, Written, write_caption
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Answer, Request
from unif2ace_data.llm.journal import Journal
from unif2ace_data.llm.prompts import load_prompts
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.recipe import Captions, Llm
from unif2ace_data.schema import Attribute

WORDS = {
    "male": {"they": "he", "their": "his", "them": "him", "person": "man"},
    "female": {"they": "she", "their": "her", "them": "her", "person": "woman"},
    "": {"they": "the person", "their": "the person's", "them": "the person", "person": "person"},
}


@functools.cache
def statements() -> dict[str, dict[str, list[dict[str, str]]]]:
    path = Path(__file__).with_name("liar.yaml")
    return dict(yaml.load(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["statements"])


@dataclass(frozen=True, slots=True)
class Planted:
    attribute: str
    value: str
    text: str
    true: bool


@dataclass(slots=True)
class Tale:
    """One caption of the liar's: its text, what was planted in it, and the grounded caption under it with its claims."""

    text: str
    planted: list[Planted]
    grounded: list[str] = field(default_factory=list)  # the words of each grounded claim


def tale_of(key: str, attributes: list[Attribute], lies: int = 3, truths: int = 2) -> Tale:
    """The caption that the liar writes of this face; lies are about what validated evidence can tell."""
    known: dict[str, set[str]] = {}
    for attribute in attributes:
        if attribute.validated:
            known.setdefault(attribute.name, set()).add(attribute.value)
    settled = {name: next(iter(values)) for name, values in known.items() if len(values) == 1 and name in statements()}
    rng = random.Random(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))
    names = rng.sample(sorted(settled), min(lies + truths, len(settled)))
    caption, claims = caption_of(key, attributes)
    sentences = [s if s.endswith(".") else s + "." for s in caption.split(". ")]
    words = WORDS[settled.get("apparent_gender", "")]
    planted = []
    for place, name in enumerate(names):
        value = settled[name] if place >= lies else rng.choice([v for v in statements()[name] if v != settled[name]])
        statement = rng.choice(statements()[name][value])
        text = re.sub(r"\{(\w+)\}", lambda m: cased(m[1], words), statement["text"])
        planted.append(Planted(name, value, text, true=place >= lies))
        where = rng.randrange(len(sentences))
        if statement["form"] == "sentence":
            sentences.insert(where + 1, text[:1].upper() + text[1:])
        else:
            sentences[where] = f"{sentences[where][:-1]}, {text}."
    return Tale(" ".join(sentences), planted, [caption[c.span[0] : c.span[1]] for c in claims])


def cased(name: str, words: dict[str, str]) -> str:
    word = words[name.lower()]
    return word[:1].upper() + word[1:] if name[:1].isupper() else word


class Liar:
    """An engine (llm/engine.py). `tales`: by the bytes of the image that it is shown."""

    def __init__(self, tales: Iterable[tuple[bytes, Tale]]) -> None:
        self.model, self.revision, self.most = "liar", "1", 8
        self.tales = {hashlib.sha256(image).hexdigest(): tale for image, tale in tales}

    async def open(self) -> None:
        return

    async def answer(self, request: Request) -> Answer:
        return Answer(self.says(request), "stop", 1, 1, 0.0)

    async def close(self) -> None:
        return

    def servers(self) -> list[Liar]:
        return [self]

    def says(self, request: Request) -> str:
        if request.image is not None:
            return self.tales[hashlib.sha256(request.image).hexdigest()].text
        return request.user.split("Description: ")[1].split("\n")[0]


@dataclass(slots=True)
class Score:
    """`missed` and `lost`: what went wrong, for people to look at."""

    lies: int = 0
    cut: int = 0
    truths: int = 0
    kept: int = 0
    grounded: int = 0
    grounded_kept: int = 0
    missed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def add(self, tale: Tale, caption: str, removed: str) -> None:
        """Count one final caption. A lie counts as cut where it was contradicted and its words are gone."""
        said = caption.lower()
        contradicted = {re.split(r"!?=", name)[0] for name in removed.split()}
        for planted in tale.planted:
            there = planted.text.rstrip(".").lower() in said
            if planted.true:
                self.truths += 1
                self.kept += there
                self.lost += [] if there else [f"{planted.attribute}={planted.value}: {planted.text}"]
            else:
                self.lies += 1
                gone = not there and bool(contradicted)
                self.cut += gone
                self.missed += [] if gone else [f"{planted.attribute}={planted.value}: {planted.text}"]
        self.grounded += len(tale.grounded)
        self.grounded_kept += sum(words.lower() in said for words in tale.grounded)

    def figures(self) -> dict[str, Any]:
        return {
            "false statements": self.lies,
            "contradicted and cut": round(self.cut / max(self.lies, 1), 4),
            "true statements in other words": self.truths,
            "kept": round(self.kept / max(self.truths, 1), 4),
            "grounded claims": self.grounded,
            "grounded kept": round(self.grounded_kept / max(self.grounded, 1), 4),
        }


def score_of(faces: list[tuple[str, bytes, list[Attribute]]], turn: int = 0) -> Score:
    """Put the liar's captions of these faces (key, JPEG, evidence) through all stages; another `turn`, other lies."""
    tales = [tale_of(f"{key} {turn}" if turn else key, attributes) for key, _, attributes in faces]
    engine = Liar((image, tale) for (_, image, _), tale in zip(faces, tales, strict=True))
    stage = Stage("openai", load_prompts(None), Captions(), 0.0, 0)
    score, settings = Score(), Llm(model="liar", attempts=1)

    async def work(room: EngineRoom, place: int) -> Written:
        key, image, attributes = faces[place]
        return await write_caption(room, Subject(key, image, attributes, []), stage)

    def done(place: int, result: Written | AnswerFailed) -> None:
        failed = isinstance(result, AnswerFailed)
        score.add(tales[place], "" if failed else result.caption, "all=failed" if failed else result.captioner.removed)

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.sqlite")
        run_rows(EngineRoom(engine, journal, settings), range(len(faces)), work, done)
        journal.close()
    return score
