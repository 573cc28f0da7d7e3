"""Samplers of image codes, as free functions over `denoise(codes_BN with masks, rate_B) -> logits_BNQ`.

    B sequences   N image tokens   Q codes, the mask is code Q   M masked tokens   T steps

    maskgit        min(T, N) calls   keeps the surest tokens: good pictures, but not the model's distribution
    ancestral      at most T calls   the reverse of the diffusion on a grid: wrong only where tokens share a step
    first_hitting  N calls           the same without a grid (Zheng et al., arXiv 2409.02908): exact

The last two rest on one fact. A token is masked at mask rate g with probability g, so the rate at which it falls to the
mask, and in reverse is taken from it, is uniform in [0, 1], each token's by itself. These rates decide which tokens a
call fills and no logit decides them: they are drawn first, and where nothing changes the model is not called.

Temperature is MaskGIT's, noise on how sure a token is. The other two have none: any would leave the model's distribution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unif2ace_data.errors import UserError
from unif2ace_model.decoding import Denoise
from unif2ace_model.diffusion import ScheduleName, rate_at


def pick(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A code for each row of (..., Q) logits, by its softmax: the first whose summed probability passes a uniform number.

    In float64: in float32 the tails are cut. A seventh of the time of `torch.multinomial`, which draws a number for each
    of the Q codes.
    """
    return picked(logits, torch.rand(logits.shape[:-1], generator=generator, dtype=torch.float64))


def picked(logits: Tensor, uniform: Tensor) -> Tensor:
    """The same from a uniform number for each row."""
    upto = logits.double().softmax(-1).cumsum(-1)
    drawn = uniform[..., None] * upto[..., -1:]
    return torch.searchsorted(upto, drawn, right=True)[..., 0].clamp(max=upto.shape[-1] - 1)


def at_least_one(name: str, count: int) -> None:
    if count < 1:
        raise UserError(f"{name} {count}: a sampler needs at least 1", 2)


# ------------------------------------------------------------------ MaskGIT


def left_masked(tokens: int, steps: int) -> list[int]:
    """How many tokens are still masked after each step of MaskGIT: floor(N cos(pi (s + 1) / 2T)), one less each time at least."""
    counts, before = [], tokens
    for step in range(steps):
        wanted = math.floor(tokens * math.cos(math.pi * (step + 1) / (2 * steps)) + 1e-9)
        before = max(0, min(wanted, before - 1))
        counts.append(before)
    return counts


def annealed(temperature: float, step: int, steps: int) -> float:
    """MaskGIT's temperature at a step of 0 .. T - 1: linear, 0 at the last. Not a running product, which is gone by half."""
    return temperature * (1 - (step + 1) / steps)


@torch.no_grad()
def maskgit(
    denoise: Denoise,
    rows: int,
    tokens: int,
    codebook: int,
    steps: int,
    generator: torch.Generator,
    temperature: float = 1.0,
) -> Tensor:
    """(B, N) codes. Each step samples every masked token and keeps the surest; the others are masked again.

    Sureness is log p plus Gumbel noise times the annealed temperature. Which token is kept hangs on what was drawn for it,
    so likely codes are kept too often: even a perfect model's distribution is not what comes out.
    """
    at_least_one("steps", steps)
    codes = torch.full((rows, tokens), codebook)
    for step, left in enumerate(left_masked(tokens, steps)):
        masked = codes == codebook
        if not masked.any():
            break
        logits = denoise(codes, masked.float().mean(-1))
        logits_MQ = logits[masked.to(logits.device)].cpu()
        # numbers for every token, masked or not: what a token is drawn with hangs on its place alone
        uniform, height = (torch.rand(codes.shape, generator=generator, dtype=torch.float64) for _ in range(2))
        drawn_M = picked(logits_MQ, uniform[masked])
        sure_M = logits_MQ.double().log_softmax(-1).gather(-1, drawn_M[:, None])[:, 0]
        noise = -torch.log(-torch.log(height))
        sure = torch.zeros(codes.shape, dtype=torch.float64).masked_scatter(masked, sure_M)
        sure = (sure + annealed(temperature, step, steps) * noise).masked_fill(~masked, math.inf)
        drawn = codes.masked_scatter(masked, drawn_M)
        order = sure.argsort(-1, descending=True).argsort(-1)
        codes = torch.where(masked & (order < tokens - left), drawn, codes)
    return codes


def maskgit_nfe(tokens: int, steps: int) -> int:
    """Function evaluations of `maskgit`: one a step, and no step fills nothing."""
    return min(steps, tokens)


# ------------------------------------------------------------------ the reverse process


def rates_of(schedule: ScheduleName, steps: int) -> Tensor:
    """(T + 1,) mask rates of a grid of equal times, float64, from 0 to 1: a sampler starts where everything is masked.

    The loglinear schedule ends at 1 - EPSILON. What a step fills hangs on ratios of rates alone, so the grid is scaled.
    """
    rate_T = rate_at(schedule, torch.linspace(0, 1, steps + 1, dtype=torch.float64))
    rate_T = rate_T / rate_T[-1]
    rate_T[0] = 0.0  # cos(pi / 2) is 6e-17
    return rate_T


@torch.no_grad()
def ancestral(
    denoise: Denoise,
    rows: int,
    tokens: int,
    codebook: int,
    steps: int,
    generator: torch.Generator,
    schedule: ScheduleName = "cosine",
) -> Tensor:
    """(B, N) codes. A step from mask rate g to h fills each masked token with probability (g - h) / g; what is filled stays.

    Tokens that share a step are drawn independently of each other. Nothing else is inexact: with a perfect model the
    distance in total variation from its distribution is at most the chance that some step fills two tokens or more.
    Each sequence skips the steps that fill none of its tokens, so a batch takes as many calls as its slowest sequence.
    """
    at_least_one("steps", steps)
    grid_T = rates_of(schedule, steps)[1:]
    step_BN = torch.searchsorted(grid_T, torch.rand(rows, tokens, generator=generator, dtype=torch.float64))
    step_sorted_BN, order_BN = step_BN.sort(-1, descending=True)
    call_sorted_BN = torch.zeros_like(step_BN)
    call_sorted_BN[:, 1:] = (step_sorted_BN.diff(dim=-1) != 0).cumsum(-1)
    call_BN = torch.empty_like(step_BN).scatter(-1, order_BN, call_sorted_BN)
    return fill(denoise, call_BN, grid_T[step_BN], codebook, generator)


def ancestral_nfe(tokens: int, steps: int, schedule: ScheduleName = "cosine") -> float:
    """Expected function evaluations of `ancestral` for one sequence: the steps that fill a token, sum of 1 - (1 - p)^N.

    p = the difference of a step's rates, the chance that a token is filled there; loglinear: T (1 - (1 - 1 / T)^N).
    """
    return float((1 - (1 - rates_of(schedule, steps).diff()) ** tokens).sum())


@torch.no_grad()
def first_hitting(
    denoise: Denoise, rows: int, tokens: int, codebook: int, generator: torch.Generator, at_once: int = 1
) -> Tensor:
    """(B, N) codes. One token a call, at the mask rate at which the reverse process fills it; with a perfect model exact.

    With n tokens masked the next rate is the last one times u^(1/n), and which token it is is uniform: the greatest of n
    uniform numbers. `at_once`: tokens that a call fills, at the first of their rates; more than 1 is no longer exact.
    """
    at_least_one("at_once", at_once)
    rate_BN = torch.rand(rows, tokens, generator=generator, dtype=torch.float64)
    place_BN = rate_BN.argsort(-1, descending=True).argsort(-1)
    return fill(denoise, place_BN // at_once, rate_BN, codebook, generator)


def first_hitting_nfe(tokens: int, at_once: int = 1) -> int:
    """Function evaluations of `first_hitting`."""
    return -(-tokens // at_once)


def fill(denoise: Denoise, call_BN: Tensor, rate_BN: Tensor, codebook: int, generator: torch.Generator) -> Tensor:
    """(B, N) codes: each token is drawn in its call, from what the calls before have filled, at its sequence's mask rate."""
    codes_BN = torch.full(call_BN.shape, codebook)
    for call in range(int(call_BN.max()) + 1):
        now_BN = call_BN == call
        rate_B = rate_BN.where(now_BN, 0).amax(-1)  # 0 where a sequence is whole already
        logits_BNQ = denoise(codes_BN, rate_B.float())
        codes_BN[now_BN] = pick(logits_BNQ[now_BN.to(logits_BNQ.device)].cpu(), generator)
    return codes_BN
