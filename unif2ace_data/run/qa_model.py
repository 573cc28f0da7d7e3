"""A model asked about every sample: its questions that pass, the rows that fail, and what is said when nothing is left."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from unif2ace_data.errors import UserError
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Engine, told_model
from unif2ace_data.llm.journal import JOURNAL, Journal
from unif2ace_data.llm.prompts import load_prompts
from unif2ace_data.llm.room import AnswerFailed, EngineRoom, Unusable
from unif2ace_data.qa.llm import Asked, QaStage, ask_questions
from unif2ace_data.qa.ration import Passed
from unif2ace_data.recipe import Recipe
from unif2ace_data.release.read import sample_records
from unif2ace_data.run.captioning import ModelWork
from unif2ace_data.run.progress import Log, Progress
from unif2ace_data.run.rewrite import Shard
from unif2ace_data.run.store import WorkStore
from unif2ace_data.schema import QA, Sample

TOO_COMMON = "too_common"  # dropped because its answer is too common among its like (qa/ration.py)
WHY = {
    "unusable": "its answers are no lists of questions, being cut off or no JSON (unusable)",
    "malformed": "kind, options and answer do not fit each other (malformed)",
    "too_long": "question, option or answer is longer than the prompt allows (too_long)",
    "value_stated": "the answer does not say the value that it is filed under (value_stated)",
    "derivable": "the answer is not found again from caption and evidence (derivable)",
    "blind": "the model answers without the picture, or gives no answer that can be read (blind)",
}


@dataclass(slots=True)
class QaSummary:
    """What a run did. `dropped`: questions that a check kept from being published, by check.

    Of a model's: `written` so many questions, `unusable` samples of which it gave no list of questions.
    """

    samples: int = 0
    questions: int = 0
    from_model: int = 0
    written: int = 0
    unusable: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    work: ModelWork = field(default_factory=ModelWork)
    root_sha256: str = ""


def stage_of(recipe: Recipe) -> QaStage:
    return QaStage(
        recipe.qa.engine, load_prompts(recipe.qa.prompts), recipe.qa, recipe.llm.temperature, recipe.llm.seed
    )


def samples_of(shard: Path) -> Iterator[Sample]:
    for record in sample_records(shard):
        yield Sample.model_validate(record)


def ask_model(
    store: WorkStore, out: Path, recipe: Recipe, engine: Engine, shards: list[Shard], summary: QaSummary, log: Log,
    quiet: bool,
) -> None:  # fmt: skip
    """What a model asks of every sample: those that pass are kept in the store until all are there.

    A sample whose requests fail is a failed row: it keeps the questions that it has, and the next run asks again. Raises
    UserError where more fail than recipe.alarm.max_failed allows.
    """
    total = sum(len(shard.keys) for shard in shards)
    progress = Progress("asking", total, quiet)
    journal = Journal(store.folder / JOURNAL)
    stage = stage_of(recipe)
    dropped: Counter[str] = Counter()
    unusable: Counter[str] = Counter()

    async def one(room: EngineRoom, sample: Sample) -> Asked:
        return await ask_questions(room, sample, stage)

    def done(sample: Sample, result: Asked | AnswerFailed) -> None:
        found: list[QA] = []
        if isinstance(result, Unusable):
            unusable[result.why] += 1
        elif isinstance(result, AnswerFailed):
            summary.work.failed[sample.uid] = str(result)
        else:
            found = result.questions
            summary.written += result.written
            dropped.update(result.failures)
        store.put_qa(sample.uid, "", as_bytes(found))
        log.write("asked", key=sample.uid, passed=len(found), failed=summary.work.failed.get(sample.uid, ""))
        progress.advance(1, [result.stage] if isinstance(result, AnswerFailed) else [])

    room = EngineRoom(engine, journal, recipe.llm)
    try:
        run_rows(room, (sample for s in shards for sample in samples_of(out / s.name)), one, done)
        summary.work.rows = total
    finally:
        summary.work.count(room)
        journal.close()
        progress.close()
    count_dropped(summary, dropped)
    summary.unusable, summary.work.failed = unusable.total(), dict(sorted(summary.work.failed.items()))
    if unusable:
        why, count = min(unusable.items(), key=lambda pair: (-pair[1], pair[0]))
        summary.work.notes.append(
            f"of {unusable.total()} samples the model gave no list of questions that can be used; the templates ask in its "
            f"place. The commonest reason ({count}): {why}"
        )
    if len(summary.work.failed) > recipe.alarm.max_failed * total:
        key, why = next(iter(summary.work.failed.items()))
        raise UserError(
            f"the questions of {len(summary.work.failed)} of {total} samples failed, more than alarm.max_failed = "
            f"{recipe.alarm.max_failed}; the dataset was not changed. The first, of {key}: {why}"
        )


def passed_in(store: WorkStore, shards: list[Shard], failed: frozenset[str]) -> Passed:
    """A model's questions about the samples of these shards, as `ask_model` left them."""
    passed = Passed()
    for key in (key for shard in shards for key in shard.keys):
        if key not in failed:
            passed.add(key, passed_of(store, key))
    return passed


def passed_of(store: WorkStore, key: str) -> list[QA]:
    """A model's questions as `ask_model` left them."""
    asked = store.qa(key)
    return [QA.model_validate(q) for q in orjson.loads(asked[1])] if asked else []


def as_bytes(questions: list[QA]) -> bytes:
    return orjson.dumps([qa.model_dump() for qa in questions])


def count_dropped(summary: QaSummary, more: Counter[str]) -> None:
    both = Counter(summary.dropped) + more
    summary.dropped = dict(sorted(both.items()))


def tell(summary: QaSummary, recipe: Recipe, asked: int) -> None:
    """Say what became of a model's questions. UserError where none is left, unless alarm.max_failed lets every row fail."""
    if failed := len(summary.work.failed):
        summary.work.notes.append(
            f"{failed} samples failed and keep the questions that they have: run the command again"
        )
    if summary.from_model or not asked:
        return
    reasons = Counter(summary.dropped) + Counter({"unusable": summary.unusable})
    commonest = min(reasons, key=lambda name: (-reasons[name], name), default="")
    message = (
        f"not one question by {told_model(recipe.llm.model)} can be published, of {summary.written} about {asked} samples. "
        f"The commonest reason: {WHY.get(commonest, f'they fail the check {commonest} (docs/qa.md)')}. "
        "Take a larger model, mend the prompts (qa.prompts), or use --engine templates"
    )
    if recipe.alarm.max_failed < 1:
        raise UserError(f"{message}. The dataset was not changed")
    print(f"warning: {message}. All questions are from the templates", file=sys.stderr)
    summary.work.notes.append(message)
