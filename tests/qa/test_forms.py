"""Question forms: options of which exactly one is right, and a menu of those whose answers vary enough."""

from __future__ import annotations

import itertools

from evidence_of import person, portraits
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.qa.facts import excludes, facts_of
from unif2ace_data.qa.forms import Form, Menu, bound, capacity, menu_of, offers
from unif2ace_data.schema import NOT_VISIBLE

FACTS = [facts_of(sample.attributes) for sample in portraits()]
MENU = menu_of(FACTS, ration=True)


@given(st.lists(st.integers(0, 60), min_size=2, max_size=4), st.floats(0.3, 0.6))
def test_the_room_of_a_form_is_what_fits_under_the_bound(cells: list[int], most: float) -> None:
    room = capacity(cells, most)
    assert 0 <= room <= sum(cells)
    if room:
        assert sum(min(cell, int(most * room + 1e-9)) for cell in cells) >= room


def test_a_form_whose_answer_is_always_the_same_has_no_room() -> None:
    assert capacity([400, 0], 0.6) == capacity([400, 0, 0, 0], 0.35) == capacity([100, 100, 0], 1 / 3 + 0.1) == 0
    assert capacity([100, 100, 100, 0], 0.35) == 300  # one option that is never right leaves it within the bound


def test_the_menu_of_the_portraits_has_all_kinds_and_no_form_with_one_answer() -> None:
    sizes = {(form.kind, form.answers) for form in MENU.forms}
    assert {("true_false", 2), ("choice_2_3", 2), ("choice_2_3", 3), ("choice_4", 4)} <= sizes
    answers: dict[int, set[int]] = {}
    for number, answer, _ in itertools.chain.from_iterable(offers(MENU, facts) for facts in FACTS):
        answers.setdefault(number, set()).add(answer)
    for number, form in enumerate(MENU.forms):
        assert form.kind == "open" or len(answers[number]) >= 2, form


def test_options_exclude_each_other() -> None:
    for form in MENU.forms:
        if form.kind.startswith("choice") and form.single:
            values = [option[0] for option in form.options if option[0][1] != NOT_VISIBLE]
            assert all(excludes(a, b) for a, b in itertools.permutations(values, 2))


def test_options_about_several_things_do_not_depend_on_each_other() -> None:
    for form in MENU.forms:
        names = {name for option in form.options for name, _ in option}
        assert not {"mouth", "teeth"} <= names and not {"mouth", "smile"} <= names
        assert not {"apparent_gender", "wearing_necktie"} <= names


def test_every_offer_has_one_right_option_and_wrong_ones_that_the_evidence_contradicts() -> None:
    for facts in FACTS[:60]:
        for number, answer, place in offers(MENU, facts):
            form = MENU.forms[number]
            assert place < len(form.topics(answer))
            states = [all(true(fact, facts) for fact in option) for option in form.options]
            if form.kind == "true_false":
                assert states[0] == (answer == 0)
            else:
                assert states == [i == answer for i in range(len(states))]


def true(fact, facts) -> bool:  # type: ignore[no-untyped-def]
    name, value = fact
    return name in facts.hidden if value == NOT_VISIBLE else facts.values.get(name) == value


def test_what_cannot_be_seen_is_offered_as_an_answer_where_it_is_so() -> None:
    bald = facts_of(person(baldness="bald").attributes)
    asked = [(MENU.forms[n].kind, MENU.forms[n].topics(a)) for n, a, _ in offers(MENU, bald)]
    assert ("open", ("hair_color",)) in asked and ("choice_4", ("hair_color",)) in asked


def test_nothing_is_offered_about_what_the_sample_lacks() -> None:
    facts = facts_of(person(mouth="closed", glasses="none").attributes)
    about = {n for number, a, _ in offers(MENU, facts) for n in MENU.forms[number].topics(a)}
    assert about <= {"mouth", "glasses", "teeth"}
    assert offers(Menu(), facts) == []


def test_the_bound_is_ten_points_above_chance() -> None:
    assert bound(Form("true_false", ((("mouth", "closed"),),))) == 0.6
