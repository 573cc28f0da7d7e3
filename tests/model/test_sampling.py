"""The samplers against distributions that can be enumerated, and their function evaluations against counted calls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from enumerated import EVERY, PLACES, N, Q, Table, random_model, reverse_law, toy, true_model
from scipy.stats import chi2
from torch import Tensor

from unif2ace_data.errors import UserError
from unif2ace_model.diffusion import ScheduleName
from unif2ace_model.sampling import (
    ancestral,
    ancestral_nfe,
    annealed,
    first_hitting,
    first_hitting_nfe,
    left_masked,
    maskgit,
    maskgit_nfe,
    pick,
    rates_of,
)

DRAWS = 40_000
SCHEDULES: list[ScheduleName] = ["cosine", "loglinear"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def p_value(codes_BN: Tensor, law_X: Tensor) -> float:
    """Pearson's chi-square test."""
    number_B = codes_BN @ (Q ** torch.arange(N - 1, -1, -1))
    found_X = torch.bincount(number_B, minlength=len(EVERY))
    expected_X = law_X * len(codes_BN)
    assert expected_X.min() > 5
    return float(chi2.sf(float(((found_X - expected_X) ** 2 / expected_X).sum()), len(EVERY) - 1))


def uniform(tokens: int, calls: list[Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def denoise(codes_BN: Tensor, rate_B: Tensor) -> Tensor:
        calls.append(rate_B)
        return torch.zeros(len(codes_BN), tokens, Q)

    return denoise


# ------------------------------------------------------------------ first-hitting: exact


def test_first_hitting_gives_p0_where_the_conditionals_are_true() -> None:
    p0 = toy()
    codes = first_hitting(true_model(p0), DRAWS, N, Q, seeded())
    assert p_value(codes, p0) > 1e-3
    assert p_value(codes, toy(1)) < 1e-12  # the test can fail


def test_first_hitting_with_any_model_gives_the_mean_over_orders() -> None:
    model = random_model()
    law = torch.zeros(len(EVERY), dtype=torch.float64)
    for order in itertools.permutations(range(N)):
        chance = torch.ones_like(law)
        for place in range(N):
            noisy = EVERY.clone()
            noisy[:, list(order[place:])] = Q
            p = model.log_p_ZNQ[noisy @ PLACES].exp()[:, order[place]]
            chance = chance * p.gather(-1, EVERY[:, order[place], None])[:, 0]
        law += chance / math.factorial(N)
    assert p_value(first_hitting(model, DRAWS, N, Q, seeded()), law) > 1e-3


def test_two_tokens_a_call_are_drawn_apart_and_no_longer_exact() -> None:
    p0 = toy()
    model = true_model(p0)
    assert p_value(first_hitting(model, DRAWS, N, Q, seeded(), at_once=2), p0) < 1e-12
    assert len(model.rates) == first_hitting_nfe(N, 2) == 2
    codes = first_hitting(model, DRAWS, N, Q, seeded(), at_once=N)
    marginals = model.log_p_ZNQ[-1].exp()  # everything masked
    assert p_value(codes, torch.stack([marginals[i, EVERY[:, i]] for i in range(N)]).prod(0)) > 1e-3


def test_its_times_are_those_of_the_reverse_process() -> None:
    """The k-th smallest of N uniform rates is k / (N + 1) in the mean, k (N + 1 - k) / ((N + 1)^2 (N + 2)) in variance."""
    calls: list[Tensor] = []
    first_hitting(uniform(8, calls), 20_000, 8, Q, seeded())
    rate_CB = torch.stack(calls).double()
    assert len(calls) == 8 and (rate_CB.diff(dim=0) < 0).all()
    k = torch.arange(8, 0, -1)
    torch.testing.assert_close(rate_CB.mean(1), k / 9.0, atol=0.005, rtol=0, check_dtype=False)
    torch.testing.assert_close(rate_CB.var(1), k * (9 - k) / (81.0 * 10), rtol=0.05, atol=0, check_dtype=False)
    ratio = (rate_CB[1:] / rate_CB[:-1]) ** k[1:, None]  # n masked tokens: the next rate over the last is u^(1 / n)
    assert (ratio.mean(1) - 0.5).abs().max() < 0.01


def test_a_call_of_several_tokens_is_at_the_first_of_their_rates() -> None:
    one: list[Tensor] = []
    three: list[Tensor] = []
    first_hitting(uniform(8, one), 10, 8, Q, seeded())
    first_hitting(uniform(8, three), 10, 8, Q, seeded(), at_once=3)
    assert torch.equal(torch.stack(three), torch.stack(one)[::3])


# ------------------------------------------------------------------ ancestral: exact but for shared steps


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_ancestral_gives_the_law_of_its_grid(schedule: ScheduleName, steps: int) -> None:
    model = random_model()
    codes = ancestral(model, DRAWS, N, Q, steps, seeded(), schedule)
    law = reverse_law(model, rates_of(schedule, steps))
    assert float(law.sum()) == pytest.approx(1)
    assert p_value(codes, law) > 1e-3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ancestral_comes_to_p0_as_fast_as_steps_are_shared_less(schedule: ScheduleName) -> None:
    p0 = toy()
    distances = []
    for steps in (2, 8, 32, 128):
        rates = rates_of(schedule, steps)
        law = reverse_law(true_model(p0), rates)
        p = rates.diff()
        e2, e3 = (p.sum() ** 2 - (p**2).sum()) / 2, (p.sum() ** 3 - 3 * p.sum() * (p**2).sum() + 2 * (p**3).sum()) / 6
        assert float(e2) <= 0.5
        shared = 1 - math.factorial(N) * float(e3)  # that three tokens do not fall into three different steps
        distances.append(float((law - p0).abs().sum() / 2))
        assert 0 < distances[-1] <= shared
    assert all(before / after > 3 for before, after in itertools.pairwise(distances))  # of order 1 / T


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ancestral_passes_for_p0_with_many_steps_and_fails_with_two(schedule: ScheduleName) -> None:
    p0 = toy()
    law = reverse_law(true_model(p0), rates_of(schedule, 1024))
    assert DRAWS * float(((law - p0) ** 2 / p0).sum()) < 1  # what the grid adds to a statistic of about 63
    assert p_value(ancestral(true_model(p0), DRAWS, N, Q, 1024, seeded(), schedule), p0) > 1e-3
    assert p_value(ancestral(true_model(p0), DRAWS, N, Q, 2, seeded(), schedule), p0) < 1e-12


def test_a_grid_too_fine_to_share_is_first_hitting_token_by_token() -> None:
    for seed in range(20):
        model = random_model(seed)
        fine = ancestral(model, 1, N, Q, 100_000, seeded(seed), "loglinear")
        assert torch.equal(fine, first_hitting(model, 1, N, Q, seeded(seed)))


def test_a_step_fills_with_the_schedules_probability_and_what_is_filled_stays() -> None:
    states: list[Tensor] = []

    def denoise(codes_BN: Tensor, rate_B: Tensor) -> Tensor:
        states.append(codes_BN.clone())
        return torch.zeros(len(codes_BN), 4000, Q)

    codes = ancestral(denoise, 1, 4000, Q, 6, seeded(), "cosine")
    rates = rates_of("cosine", 6).flip(0)
    for state, rate in zip([*states, codes], rates, strict=True):  # with so many tokens no step is empty
        assert float((state == Q).float().mean()) == pytest.approx(float(rate), abs=0.03)
    for before, after in itertools.pairwise([*states, codes]):
        assert torch.equal(after[before != Q], before[before != Q])


def test_the_model_is_told_the_rate_of_the_step() -> None:
    rates = rates_of("loglinear", 10)
    torch.testing.assert_close(rates, torch.linspace(0, 1, 11, dtype=torch.float64))
    calls: list[Tensor] = []
    ancestral(uniform(500, calls), 1, 500, Q, 10, seeded(), "loglinear")
    torch.testing.assert_close(torch.cat(calls), rates[1:].flip(0).float())


# ------------------------------------------------------------------ MaskGIT: not the model's distribution


@pytest.mark.parametrize("temperature", [0.0, 1.0, 4.5])
def test_maskgit_fails_even_with_true_conditionals_and_one_token_a_step(temperature: float) -> None:
    p0 = toy()
    codes = maskgit(true_model(p0), DRAWS, N, Q, N, seeded(), temperature)
    assert p_value(codes, p0) < 1e-12


def test_it_is_the_choice_of_the_surest_that_fails() -> None:
    """With so much noise that the choice is blind, one token a step is any-order sampling, and p0."""
    p0 = toy()
    assert p_value(maskgit(true_model(p0), DRAWS, N, Q, N, seeded(), 1e12), p0) > 1e-3


def test_maskgit_fills_by_the_cosine() -> None:
    filled = [a - b for a, b in itertools.pairwise([256, *left_masked(256, 12)])]
    assert filled == [3, 6, 11, 15, 18, 22, 26, 27, 31, 31, 33, 33]
    model = random_model()
    for steps in range(1, 6):
        model.masked.clear()
        codes = maskgit(model, 5, N, Q, steps, seeded())
        wanted = [N, *left_masked(N, steps)][: maskgit_nfe(N, steps)]
        assert [counts.tolist() for counts in model.masked] == [[count] * 5 for count in wanted]
        assert codes.max() < Q


def test_its_temperature_falls_in_a_line() -> None:
    assert [annealed(4.5, step, 18) for step in (8, 17)] == [2.25, 0]
    assert annealed(1.0, 0, 4) == 0.75


def test_without_temperature_the_surest_are_kept() -> None:
    logits = torch.full((1, 4, Q), -30.0)
    logits[0, :, 1] = torch.tensor([0.0, 40.0, 0.0, 0.0])
    logits[0, [0, 2, 3], 2] = 0.0  # an even chance everywhere but at position 1
    states: list[Tensor] = []

    def denoise(codes_BN: Tensor, rate_B: Tensor) -> Tensor:
        states.append(codes_BN.clone())
        return logits

    maskgit(denoise, 1, 4, Q, 4, seeded(), 0.0)
    assert states[1].tolist() == [[Q, 1, Q, Q]]


# ------------------------------------------------------------------ all of them


def test_function_evaluations_are_those_counted() -> None:
    for tokens, steps in ((16, 4), (16, 16), (16, 50), (256, 12)):
        calls: list[Tensor] = []
        maskgit(uniform(tokens, calls), 1, tokens, Q, steps, seeded())
        assert len(calls) == maskgit_nfe(tokens, steps) == min(tokens, steps)
    for at_once, wanted in ((1, 16), (3, 6), (16, 1), (99, 1)):
        calls = []
        first_hitting(uniform(16, calls), 3, 16, Q, seeded(), at_once)
        assert len(calls) == first_hitting_nfe(16, at_once) == wanted


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ancestral_evaluations_are_the_steps_that_fill(schedule: ScheduleName) -> None:
    for tokens, steps, runs in ((3, 2, 1500), (20, 10, 400), (256, 1000, 12)):
        counts = []
        for seed in range(runs):
            calls: list[Tensor] = []
            ancestral(uniform(tokens, calls), 1, tokens, Q, steps, seeded(seed), schedule)
            counts.append(len(calls))
        found = torch.tensor(counts, dtype=torch.float64)
        assert abs(float(found.mean()) - ancestral_nfe(tokens, steps, schedule)) < 4 * float(found.std()) / runs**0.5


def test_ancestral_evaluations_in_closed_form() -> None:
    assert ancestral_nfe(256, 1000, "loglinear") == pytest.approx(1000 * (1 - (1 - 1 / 1000) ** 256))
    assert ancestral_nfe(256, 1000, "loglinear") == pytest.approx(225.96, abs=0.01)
    assert ancestral_nfe(256, 1, "cosine") == pytest.approx(1)
    assert ancestral_nfe(16, 10**6, "cosine") == pytest.approx(first_hitting_nfe(16), abs=1e-3)


def test_a_batch_takes_the_calls_of_its_slowest_sequence() -> None:
    """Not of all the steps that any of them needs: a sequence skips its empty steps by itself."""
    calls: list[Tensor] = []
    ancestral(uniform(8, calls), 64, 8, Q, 50, seeded(), "loglinear")
    assert len(calls) == 8
    rate_CB = torch.stack(calls)
    whole_CB = rate_CB == 0  # a sequence that has none left waits
    assert whole_CB[-1].any() and not whole_CB[0].any()
    assert (rate_CB.diff(dim=0)[~whole_CB[1:]] < 0).all()


SAMPLERS: list[Callable[[Table, torch.Generator], Tensor]] = [
    lambda model, generator: maskgit(model, 50, N, Q, 2, generator),
    lambda model, generator: ancestral(model, 50, N, Q, 4, generator),
    lambda model, generator: first_hitting(model, 50, N, Q, generator),
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_decides(sampler: Callable[[Table, torch.Generator], Tensor]) -> None:
    model = random_model()
    first = sampler(model, seeded(3))
    assert torch.equal(first, sampler(model, seeded(3)))
    assert not torch.equal(first, sampler(model, seeded(4)))
    assert first.shape == (50, N) and first.min() >= 0 and first.max() < Q


def test_a_code_is_drawn_as_often_as_its_softmax_says() -> None:
    logits = torch.tensor([[0.0, -8.0, -torch.inf]]).expand(2**20, -1)
    count = torch.bincount(pick(logits, seeded()), minlength=3)
    wanted = 2**20 * math.exp(-8.0) / (1 + math.exp(-8.0))  # 352
    assert abs(float(count[1]) - wanted) < 4 * wanted**0.5
    assert count[2] == 0


def test_no_step_is_no_sampler() -> None:
    model = random_model()
    for run in (
        lambda: maskgit(model, 1, N, Q, 0, seeded()),
        lambda: ancestral(model, 1, N, Q, 0, seeded()),
        lambda: first_hitting(model, 1, N, Q, seeded(), 0),
    ):
        with pytest.raises(UserError, match=r"(steps|at_once) 0: a sampler needs at least 1"):
            run()
