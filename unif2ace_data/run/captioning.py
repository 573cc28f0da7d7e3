"""The captioning stage: every face that lacks a caption under the present settings is put through the engine room."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
from PIL import Image

from unif2ace_data.captions.grounded import captioner as grounded_captioner
from unif2ace_data.captions.people import Said, caption_after, said_of
from unif2ace_data.captions.text import notes_hash
from unif2ace_data.captions.vlm import Stage, Subject, Written, write_caption
from unif2ace_data.errors import UserError
from unif2ace_data.faces.align import encode_jpeg
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Engine, keyed_model, make_engine
from unif2ace_data.llm.journal import JOURNAL, Journal
from unif2ace_data.llm.prompts import CAPTION_PROMPTS, load_prompts
from unif2ace_data.llm.room import Account, AnswerFailed, EngineRoom
from unif2ace_data.recipe import Recipe
from unif2ace_data.run.decide import Row
from unif2ace_data.run.estimate import CAPTION_STAGES, estimate, scaled_plan
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.progress import Log, Progress
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import Attribute

VERSION = 1  # raise it when the same answers would give other captions
FAILED = "caption_failed"  # the ledger's reason
CROPS, SECONDS = 16, 0.005  # our choice: crops that a worker scales at a time, and what one takes

Item = TypeVar("Item")


@dataclass(slots=True)
class ModelWork:
    """What the model was asked in this run. `failed`: sample key -> why; `accounts`: by stage; `seconds`: by the clock."""

    rows: int = 0
    at_hand: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    in_flight: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def count(self, room: EngineRoom) -> None:
        self.accounts, self.in_flight, self.seconds = room.accounts, room.fleet.peak, round(room.seconds(), 1)


def caption_engine(recipe: Recipe) -> Engine | None:
    """The engine that writes captions; None for grounded ones. Nothing is loaded yet."""
    return None if recipe.captions.engine == "grounded" else make_engine(recipe.captions.engine, recipe.llm)


def caption_config(recipe: Recipe, engine: Engine | None, evidence: str, crops: str) -> str:
    """What decides a caption besides the sample; captions are kept under it.

    `evidence`, `crops`: the hashes of what decides attributes and pictures, as `build` kept them ("": not known here).
    Grounded captions are kept with the evidence they come from.
    """
    if engine is None:
        return evidence or f"grounded-{grounded_captioner().prompt_sha256[:8]}"
    decided = {
        "version": VERSION,
        "evidence": [evidence, crops],
        "captions": recipe.captions.model_dump(exclude={"prompts"}),
        "prompts": load_prompts(recipe.captions.prompts).sha256(CAPTION_PROMPTS),
        "model": [keyed_model(engine.model), engine.revision],
        "llm": recipe.llm.model_dump(include={"temperature", "seed", "attempts", "image_side"}),
    }
    return hashlib.sha256(orjson.dumps(decided, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def told_captions(recipe: Recipe) -> str:
    """What a later build keeps to (the fact RECAPTION)."""
    return orjson.dumps({"captions": recipe.captions.model_dump(), "llm": recipe.llm.model_dump()}).decode()


def caption_rows(
    work: Path,
    recipe: Recipe,
    engine: Engine,
    subjects: Iterable[tuple[Item, Subject]],
    done: Callable[[Item, Subject, Written | AnswerFailed], None],
    report: ModelWork,
) -> None:
    """Caption every subject and hand over each result as it arrives; accounts go into `report`. Raises UserError."""
    journal = Journal(work / JOURNAL)
    captions, llm = recipe.captions, recipe.llm
    stage = Stage(captions.engine, load_prompts(captions.prompts), captions, llm.temperature, llm.seed)

    async def one(room: EngineRoom, item: tuple[Item, Subject]) -> Written:
        return await write_caption(room, item[1], stage)

    def handed(item: tuple[Item, Subject], result: Written | AnswerFailed) -> None:
        if isinstance(result, AnswerFailed):
            report.failed[item[1].key] = str(result)
        report.rows += 1
        done(item[0], item[1], result)

    room = EngineRoom(engine, journal, llm)
    try:
        run_rows(room, subjects, one, handed)
    finally:
        report.count(room)
        journal.close()


def scaled(jpeg: bytes, side: int) -> bytes:
    """The crop as the model gets it: as it is, or with its longer side scaled down to `side` pixels."""
    picture = Image.open(io.BytesIO(jpeg))
    ratio = side / max(picture.size)
    if ratio >= 1:
        return jpeg
    size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    return encode_jpeg(np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)), 95)


def scaled_all(
    items: Iterable[tuple[Item, bytes]], count: int, recipe: Recipe, on: Executor, key_of: Callable[[Item], str]
) -> Iterator[tuple[Item, bytes]]:
    """Each of `count` items with its crop as the model gets it, in any order; by workers, where there is something to scale."""
    side, waiting = recipe.llm.image_side, dict[int, Item]()

    def jobs() -> Iterator[tuple[int, bytes]]:
        for number, (item, jpeg) in enumerate(items):
            waiting[number] = item
            yield number, jpeg

    crew = on.for_work(SECONDS * count) if side < recipe.faces.align.size else Executor()
    with closing(
        crew.spread(
            partial(scale_chunk, side), jobs(), count, CROPS, lambda job: f"the crop of {key_of(waiting[job[0]])}"
        )
    ) as chunks:
        for number, image in (pair for chunk in chunks for pair in chunk):
            yield waiting.pop(number), image


def scale_chunk(side: int, jobs: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    return [(number, scaled(jpeg, side)) for number, jpeg in jobs]


def text_with(subject: Subject, written: Written, said: list[Said], complexion: bool) -> bytes:
    """A text as the store keeps it (captions/text.py). `said`: what people say of the sample, which the model did not read."""
    caption, claims, captioner = caption_after(
        subject.key, written.caption, written.claims, written.captioner, subject.attributes, said, complexion=complexion
    )
    return orjson.dumps(
        {
            "attributes": [a.model_dump() for a in subject.attributes],
            "caption": caption,
            "captioner": captioner.model_dump(),
            "claims": [c.model_dump() for c in claims],
        }
    )


def caption_missing(
    store: WorkStore, recipe: Recipe, engine: Engine, kept: list[Row], crops: str, base: str, texts: str, on: Executor, log: Log,
    quiet: bool,
) -> ModelWork:  # fmt: skip
    """Caption the kept rows that have no text under `texts` yet. `base`: the texts that hold their evidence.

    A row whose caption fails becomes a failed row; the next run asks again what was not answered.
    """
    report = ModelWork()
    notes = {row.source_id: store.refs([row.source_id])[0].annotations for row in kept}
    hashes = {source_id: notes_hash(annotations) for source_id, annotations in notes.items()}
    todo = [row for row in kept if store.text(row.key, texts, hashes[row.source_id], or_kept=True) is None]
    report.at_hand = len(kept) - len(todo)
    progress = Progress("captioning", len(todo), quiet)

    def described() -> Iterator[tuple[tuple[Row, list[Attribute]], bytes]]:
        for row in todo:
            text, crop = store.text(row.key, base, hashes[row.source_id]), store.crop(row.key, crops)
            if text is None or crop is None:
                raise UserError(f"{store.folder} lost the measurements of {row.source_id}: run the build again")
            yield (row, [Attribute.model_validate(a) for a in orjson.loads(text)["attributes"]]), crop[0]

    def subjects() -> Generator[tuple[Row, Subject], None, None]:
        for (row, evidence), image in scaled_all(described(), len(todo), recipe, on, lambda item: item[0].key):
            yield row, Subject(row.key, image, evidence, notes[row.source_id].captions)

    def done(row: Row, subject: Subject, result: Written | AnswerFailed) -> None:
        if isinstance(result, AnswerFailed):
            row.status, row.split, row.reason, row.detail = "failed", "", FAILED, str(result)
        else:
            said = said_of(row.key, notes[row.source_id].people)
            text = text_with(subject, result, said, recipe.captions.complexion)
            store.put_text(row.key, texts, hashes[row.source_id], text)
        log.write("captioned", key=row.key, failed=row.detail if row.status == "failed" else "")
        progress.advance(1, [result.stage] if isinstance(result, AnswerFailed) else [])

    if todo:
        with closing(subjects()) as asked_about:
            caption_rows(store.folder, recipe, engine, asked_about, done, report)
    progress.close()
    return report


def foreseen(recipe: Recipe, engine: Engine, rows: int, rate: float) -> dict[str, Any]:
    """What a captioner would be asked about so many faces that it has not seen: one blank face, that many times."""
    side = min(recipe.faces.align.size, recipe.llm.image_side)
    blank = encode_jpeg(np.zeros((side, side, 3), np.uint8), 95)
    stage = Stage(
        recipe.captions.engine, load_prompts(recipe.captions.prompts), recipe.captions, recipe.llm.temperature, 0
    )
    one = estimate(
        Path(), engine, recipe.llm, [Subject("", blank, [], [])],
        lambda room, subject: write_caption(room, subject, stage), CAPTION_STAGES, rate,
    )  # fmt: skip
    return scaled_plan(one, rows)
