"""A model's questions over a dataset: a model that asks as models do, of 405 portraits, published beside the templates'."""

from __future__ import annotations

import functools
import hashlib
import random
from collections import Counter
from typing import Any

import pytest
from evidence_of import portraits, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_data.qa.checks import UNCHECKED, checked, distinct, failed, same_as
from unif2ace_data.qa.counts import QaCounts
from unif2ace_data.qa.forms import FEW, MARGIN
from unif2ace_data.qa.generate import plan_of
from unif2ace_data.qa.llm import read_question, with_check
from unif2ace_data.qa.phrasings import option, true_false_questions, which_questions
from unif2ace_data.qa.ration import Passed, Published, mixed, publish
from unif2ace_data.qa.templates import in_order
from unif2ace_data.recipe import Qa
from unif2ace_data.schema import NOT_VISIBLE, QA, Sample
from unif2ace_data.taxonomy import load_taxonomy

MODEL = "openai:eager"


def eager(s: Sample) -> list[dict[str, Any]]:
    """What a model asks that likes to say yes, offers the same options each time and puts the right one first."""
    mark = random.Random(s.uid)
    truth = {a.name: a.value for a in s.attributes}
    listed: list[dict[str, Any]] = []
    for name in mark.sample(sorted(truth), len(truth)):
        value, entry = truth[name], load_taxonomy()[name]
        said = option(name, value)
        rest = [option(name, v) for v in entry.values if v != value]
        common = {"states": f"{name}={value}", "answer": said}
        yes = mark.choice(true_false_questions(name, value))
        which = mark.choice(which_questions(name))
        listed.append({**common, "kind": "true_false", "question": yes, "options": [], "answer": "yes"})
        if len(rest) >= 2:
            listed.append({**common, "kind": "choice_2_3", "question": which, "options": [said, *rest[:2]]})
        if len(rest) >= 3:
            listed.append({**common, "kind": "choice_4", "question": which, "options": [said, *rest[:3]]})
        listed.append({**common, "kind": "choice_2_3", "question": which, "options": [said, rest[0]]})
        listed.append({**common, "kind": "open", "question": which, "options": []})
    mark.shuffle(listed)
    return listed


@functools.cache
def passed_by_key() -> dict[str, list[QA]]:
    """Of each portrait the first twelve of those that pass the checks that need no model."""
    found = {}
    for s in portraits():
        mine: list[QA] = []
        for fields in eager(s):
            qa = read_question(fields, s, MODEL)
            if isinstance(qa, str) or len(mine) == 12:
                continue
            qa = checked(qa, s.attributes, [], "pass")
            qa = with_check(qa, distinct=distinct(qa, mine))
            mine += [] if failed(qa.checks) else [qa]
        found[s.uid] = mine
    return found


def published(samples: list[Sample], chosen: Qa = Qa()) -> tuple[Published, dict[str, list[QA]]]:
    """The model's questions and the templates' beside them, as qa-gen publishes them."""
    passed = Passed()
    for s in samples:
        passed.add(s.uid, passed_by_key()[s.uid])
    result = publish(passed, chosen)
    plan = plan_of((s.model_dump() for s in samples), chosen, result.others)
    questions = {}
    for s in samples:
        mine = result.questions(s.uid, passed_by_key()[s.uid])
        questions[s.uid] = in_order(s, [*mine, *plan.questions(s, mine)])
    return result, questions


@functools.cache
def of_portraits() -> tuple[Published, dict[str, list[QA]]]:
    return published(list(portraits()))


def counts(questions: dict[str, list[QA]], source: str = "") -> QaCounts:
    found = QaCounts()
    for listed in questions.values():
        found.add([qa.model_dump() for qa in listed if qa.source.startswith(source)])
    return found


def test_without_rationing_this_model_could_be_answered_blindly() -> None:
    every = counts(passed_by_key())
    assert every.blind()["above_chance"] > 0.3
    assert every.letters[2, "A"] > 1.3 * every.letters[2, "B"]


def test_the_commonest_answer_is_right_at_most_ten_points_more_often_than_chance_over_all_questions() -> None:
    found = counts(of_portraits()[1])
    assert found.sources[MODEL] > 405 and found.total > found.sources[MODEL]
    blind = found.blind()
    assert blind["questions"] > 2000 and blind["above_chance"] <= MARGIN, blind


def test_so_it_is_over_the_models_alone_for_each_form_and_each_attribute() -> None:
    mine = counts(of_portraits()[1], MODEL)
    assert mine.blind()["above_chance"] <= MARGIN
    sums: Counter[tuple[str, int, int]] = Counter()
    best: Counter[tuple[str, int, int]] = Counter()
    for (reader, same, options, _), n in mine.seen.items():
        if reader != "letter":
            sums[reader, same, options] += n
            best[reader, same, options] = max(best[reader, same, options], n)
    assert all(best[one] <= max(1, (1 / one[2] + MARGIN) * sums[one] + 1e-9) for one in sums)


@pytest.mark.parametrize("source", ["", MODEL])
def test_letters_are_balanced_over_all_and_over_the_models(source: str) -> None:
    letters = counts(of_portraits()[1], source).letters
    for size in (2, 3, 4):
        mine = [n for (options, _), n in letters.items() if options == size]
        assert len(mine) == size and sum(mine) > 20
        assert all(abs(n / sum(mine) - 1 / size) < 0.02 for n in mine), (size, mine)


def test_every_sample_has_eight_and_is_asked_nothing_twice() -> None:
    for listed in of_portraits()[1].values():
        assert len(listed) == 8
        asked = [same_as(qa) for qa in listed]
        assert len(set(asked)) == len(asked)


def test_kinds_come_in_the_shares_of_the_recipe_together() -> None:
    found = counts(of_portraits()[1])
    assert all(abs(n / found.total - 0.25) < 0.03 for n in found.kinds.values()), found.kinds


def test_letter_and_answer_stay_together_and_nothing_else_changes() -> None:
    for key, listed in of_portraits()[1].items():
        before = {(qa.question, qa.answer): qa for qa in passed_by_key()[key]}
        for qa in (qa for qa in listed if qa.source == MODEL):
            assert not qa.options or qa.options["ABCD".index(qa.letter)] == qa.answer
            old = before[qa.question, qa.answer]
            assert sorted(old.options) == sorted(qa.options)
            assert old.model_copy(update={"options": qa.options, "letter": qa.letter}) == qa


def test_the_order_of_the_samples_changes_nothing() -> None:
    some = list(portraits()[:120])
    shuffled = some[:]
    random.Random(3).shuffle(shuffled)
    assert published(shuffled)[1] == published(some)[1]


def test_under_fifty_samples_nothing_is_taken_back_and_letters_are_even_still() -> None:
    result, questions = published(list(portraits()[: FEW - 1]))
    assert result.taken_back == 0
    letters = counts(questions, MODEL).letters
    for size in (3, 4):
        mine = [letters[size, letter] for letter in "ABCD"[:size]]
        assert max(mine) - min(mine) <= 2


def test_what_is_taken_back_is_told() -> None:
    result, _ = of_portraits()
    assert 0 < result.taken_back < sum(map(len, passed_by_key().values()))


KINDS = st.sampled_from([("true_false", 2), ("choice_2_3", 2), ("choice_2_3", 3), ("choice_4", 4), ("open", 0)])
ASKED = st.lists(
    st.tuples(KINDS, st.sampled_from(["mouth", "smile"]), st.integers(0, 3), st.integers(0, 2)), max_size=12
)


def drawn(kind: str, size: int, attribute: str, answer: int, text: int) -> QA:
    options = ["yes", "no"] if kind == "true_false" else [f"thing {i}" for i in range(size)]
    right = options[answer % size] if size else f"thing {answer}"
    return QA(
        question=f"Is {attribute} {text}?", answer=right, kind=kind, category="appearance", attribute=attribute, value=NOT_VISIBLE,
        options=options, letter="ABCD"[answer % size] if size else "", verdict="unverified", checks=UNCHECKED, source=MODEL,
    )  # fmt: skip


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(ASKED, min_size=FEW, max_size=FEW + 20), st.randoms(use_true_random=False))
def test_whatever_a_model_asks_the_bound_and_the_number_hold_in_any_order(
    asked: list[Any], dice: random.Random
) -> None:
    listed = {hashlib.sha256(bytes([i])).hexdigest()[:32]: [drawn(*k, a, n, t) for k, a, n, t in one] for i, one in enumerate(asked)}  # fmt: skip
    results = []
    for keys in (list(listed), dice.sample(list(listed), len(listed))):
        passed = Passed()
        for key in keys:
            passed.add(key, listed[key])
        result = publish(passed, Qa())
        results.append({key: result.questions(key, listed[key]) for key in listed})
    first, second = results
    assert first == second
    assert all(len(mine) <= 8 for mine in first.values())
    found = counts(first)
    for name in ("form", "wording", "attribute"):
        seen = [(key, n) for key, n in found.seen.items() if key[0] == name]
        sums: Counter[tuple[int, int]] = Counter()
        for (_, same, size, _), n in seen:
            sums[same, size] += n
        assert all(n <= max(1, (1 / size + MARGIN) * sums[same, size] + 1e-9) for (_, same, size, _), n in seen)
    yes, no = (sum(q.kind == "true_false" and q.answer == a for m in first.values() for q in m) for a in ("yes", "no"))
    assert abs(yes - no) <= 2 + 0.02 * (yes + no)


def test_shares_decide_which_of_too_many_are_asked() -> None:
    found = [("open", "appearance")] * 9 + [("choice_4", "action")] * 3
    chosen = [found[place] for place in mixed(found, Qa(per_sample=4))]  # type: ignore[arg-type]
    assert sorted(chosen) == [("choice_4", "action")] * 2 + [("open", "appearance")] * 2
    assert sample("x", []).qa == []
