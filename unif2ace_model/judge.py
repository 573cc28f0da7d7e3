"""Another model as the judge, behind any OpenAI-compatible server.

    desc    a generated caption beside the stored one, 1 to 10 (paper: Desc)
    conv    a sample's answers beside the right ones, 1 to 10 (paper: Conv)
    vqa     yes/no questions about a generated picture, one for each claim of its caption: the share that is answered yes

desc and conv are judged on words alone (our choice: the paper's second judge reads no pictures). vqa is in the manner of
VQAScore, which takes the probability of "yes" to one question about the whole caption: servers need not give
probabilities, so the caption is asked about claim by claim. The prompts are ours; the paper's are not published. Answers
are journalled: nothing is asked twice. What the judge gives no usable answer to is counted and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unif2ace_data.errors import UserError
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Request, make_engine, told_model
from unif2ace_data.llm.journal import Journal
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.llm.structured import fields_of, list_of, object_of, one_of, strings_in
from unif2ace_data.recipe import Llm
from unif2ace_data.run.progress import Progress
from unif2ace_data.taxonomy import load_taxonomy
from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.evaluate_generation import Claimed

MARKS = [str(mark) for mark in range(1, 11)]
SCORE_TOKENS, ANSWER_TOKENS = 24, 12
DESC, CONV, VQA, VQA_CONTROL = "desc", "conv", "vqa", "vqa exchanged"

DESC_SYSTEM = """You grade descriptions of a face. You get a reference, which is right, and a candidate.
Grade the candidate from 1 (wrong or empty) to 10 (says all that the reference says, and nothing that it contradicts). \
Every detail counts: hair, beard, glasses, clothing, expression, gaze, pose, light, background. Style does not count.
Answer with JSON: {"score": "1" to "10"}."""
CONV_SYSTEM = """You grade answers to questions about the picture of a face. Each question comes with the right answer and \
a candidate's.
Grade the candidate's answers together from 1 (all wrong) to 10 (all right). Other words for the same are right.
Answer with JSON: {"score": "1" to "10"}."""
VQA_SYSTEM = """You answer questions about the picture of a face. Look carefully. Answer "yes" or "no"; where nothing like \
a face is to be seen, "no".
Answer with JSON: {"answers": ["yes", "no", …]}: one answer to each question, in their order."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request about a sample; `questions`: how many yes/no answers are wanted, 0 for a mark."""

    stage: str
    sample: int
    user: str
    questions: int = 0
    image: bytes | None = field(default=None, repr=False)


def desc_cases(said: Sequence[str], stored: Sequence[str]) -> list[Case]:
    return [
        Case(DESC, i, f"Reference: {caption}\n\nCandidate: {text or '(nothing)'}")
        for i, (text, caption) in enumerate(zip(said, stored, strict=True))
    ]


def conv_cases(turns: Sequence[tuple[int, str, str, str]]) -> list[Case]:
    """turns: (sample, question, right answer, the model's), those of a sample together."""
    by_sample: dict[int, list[str]] = {}
    for sample, question, right, said in turns:
        lines = by_sample.setdefault(sample, [])
        lines.append(f"{len(lines) + 1}. {question}\nRight: {right}\nCandidate: {said or '(nothing)'}")
    return [Case(CONV, sample, "\n".join(lines)) for sample, lines in by_sample.items()]


def vqa_cases(pictures: Sequence[bytes], claims: Sequence[Sequence[Claimed]], stage: str = VQA) -> list[Case]:
    """pictures: JPEG. A sample whose caption claims nothing that can be asked is left out."""
    taxonomy, cases = load_taxonomy(), []
    for sample, (picture, stated) in enumerate(zip(pictures, claims, strict=True)):
        asked = [taxonomy[name].asks(value) for name, value, negated in stated if not negated and plain(name, value)]
        if asked:
            lines = "\n".join(f"{number}. {question}" for number, question in enumerate(asked, 1))
            cases.append(Case(stage, sample, lines, len(asked), picture))
    return cases


def plain(name: str, value: str) -> bool:
    """Whether a yes to the question about the value states it: not of "no" and "none", which a yes would leave unclear."""
    return value not in ("no", "none") and name in load_taxonomy()


def request_of(case: Case, settings: Llm) -> Request:
    if case.questions:
        schema = object_of(answers=list_of(one_of(["yes", "no"]), case.questions, case.questions))
        system, tokens = VQA_SYSTEM, SCORE_TOKENS + ANSWER_TOKENS * case.questions
    else:
        schema, tokens = object_of(score=one_of(MARKS)), SCORE_TOKENS
        system = DESC_SYSTEM if case.stage == DESC else CONV_SYSTEM
    return Request(
        stage=case.stage, system=system, user=case.user, max_tokens=tokens, temperature=settings.temperature,
        seed=settings.seed, image=case.image, schema=schema,
    )  # fmt: skip


def mark_of(text: str) -> float:
    """Raises ValueError where no mark from 1 to 10 is given."""
    mark = str(fields_of(text).get("score", "")).strip()
    if mark not in MARKS:
        raise ValueError(f"no mark from 1 to 10 but {mark[:20]!r}")
    return float(mark)


def yes_of(text: str, count: int) -> float:
    """How many of `count` answers are yes. Raises ValueError."""
    return float(sum(answer.strip().lower() == "yes" for answer in strings_in(text, "answers", count)))


def judge(cases: Sequence[Case], settings: Llm, journal: Path, bootstrap: Bootstrap, quiet: bool) -> dict[str, Any]:
    """Means with intervals by stage. Raises UserError: no server, no such model, or no case with a usable answer."""
    marks: dict[str, list[tuple[int, float, int]]] = {}
    failed: Counter[str] = Counter()
    why: list[str] = []
    progress = Progress("judging", len(cases), quiet)

    async def one(room: EngineRoom, case: Case) -> float:
        parse = (lambda text: yes_of(text, case.questions)) if case.questions else mark_of
        return await room.ask(request_of(case, settings), parse)

    def done(case: Case, result: float | AnswerFailed) -> None:
        if isinstance(result, AnswerFailed):
            failed[case.stage] += 1
            why.append(str(result))
        else:
            marks.setdefault(case.stage, []).append((case.sample, result, case.questions or 1))
        progress.advance(1, [case.stage] if isinstance(result, AnswerFailed) else [])

    kept = Journal(journal)
    room = EngineRoom(make_engine("openai", settings), kept, settings)
    try:
        run_rows(room, cases, one, done)
    finally:
        kept.close()
        progress.close()
    if cases and not marks:
        raise UserError(f"the judge gave no usable answer to any of {len(cases)} requests. The first: {why[0]}")
    report: dict[str, Any] = {"model": told_model(settings.model), "failed": dict(sorted(failed.items()))}
    for stage, found in sorted(marks.items()):
        found.sort()
        score = bootstrap.ratio([row[0] for row in found], [row[1] for row in found], [row[2] for row in found])
        report[stage.replace(" ", "_")] = {"cases": len(found), "score": score.as_json()}
    return report
