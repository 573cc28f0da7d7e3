"""Image codes as digits: every code is a number in mixed radix, one digit a factor of the codebook.

    L factors of a code

FSQ's factors are the levels of its latent channels, LFQ's are bits; a plain codebook has one factor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def to_codes(digits: Tensor, levels: list[int]) -> Tensor:
    """(..., L) digits, 0 .. level - 1 each, to codes: mixed radix, the first factor varies fastest."""
    return (digits * basis(levels).to(digits.device)).sum(-1)


def to_digits(codes: Tensor, levels: list[int]) -> Tensor:
    """(...) codes to (..., L) digits."""
    return codes[..., None] // basis(levels).to(codes.device) % torch.tensor(levels, device=codes.device)


def basis(levels: list[int]) -> Tensor:
    return torch.tensor([math.prod(levels[:place]) for place in range(len(levels))])
