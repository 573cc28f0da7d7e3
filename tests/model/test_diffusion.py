"""Closed forms of absorbing diffusion, by exact enumeration of a toy distribution (3 positions, 4 codes)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from unif2ace_model.diffusion import (
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

N, Q = 3, 4
EVERY = torch.tensor(list(itertools.product(range(Q), repeat=N)))
P0 = torch.distributions.Dirichlet(torch.full((Q**N,), 0.5, dtype=torch.float64))


def toy(seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return P0.sample()


def conditionals(p0: torch.Tensor, noisy_BN: torch.Tensor) -> torch.Tensor:
    """log p(x_i = . | what is not masked), (B, N, Q), by summing over every x0 that agrees."""
    agree_BX = ((noisy_BN[:, None] == Q) | (noisy_BN[:, None] == EVERY)).all(-1)
    mass_BX = agree_BX * p0
    one_hot_XNQ = torch.nn.functional.one_hot(EVERY, Q).double()
    mass_BNQ = torch.einsum("bx,xnq->bnq", mass_BX, one_hot_XNQ)
    return (mass_BNQ / mass_BNQ.sum(-1, keepdim=True)).log()


def test_the_exact_bridge_is_the_ratio_of_marginals() -> None:
    p0 = toy()
    for rate in (0.1, 0.5, 0.93):
        rate_ = torch.tensor(rate, dtype=torch.float64)

        def marginal(noisy: torch.Tensor, rate: float = rate) -> torch.Tensor:
            agree = ((noisy == Q) | (noisy == EVERY)).all(-1)
            masked = int((noisy == Q).sum())
            return (agree * p0).sum() * rate**masked * (1 - rate) ** (N - masked)

        noisy = torch.tensor([Q, 1, Q])
        score = score_of(conditionals(p0, noisy[None])[0], rate_)
        for code in range(Q):
            filled = noisy.clone()
            filled[0] = code
            assert score[0, code].item() == pytest.approx((marginal(filled) / marginal(noisy)).item(), abs=1e-9)


def test_score_entropy_with_the_bridge_is_the_weighted_nll_and_never_negative() -> None:
    torch.manual_seed(0)
    log_p = torch.randn(50, Q, dtype=torch.float64).log_softmax(-1)
    target, rate = torch.randint(0, Q, (50,)), torch.rand(50, dtype=torch.float64) * 0.98 + 0.01
    entropy = score_entropy(score_of(log_p, rate), target, rate)
    nll = -log_p.gather(-1, target[:, None])[:, 0]
    torch.testing.assert_close(entropy, nll / torch.expm1(total_noise(rate)), atol=1e-9, rtol=1e-9)
    assert (entropy >= 0).all()
    off = score_entropy(1.01 * score_of(log_p, rate), target, rate)
    assert (off > entropy - 1.01e-2 * 100).all() and not torch.allclose(off, entropy)  # no longer normalised


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


def test_true_conditionals_give_the_nll_of_every_x0() -> None:
    """With every k visited once and every choice of k positions equally likely, in expectation; here enumerated."""
    p0 = toy()
    for x, probability in zip(EVERY, p0, strict=True):
        total = 0.0
        for k in range(1, N + 1):
            subsets = list(itertools.combinations(range(N), k))
            for subset in subsets:
                noisy = x.clone()
                noisy[list(subset)] = Q
                log_p = conditionals(p0, noisy[None])[0].gather(-1, x[:, None])[:, 0]
                total -= (1 / N) * (N / k) * float(log_p[list(subset)].sum()) / len(subsets)
        assert total == pytest.approx(-math.log(probability), abs=1e-9)


def test_the_nelbo_estimate_is_unbiased() -> None:
    p0 = toy()
    x = EVERY[7:8].expand(4000, -1)
    generator = torch.Generator().manual_seed(0)
    estimate = nelbo(lambda noisy, _: conditionals(p0, noisy), x, Q, N, generator)
    error = float(estimate.std()) / len(x) ** 0.5
    assert abs(float(estimate.mean()) + math.log(p0[7])) < 4 * error
    assert error < 0.05


@pytest.mark.parametrize("schedule", ["cosine", "loglinear"])
def test_the_weight_is_the_schedules_and_the_integral_does_not_depend_on_it(schedule: str) -> None:
    time = torch.linspace(1e-4, 1 - 1e-4, 200_001, dtype=torch.float64)
    rate = rate_at(schedule, time)
    slope = torch.gradient(rate, spacing=(time,))[0]
    torch.testing.assert_close((slope / rate)[1:-1], weight(schedule, rate)[1:-1], atol=1e-4, rtol=1e-3)
    # integral of weight * g^m (1 - g)^(N - m) over time is the Beta integral (m - 1)! (N - m)! / N!
    for m in range(1, N + 1):
        found = torch.trapezoid(weight(schedule, rate) * rate**m * (1 - rate) ** (N - m), time)
        wanted = math.factorial(m - 1) * math.factorial(N - m) / math.factorial(N)
        assert float(found) == pytest.approx(wanted, abs=4e-3)


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
    rate = rate_at("cosine", draw_times(2000, generator))
    masked = torch.distributions.Binomial(256, rate).sample()
    score = 0.01 * (weight("cosine", rate) * masked).mean() * math.log(8192)
    assert 0.1 < float(score) / math.log(8192) < 10
    assert float(rate.mean()) == pytest.approx(2 / math.pi, abs=0.01)


def test_masks_have_their_rate_or_their_count() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(400, 64, dtype=torch.long)
    rate = torch.linspace(0, 1, 400)
    share = (mask_codes(codes, rate, Q, generator) == Q).float().mean(-1)
    assert (share - rate).abs().max() < 0.25 and share[0] == 0 and share[-1] == 1
    count = torch.arange(400) % 65
    assert torch.equal((mask_count(codes, count, Q, generator) == Q).sum(-1), count)


def test_times_are_stratified() -> None:
    times = draw_times(100, torch.Generator().manual_seed(0)).sort().values
    assert ((times - 1e-3) / 0.999 * 100).floor().long().tolist() == list(range(100))
