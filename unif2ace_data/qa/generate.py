"""The template engine over a dataset: a first pass counts what can be asked, a second one writes the questions.

Between them all is weighed in memory: under a kilobyte a sample, whatever its pictures. The questions are a function of
the samples and the settings, not of the shards they lie in or the order they are read in.
"""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.qa.checks import blind, distinct, failed
from unif2ace_data.qa.facts import Facts, facts_from, facts_of
from unif2ace_data.qa.forms import FEW, Form, Offer, menu_of, offers
from unif2ace_data.qa.phrasings import Fact
from unif2ace_data.qa.select import Other, ask_of, choose, order_of, packed, unpacked
from unif2ace_data.qa.templates import in_order, question_of, wordings
from unif2ace_data.recipe import Qa
from unif2ace_data.release.read import parse_sample, sample_records, shard_paths, split_of
from unif2ace_data.schema import QA, SPLITS, Check, Sample
from unif2ace_data.taxonomy import load_taxonomy

MENU_SAMPLES = 4096  # our choice: so many samples, by the order of their hashes, decide which forms the menu has
MANY, ENOUGH = 2_000, 12  # our choice: in a dataset of more samples, each weighs only so many questions of a kind
LETTERS, WORDINGS = 8, 64  # places, packed with an offer into one number


def generate(out: Path, settings: Qa) -> Iterator[tuple[str, list[QA]]]:
    """(key, questions) of every sample of the dataset at `out`, shard by shard. UserError where the dataset is broken."""
    shards = shard_paths(out)
    samples: Counter[str] = Counter()
    for shard in shards:
        samples[split_of(shard)] += sum(1 for _ in sample_records(shard))
    for splits in balanced_together(samples):
        mine = [shard for shard in shards if split_of(shard) in splits]
        plan = plan_of(itertools.chain.from_iterable(map(sample_records, mine)), settings)
        for shard in mine:
            for record in sample_records(shard):
                sample = parse_sample(shard, str(record.get("uid")), orjson.dumps(record))
                yield sample.uid, plan.questions(sample)


def balanced_together(samples: Mapping[str, int]) -> list[tuple[str, ...]]:
    """The splits whose questions are chosen together, from the number of samples of each.

    `train` by itself, and those that are held out: over all together, an answer that is common in `train` would be rare in
    `test`, and who learns the one fails the other. Our choice: all together where either has too few samples to balance.
    """
    held_out = tuple(split for split in SPLITS if split != "train")
    apart = samples.get("train", 0) >= FEW and sum(samples.get(split, 0) for split in held_out) >= FEW
    return [("train",), held_out] if apart else [SPLITS]


def nothing_asked(key: str) -> Sequence[Other]:
    return ()


@dataclass(slots=True)
class Plan:
    """What samples ask that are balanced together. `failures`: questions by the check that kept them from being asked."""

    forms: list[Form]
    blind: list[Check]  # by form
    asked: dict[str, array[int]]  # by key: packed offer, letter and wording
    failures: Counter[str] = field(default_factory=Counter)

    def questions(self, sample: Sample, others: Sequence[QA] = ()) -> list[QA]:
        """What the sample is asked beside `others`: together at most as many as the settings want, each something else."""
        facts = facts_of(sample.attributes)
        found = []
        for number in self.asked[sample.uid]:
            rest, wording = divmod(number, WORDINGS)
            offer, letter = divmod(rest, LETTERS)
            form, answer, place = unpacked(offer)
            found.append(question_of(sample, facts, self.forms[form], answer, place, letter, wording, self.blind[form]))
        good = in_order(sample, [qa for qa in found if self.holds(qa) and distinct(qa, others) == "pass"])
        if missing := len(found) - len(good):
            spare = self.instead(sample, facts, {qa.attribute for qa in (*found, *others)})
            new = [qa for qa in spare if distinct(qa, [*good, *others]) == "pass"]
            good = in_order(sample, [*good, *new][: len(good) + missing])
        return good

    def instead(self, sample: Sample, facts: Facts, used: set[str]) -> list[QA]:
        """Open questions about attributes that no question of the sample is about yet."""
        found = []
        for form in self.forms:
            name, value = form.options[0][0]
            if (
                form.kind == "open"
                and name not in used
                and name not in facts.hidden
                and facts.values.get(name) == value
            ):
                qa = question_of(sample, facts, form, 0, 0, 0, order_of(sample.uid) % WORDINGS, "unchecked")
                found += [qa] if self.holds(qa) else []
        return found

    def holds(self, qa: QA) -> bool:
        """Whether no check fails, and the answer follows from the evidence."""
        wrong = failed(qa.checks) + (["derivable"] if qa.checks.derivable == "unchecked" else [])
        self.failures.update(wrong)
        return not wrong


def plan_of(
    records: Iterable[dict[str, Any]], settings: Qa, others: Callable[[str], Sequence[Other] | None] = nothing_asked
) -> Plan:
    """The plan of samples that are balanced together, from their records (as dicts), read once, in any order.

    others: by key what another engine asks the sample; the plan is of what is missing beside it (None: of nothing).
    """
    codes, facts = fact_codes()
    keys: list[str] = []
    held: list[array[int]] = []
    for record in records:
        validated = {(a["name"], a["value"]) for a in record["attributes"] if a["validated"]}
        keys.append(record["uid"])
        held.append(array("H", sorted(codes[fact] for fact in validated if fact in codes)))

    def facts_at(i: int) -> Facts:
        return facts_from(tuple(sorted(facts[code] for code in held[i])))

    def offers_at(i: int) -> array[int]:
        return offered[ends[i] : ends[i + 1]]

    ration = len(keys) >= FEW
    first = heapq.nsmallest(MENU_SAMPLES, range(len(keys)), key=lambda i: (order_of(keys[i]), keys[i]))
    menu = menu_of(map(facts_at, first), ration)
    offered, ends = array("I"), array("Q", [0])
    for i, key in enumerate(keys):
        found = offers(menu, facts_at(i))
        offered.extend(map(packed, found if len(keys) <= MANY else thinned(menu.forms, found, order_of(key))))
        ends.append(len(offered))
    asks = [ask_of(form) for form in menu.forms]
    picks = choose(asks, keys, offers_at, settings, ration, lambda i: others(keys[i]))
    counts = [[0] * form.answers for form in menu.forms]
    for number in itertools.chain.from_iterable(picks):
        form, answer, _ = unpacked(number)
        counts[form][answer] += 1
    verdicts: list[Check] = [
        blind(max(n), sum(n), form.chance) if ration and form.kind != "open" else "unchecked"
        for form, n in zip(menu.forms, counts, strict=True)
    ]
    return Plan(menu.forms, verdicts, dict(zip(keys, lettered(menu.forms, keys, picks), strict=True)))


def thinned(forms: list[Form], found: list[Offer], mark: int) -> list[Offer]:
    """At most ENOUGH offers of each kind, by the sample's hash."""
    by_kind: dict[str, list[Offer]] = {}
    for offer in found:
        by_kind.setdefault(forms[offer[0]].kind, []).append(offer)
    kept: list[Offer] = []
    for mine in by_kind.values():
        first = mark % len(mine)
        step = next(s for s in (7, 11, 13, 17, 1) if math.gcd(s, len(mine)) == 1)
        kept += [mine[(first + n * step) % len(mine)] for n in range(min(ENOUGH, len(mine)))]
    return kept


def fact_codes() -> tuple[dict[Fact, int], list[Fact]]:
    """A number for each (attribute, value) of the taxonomy, and back."""
    facts = [(entry.name, value) for entry in load_taxonomy().attributes.values() for value in entry.values]
    return {fact: code for code, fact in enumerate(facts)}, facts


def lettered(forms: list[Form], keys: list[str], picks: list[array[int]]) -> list[array[int]]:
    """Each question with a place among the letters for its right option, and a wording.

    Letters are spread evenly over all, over each form and over each answer of a form. The answers of a form go
    through its wordings in the same order, so that each wording has about as many of the one as of the other.
    """
    letters: Counter[tuple[int, ...]] = Counter()
    used: Counter[tuple[int, int]] = Counter()
    texts = [len(wordings(form)) for form in forms]
    found: list[array[int]] = [array("Q") for _ in keys]
    for i in sorted(range(len(keys)), key=lambda i: (order_of(keys[i]), keys[i])):
        mark = order_of(keys[i])
        for number in sorted(picks[i]):
            form, answer, _ = unpacked(number)
            letter = 0
            if forms[form].kind in ("choice_2_3", "choice_4"):
                size = forms[form].answers
                letter = min(
                    range(size),
                    key=lambda n: (
                        letters[form, answer, n] + letters[form, -1, n] + letters[-size, n],
                        (mark + n) % size,
                    ),
                )
                letters.update([(form, answer, letter), (form, -1, letter), (-size, letter)])
            wording = (form + used[form, answer]) % texts[form]
            used[form, answer] += 1
            found[i].append((number * LETTERS + letter) * WORDINGS + wording)
    return found
