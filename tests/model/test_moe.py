"""Two groups in one bank: what is grouped equals what is looped, groups never mix, balance has its minimum at even."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_model.config import TokenMoe
from unif2ace_model.moe import (
    GEN,
    UND,
    Experts,
    Load,
    Router,
    TokenMoeLayer,
    balance_loss,
    expert_loop,
    max_violation,
    update_bias,
)

DIM = 32
CONFIG = TokenMoe(experts=8, top_k=2, expert_dim=16)


def filled(module: torch.nn.Module, seed: int = 0, std: float = 0.2) -> torch.nn.Module:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return module


def layer(config: TokenMoe | None = CONFIG) -> TokenMoeLayer:
    made = filled(TokenMoeLayer(DIM, 64, config))
    assert isinstance(made, TokenMoeLayer)
    return made


def tokens(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, DIM), torch.arange(count) % 3 // 2  # a third is generation


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 9), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_the_grouped_product_is_the_loop(count: int, top_k: int, experts: int, seed: int) -> None:
    bank = filled(Experts(experts, DIM, 16))
    torch.manual_seed(seed)
    x = torch.randn(count, DIM, requires_grad=True)
    chosen = torch.stack([torch.randperm(max(experts, top_k))[:top_k] % experts for _ in range(count)])
    weights = torch.rand(count, top_k)
    probe = torch.randn(count, DIM)
    grouped, looped = bank(x, weights, chosen), expert_loop(bank, x, weights, chosen)
    torch.testing.assert_close(grouped, looped, atol=1e-5, rtol=1e-4)
    named = [x, *bank.parameters()]
    first = torch.autograd.grad((grouped * probe).sum(), named, allow_unused=True)
    second = torch.autograd.grad((looped * probe).sum(), named, allow_unused=True)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, atol=1e-4, rtol=1e-3)


def test_a_token_goes_to_experts_of_its_own_group_and_its_weights_sum_to_one() -> None:
    router = layer().router
    assert router is not None
    x, group = tokens()
    weights, experts, load = router(x, group)
    assert torch.equal(experts // CONFIG.experts, group[:, None].expand(-1, 2))
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(x)))
    assert load.chosen_GN.sum(-1).tolist() == [2 * int((group == g).sum()) for g in (UND, GEN)]
    torch.testing.assert_close(load.score_GN.sum(-1), load.tokens_G)


def test_what_one_group_does_never_reaches_the_other() -> None:
    both = layer()
    x, group = tokens()
    mixed, _ = both(x, group)
    for g in (UND, GEN):
        alone, _ = both(x[group == g], group[group == g])
        torch.testing.assert_close(mixed[group == g], alone, atol=1e-5, rtol=1e-4)
    assert both.routed is not None
    gradient = torch.autograd.grad((mixed[group == UND] ** 2).sum(), both.routed.up_EDF)[0]
    assert gradient[: CONFIG.experts].abs().sum() > 0
    assert gradient[CONFIG.experts :].abs().sum() == 0


def test_a_grouped_shared_expert_is_each_groups_own() -> None:
    made = layer(CONFIG.model_copy(update={"shared": "grouped"}))
    assert isinstance(made.shared, Experts)
    x, group = tokens()
    before, _ = made(x, group)
    with torch.no_grad():
        made.shared.down_ED[GEN] += 1
    after, _ = made(x, group)
    torch.testing.assert_close(after[group == UND], before[group == UND])
    torch.testing.assert_close(after[group == GEN], before[group == GEN] + 1, atol=1e-5, rtol=1e-5)


def test_routing_is_in_float32_under_autocast() -> None:
    made = layer()
    x, group = tokens()
    assert made.router is not None
    expected, chosen, _ = made.router(x, group)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights, experts, load = made.router(x, group)
        out, _ = made(x, group)
    assert weights.dtype == load.score_GN.dtype == torch.float32
    assert torch.equal(experts, chosen) and torch.equal(weights, expected)
    torch.testing.assert_close(out.float(), made(x, group)[0], atol=0.2, rtol=0.1)


def load_of(chosen: torch.Tensor, score: torch.Tensor, tokens_: int = 100) -> Load:
    return Load(chosen, score * tokens_, torch.full((2,), float(tokens_)))


def test_even_routing_gives_the_balance_loss_its_minimum_of_one_a_group() -> None:
    even = torch.full((2, 8), 1 / 8)
    assert balance_loss(load_of(torch.full((2, 8), 25), even), torch.tensor([1.0, 1.0])).item() == pytest.approx(2)
    assert balance_loss(load_of(torch.full((2, 8), 25), even), torch.tensor([0.5, 0.25])).item() == pytest.approx(0.75)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_where_load_follows_scores_no_routing_is_under_the_minimum(seed: int) -> None:
    torch.manual_seed(seed)
    score = torch.randn(2, 8).softmax(-1)
    loss = balance_loss(load_of(score * 200, score), torch.tensor([1.0, 0.0]))
    assert loss >= 1 - 1e-6
    collapsed = torch.nn.functional.one_hot(torch.tensor([0, 0]), 8).float()
    assert balance_loss(load_of(collapsed * 200, collapsed), torch.tensor([1.0, 0.0])).item() == pytest.approx(8)


def test_a_group_without_tokens_adds_nothing() -> None:
    router = layer().router
    assert router is not None
    x, _ = tokens()
    _, _, load = router(x, torch.zeros(len(x), dtype=torch.long))
    assert load.chosen_GN[GEN].sum() == 0
    assert balance_loss(load, torch.tensor([0.0, 1.0])) == 0


def test_the_bias_evens_each_group_by_itself_and_does_not_drift() -> None:
    """With a fifth of the tokens in one group, a mean over both groups would push its biases without end."""
    router = filled(Router(DIM, 8, 2), std=0.3)
    assert isinstance(router, Router)
    torch.manual_seed(2)
    x, group = torch.randn(2000, DIM) + 0.3, (torch.rand(2000) < 0.2).long()
    before = router(x, group)[2].chosen_GN
    with torch.no_grad():
        for _ in range(400):
            update_bias(router, router(x, group)[2].chosen_GN, 1e-3)
    weights, _, load = router(x, group)
    assert (max_violation(load.chosen_GN) < 0.15).all() and (max_violation(before) > 0.25).all()
    assert router.bias_GN.abs().max() < 0.2
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(x)))  # the bias selects, it does not weigh
