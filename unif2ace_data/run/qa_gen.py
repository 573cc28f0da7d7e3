"""`qa-gen`: questions for every sample, checked, into the shards. From evidence alone, or written by a model."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Engine, make_engine
from unif2ace_data.llm.journal import Journal
from unif2ace_data.llm.prompts import QA_PROMPTS, load_prompts
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.qa.basis import FROM_CAPTION, FROM_EVIDENCE, basis_of
from unif2ace_data.qa.checks import distinct
from unif2ace_data.qa.generate import plan_of
from unif2ace_data.qa.jsonl import write_jsonl
from unif2ace_data.qa.llm import Asked, QaStage, ask_questions
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.read import sample_records
from unif2ace_data.run.captioning import JOURNAL, ModelWork
from unif2ace_data.run.describe import llm_told
from unif2ace_data.run.estimate import QA_STAGES, estimate
from unif2ace_data.run.pack import fingerprint_with, with_questions
from unif2ace_data.run.private import work_folder
from unif2ace_data.run.progress import Log, Progress
from unif2ace_data.run.rewrite import ASKED, Shard, finish, present_shards, rewrite
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import QA, Sample, UserError
from unif2ace_data.shards import dataset_shards


@dataclass(slots=True)
class QaSummary:
    """What a run did. `dropped`: questions that a check kept from being published, by check."""

    samples: int = 0
    questions: int = 0
    from_model: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    work: ModelWork = field(default_factory=ModelWork)
    root_sha256: str = ""


def as_json(summary: QaSummary) -> dict[str, Any]:
    return asdict(summary)


def qa_gen(out: Path, recipe: Recipe, jsonl: Path | None = None, quiet: bool = False) -> QaSummary:
    """Ask about every sample of the dataset at `out`, as `recipe.qa` and `recipe.llm` say, and rewrite its shards.

    Nothing in `out` changes before every question stands. Raises UserError; answers that arrived are kept.
    """
    if jsonl is not None and jsonl.resolve().is_relative_to(out.resolve()):
        raise UserError(
            f"--jsonl {jsonl} lies inside {out}: the dataset holds nothing but its own files; put it beside", 2
        )
    if jsonl is not None and (not jsonl.resolve().parent.is_dir() or (jsonl.exists() and not jsonl.is_file())):
        raise UserError(f"--jsonl {jsonl}: give a file in a folder that exists", 2)
    engine = qa_engine(recipe)
    store = WorkStore(work_folder(out))
    log = Log(store.folder / "log.jsonl")
    summary = QaSummary()
    try:
        finish(store, out)
        shards = present_shards(store, out)
        log.write("qa-gen", qa=recipe.qa.model_dump(), model=recipe.llm.model)
        store.begin_questions()
        ask(store, out, recipe, engine, shards, summary, log, quiet)
        progress = Progress("packing", summary.samples, quiet)
        changes = {"qa": recipe.qa.model_dump(exclude={"prompts"}), "resolved": {"qa": told(recipe, engine)}}
        summary.root_sha256 = rewrite(
            store,
            out,
            {s.name: (fingerprint_with(store, s.base, s.texts, s.keys), s.texts) for s in shards},
            shards,
            functools.partial(with_questions, store),
            changes,
            lambda n: progress.advance(n, []),
            functools.partial(take, store, changes),
        )
        progress.close()
        if jsonl is not None:
            write_jsonl(out, jsonl)
        return summary
    finally:
        store.questions_table = "qa"
        log.close()
        store.close()


def take(store: WorkStore, changes: dict[str, Any]) -> None:
    """The decision: these are the questions from now on. A later build keeps them, and says in its recipe who asked."""
    store.take_questions()
    store.set_fact(ASKED, orjson.dumps(changes).decode())


def qa_engine(recipe: Recipe) -> Engine | None:
    """The model that writes questions; None for templates. Nothing is loaded yet."""
    return None if recipe.qa.engine == "templates" else make_engine(recipe.qa.engine, recipe.llm)


def told(recipe: Recipe, engine: Engine | None) -> dict[str, Any]:
    """Who asked, for the resolved recipe."""
    if engine is None:
        return {"engine": "templates"}
    return {
        "engine": recipe.qa.engine,
        "model": llm_told(recipe.llm)["model"],
        "revision": engine.revision,
        "prompt_sha256": load_prompts(recipe.qa.prompts).sha256(QA_PROMPTS),
        "llm": llm_told(recipe.llm),
    }


def stage_of(recipe: Recipe) -> QaStage:
    return QaStage(
        recipe.qa.engine, load_prompts(recipe.qa.prompts), recipe.qa, recipe.llm.temperature, recipe.llm.seed
    )


def ask(
    store: WorkStore, out: Path, recipe: Recipe, engine: Engine | None, shards: list[Shard], summary: QaSummary, log: Log,
    quiet: bool,
) -> None:  # fmt: skip
    """Questions of every sample into the store. What a model's checks leave open is filled from the evidence."""
    total = sum(len(shard.keys) for shard in shards)
    plan = plan_of((r for s in shards for r in sample_records(out / s.name)), recipe.qa)
    progress = Progress("asking", total, quiet)

    def keep(sample: Sample, questions: list[QA], kind: str) -> None:
        summary.samples += 1
        summary.questions += len(questions)
        store.put_qa(sample.uid, basis_of(sample, kind), orjson.dumps([q.model_dump() for q in questions]))
        progress.advance(1, [])

    if engine is None:
        for shard in shards:
            with store.transaction():
                for sample in samples_of(out / shard.name):
                    keep(sample, plan.questions(sample), FROM_EVIDENCE)
        summary.dropped = dict(sorted(plan.failures.items()))
        progress.close()
        return
    failures: Counter[str] = Counter()
    journal = Journal(store.folder / JOURNAL)
    stage = stage_of(recipe)

    async def one(room: EngineRoom, sample: Sample) -> Asked:
        return await ask_questions(room, sample, stage)

    def done(sample: Sample, result: Asked | AnswerFailed) -> None:
        mine: list[QA] = []
        if isinstance(result, AnswerFailed):
            summary.work.failed[sample.uid] = str(result)
        else:
            mine = result.questions
            failures.update(result.failures)
        summary.from_model += len(mine)
        keep(
            sample, filled(mine, plan.questions(sample), recipe.qa.per_sample), FROM_CAPTION if mine else FROM_EVIDENCE
        )
        log.write("asked", key=sample.uid, from_model=len(mine), failed=summary.work.failed.get(sample.uid, ""))

    try:
        room = run_rows(
            functools.partial(EngineRoom, engine, journal, recipe.llm),
            (sample for s in shards for sample in samples_of(out / s.name)), one, done,
        )  # fmt: skip
        summary.work.accounts, summary.work.in_flight, summary.work.rows = room.accounts, room.in_flight.peak, total
    finally:
        journal.close()
    summary.dropped = dict(sorted(failures.items()))
    progress.close()
    if len(summary.work.failed) > recipe.alarm.max_failed * total:
        key, why = next(iter(summary.work.failed.items()))
        raise UserError(
            f"the model gave no questions for {len(summary.work.failed)} of {total} samples, more than alarm.max_failed = "
            f"{recipe.alarm.max_failed}; the dataset was not changed. The first, {key}: {why}"
        )
    if summary.from_model < summary.questions:
        summary.work.notes.append(
            f"{summary.questions - summary.from_model} of {summary.questions} questions are templates', in the place of such as "
            "failed a check or were not written"
        )


def samples_of(shard: Path) -> Iterator[Sample]:
    for record in sample_records(shard):
        yield Sample.model_validate(record)


def filled(mine: list[QA], spare: list[QA], count: int) -> list[QA]:
    """The model's questions, and such from the evidence as ask something else, up to `count`."""
    found = list(mine)
    for qa in spare:
        if len(found) < count and distinct(qa, found) == "pass":
            found.append(qa)
    return found


def estimated(out: Path, recipe: Recipe, rate: float) -> dict[str, Any]:
    """What `qa_gen` would ask a model, without asking (run/estimate.py)."""
    engine = qa_engine(recipe)
    if engine is None:
        raise UserError("templates ask no model: there is nothing to estimate; run it", 2)
    stage = stage_of(recipe)
    samples = (sample for shard in dataset_shards(out) for sample in samples_of(shard))
    journal = work_folder(out) / JOURNAL
    return estimate(journal, engine, recipe.llm, samples, lambda r, s: ask_questions(r, s, stage), QA_STAGES, rate)
