"""The template engine over a dataset: on what people said of 405 portraits, point by point what the issue asks."""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections import Counter
from pathlib import Path

import orjson
import pytest
from evidence_of import attribute, person, portraits, sample

from unif2ace_data.qa.checks import same_as, words
from unif2ace_data.qa.counts import QaCounts, form_of
from unif2ace_data.qa.generate import FEW, Plan, balanced_together, generate, plan_of
from unif2ace_data.qa.phrasings import asked, stated
from unif2ace_data.recipe import Qa, QaGroups, QaKinds
from unif2ace_data.schema import NOT_VISIBLE, QA, Sample
from unif2ace_data.shards import write_shard


def plan(samples: list[Sample], settings: Qa = Qa()) -> Plan:
    return plan_of((s.model_dump() for s in samples), settings)


@functools.cache
def asked_of_portraits() -> dict[str, tuple[Sample, list[QA]]]:
    made = plan(list(portraits()))
    return {s.uid: (s, made.questions(s)) for s in portraits()}


def counts() -> QaCounts:
    found = QaCounts()
    for _, questions in asked_of_portraits().values():
        found.add([qa.model_dump() for qa in questions])
    return found


def every() -> list[tuple[Sample, QA]]:
    return [(s, qa) for s, questions in asked_of_portraits().values() for qa in questions]


def test_every_sample_has_eight_questions_in_the_shares_of_the_recipe() -> None:
    found = counts()
    assert found.samples == {8: 405}
    assert all(abs(n / found.total - 0.25) < 0.01 for n in found.kinds.values())
    assert found.groups["appearance"] / found.total == pytest.approx(0.55, abs=0.1)  # no label speaks of emotion


def test_every_answer_agrees_with_the_evidence_and_every_other_option_does_not() -> None:
    for s, qa in every():
        truth = {a.name: a.value for a in s.attributes}
        if qa.kind == "true_false":
            fact = asked(qa.question, qa.attribute)
            assert fact and (truth[fact[0]] == fact[1]) == (qa.answer == "yes"), qa
        elif qa.kind == "open":
            assert qa.value == NOT_VISIBLE or truth[qa.attribute] == qa.value, qa
        else:
            assert qa.options["ABCD".index(qa.letter)] == qa.answer
            for option in qa.options:
                holds = all(v == NOT_VISIBLE or truth.get(n) == v for n, v in stated(option, qa.attribute))
                assert holds == (option == qa.answer) or "cannot be seen" in option, qa


def test_every_published_check_passes() -> None:
    for _, qa in every():
        checks = qa.checks.model_dump()
        assert checks.pop("blind") == ("unchecked" if qa.kind == "open" else "pass")
        assert checks.pop("allowed") != "fail"
        assert set(checks.values()) == {"pass"} and qa.verdict == "supported"


def test_no_sample_is_asked_the_same_twice() -> None:
    for _, questions in asked_of_portraits().values():
        for one, other in itertools.combinations(questions, 2):
            assert same_as(one) != same_as(other)
            assert (words(one.question), sorted(one.options)) != (words(other.question), sorted(other.options))


def test_letters_are_balanced() -> None:
    letters = counts().letters
    for size in (2, 3, 4):
        mine = [n for (options, _), n in letters.items() if options == size]
        assert len(mine) == size and sum(mine) > 200
        assert all(abs(n / sum(mine) - 1 / size) < 0.02 for n in mine)


def test_the_commonest_answer_is_right_at_most_ten_points_more_often_than_chance() -> None:
    blind = counts().blind()
    assert blind["questions"] == 405 * 6
    assert blind["above_chance"] <= 0.1
    assert max(blind["readers"].values()) <= blind["chance"] + 0.1


def test_each_form_keeps_the_bound_by_itself() -> None:
    sums: Counter[tuple[int, int]] = Counter()
    best: Counter[tuple[int, int]] = Counter()
    for (reader, same, options, _), n in counts().seen.items():
        if reader == "form":
            sums[same, options] += n
            best[same, options] = max(best[same, options], n)
    assert all(best[form] <= (1 / form[1] + 0.1) * sums[form] + 1e-9 for form in sums)


def test_what_cannot_be_seen_is_asked_about_answered_so_and_offered_elsewhere_too() -> None:
    answered = [(s, qa) for s, qa in every() if qa.value == NOT_VISIBLE]
    offered = [qa for _, qa in every() if "cannot be seen" in qa.options]
    assert answered and len(offered) > sum("cannot be seen" in qa.options for _, qa in answered)
    for s, qa in answered:
        truth = {a.name: a.value for a in s.attributes}
        assert truth.get("mouth") == "closed" or truth.get("teeth") == "hidden" or truth.get("baldness") == "bald"
        assert re.search("cannot be seen|not visible|does not show", qa.answer)
        assert qa.options or re.search("mouth|teeth|bald", qa.answer)  # with the reason


def test_many_wordings_are_used() -> None:
    per_attribute: dict[tuple[str, str], set[str]] = {}
    for _, qa in every():
        per_attribute.setdefault((qa.attribute, qa.kind), set()).add(qa.question)
    assert sum(len(texts) >= 5 for texts in per_attribute.values()) >= 30
    assert len({qa.question for _, qa in every()}) > 400


def test_questions_do_not_depend_on_the_order_of_the_samples_or_of_their_evidence() -> None:
    shuffled = [s.model_copy(update={"attributes": s.attributes[::-1]}) for s in portraits()]
    random.Random(5).shuffle(shuffled)
    made = plan(shuffled)
    assert all(made.questions(s) == asked_of_portraits()[s.uid][1] for s in shuffled[:100])


def test_settings_decide_number_kinds_and_groups() -> None:
    settings = Qa(per_sample=5, kinds=QaKinds(true_false=1, choice_2_3=0, choice_4=1, open=0), groups=QaGroups(appearance=1, action=1, emotion=0))  # fmt: skip
    some = list(portraits()[:100])
    made = plan(some, settings)
    found = QaCounts()
    for s in some:
        found.add([qa.model_dump() for qa in made.questions(s)])
    assert found.samples == {5: 100}
    assert found.kinds["true_false"] + found.kinds["choice_4"] > 0.95 * found.total
    assert abs(found.groups["action"] - found.groups["appearance"]) < 0.1 * found.total


def test_a_small_dataset_is_asked_about_too_without_a_verdict_on_blind_answers() -> None:
    few = list(portraits())[: FEW - 1]
    made = plan(few)
    for s in few:
        questions = made.questions(s)
        assert len(questions) == 8 and {qa.checks.blind for qa in questions} == {"unchecked"}


def test_a_sample_without_validated_evidence_gets_no_question() -> None:
    bare = sample("bare", [attribute("smile", "broad", validated=False)])
    made = plan([bare, *portraits()[:60]])
    assert made.questions(bare) == []


def test_complexion_is_asked_about_only_where_it_is_there() -> None:
    assert not any(qa.attribute in ("complexion", "pale_skin") for _, qa in every())
    told = [person(complexion=v, mouth=m) for v in ("dark", "medium", "light") for m in ("closed", "parted")]
    made = plan(told)
    assert any(qa.attribute == "complexion" for s in told for qa in made.questions(s))


def test_an_answer_that_fails_a_check_is_replaced_by_another_question() -> None:
    made = plan(list(portraits()[:100]))
    s = portraits()[0]
    turned = s.model_copy(update={"attributes": [a.model_copy(update={"value": "parted"}) if a.name == "mouth" else a for a in s.attributes if a.name != "glasses"]})  # fmt: skip
    assert all(qa.checks.derivable == "pass" for qa in made.questions(turned))


def test_train_is_asked_by_itself_and_so_is_what_is_held_out(tmp_path: Path) -> None:
    """However the shards are cut: the questions of the one do not hang on the samples of the other."""
    some = sorted(portraits()[:160], key=lambda s: s.uid)
    for name, part in (
        ("train-000000", some[:40]),
        ("train-000001", some[40:100]),
        ("validation-000000", some[100:120]),
        ("test-000000", some[120:]),
    ):
        write_shard(tmp_path / f"{name}.tar", [(s.uid, b"", s) for s in part])
    found = dict(generate(tmp_path, Qa()))
    for mine in (some[:100], some[100:]):
        made = plan(mine)
        assert {s.uid: found[s.uid] for s in mine} == {s.uid: made.questions(s) for s in mine}
    assert orjson.dumps([qa.model_dump() for qa in found[some[0].uid]])


def test_where_a_part_is_too_small_to_balance_all_are_asked_together() -> None:
    assert balanced_together({"train": 300, "validation": 20, "test": 30}) == [("train",), ("validation", "test")]
    assert balanced_together({"train": 300, "test": FEW - 1}) == [("train", "validation", "test")]
    assert balanced_together({"train": FEW - 1, "test": 300}) == [("train", "validation", "test")]


@pytest.mark.slow
def test_the_answers_common_in_one_split_are_not_the_rare_ones_of_another() -> None:
    """Who gives `test` the answers that were rarest in `train`, by form, is no better than chance."""
    some = sorted(portraits(), key=lambda s: s.uid)
    train, test = some[:280], some[280:]
    seen: dict[str, Counter[str]] = {}
    made = plan(train)
    for s in train:
        for qa in made.questions(s):
            if qa.options:
                seen.setdefault(form_of(qa.model_dump()), Counter())[qa.answer.lower()] += 1
    made, right, chance = plan(test), 0.0, 0.0
    for s in test:
        for qa in made.questions(s):
            if qa.options:
                counts_ = seen.get(form_of(qa.model_dump()), Counter())
                rarest = min(counts_[option.lower()] for option in qa.options)
                guesses = [option for option in qa.options if counts_[option.lower()] == rarest]
                right += (qa.answer in guesses) / len(guesses)
                chance += 1 / len(qa.options)
    assert right < 1.1 * chance
