"""The choice among what could be asked: shares that come out, answers that balance, and what is left over taken back."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_data.qa.forms import Form, Offer
from unif2ace_data.qa.select import Choice, ask_of, choose, packed, unpacked, wanted_kinds
from unif2ace_data.recipe import Qa, QaKinds

SHOWS = Form("true_false", ((("mouth", "closed"),),))
WEARS = Form("true_false", ((("glasses", "eyeglasses"),),))
FORMS = [SHOWS, WEARS, Form("open", ((("lighting", "even"),),)), Form("open", ((("gaze", "camera"),),))]


@given(st.tuples(st.integers(0, 10**6), st.integers(0, 15), st.integers(0, 7)))
def test_an_offer_packs_into_one_number(offer: Offer) -> None:
    assert unpacked(packed(offer)) == offer


@given(st.integers(1, 12), st.tuples(*[st.integers(0, 5)] * 4).filter(any), st.integers(1, 200))
def test_kinds_come_out_in_their_shares(per_sample: int, shares: tuple[int, ...], samples: int) -> None:
    kinds = QaKinds(**dict(zip(("true_false", "choice_2_3", "choice_4", "open"), map(float, shares), strict=True)))
    wanted = Qa(per_sample=per_sample, kinds=kinds)
    each = list(itertools.islice(wanted_kinds(wanted, itertools.repeat(())), samples))
    assert all(len(mine) == per_sample for mine in each)
    counts = Counter(kind for mine in each for kind in mine)
    for kind, share in kinds:
        assert abs(counts[kind] - share / sum(shares) * per_sample * samples) <= 1.5


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=120))
def test_no_form_breaks_its_bound_whatever_the_samples_are(faces: list[tuple[bool, bool]]) -> None:
    def offers_of(i: int) -> list[int]:
        return [packed((form, answer, 0)) for form, answer in enumerate((*map(int, faces[i]), 0, 0))]

    keys = [f"{i:032x}" for i in range(len(faces))]
    picks = choose([ask_of(f) for f in FORMS], keys, offers_of, Qa(per_sample=2, kinds=QaKinds(open=0)), True)
    counts = {0: Counter[int](), 1: Counter[int]()}
    for number in (n for mine in picks for n in mine):
        form, answer, _ = unpacked(number)
        if form in counts:
            counts[form][answer] += 1
    for answers in counts.values():
        assert max(answers.values(), default=0) <= 0.6 * answers.total() + 1e-9
    assert all(len(mine) == 2 == len({unpacked(n)[0] for n in mine}) for mine in picks)  # open ones take their place


def test_what_is_nearly_always_so_is_asked_as_often_as_it_is_not() -> None:
    def offers_of(i: int) -> list[int]:
        return [packed((0, int(i % 10 == 0), 0)), packed((2, 0, 0)), packed((3, 0, 0))]

    keys = [f"{i:032x}" for i in range(1000)]
    picks = choose(
        [ask_of(f) for f in FORMS],
        keys,
        offers_of,
        Qa(per_sample=1, kinds=QaKinds(choice_2_3=0, choice_4=0, open=0)),
        True,
    )
    answers = Counter(unpacked(n)[1] for mine in picks for n in mine if unpacked(n)[0] == 0)
    assert 90 <= answers[1] <= 100 and answers[0] <= 150


def test_the_state_counts_in_and_out() -> None:
    state = Choice([ask_of(form) for form in FORMS], Qa(), True)
    state.take(packed((0, 0, 0)), 1)
    assert (state.counts[0], state.ahead, state.groups["action"], state.over(0)) == ([1, 0], 1, 1, True)
    state.take(packed((0, 1, 0)), 1)
    assert not state.over(0) and state.excess() == 0 and state.breaks(0, 0)
    state.take(packed((0, 0, 0)), -1)
    assert (state.counts[0], state.ahead) == ([0, 1], -1)
