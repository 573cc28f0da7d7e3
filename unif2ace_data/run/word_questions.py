"""What a worker does for `qa-gen`: the questions that were chosen for a sample, in words. Plain functions over chunks."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass

from unif2ace_data.qa.basis import basis_of_all
from unif2ace_data.qa.forms import Form
from unif2ace_data.qa.generate import Plan
from unif2ace_data.qa.templates import in_order
from unif2ace_data.records import read_record
from unif2ace_data.run.qa_model import as_bytes
from unif2ace_data.schema import QA, Check, Sample

SAMPLES, SECONDS = 64, 0.0016  # our choice: samples a chunk; and what one takes (docs/qa.md)


@dataclass(frozen=True, slots=True)
class ToWord:
    """A sample (its JSON), what the plan has it ask, and the questions of a model beside.

    `asked` None: the sample keeps the questions that it has.
    """

    key: str
    record: bytes
    asked: array[int] | None
    mine: list[QA]


@dataclass(frozen=True, slots=True)
class Worded:
    """`questions`: a JSON list of `count`; `basis`: what they rest on; `failures`: those not asked, by the check that failed."""

    key: str
    basis: str
    questions: bytes
    count: int
    failures: Counter[str]


def word_chunk(forms: list[Form], blind: list[Check], jobs: list[ToWord]) -> list[Worded]:
    return [word(forms, blind, job) for job in jobs]


def word(forms: list[Form], blind: list[Check], job: ToWord) -> Worded:
    failures: Counter[str] = Counter()
    if job.asked is None:
        sample = Sample.model_validate_json(job.record)
        questions = sample.qa
    else:
        sample = read_record(job.record)
        plan = Plan(forms, blind, {sample.uid: job.asked}, failures)
        questions = in_order(sample, [*job.mine, *plan.questions(sample, job.mine)])
    return Worded(job.key, basis_of_all(sample, questions), as_bytes(questions), len(questions), failures)
