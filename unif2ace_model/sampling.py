"""Samplers of image codes, as free functions over `denoise(codes_BN with masks, rate_B) -> logits_BNQ`.

B sequences   N image tokens   Q codes, the mask is code Q   T steps
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unif2ace_model.decoding import Denoise


def pick(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A code for each row of (..., Q) logits, by its softmax; in float64: in float32 the tails are cut."""
    p = logits.double().softmax(-1)
    flat = torch.multinomial(p.reshape(-1, p.shape[-1]), 1, generator=generator)
    return flat.view(logits.shape[:-1])


def left_masked(tokens: int, steps: int) -> list[int]:
    """How many tokens are still masked after each step of MaskGIT: floor(N cos(pi (s + 1) / 2T)), one less each time at least."""
    counts, before = [], tokens
    for step in range(steps):
        wanted = math.floor(tokens * math.cos(math.pi * (step + 1) / (2 * steps)) + 1e-9)
        before = max(0, min(wanted, before - 1))
        counts.append(before)
    return counts


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

    Sureness is log p plus Gumbel noise times temperature * (1 - (s + 1) / T), linear as MaskGIT means it.
    """
    codes = torch.full((rows, tokens), codebook)
    for step, left in enumerate(left_masked(tokens, steps)):
        masked = codes == codebook
        if not masked.any():
            break
        logits = denoise(codes, masked.float().mean(-1)).cpu()
        drawn = pick(logits, generator)
        sure = logits.double().log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
        noise = -torch.log(-torch.log(torch.rand(sure.shape, generator=generator, dtype=torch.float64)))
        sure = sure + temperature * (1 - (step + 1) / steps) * noise
        sure = sure.masked_fill(~masked, math.inf)
        order = sure.argsort(-1, descending=True).argsort(-1)
        codes = torch.where(masked & (order < tokens - left), drawn, codes)
    return codes
