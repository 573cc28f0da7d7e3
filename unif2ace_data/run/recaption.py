"""`caption`: new captions for shards that exist. Pictures, evidence and splits stay; what rests on captions follows."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.captions.grounded import caption_of, captioner
from unif2ace_data.captions.people import said_of
from unif2ace_data.captions.text import notes_hash
from unif2ace_data.captions.vlm import Stage, Subject, Written, write_caption
from unif2ace_data.errors import UserError
from unif2ace_data.llm.engine import Engine
from unif2ace_data.llm.journal import JOURNAL
from unif2ace_data.llm.prompts import load_prompts
from unif2ace_data.llm.room import AnswerFailed
from unif2ace_data.qa.basis import FROM_CAPTION, FROM_EVIDENCE, basis_of
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.read import parse_record, read_mapping, sample_jsons
from unif2ace_data.run.captioning import (
    ModelWork,
    caption_config,
    caption_engine,
    caption_rows,
    scaled,
    scaled_all,
    text_with,
    told_captions,
)
from unif2ace_data.run.describe import captioner_told, llm_told
from unif2ace_data.run.estimate import CAPTION_STAGES, estimate
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.pack import fingerprint_with, with_these, written
from unif2ace_data.run.private import work_folder, working_store
from unif2ace_data.run.progress import Log, Progress
from unif2ace_data.run.rewrite import HERE, RECAPTION, Shard, finish, present_shards, rewrite
from unif2ace_data.run.splice import Change, whole
from unif2ace_data.run.store import WorkStore, kept_under
from unif2ace_data.schema import Captioner, Claim, Sample
from unif2ace_data.shards import dataset_shards, read_samples
from unif2ace_data.storage import refuse_url


def recaption(out: Path, recipe: Recipe, quiet: bool = False, on: Executor = HERE) -> tuple[ModelWork, str]:
    """Caption the dataset at `out` as `recipe.captions` and `recipe.llm` say; (what was asked, the new root hash).

    Pictures are scaled and shards written `on` its workers; the model is asked, and its captions are read, in this process.
    A sample whose caption fails keeps the one that it has. Raises UserError where more fail than recipe.alarm.max_failed
    allows (nothing is changed then), or where the engine is gone (what arrived is kept for the next run).
    """
    engine = caption_engine(recipe)
    shards_there(out)
    with working_store(out) as store, closing(Log(store.folder / "log.jsonl")) as log:
        finish(store, out)
        shards = present_shards(store, out)
        texts = caption_config(recipe, engine, store.fact("evidence"), store.fact("crops"))
        log.write("caption", texts=texts, captions=recipe.captions.model_dump(), model=recipe.llm.model)
        report = ModelWork()
        asked = int(read_mapping(out / "stats.json").get("qa", {}).get("total", 0))
        keep_questions(store, out, shards)
        if engine is not None:
            ask(store, out, recipe, engine, texts, shards, report, on, log, quiet)
            total = sum(len(shard.keys) for shard in shards)
            if len(report.failed) > recipe.alarm.max_failed * total:
                key, why = next(iter(report.failed.items()))
                raise UserError(
                    f"{len(report.failed)} of {total} captions failed, more than alarm.max_failed = {recipe.alarm.max_failed}; "
                    f"the dataset was not changed. The first, of {key}: {why}"
                )
        progress = Progress("packing", sum(len(shard.keys) for shard in shards), quiet)
        changes = {
            "captions": recipe.captions.model_dump(exclude={"prompts"}),
            "llm": llm_told(recipe.llm),
            "resolved": {"captioner": captioner_told(recipe, engine)},
        }
        root = rewrite(
            store,
            out,
            {s.name: (fingerprint_with(store, s.base, texts, s.keys), texts) for s in shards},
            shards,
            functools.partial(change_of, store, out, recipe, engine, texts),
            changes,
            lambda n: progress.advance(n, []),
            lambda: store.set_fact(RECAPTION, told_captions(recipe) if engine is not None else ""),
            on,
        )
        progress.close()
        lost = asked - int(read_mapping(out / "stats.json")["qa"]["total"])
        if lost > 0:
            report.notes.append(
                f"{lost} questions went with the captions that they rested on: run unif2ace-data qa-gen again"
            )
        return report, root


def estimated(out: Path, recipe: Recipe, rate: float) -> dict[str, Any]:
    """What `recaption` would ask, without asking (run/estimate.py)."""
    engine = caption_engine(recipe)
    if engine is None:
        raise UserError("grounded captions ask no model: there is nothing to estimate", 2)
    captions, llm = recipe.captions, recipe.llm
    stage = Stage(captions.engine, load_prompts(captions.prompts), captions, llm.temperature, llm.seed)

    def subjects() -> Iterator[Subject]:
        for shard in dataset_shards(out):
            for _, files in read_samples(shard):
                sample = Sample.model_validate_json(files["json"])
                image = scaled(files["jpg"], llm.image_side)
                yield Subject(sample.uid, image, sample.attributes, sample.source.captions.splitlines())

    journal = work_folder(out) / JOURNAL
    return estimate(
        journal, engine, llm, subjects(), lambda room, s: write_caption(room, s, stage), CAPTION_STAGES, rate
    )


def shards_there(out: Path) -> None:
    """Refuse a path that holds no dataset before a private folder is made beside it."""
    refuse_url(out)
    if not out.is_dir() or not (any(out.glob("*.tar")) or work_folder(out).is_dir()):
        raise UserError(f"no dataset at {out}: give the folder that `unif2ace-data build --out` wrote", 2)


def ask(
    store: WorkStore, out: Path, recipe: Recipe, engine: Engine, texts: str, shards: list[Shard], report: ModelWork,
    on: Executor, log: Log, quiet: bool,
) -> None:  # fmt: skip
    """Caption the samples of every shard that is not yet what it shall be."""
    todo = [
        s
        for s in shards
        if not in_place(store, s, fingerprint_with(store, s.base, texts, s.keys))
        or any(store.only_kept(key, texts) for key in s.keys)
    ]
    total = sum(len(s.keys) for s in todo)
    progress = Progress("captioning", total, quiet)

    def uncaptioned() -> Iterator[tuple[tuple[str, Sample], bytes]]:
        for shard in todo:
            for _, files in read_samples(out / shard.name):
                sample = Sample.model_validate_json(files["json"])
                notes = notes_of(store, sample)
                if store.text(sample.uid, texts, notes) is not None:
                    report.at_hand += 1
                    progress.advance(1, [])
                    continue
                yield (notes, sample), files["jpg"]

    def subjects() -> Generator[tuple[tuple[str, Sample], Subject], None, None]:
        for (notes, sample), image in scaled_all(uncaptioned(), total, recipe, on, lambda item: item[1].uid):
            subject = Subject(sample.uid, image, sample.attributes, sample.source.captions.splitlines())
            yield (notes, sample), subject

    def done(place: tuple[str, Sample], subject: Subject, result: Written | AnswerFailed) -> None:
        notes, sample = place
        said = said_of(sample.uid, store.people(sample.uid))
        if isinstance(result, AnswerFailed):
            present = Written(sample.caption, sample.claims, sample.captioner)
            text = text_with(subject, present, [], recipe.captions.complexion)
            store.put_text(subject.key, kept_under(texts), notes, text)
        else:
            store.put_text(subject.key, texts, notes, text_with(subject, result, said, recipe.captions.complexion))
        log.write("captioned", key=subject.key, failed=report.failed.get(subject.key, ""))
        progress.advance(1, [result.stage] if isinstance(result, AnswerFailed) else [])

    if todo:
        with closing(subjects()) as asked_about:
            caption_rows(store.folder, recipe, engine, asked_about, done, report)
    progress.close()


def in_place(store: WorkStore, shard: Shard, fingerprint: str) -> bool:
    known = written(store, fingerprint)
    return known is not None and known.shard.sha256 == shard.entry["sha256"]


def notes_of(store: WorkStore, sample: Sample) -> str:
    """What a text depends on besides its config: the source's words, as `build` knows them, or what the sample itself holds."""
    known = store.db.execute("select 1 from inputs where source_id=?", (sample.source.id,)).fetchone()
    if known and store.fact("evidence"):
        return notes_hash(store.refs([sample.source.id])[0].annotations)
    record: dict[str, Any] = sample.model_dump(include={"attributes", "source", "image"})
    if people := store.people(sample.uid):
        record["people"] = people
    return hashlib.sha256(orjson.dumps(record)).hexdigest()[:16]


Asked = tuple[str, bytes]  # WorkStore.qa


def change_of(store: WorkStore, out: Path, recipe: Recipe, engine: Engine | None, texts: str, shard: Shard) -> Change:
    """What a worker does with each record of a shard, with all that the store knows about them."""
    asked = {key: found for key in shard.keys if (found := store.qa(key)) is not None}
    if engine is None:
        return functools.partial(whole, functools.partial(grounded_again, recipe.captions.complexion, asked))
    said = {}
    for name, data in sample_jsons(out / shard.name):
        sample = Sample.model_validate(parse_record(out / shard.name, name, data))
        if (text := store.text(sample.uid, texts, notes_of(store, sample))) is not None:
            said[sample.uid] = text
    return functools.partial(whole, functools.partial(captioned_again, said, asked))


def grounded_again(complexion: bool, asked: dict[str, Asked], sample: Sample) -> Sample:
    """The sample with a caption from its evidence, and with those of its questions that still rest on what they did."""
    caption, claims = caption_of(sample.uid, sample.attributes, complexion=complexion)
    changed = sample.model_copy(update={"caption": caption, "claims": claims, "captioner": captioner()})
    return with_these(asked.get(sample.uid), changed)


def captioned_again(said: dict[str, bytes], asked: dict[str, Asked], sample: Sample) -> Sample:
    """The same with the text of a model. Where there is none the new one failed: the sample keeps the one that it has."""
    if sample.uid in said:
        record = orjson.loads(said[sample.uid])
        changes = {
            "caption": record["caption"],
            "claims": [Claim.model_validate(c) for c in record["claims"]],
            "captioner": Captioner.model_validate(record["captioner"]),
        }
        sample = sample.model_copy(update=changes)
    return with_these(asked.get(sample.uid), sample)


def keep_questions(store: WorkStore, out: Path, shards: list[Shard]) -> None:
    """Take over the questions of shards whose private folder is new: a dataset that was downloaded."""
    asked = read_mapping(out / "stats.json").get("qa", {}).get("total", 0)
    if not asked or store.db.execute("select 1 from qa limit 1").fetchone():
        return
    for shard in shards:
        for key, files in read_samples(out / shard.name):
            sample = Sample.model_validate_json(files["json"])
            if sample.qa and store.qa(key) is None:
                kind = FROM_EVIDENCE if all(q.source.startswith("templates") for q in sample.qa) else FROM_CAPTION
                questions = orjson.dumps([q.model_dump() for q in sample.qa])
                store.put_qa(key, basis_of(sample, kind), questions)
