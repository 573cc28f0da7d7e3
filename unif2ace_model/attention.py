"""Attention of the body: one mask predicate, partial rotary positions, scaled dot products over a cache or without.

    B sequences   S queries   P keys   H heads   C head width   D = H * C   R rotated part of C

The predicate is the paper's "full and causal attention" (figure 2; Show-o): text is causal, the image (from its start
to its end marker) sees itself whole, and nobody sees padding. `dense_mask` and `flex_mask` both call it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLEX_FROM = 1024  # tokens; our choice: at 384 only a fifth of the blocks are empty
KeyValue = tuple[Tensor, Tensor]  # keys and values of a layer, (B, H, P, C) each


def allowed(
    query: Tensor, key: Tensor, image_q: Tensor | bool, image_k: Tensor | bool, valid_k: Tensor | bool
) -> Tensor:
    """Whether the token at position `query` sees the one at `key` (positions count from the sequence's first token)."""
    return (valid_k & ((key <= query) | (image_q & image_k))) | (key == query)  # a padded query sees itself: no NaN


def same_turn(query: Tensor, turn_q: Tensor, turn_k: Tensor, key: Tensor) -> Tensor:
    """Whether they are of one turn, or the key of the image, which every turn sees (turn 0)."""
    return (turn_k == 0) | (turn_k == turn_q) | (key == query)


def dense_mask(
    image_BP: Tensor,
    valid_BP: Tensor,
    start: int = 0,
    dtype: torch.dtype = torch.float32,
    turn_BP: Tensor | None = None,
) -> Tensor:
    """What is added to the scores of the queries from position `start` on: 0 or -inf, (B, 1, P - start, P).

    Built once a batch, as floats: on a CPU three times as fast as a boolean mask, which is converted in every layer.
    """
    position_P = torch.arange(image_BP.shape[1], device=image_BP.device)
    seen_BSP = allowed(
        position_P[None, start:, None], position_P[None, None, :],
        image_BP[:, start:, None], image_BP[:, None, :], valid_BP[:, None, :],
    )  # fmt: skip
    if turn_BP is not None:
        seen_BSP = seen_BSP & same_turn(
            position_P[None, start:, None], turn_BP[:, start:, None], turn_BP[:, None, :], position_P[None, None, :]
        )
    return torch.zeros(seen_BSP.shape, dtype=dtype, device=seen_BSP.device).masked_fill(~seen_BSP, -math.inf)[:, None]


def flex_mask(image_BP: Tensor, valid_BP: Tensor, turn_BP: Tensor | None = None) -> Any:
    """The same mask as a BlockMask, for `flex_attention` on a GPU: it pays from about a thousand tokens on."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        found = allowed(q, k, image_BP[b, q], image_BP[b, k], valid_BP[b, k])
        return found if turn_BP is None else found & same_turn(q, turn_BP[b, q], turn_BP[b, k], k)

    batch, length = image_BP.shape
    return create_block_mask(seen, batch, None, length, length, device=image_BP.device)


def mask_for(image_BP: Tensor, valid_BP: Tensor, turn_BP: Tensor | None = None) -> Any:
    """The mask of whole sequences, in the form that is fastest where they are."""
    flexible = image_BP.is_cuda and image_BP.shape[1] >= FLEX_FROM
    return flex_mask(image_BP, valid_BP, turn_BP) if flexible else dense_mask(image_BP, valid_BP, turn_BP=turn_BP)


def attend(query_BHSC: Tensor, key_BHPC: Tensor, value_BHPC: Tensor, mask: Any) -> Tensor:
    """(B, H, S, C). `mask`: a float mask (B, 1, S, P), a BlockMask, or None (every query sees every key)."""
    if mask is None or isinstance(mask, Tensor):
        return F.scaled_dot_product_attention(query_BHSC, key_BHPC, value_BHPC, attn_mask=mask)
    out = flex()(query_BHSC, key_BHPC, value_BHPC, block_mask=mask)
    assert isinstance(out, Tensor)
    return out


_compiled: list[Any] = []


def flex() -> Any:
    """flex_attention; compiled on a GPU, where it is slow otherwise."""
    from torch.nn.attention.flex_attention import flex_attention

    if not torch.cuda.is_available():
        return flex_attention
    if not _compiled:
        _compiled.append(torch.compile(flex_attention))
    return _compiled[0]


def rotary_table(length: int, rotated: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (length, R) float32. Angles as Phi has them: base ** (-2i / R), halves side by side."""
    inverse = base ** (-torch.arange(0, rotated, 2, dtype=torch.float32, device=device) / rotated)
    angle = torch.arange(length, dtype=torch.float32, device=device)[:, None] * inverse
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x_BHSC: Tensor, cos_SR: Tensor, sin_SR: Tensor) -> Tensor:
    """Turn the first R channels of every head by its position; the others pass."""
    rotated = cos_SR.shape[-1]
    turn, rest = x_BHSC[..., :rotated], x_BHSC[..., rotated:]
    first, second = turn.chunk(2, dim=-1)
    turned = turn * cos_SR.to(x_BHSC.dtype) + torch.cat([-second, first], dim=-1) * sin_SR.to(x_BHSC.dtype)
    return torch.cat([turned, rest], dim=-1)


class Attention(nn.Module):
    """Multi-head attention as in Phi: biases everywhere, part of each head rotated, layer norm of q and k on request."""

    def __init__(self, dim: int, heads: int, qk_norm: bool, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        # Show-o switches it on for Phi; one norm for all heads, over the head's width
        self.q_norm = nn.LayerNorm(dim // heads, eps) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // heads, eps) if qk_norm else nn.Identity()

    def forward(
        self, x_BSD: Tensor, rotary: tuple[Tensor, Tensor], mask: Any, past: KeyValue | None = None
    ) -> tuple[Tensor, KeyValue]:
        """(B, S, D), and keys and values of the whole sequence. `rotary`: the rows of these positions, (S, R) or (B, 1, S, R)."""
        batch, length, dim = x_BSD.shape
        query, key, value = self.qkv(x_BSD).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key = rotate(self.q_norm(query), *rotary), rotate(self.k_norm(key), *rotary)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        mixed = attend(query.to(value.dtype), key.to(value.dtype), value, mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim)), (key, value)
