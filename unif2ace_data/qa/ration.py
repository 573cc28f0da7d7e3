"""A model's questions over a dataset: which of those that passed their checks are published, and under which letters.

A model asks what is easy to see, and of most faces that has one answer: who says "yes" without a look is mostly right. So
the rule is the templates': of the questions that a reader without the picture takes for the same (qa/counts.py), at most
MARGIN above chance may have one answer. The commonest are taken back until that holds; other questions of the sample, or
the templates, stand in. The result is a function of the questions and the settings, not of the order they came in.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unif2ace_data.qa.checks import same_as
from unif2ace_data.qa.counts import number, taken_for
from unif2ace_data.qa.forms import FEW, MARGIN
from unif2ace_data.qa.select import GROUPS, KINDS, Other, order_of
from unif2ace_data.qa.templates import LETTERS
from unif2ace_data.recipe import Qa
from unif2ace_data.schema import QA, Group, QAKind
from unif2ace_data.taxonomy import load_taxonomy

READERS = ("form", "wording", "attribute")
EVEN = 0.01  # our choice: how far from half the true/false questions that are answered yes may be, so that letters are even
NAMES = list(load_taxonomy().attributes)
YES = number("yes")


@dataclass(slots=True)
class Passed:
    """Columns over the questions that passed, those of a sample together; some 60 bytes a question."""

    keys: list[str] = field(default_factory=list)
    ends: array[int] = field(default_factory=lambda: array("Q"))  # by sample: the end of its questions
    kinds: array[int] = field(default_factory=lambda: array("B"))
    groups: array[int] = field(default_factory=lambda: array("B"))
    attributes: array[int] = field(default_factory=lambda: array("H"))
    options: array[int] = field(default_factory=lambda: array("B"))
    whole: array[int] = field(default_factory=lambda: array("B"))
    answers: array[int] = field(default_factory=lambda: array("Q"))
    same: dict[str, array[int]] = field(default_factory=lambda: {reader: array("Q") for reader in READERS})

    def add(self, key: str, questions: Sequence[QA]) -> None:
        """Note the questions of one more sample."""
        for qa in questions:
            self.kinds.append(KINDS.index(qa.kind))
            self.groups.append(GROUPS.index(qa.category))
            self.attributes.append(NAMES.index(qa.attribute))
            self.options.append(len(qa.options))
            self.whole.append(same_as(qa)[0] in ("whether", "which"))
            self.answers.append(number(qa.answer.lower()))
            for reader, same in taken_for(qa.model_dump()).items():
                self.same[reader].append(same)
        self.keys.append(key)
        self.ends.append(len(self.kinds))

    def of(self, sample: int) -> range:
        return range(self.ends[sample - 1] if sample else 0, self.ends[sample])


@dataclass(frozen=True, slots=True)
class Published:
    """What is published of a model's questions. `taken_back`: questions whose answer is too common among their like."""

    passed: Passed
    chosen: bytearray
    letters: bytearray
    sample: dict[str, int]
    taken_back: int

    def of(self, key: str) -> list[int]:
        place = self.sample.get(key)
        return [] if place is None else [q for q in self.passed.of(place) if self.chosen[q]]

    def questions(self, key: str, passed: Sequence[QA]) -> list[QA]:
        """The questions of a sample, of those that passed, each right option in its place."""
        mine = self.of(key)
        first = self.passed.of(self.sample[key]).start if mine else 0
        return [with_letter(passed[q - first], self.letters[q]) for q in mine]

    def others(self, key: str) -> list[Other]:
        """The same, as the templates must know it."""
        return [other_of(self.passed, q) for q in self.of(key)]


def with_letter(qa: QA, letter: int) -> QA:
    """The question with its right option in this place; the others keep their order."""
    if not qa.options or qa.kind == "true_false":
        return qa
    options = [option for option in qa.options if option != qa.answer]
    options.insert(letter, qa.answer)
    return qa.model_copy(update={"options": options, "letter": LETTERS[letter]})


def publish(passed: Passed, settings: Qa) -> Published:
    """Choose among the questions of every sample. Under FEW samples commonest answers say nothing: only letters are evened."""
    keys = passed.keys
    order = sorted(range(len(keys)), key=lambda i: (order_of(keys[i]), keys[i]))
    chosen = bytearray(len(passed.kinds))
    for i in order:
        mine = passed.of(i)
        for place in mixed([(KINDS[passed.kinds[q]], GROUPS[passed.groups[q]]) for q in mine], settings):
            chosen[mine[place]] = 1
    back = 0
    if len(keys) >= FEW:
        wanted = bytes(chosen)
        ration(passed, order, chosen, settings)
        back = sum(before and not after for before, after in zip(wanted, chosen, strict=True))
    letters = lettered(passed, order, chosen)
    return Published(passed, chosen, letters, {key: i for i, key in enumerate(keys)}, back)


def other_of(passed: Passed, q: int) -> Other:
    return Other(
        kind=KINDS[passed.kinds[q]],
        attribute=NAMES[passed.attributes[q]],
        group=GROUPS[passed.groups[q]],
        options=passed.options[q],
        whole=bool(passed.whole[q]),
        yes=passed.answers[q] == YES,
    )


def mixed(found: Sequence[tuple[QAKind, Group]], settings: Qa) -> list[int]:
    """Places of at most `per_sample`: from the kind and the group that is furthest behind its share, each time."""
    left, chosen = list(range(len(found))), list[int]()
    kinds, groups = dict(settings.kinds), dict(settings.groups)
    asked_kinds: Counter[QAKind] = Counter()
    asked_groups: Counter[Group] = Counter()

    def behind(place: int) -> float:
        kind, group = found[place]
        count = len(chosen) + 1
        return float(kinds[kind] * count - asked_kinds[kind] + groups[group] * count - asked_groups[group])

    while left and len(chosen) < settings.per_sample:
        best = max(left, key=behind)
        left.remove(best)
        chosen.append(best)
        asked_kinds[found[best][0]] += 1
        asked_groups[found[best][1]] += 1
    return chosen


# ------------------------------------------------------------------ rationing


@dataclass(slots=True)
class Tally:
    """Questions that are chosen, by bucket (what a reader takes for the same) and by cell (bucket and answer)."""

    cells: list[array[int]]  # by reader, by question: its cell; -1: none
    bucket: list[int]  # by cell
    share: list[float]  # by bucket: the greatest that one answer may have
    slack: list[float]  # by bucket: questions that are allowed beyond it
    in_cell: list[int]
    in_bucket: list[int]

    def count(self, q: int, step: int) -> None:
        for of in self.cells:
            if of[q] >= 0:
                self.in_cell[of[q]] += step
                self.in_bucket[self.bucket[of[q]]] += step

    def over(self, cell: int, more: int = 0) -> bool:
        """Whether the answer would be too common with so many questions `more`. One question alone never is."""
        count, bucket = self.in_cell[cell] + more, self.bucket[cell]
        most = math.floor(self.share[bucket] * (self.in_bucket[bucket] + more) + self.slack[bucket] + 1e-9)
        return count > max(1, most)


def tally_of(passed: Passed, chosen: bytearray) -> Tally:
    """The tally of what is chosen; buckets are numbered by what they are, not by who came first."""
    options = np.frombuffer(passed.options, np.uint8).astype(np.int64)
    answers = np.unique(np.frombuffer(passed.answers, np.uint64), return_inverse=True)[1].astype(np.int64)
    kinds = np.frombuffer(passed.kinds, np.uint8)
    tally = Tally([], [], [], [], [], [])
    for reader in (*READERS, "yes or no"):
        asked = options > 0 if reader in READERS else kinds == KINDS.index("true_false")
        at = np.flatnonzero(asked)
        same = np.frombuffer(passed.same[reader], np.uint64)[at] if reader in READERS else np.zeros(len(at), np.uint64)
        buckets = np.unique(np.stack([same, options[at].astype(np.uint64)], 1), axis=0, return_inverse=True)[1].reshape(
            -1
        )
        width = int(answers.max(initial=0)) + 1
        by_answer = buckets * width + answers[at]
        _, first, place = np.unique(by_answer, return_index=True, return_inverse=True)
        before = len(tally.share)
        column = np.full(len(options), -1, np.int64)
        column[at] = place.reshape(-1) + len(tally.bucket)
        tally.cells.append(array("q", column.tobytes()))
        tally.bucket += (buckets[first] + before).tolist()
        sizes = np.zeros(int(buckets.max(initial=-1)) + 1, np.int64)
        sizes[buckets] = options[at]
        tally.share += [1 / size + (MARGIN if reader in READERS else EVEN) for size in sizes.tolist()]
        tally.slack += [0.0 if reader in READERS else 0.5] * len(sizes)
    tally.in_cell, tally.in_bucket = [0] * len(tally.bucket), [0] * len(tally.share)
    for q in np.flatnonzero(np.frombuffer(bytes(chosen), np.uint8)).tolist():
        tally.count(q, 1)
    return tally


def ration(passed: Passed, order: Sequence[int], chosen: bytearray, settings: Qa) -> None:
    """Take back what is too common, until nothing is; then let the samples choose anew, where it fits and keeps the shares."""
    if not len(passed.kinds):
        return
    tally = tally_of(passed, chosen)
    rank = [q for i in order for q in passed.of(i)]
    left = True
    while left:
        left = False
        for cells in tally.cells:  # the narrow ones first: what they give up, the wide ones need not
            members: dict[int, list[int]] = {cell: [] for cell in set(cells) - {-1} if tally.over(cell)}
            for q in rank if members else ():
                if chosen[q] and cells[q] in members:
                    members[cells[q]].append(q)
            for cell in sorted(members):
                while members[cell] and tally.over(cell):
                    q = members[cell].pop()
                    chosen[q] = 0
                    tally.count(q, -1)
                    left = True
    kinds = Counter(passed.kinds[q] for q in rank if chosen[q])
    wanted = settings.kinds.model_dump()
    most = {
        k: wanted[kind] / (sum(wanted.values()) or 1) * settings.per_sample * len(order) for k, kind in enumerate(KINDS)
    }
    for i in order:
        mine = passed.of(i)
        room = settings.per_sample - sum(chosen[q] for q in mine)
        for q in mine:
            if room <= 0 or chosen[q] or kinds[passed.kinds[q]] >= most[passed.kinds[q]]:
                continue
            if not any(of[q] >= 0 and tally.over(of[q], 1) for of in tally.cells):
                chosen[q] = 1
                tally.count(q, 1)
                kinds[passed.kinds[q]] += 1
                room -= 1


def lettered(passed: Passed, order: Sequence[int], chosen: bytearray) -> bytearray:
    """By question the place of its right option: even over all, over each form and over each of its answers."""
    letters: Counter[tuple[int, ...]] = Counter()
    choices = {KINDS.index("choice_2_3"), KINDS.index("choice_4")}
    found = bytearray(len(chosen))
    for i in order:
        mark = order_of(passed.keys[i])
        for q in passed.of(i):
            if not chosen[q] or passed.kinds[q] not in choices:
                continue
            size, form, answer = passed.options[q], passed.same["form"][q], passed.answers[q]
            found[q] = min(
                range(size),
                key=lambda n: (letters[form, answer, n] + letters[form, n] + letters[-size, n], (mark + n) % size),
            )
            letters.update([(form, answer, found[q]), (form, found[q]), (-size, found[q])])
    return found
