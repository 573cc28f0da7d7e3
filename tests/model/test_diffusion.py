"""Closed forms of absorbing diffusion, by exact enumeration of a toy distribution (3 positions, 4 codes).

X sequences, all of them   Z states, all of them   N positions   Q codes   S sets of masked positions   P points of time
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from enumerated import (
    EVERY,
    PLACES,
    SETS,
    STATES,
    N,
    Q,
    Table,
    any_order_nll,
    chance_of_sets,
    random_model,
    reverse_law,
    toy,
    true_model,
)  # fmt: skip
from scipy.stats import chisquare
from torch import Tensor

from unif2ace_model.diffusion import (
    EPSILON,
    ScheduleName,
    d3diff,
    draw_times,
    mask_codes,
    mask_count,
    nelbo,
    rate_at,
    score_entropy,
    score_of,
    total_noise,
    weight,
)
from unif2ace_model.sampling import rates_of

SCHEDULES: list[ScheduleName] = ["cosine", "loglinear"]


def quadrature(points: int = 400) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre on [0, 1]: times and weights, (P,) each."""
    node, share = np.polynomial.legendre.leggauss(points)
    return torch.from_numpy(node + 1) / 2, torch.from_numpy(share) / 2


def noise_slope(schedule: ScheduleName, time_P: Tensor) -> Tensor:
    """d sigma / dt, sigma the total noise."""
    time_P = time_P.clone().requires_grad_()
    (slope_P,) = torch.autograd.grad(total_noise(rate_at(schedule, time_P)).sum(), time_P)
    return slope_P


def score_term(model: Table, schedule: ScheduleName) -> Tensor:
    """(X,) what d3diff's score term is in expectation over times and masks, with nothing drawn."""
    time_P, share_P = quadrature()
    rate_P = rate_at(schedule, time_P)
    chance_PS = chance_of_sets(rate_P)
    total_X = torch.zeros(len(EVERY), dtype=torch.float64)
    for s, masked_N in enumerate(SETS):
        if masked_N.any():
            logits_XMQ = model.log_p_ZNQ[torch.where(masked_N, Q, EVERY) @ PLACES][:, masked_N]

            def score(logits_MQ: Tensor, target_M: Tensor, rate: Tensor) -> Tensor:
                return d3diff(logits_MQ, target_M, rate.expand(len(target_M)), schedule).score

            over_times = torch.vmap(score, (None, None, 0))
            score_XP = torch.vmap(over_times, (0, 0, None))(logits_XMQ, EVERY[:, masked_N], rate_P)
            total_X += score_XP.double() @ (share_P * chance_PS[:, s])
    return total_X


# ------------------------------------------------------------------ the bridge and the score entropy


def test_the_exact_bridge_is_the_ratio_of_marginals() -> None:
    """For every state, every masked position and every code."""
    p0 = toy()
    log_p_ZNQ = true_model(p0).log_p_ZNQ
    agree_ZX = ((STATES[:, None] == Q) | (STATES[:, None] == EVERY)).all(-1)
    masked_Z = (STATES == Q).sum(-1)
    for rate in torch.tensor([0.1, 0.5, 0.93], dtype=torch.float64):
        marginal_Z = (agree_ZX * p0).sum(-1) * rate**masked_Z * (1 - rate) ** (N - masked_Z)
        score_ZNQ = score_of(log_p_ZNQ, rate.expand(len(STATES), N))
        for position, code in itertools.product(range(N), range(Q)):
            state_Z = (STATES[:, position] == Q).nonzero()[:, 0]
            filled_Z = state_Z - (Q - code) * PLACES[position]
            wanted = marginal_Z[filled_Z] / marginal_Z[state_Z]
            torch.testing.assert_close(score_ZNQ[state_Z, position, code], wanted, atol=1e-9, rtol=1e-9)


def random_rows(rows: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """log p, targets, mask rates from 0.01 to 0.99."""
    torch.manual_seed(0)
    log_p = torch.randn(rows, Q, dtype=torch.float64).log_softmax(-1)
    return log_p, torch.randint(0, Q, (rows,)), torch.rand(rows, dtype=torch.float64) * 0.98 + 0.01


def test_score_entropy_with_the_bridge_is_the_weighted_nll() -> None:
    log_p, target, rate = random_rows()
    entropy = score_entropy(score_of(log_p, rate), target, rate)
    nll, ratio = -log_p.gather(-1, target[:, None])[:, 0], 1 / torch.expm1(total_noise(rate))
    torch.testing.assert_close(entropy, ratio * nll, atol=1e-9, rtol=1e-9)
    # not by any score: one that is 1 % too large is off by r (0.01 - log 1.01)
    off = score_entropy(1.01 * score_of(log_p, rate), target, rate)
    torch.testing.assert_close(off - entropy, ratio * (0.01 - math.log(1.01)), atol=1e-9, rtol=1e-9)


def test_score_entropy_is_never_negative_and_0_at_the_ratio_that_generated_the_state() -> None:
    log_p, target, rate = random_rows()
    ratio = 1 / torch.expm1(total_noise(rate))
    for factor in (0.01, 1.0, 100.0):
        assert (score_entropy(factor * score_of(log_p, rate), target, rate) >= 0).all()
    true = ratio[:, None] * torch.nn.functional.one_hot(target, Q)
    torch.testing.assert_close(score_entropy(true, target, rate), torch.zeros_like(rate), atol=1e-9, rtol=0)


def test_it_is_the_cross_entropy_of_radd_up_to_what_no_parameter_changes() -> None:
    """RADD's t-DCE is -r log(r p(x0)): r log r less for each masked token."""
    log_p, target, rate = random_rows()
    score, ratio = score_of(log_p, rate), 1 / torch.expm1(total_noise(rate))
    radd = -ratio * score.gather(-1, target[:, None])[:, 0].log()
    difference = score_entropy(score, target, rate) - radd
    torch.testing.assert_close(difference, ratio * ratio.log(), atol=1e-9, rtol=1e-9)


# ------------------------------------------------------------------ the bridge as the paper prints it


def test_the_papers_bridge_adds_a_constant_and_changes_no_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(20, Q, dtype=torch.float64, requires_grad=True)
    target, rate = torch.randint(0, Q, (20,)), torch.rand(20, dtype=torch.float64) * 0.9 + 0.05
    exact = score_entropy(score_of(logits.log_softmax(-1), rate), target, rate)
    literal = score_entropy(logits.softmax(-1) / rate[:, None], target, rate)
    noise = total_noise(rate)
    torch.testing.assert_close((literal - exact).detach(), 1 - noise * (1 - rate) / rate, atol=1e-9, rtol=1e-9)
    first, second = (torch.autograd.grad(x.sum(), logits, retain_graph=True)[0] for x in (exact, literal))
    torch.testing.assert_close(first, second, atol=1e-9, rtol=1e-9)


def test_over_all_times_that_constant_is_4_9167_nats_a_token_with_the_loglinear_schedule() -> None:
    time_P, share_P = quadrature()
    rate_P = rate_at("loglinear", time_P)
    log_p, target = torch.randn(1, Q, dtype=torch.float64).log_softmax(-1).expand(len(time_P), -1), torch.tensor(1)
    target_P = target.expand(len(time_P))
    literal = score_entropy(log_p.exp() / rate_P[:, None], target_P, rate_P)
    offset_P = literal - score_entropy(score_of(log_p, rate_P), target_P, rate_P)
    found = float((share_P * noise_slope("loglinear", time_P) * rate_P * offset_P).sum())
    last = float(total_noise(rate_at("loglinear", torch.ones((), dtype=torch.float64))))
    assert last == pytest.approx(-math.log(EPSILON)) == pytest.approx(6.908, abs=1e-3)
    wanted = last - (1 - math.exp(-last)) - (1 - math.exp(-last) * (1 + last))
    assert found == pytest.approx(wanted, abs=1e-5) and wanted == pytest.approx(4.9167, abs=1e-4)


@pytest.mark.parametrize("noise", [0.2, 1.0, 3.0])
def test_a_softmax_over_more_than_the_codes_starves_them_with_the_papers_bridge(noise: float) -> None:
    """The best share of the codes is exp(-noise) with the paper's bridge and 1 with the exact one."""
    truth_Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    mass_P = torch.linspace(1e-3, 1, 1000, dtype=torch.float64)
    rate = torch.tensor(-math.expm1(-noise), dtype=torch.float64)

    def expected(log_p: Tensor, literal: bool) -> Tensor:
        """Over x0 of the true distribution; log p (..., 3) of the codes, which leave a share to the other rows."""
        every = rate.expand(log_p.shape[:-1])
        score = log_p.exp() / rate if literal else score_of(log_p, every)
        terms = [truth_Q[x] * score_entropy(score, torch.full(every.shape, x), every) for x in range(3)]
        return torch.stack(terms).sum(0)

    log_p_PQ = (mass_P[:, None] * truth_Q).log()
    assert float(mass_P[expected(log_p_PQ, literal=True).argmin()]) == pytest.approx(math.exp(-noise), abs=1e-3)
    assert float(mass_P[expected(log_p_PQ, literal=False).argmin()]) == 1
    best = (
        torch.cat([math.exp(-noise) * truth_Q, rate[None]]).log().requires_grad_()
    )  # and no other direction is better
    (slope,) = torch.autograd.grad(expected(best.log_softmax(-1)[:3], literal=True), best)
    assert slope.abs().max() < 1e-9


# ------------------------------------------------------------------ schedules and weights


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_weight_is_the_schedules(schedule: ScheduleName) -> None:
    """|dg/dt| / g, which is d sigma / dt times 1 / (e^sigma - 1): so d3diff's score term is the score entropy."""
    time_P = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, requires_grad=True)
    rate_P = rate_at(schedule, time_P)
    (slope_P,) = torch.autograd.grad(rate_P.sum(), time_P)
    time_P, rate_P = time_P.detach(), rate_P.detach()
    torch.testing.assert_close(weight(schedule, rate_P), slope_P / rate_P, atol=1e-9, rtol=1e-9)
    entropy_P = noise_slope(schedule, time_P) / torch.expm1(total_noise(rate_P))
    torch.testing.assert_close(weight(schedule, rate_P), entropy_P, atol=1e-9, rtol=1e-9)
    u_P = 1 - time_P
    closed = math.pi / 2 * torch.tan(math.pi * u_P / 2) if schedule == "cosine" else 1 / time_P
    torch.testing.assert_close(weight(schedule, rate_P), closed, atol=1e-9, rtol=1e-9)


def test_a_schedule_goes_from_0_to_where_all_is_masked() -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(rate_at("cosine", ends), ends)
    torch.testing.assert_close(rate_at("loglinear", ends), ends * (1 - EPSILON))
    time_P, share_P = quadrature()
    assert float((share_P * rate_at("cosine", time_P)).sum()) == pytest.approx(2 / math.pi)  # 163 of 256 tokens


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_tokens_summed_weigh_as_many_times_the_mean_as_there_are_tokens(schedule: ScheduleName) -> None:
    """Where -log p does not hang on time, sum over tokens / mean over masked tokens = N: alpha 0.01 is 2.56 at 256."""
    time_P, share_P = quadrature()
    rate_P = rate_at(schedule, time_P)
    ratio = 256 * float((share_P * weight(schedule, rate_P) * rate_P).sum())
    assert ratio == pytest.approx(256 * (1 if schedule == "cosine" else 1 - EPSILON))


# ------------------------------------------------------------------ likelihood


@pytest.mark.parametrize("model", [true_model(toy()), random_model()], ids=["true", "random"])
def test_the_score_term_integrates_to_the_any_order_nll_whatever_the_schedule(model: Table) -> None:
    wanted_X = any_order_nll(model)
    torch.testing.assert_close(score_term(model, "cosine"), wanted_X, atol=1e-5, rtol=1e-5)
    missing_X = wanted_X - score_term(model, "loglinear")  # the last EPSILON of the mask rate, where all is masked
    torch.testing.assert_close(missing_X, EPSILON * model.nll_XS()[:, -1], atol=1e-5, rtol=1e-2)


def test_true_conditionals_give_the_nll_of_every_x0_and_the_entropy_in_the_mean() -> None:
    p0 = toy()
    torch.testing.assert_close(any_order_nll(true_model(p0)), -p0.log(), atol=1e-9, rtol=1e-9)
    found_X = score_term(true_model(p0), "cosine")
    torch.testing.assert_close(found_X, -p0.log(), atol=1e-5, rtol=1e-5)
    assert float((p0 * found_X).sum()) == pytest.approx(float(-(p0 * p0.log()).sum()), abs=1e-5)


@pytest.mark.parametrize("model", [true_model(toy()), random_model()], ids=["true", "random"])
def test_the_nelbo_estimate_is_unbiased_for_every_x0(model: Table) -> None:
    rows = 1000
    generator = torch.Generator().manual_seed(0)
    estimate_B = nelbo(model, EVERY.repeat_interleave(rows, 0), Q, N, generator)
    estimate_XR = estimate_B.view(len(EVERY), rows)
    error_X = estimate_XR.std(-1) / rows**0.5
    assert ((estimate_XR.mean(-1) - any_order_nll(model)).abs() < 4.5 * error_X).all()
    assert error_X.max() < 0.1


def test_every_number_of_masked_tokens_once_is_better_than_as_many_by_chance() -> None:
    model, rows = random_model(), 4000
    x = EVERY[7:8].expand(rows, -1)
    generator = torch.Generator().manual_seed(0)
    stratified = nelbo(model, x, Q, N, generator).var()
    alone = torch.stack([nelbo(model, x, Q, 1, generator) for _ in range(N)]).mean(0).var()
    assert float(stratified / alone) < 0.9


def test_an_estimate_reads_masked_positions_alone() -> None:
    """A model may rule out everything where nothing is masked."""
    p0 = toy()
    log_p_ZNQ = true_model(p0).log_p_ZNQ.where((STATES == Q)[..., None], -torch.inf)
    one, other = (
        nelbo(model, EVERY, Q, N, torch.Generator().manual_seed(0)) for model in (Table(log_p_ZNQ), true_model(p0))
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_on_a_grid_the_bounds_stand_in_their_order(schedule: ScheduleName) -> None:
    """-log p of the T-step sampler <= L1 = sum over steps of (g - h) / g E[nll] <= L2 = sum over steps of E[nll]."""
    model = random_model()
    nll_XS, limit_X = model.nll_XS(), any_order_nll(model)
    slacks = []
    for steps in (4, 16, 64):
        rates = rates_of(schedule, steps)
        filled_T = rates.diff() / rates[1:]
        expected_XT = nll_XS @ chance_of_sets(rates[1:]).T
        exact_X = -reverse_law(model, rates).log()
        first_X, second_X = expected_XT @ filled_T, expected_XT.sum(-1)
        assert (exact_X <= first_X + 1e-9).all() and (first_X <= second_X + 1e-9).all()
        slacks.append(float((first_X - limit_X).abs().max()))
        assert (second_X / steps < exact_X).any()  # the mean over steps, which is trained on, bounds nothing
    assert slacks[0] > 3 * slacks[1] > 9 * slacks[2]  # L1 comes to the any-order nll as 1 / T


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_fine_grid_weighs_as_the_schedule_does(schedule: ScheduleName) -> None:
    rates = rates_of(schedule, 100_000)
    time = torch.linspace(0, 1, 100_001, dtype=torch.float64)[1000:]
    weight_T = 100_000 * (rates.diff() / rates[1:])[999:]
    torch.testing.assert_close(weight_T, weight(schedule, rate_at(schedule, time)), atol=1e-4, rtol=1e-3)


# ------------------------------------------------------------------ the loss, masks and times


def test_d3diff_is_a_reweighted_nll() -> None:
    torch.manual_seed(0)
    logits = torch.randn(30, Q, requires_grad=True)
    target, rate = torch.randint(0, Q, (30,)), torch.rand(30) * 0.9 + 0.05
    found = d3diff(logits, target, rate, "cosine")
    (found.mask / found.tokens + 0.01 * found.score / 5).backward()
    nll = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    weights = 1 / 30 + 0.01 * math.pi / 2 * (1 - rate**2).sqrt() / rate / 5
    torch.testing.assert_close(torch.autograd.grad((weights * nll).sum(), logits)[0], logits.grad)


def test_the_score_term_is_of_the_order_of_the_mask_term_at_alpha_001_and_256_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    rate_B = rate_at("cosine", draw_times(2000, generator))
    noisy_BN = mask_codes(torch.zeros(2000, 256, dtype=torch.long), rate_B, 8192, generator)
    rate_M = rate_B[:, None].expand_as(noisy_BN)[noisy_BN == 8192]
    found = d3diff(torch.zeros(len(rate_M), 2), torch.zeros(len(rate_M), dtype=torch.long), rate_M, "cosine")
    ratio = 0.01 * (found.score / 2000) / (found.mask / found.tokens)
    assert float(ratio) == pytest.approx(2.56, rel=0.02)


def test_each_token_is_masked_by_itself_or_every_choice_is_equally_likely() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(30_000, N, dtype=torch.long)

    def counts(noisy_BN: Tensor) -> Tensor:
        return torch.bincount((noisy_BN == Q).long() @ torch.tensor([4, 2, 1]), minlength=len(SETS)).double()

    for rate in (0.2, 0.7):
        rates = torch.full((len(codes),), rate)
        wanted_S = len(codes) * chance_of_sets(torch.tensor(rate, dtype=torch.float64))
        assert chisquare(counts(mask_codes(codes, rates, Q, generator)), wanted_S).pvalue > 1e-3
    for count in range(N + 1):
        found_S = counts(mask_count(codes, torch.full((len(codes),), count), Q, generator))
        chosen = SETS.sum(-1) == count
        assert found_S[~chosen].sum() == 0
        assert count in (0, N) or chisquare(found_S[chosen]).pvalue > 1e-3


def test_masks_have_the_rate_or_the_count_of_their_sequence() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(400, 64, dtype=torch.long)
    rate = torch.linspace(0, 1, 400)
    share = (mask_codes(codes, rate, Q, generator) == Q).float().mean(-1)
    assert (share - rate).abs().max() < 0.25 and share[0] == 0 and share[-1] == 1
    count = torch.arange(400) % 65
    assert torch.equal((mask_count(codes, count, Q, generator) == Q).sum(-1), count)


def test_times_are_stratified_and_so_vary_less() -> None:
    generator = torch.Generator().manual_seed(0)
    times = draw_times(100, generator).sort().values
    assert ((times - 1e-3) / 0.999 * 100).floor().long().tolist() == list(range(100))

    def masked_and_weighed(time: Tensor) -> Tensor:
        rate = rate_at("cosine", time)
        return (weight("cosine", rate) * rate).mean()  # what a token adds to the score term, in expectation

    together = torch.stack([masked_and_weighed(draw_times(16, generator)) for _ in range(500)])
    alone = torch.stack([masked_and_weighed(1e-3 + 0.999 * torch.rand(16, generator=generator)) for _ in range(500)])
    assert float(together.var() / alone.var()) < 0.05
    assert float(together.mean()) == pytest.approx(1, abs=0.01)
    first = torch.stack([draw_times(4, generator)[0] for _ in range(500)])
    assert float(first.mean()) == pytest.approx(0.5, abs=0.06)  # in random order: no place has a part of its own
