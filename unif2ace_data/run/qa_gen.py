"""`qa-gen`: questions for every sample, checked, into the shards. From evidence alone, or written by a model."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.errors import UserError
from unif2ace_data.llm.engine import Engine, make_engine
from unif2ace_data.llm.journal import JOURNAL
from unif2ace_data.llm.prompts import QA_PROMPTS, load_prompts
from unif2ace_data.qa.generate import balanced_together, plan_of
from unif2ace_data.qa.jsonl import write_jsonl
from unif2ace_data.qa.llm import ask_questions
from unif2ace_data.qa.ration import Published, publish
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.read import sample_jsons, sample_records
from unif2ace_data.run.describe import llm_told
from unif2ace_data.run.estimate import QA_STAGES, estimate
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.pack import fingerprint_with
from unif2ace_data.run.private import work_folder, working_store
from unif2ace_data.run.progress import Log, Progress
from unif2ace_data.run.qa_model import (
    TOO_COMMON,
    QaSummary,
    ask_model,
    count_dropped,
    passed_in,
    passed_of,
    samples_of,
    stage_of,
    tell,
)
from unif2ace_data.run.rewrite import ASKED, HERE, Shard, finish, present_shards, rewrite
from unif2ace_data.run.splice import Change, asked_anew
from unif2ace_data.run.store import WorkStore
from unif2ace_data.run.word_questions import SAMPLES, SECONDS, ToWord, word_chunk
from unif2ace_data.shards import dataset_shards


def as_json(summary: QaSummary) -> dict[str, Any]:
    return asdict(summary)


def qa_gen(out: Path, recipe: Recipe, jsonl: Path | None = None, quiet: bool = False, on: Executor = HERE) -> QaSummary:
    """Ask about every sample of the dataset at `out`, as `recipe.qa` and `recipe.llm` say, and rewrite its shards.

    Questions are worded and shards written `on` its workers; they are chosen, and a model is asked, in this process.

    Nothing in `out` changes before every question stands. Raises UserError; answers that arrived are kept.
    """
    if jsonl is not None and jsonl.resolve().is_relative_to(out.resolve()):
        raise UserError(
            f"--jsonl {jsonl} lies inside {out}: the dataset holds nothing but its own files; put it beside", 2
        )
    if jsonl is not None and (not jsonl.resolve().parent.is_dir() or (jsonl.exists() and not jsonl.is_file())):
        raise UserError(f"--jsonl {jsonl}: give a file in a folder that exists", 2)
    engine = qa_engine(recipe)
    summary = QaSummary()
    with working_store(out) as store, closing(Log(store.folder / "log.jsonl")) as log:
        finish(store, out)
        shards = present_shards(store, out)
        log.write("qa-gen", qa=recipe.qa.model_dump(), model=recipe.llm.model)
        store.begin_questions()
        ask(store, out, recipe, engine, shards, summary, on, log, quiet)
        progress = Progress("packing", summary.samples, quiet)
        changes = {"qa": recipe.qa.model_dump(exclude={"prompts"}), "resolved": {"qa": told(recipe, engine)}}
        summary.root_sha256 = rewrite(
            store,
            out,
            {s.name: (fingerprint_with(store, s.base, s.texts, s.keys), s.texts) for s in shards},
            shards,
            functools.partial(change_of, store),
            changes,
            lambda n: progress.advance(n, []),
            functools.partial(take, store, changes),
            on,
        )
        progress.close()
        if jsonl is not None:
            write_jsonl(out, jsonl)
        return summary


def change_of(store: WorkStore, shard: Shard) -> Change:
    """What a worker does with each record of a shard: it gets the questions that the store has."""
    return functools.partial(asked_anew, {key: found for key in shard.keys if (found := store.qa(key)) is not None})


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


def ask(
    store: WorkStore, out: Path, recipe: Recipe, engine: Engine | None, shards: list[Shard], summary: QaSummary,
    on: Executor, log: Log, quiet: bool,
) -> None:  # fmt: skip
    """Questions of every sample into the store. What a model's checks leave open is filled from the evidence."""
    failed: frozenset[str] = frozenset()
    samples: Counter[str] = Counter()
    for shard in shards:
        samples[shard.entry["split"]] += len(shard.keys)
    parts = [[s for s in shards if s.entry["split"] in splits] for splits in balanced_together(samples)]
    published: list[Published] = []
    if engine is not None:
        ask_model(store, out, recipe, engine, shards, summary, log, quiet)
        failed = frozenset(summary.work.failed)
        published = [publish(passed_in(store, part, failed), recipe.qa) for part in parts]
        count_dropped(summary, Counter({TOO_COMMON: sum(p.taken_back for p in published)}))
        summary.from_model = sum(sum(p.chosen) for p in published)
        tell(summary, recipe, sum(len(shard.keys) for shard in shards) - len(failed))
    progress = Progress("choosing" if published else "asking", sum(len(shard.keys) for shard in shards), quiet)
    failures: Counter[str] = Counter()
    for place, part in enumerate(parts):
        model = published[place] if published else None
        failures += ask_part(store, out, recipe, part, model, failed, summary, on, progress)
    progress.close()
    if engine is None:
        count_dropped(summary, failures)
    elif summary.from_model:
        summary.work.notes.append(
            f"{summary.from_model} of {summary.questions} questions are the model's; the others are from the templates"
        )


def ask_part(
    store: WorkStore, out: Path, recipe: Recipe, shards: list[Shard], published: Published | None, failed: frozenset[str],
    summary: QaSummary, on: Executor, progress: Progress,
) -> Counter[str]:  # fmt: skip
    """Questions that are balanced together into the store; what the templates' checks kept from being asked."""
    plan = plan_of(
        (r for s in shards for r in sample_records(out / s.name)),
        recipe.qa,
        lambda key: None if key in failed else published.others(key) if published else (),
    )

    def jobs() -> Iterator[ToWord]:
        for shard in shards:
            for name, record in sample_jsons(out / shard.name):
                key = name.removesuffix(".json")
                if key in failed:
                    yield ToWord(key, record, None, [])
                    continue
                mine = published.questions(key, passed_of(store, key)) if published else []
                yield ToWord(key, record, plan.asked[key], mine)

    total = sum(len(shard.keys) for shard in shards)
    function = functools.partial(word_chunk, plan.forms, plan.blind)
    crew = on.for_work(SECONDS * total)
    with closing(crew.spread(function, jobs(), total, SAMPLES, lambda job: f"the questions of {job.key}")) as chunks:
        for chunk in chunks:
            with store.transaction():
                for worded in chunk:
                    store.put_qa(worded.key, worded.basis, worded.questions)
                    plan.failures.update(worded.failures)
                    summary.questions += worded.count
            summary.samples += len(chunk)
            progress.advance(len(chunk), [])
    return plan.failures


def estimated(out: Path, recipe: Recipe, rate: float) -> dict[str, Any]:
    """What `qa_gen` would ask a model, without asking (run/estimate.py)."""
    engine = qa_engine(recipe)
    if engine is None:
        raise UserError("templates ask no model: there is nothing to estimate; run it", 2)
    stage = stage_of(recipe)
    samples = (sample for shard in dataset_shards(out) for sample in samples_of(shard))
    journal = work_folder(out) / JOURNAL
    return estimate(journal, engine, recipe.llm, samples, lambda r, s: ask_questions(r, s, stage), QA_STAGES, rate)
