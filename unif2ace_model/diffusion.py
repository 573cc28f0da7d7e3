"""Absorbing discrete diffusion over image codes, and the paper's D3Diff loss (section 3.2).

    B sequences   N image tokens   Q codes, the mask is code Q   M masked tokens   T steps of a sampler

At mask rate g each code is replaced by the mask by itself with probability g = 1 - exp(-s), s the total noise.

    L_D3Diff = L_mask + alpha * L_score
    L_mask   = mean over masked tokens of -log p(x0 | x_t)
    L_score  = score entropy, summed over tokens and averaged over sequences, weighted by the schedule

The bridge between the two is exact here, score_y = exp(-s) / (1 - exp(-s)) * p(y | x_t): the paper's figure leaves the
factor exp(-s) out. With a softmax over the codes alone the score entropy of a masked token is then
-exp(-s) / (1 - exp(-s)) * log p(x0 | x_t), to the last digit, and L_score is the NELBO that `weight` gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

ScheduleName = Literal["cosine", "loglinear"]
LogProbs = Callable[[Tensor, Tensor], Tensor]  # codes_BN with masks, rate_B -> log p_BNQ

EPSILON = 1e-3  # SEDD, MDLM: the loglinear schedule ends at a mask rate of 1 - EPSILON
FIRST = 1e-3  # SEDD: times are drawn from [FIRST, 1], since the weight diverges where nothing is masked


# ------------------------------------------------------------------ schedules


def rate_at(schedule: ScheduleName, time: Tensor) -> Tensor:
    """Mask rate g at a time in [0, 1]: 0 at 0. cosine: Show-o's and MaskGIT's cos(pi u / 2) with u = 1 - time."""
    if schedule == "cosine":
        return torch.cos(math.pi / 2 * (1 - time))
    return (1 - EPSILON) * time


def weight(schedule: ScheduleName, rate: Tensor) -> Tensor:
    """|dg/dt| / g at a mask rate: what a masked token's -log p weighs in the NELBO. `rate` in (0, 1]."""
    if schedule == "cosine":  # (pi / 2) tan(pi u / 2)
        return math.pi / 2 * (1 - rate**2).clamp(min=0).sqrt() / rate
    return (1 - EPSILON) / rate


def total_noise(rate: Tensor) -> Tensor:
    """s of g = 1 - exp(-s)."""
    return -torch.log1p(-rate)


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """(count,) times in [FIRST, 1], one in each of `count` equal parts, in random order: less variance than alone."""
    place = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return FIRST + (1 - FIRST) * place[torch.randperm(count, generator=generator)]


# ------------------------------------------------------------------ corruption


def mask_codes(codes_BN: Tensor, rate_B: Tensor, mask: int, generator: torch.Generator) -> Tensor:
    """Each code becomes the mask with its sequence's rate, by itself."""
    hit = torch.rand(codes_BN.shape, generator=generator) < rate_B[:, None]
    return torch.where(hit, mask, codes_BN)


def mask_count(codes_BN: Tensor, count_B: Tensor, mask: int, generator: torch.Generator) -> Tensor:
    """Exactly `count_B` codes of each sequence become the mask, every choice equally likely."""
    order = torch.rand(codes_BN.shape, generator=generator).argsort(-1).argsort(-1)
    return torch.where(order < count_B[:, None], mask, codes_BN)


# ------------------------------------------------------------------ the loss


@dataclass(slots=True)
class D3Diff:
    """Sums over what is masked, to be divided by counts over the whole global batch: `mask` by the masked tokens,
    `score` by the sequences. So accumulation and data parallelism change nothing."""

    mask: Tensor
    score: Tensor
    tokens: int


def d3diff(logits_MQ: Tensor, target_M: Tensor, rate_M: Tensor, schedule: ScheduleName) -> D3Diff:
    """Both terms from the logits of masked rows and codebook columns. `rate_M`: the mask rate of each row's sequence."""
    nll_M = F.cross_entropy(logits_MQ.float(), target_M, reduction="none")
    return D3Diff(nll_M.sum(), (weight(schedule, rate_M.float()) * nll_M).sum(), len(target_M))


def score_of(log_p: Tensor, rate: Tensor) -> Tensor:
    """The concrete score p_t(x with y in the mask's place) / p_t(x) from log p(y | x_t) (..., Q): the exact bridge (RADD)."""
    return torch.exp(log_p) / torch.expm1(total_noise(rate))[..., None]


def score_entropy(score: Tensor, target: Tensor, rate: Tensor) -> Tensor:
    """SEDD's score entropy of masked tokens, per unit of noise: sum_y s_y - r log s_x0 + r (log r - 1), r = 1 / (e^s - 1).

    `score` (..., Q), `target` and `rate` (...), rates in (0, 1). Never negative, 0 where only x0 has a score, and that is r.
    The general form: with the exact bridge and a softmax over the codes it is -r log p(x0 | x_t), which is what `d3diff`
    computes.
    """
    ratio = 1 / torch.expm1(total_noise(rate))
    own = score.gather(-1, target[..., None])[..., 0]
    return score.sum(-1) - ratio * own.log() + ratio * (ratio.log() - 1)


# ------------------------------------------------------------------ likelihood


@torch.no_grad()
def nelbo(log_probs: LogProbs, codes_BN: Tensor, mask: int, draws: int, generator: torch.Generator) -> Tensor:
    """(B,) upper bound of -log p(x0) in nats, estimated: (N / k) sum of -log p over k masked tokens, k of 1 .. N.

    This is lambda-DCE with the time integrated out (every schedule gives the same). k is stratified over the draws: each
    falls into another part of 1 .. N, so that `draws` = N visits every k once.
    """
    rows, tokens = codes_BN.shape
    total_B = torch.zeros(rows, dtype=torch.float64)
    for draw in range(draws):
        place_B = (draw + torch.rand(rows, generator=generator)) / draws
        count_B = (place_B * tokens).floor().long().clamp(max=tokens - 1) + 1
        noisy_BN = mask_count(codes_BN, count_B, mask, generator)
        log_p_BN = log_probs(noisy_BN, count_B / tokens).gather(-1, codes_BN[..., None])[..., 0]
        nll_B = -log_p_BN.double().where(noisy_BN == mask, 0).sum(-1)  # a model may rule out all else
        total_B += tokens / count_B * nll_B
    return total_B / draws
