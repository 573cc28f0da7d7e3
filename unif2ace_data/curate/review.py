"""What people are asked about a dataset, and the reading of what they answer.

An item asks whether an attribute of one sample has one value. Behind it stand statements of the dataset: records of the
attribute and claims of the caption. Items are drawn over strata, attribute x verdict x confidence, each stratum in its
turn; within one the smallest hashes of root hash, key, attribute and value come first, so that the same dataset always
gives the same items, and a larger draw holds the smaller one.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from unif2ace_data.attributes.measure import PEOPLE
from unif2ace_data.errors import UserError
from unif2ace_data.schema import Sample
from unif2ace_data.taxonomy import Entry, load_taxonomy

KIND = "unif2ace-review"
NOT_VALIDATED, MEASURED = "not_validated", "measured"  # beside the verdicts: records that no claim states
BANDS = ((0.9, "under 0.90"), (0.98, "0.90 to 0.98"), (2.0, "0.98 and over"))  # our choice: thirds of what is stated
NO_RECORD = "no record"  # the band of claims that no record bears out
INITIALS = re.compile(r"[A-Za-z0-9_.-]{1,12}")

Asked = tuple[str, str, str]  # key, attribute, value
Stratum = tuple[str, str, str]  # attribute, verdict, band of confidence


@dataclass(frozen=True, slots=True)
class Item:
    """`statements`: (who states it, whether as a denial) of every record and claim behind the question."""

    key: str
    attribute: str
    value: str
    stratum: Stratum
    statements: tuple[tuple[str, bool], ...]

    @property
    def asked(self) -> Asked:
        return self.key, self.attribute, self.value


@dataclass(slots=True)
class Draw:
    """What was drawn from the dataset `root`: the items in their order, and how many each stratum holds in all."""

    root: str
    sizes: dict[Stratum, int]
    items: list[Item] = field(default_factory=list)


# ------------------------------------------------------------------ items


def items_of(sample: Sample) -> list[Item]:
    """Everything that the sample states and can be asked: what people have settled already is not asked again."""
    taxonomy = load_taxonomy()
    settled = {a.name for a in sample.attributes if a.evidence.by.startswith(PEOPLE)}
    engine = " ".join(filter(None, ("caption by", sample.captioner.engine, sample.captioner.model)))
    statements: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    records: dict[tuple[str, str], list[tuple[float, bool]]] = {}  # confidence, validated
    verdicts: dict[tuple[str, str], list[str]] = {}
    for record in sample.attributes:
        if record.name in taxonomy and record.name not in settled:
            value, denies = asked_value(taxonomy[record.name], record.value)
            statements.setdefault((record.name, value), []).append((record.evidence.by, denies))
            records.setdefault((record.name, value), []).append((record.confidence, record.validated))
    for claim in sample.claims:
        if claim.attribute in taxonomy and claim.attribute not in settled:
            value, denies = asked_value(taxonomy[claim.attribute], claim.value)
            statements.setdefault((claim.attribute, value), []).append((engine, denies != claim.negated))
            verdicts.setdefault((claim.attribute, value), []).append(claim.verdict)
    found = []
    for (name, value), said in statements.items():
        sure = records.get((name, value), [])
        if (name, value) in verdicts:
            verdict = verdicts[name, value][0]
        else:
            verdict = MEASURED if any(validated for _, validated in sure) else NOT_VALIDATED
        stratum = (name, verdict, band(max(confidence for confidence, _ in sure)) if sure else NO_RECORD)
        found.append(Item(sample.uid, name, value, stratum, tuple(dict.fromkeys(said))))
    return found


def asked_value(entry: Entry, value: str) -> tuple[str, bool]:
    """The value that the closed question asks about, and whether stating `value` denies it.

    Of an attribute whose question names no value (yes/no ones) that is always the last: "Is the person smiling?".
    """
    if "{value}" in entry.yes_no:
        return value, False
    return entry.values[-1], value != entry.values[-1]


def other_values(name: str, value: str) -> list[str]:
    """What may be right where `value` is not."""
    return [other for other in load_taxonomy()[name].values if other != value]


def band(confidence: float) -> str:
    return next(name for edge, name in BANDS if confidence < edge)


# ------------------------------------------------------------------ drawing


def draw_items(root: str, samples: Iterable[Sample], count: int) -> Draw:
    """At most `count` items of the dataset with this root hash. Memory grows with `count`, not with the dataset."""
    sizes: Counter[Stratum] = Counter()
    first: dict[
        Stratum, list[tuple[int, Asked, Item]]
    ] = {}  # the `count` smallest hashes, as a heap of their negatives
    for sample in samples:
        for item in items_of(sample):
            sizes[item.stratum] += 1
            heap = first.setdefault(item.stratum, [])
            entry = (-ordered(root, *item.asked), item.asked, item)
            if len(heap) < count:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
    strata = sorted(first, key=lambda s: (ordered(root, *s), s))
    queues = {s: [item for _, _, item in sorted(first[s], key=lambda e: (-e[0], e[1]))] for s in strata}
    return Draw(root, {s: sizes[s] for s in strata}, list(in_turn(queues, count)))


def in_turn(queues: Mapping[Stratum, list[Item]], count: int) -> Iterator[Item]:
    """The first item of each stratum, then the second of each that has one, and so on."""
    longest = max(map(len, queues.values()), default=0)
    turns = (queue[i] for i in range(longest) for queue in queues.values() if i < len(queue))
    for _, item in zip(range(count), turns, strict=False):
        yield item


def ordered(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:16], "big")


def answered_draw(root: str, samples: Iterable[Sample], asked: Collection[Asked]) -> Draw:
    """The draw of which only the answers are known: a form that was made from another copy of the dataset `root`."""
    sizes: Counter[Stratum] = Counter()
    items = []
    for sample in samples:
        for item in items_of(sample):
            sizes[item.stratum] += 1
            if item.asked in asked:
                items.append(item)
    return Draw(root, dict(sizes), items)


def packed_draw(draw: Draw) -> bytes:
    return orjson.dumps(
        {
            "sizes": [[*stratum, size] for stratum, size in draw.sizes.items()],
            "items": [[*i.asked, *i.stratum[1:], i.statements] for i in draw.items],
        }
    )


def unpacked_draw(root: str, blob: bytes) -> Draw:
    data = orjson.loads(blob)
    sizes = {(name, verdict, sure): size for name, verdict, sure, size in data["sizes"]}
    items = [
        Item(key, name, value, (name, verdict, sure), tuple((by, denies) for by, denies in said))
        for key, name, value, verdict, sure, said in data["items"]
    ]
    return Draw(root, sizes, items)


# ------------------------------------------------------------------ reading answers


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(Strict):
    """`answer`: has the attribute this value? `right`: the value that it has instead, where somebody knows it."""

    key: str
    attribute: str
    value: str
    answer: Literal["yes", "no", "cannot_tell"]
    right: str = ""


class Form(Strict):
    """The file that the HTML form gives."""

    kind: Literal["unif2ace-review"]
    root_sha256: str
    reviewer: str
    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class Answers:
    """One file: which dataset it is about, and (reviewer, answer) in its order, each once."""

    root: str
    answers: list[tuple[str, Answer]]


def read_answers(path: Path) -> Answers:
    """Answers in the form's format or in Label Studio's JSON export. Raises UserError (exit code 2)."""
    try:
        data = orjson.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"--import {path}: {error.strerror or error}", 2) from None
    except orjson.JSONDecodeError as error:
        raise UserError(
            f"--import {path} is not JSON ({error}): give the file that the form or Label Studio saved", 2
        ) from None
    try:
        if isinstance(data, list):
            found = from_label_studio(data)
        else:
            form = Form.model_validate(data)
            found = [(form.root_sha256, form.reviewer, answer) for answer in form.answers]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(f"--import {path} is no file of answers: {where}: {first['msg']}", 2) from None
    if not found:
        raise UserError(f"--import {path} holds no answers", 2)
    roots = sorted({root for root, _, _ in found})
    if len(roots) > 1:
        raise UserError(
            f"--import {path} is about several datasets ({', '.join(r[:12] for r in roots)}): import them apart", 2
        )
    answers: dict[tuple[str, Asked], Answer] = {}
    for _, reviewer, answer in found:
        if not INITIALS.fullmatch(reviewer):
            raise UserError(f"--import {path}: reviewer {reviewer!r}: initials are 1 to 12 of A-Z a-z 0-9 _ . -", 2)
        problem = problem_of(answer)
        if problem:
            raise UserError(f"--import {path}: {answer.key} {answer.attribute}: {problem}", 2)
        asked = (answer.key, answer.attribute, answer.value)
        if answers.setdefault((reviewer, asked), answer) != answer:
            raise UserError(
                f"--import {path}: {reviewer} answers {answer.key} {answer.attribute}={answer.value} in two ways: keep one",
                2,
            )
    return Answers(roots[0], [(reviewer, implied(answer)) for (reviewer, _), answer in answers.items()])


def problem_of(answer: Answer) -> str:
    """What is wrong with an answer by itself, or nothing."""
    taxonomy = load_taxonomy()
    if answer.attribute not in taxonomy:
        return "there is no such attribute"
    values = taxonomy[answer.attribute].values
    for value in (answer.value, answer.right):
        if value and value not in values:
            return f"there is no value {value!r}; here may stand {', '.join(values)}"
    if not answer.value:
        return "value is empty"
    if answer.right and answer.answer != "no":
        return f"right={answer.right} goes with the answer no, not with {answer.answer}"
    if answer.right == answer.value:
        return f"{answer.value} is said to be wrong and right"
    return ""


def implied(answer: Answer) -> Answer:
    """Of an attribute whose question names no value, "no" says which value is right: there is but one other."""
    others = other_values(answer.attribute, answer.value)
    open_question = "{value}" in load_taxonomy()[answer.attribute].yes_no
    if answer.answer != "no" or answer.right or open_question or len(others) != 1:
        return answer
    return answer.model_copy(update={"right": others[0]})


def from_label_studio(tasks: list[Any]) -> list[tuple[str, str, Answer]]:
    """(root hash, reviewer, answer) of an export: a list of tasks with `data` as we wrote it, and `annotations`.

    Our choice: a reviewer goes by Label Studio's number, `ls3`; names and addresses in the file are not taken over.
    Raises ValidationError.
    """
    found = []
    for task in tasks:
        parsed = Task.model_validate(task)
        for annotation in parsed.annotations:
            chosen = {
                r.from_name: r.value.choices for r in annotation.result if r.type == "choices" and r.value.choices
            }
            if annotation.was_cancelled or "answer" not in chosen:
                continue
            by = annotation.completed_by
            number = by if isinstance(by, int) else by.id
            said: dict[str, Any] = {"answer": chosen["answer"][0]}
            if said["answer"] == "no" and chosen.get("right", [NONE_OF_THESE])[0] != NONE_OF_THESE:
                said["right"] = chosen["right"][0]
            data = parsed.data
            answer = Answer.model_validate({"key": data.key, "attribute": data.attribute, "value": data.value, **said})
            found.append((data.root_sha256, f"ls{number}", answer))
    return found


NONE_OF_THESE = "none of these, or cannot tell"


class Chosen(BaseModel):
    choices: list[str] = []


class Result(BaseModel):
    from_name: str = ""
    type: str = ""
    value: Chosen = Chosen()


class Annotator(BaseModel):
    id: int


class Annotation(BaseModel):
    completed_by: int | Annotator
    was_cancelled: bool = False
    result: list[Result]


class TaskData(BaseModel):
    root_sha256: str
    key: str
    attribute: str
    value: str


class Task(BaseModel):
    """What we read of a task that Label Studio exports; it writes much more."""

    data: TaskData
    annotations: list[Annotation]


def check_asked(path: Path, answers: Answers, draw: Draw) -> None:
    """Raises UserError (exit code 2) where an answer is about something that was not asked."""
    asked = {item.asked for item in draw.items}
    keys = {key for key, _, _ in asked}
    for _, answer in answers.answers:
        if answer.key not in keys:
            raise UserError(f"--import {path}: sample {answer.key!r} was not asked about", 2)
        if (answer.key, answer.attribute, answer.value) not in asked:
            raise UserError(
                f"--import {path}: {answer.attribute}={answer.value} of {answer.key} was not asked about", 2
            )
