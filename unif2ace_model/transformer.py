"""The body: Phi's parallel block with the two mixtures of experts in it.

    B sequences   S tokens   D width   N image tokens   T = B * S tokens without padding

    h = LN(x)      x = x + attention(h) + TokenMoE(h)      x_image = x_image + scale * SequenceMoE(LN(x_image))

The paper draws attention, token MoE and sequence MoE one after the other; Phi's block is parallel. Our choice: the token
MoE stands where Phi's MLP stands, the sequence MoE follows the sum, and a dense body is Phi to the last digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unif2ace_model.attention import Attention, KeyValue, rotary_table
from unif2ace_model.config import ModelConfig
from unif2ace_model.moe import Load, TokenMoeLayer
from unif2ace_model.sequence_moe import SequenceMoeLayer


@dataclass(slots=True)
class Place:
    """Where the tokens of a forward pass stand: the same for every block."""

    mask: Any  # as attention.attend takes it
    group_B: Tensor
    span_BN: Tensor | None  # positions of the image tokens, within these S; None: there are none here
    rows_T: Tensor | None = None  # flat positions that are no padding; None: all
    place_BS: Tensor | None = None  # positions for the rotation, where they do not count up
    start: int = 0  # position of the first of the S tokens: what lies before is in the cache
    guests: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class Loads:
    """What the routers of one layer did."""

    tokens: Load | None
    sequences: dict[int, Load]


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim, config.eps)
        self.attention = Attention(config.dim, config.heads, config.qk_norm, config.eps)
        self.feed = TokenMoeLayer(config.dim, config.ffn_dim, config.token_moe)
        self.sequence = SequenceMoeLayer(config.dim, config.eps, config.sequence_moe) if config.sequence_moe else None
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x_BSD: Tensor, rotary: tuple[Tensor, Tensor], place: Place, past: KeyValue | None
    ) -> tuple[Tensor, KeyValue, Loads]:
        batch, length, dim = x_BSD.shape
        normed_BSD = self.norm(x_BSD)
        attended_BSD, cache = self.attention(normed_BSD, rotary, place.mask, past)
        group_T = place.group_B[:, None].expand(batch, length).reshape(-1)
        flat_TD = normed_BSD.view(-1, dim)
        if place.rows_T is None:
            fed_TD, load = self.feed(flat_TD, group_T)
        else:  # padding is not routed, and costs nothing
            some_TD, load = self.feed(flat_TD.index_select(0, place.rows_T), group_T[place.rows_T])
            fed_TD = torch.zeros_like(flat_TD, dtype=some_TD.dtype).index_copy(0, place.rows_T, some_TD)
        x_BSD = x_BSD + self.drop(attended_BSD) + self.drop(fed_TD.view(batch, length, dim))
        sequences: dict[int, Load] = {}
        if self.sequence is not None and place.span_BN is not None:
            where_BND = place.span_BN[..., None].expand(-1, -1, dim)
            image_BND, sequences = self.sequence(x_BSD.gather(1, where_BND), place.group_B, place.guests)
            x_BSD = x_BSD.scatter(1, where_BND, image_BND.to(x_BSD.dtype))
        return x_BSD, cache, Loads(load, sequences)


class Body(nn.Module):
    """Blocks and the final norm. `recompute`: activation checkpointing while training."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim, config.eps)
        self.rotated, self.base = config.rotated, config.rotary_base
        self.recompute = False

    def forward(
        self, x_BSD: Tensor, place: Place, past: list[KeyValue] | None = None
    ) -> tuple[Tensor, list[KeyValue], list[Loads]]:
        """(hidden (B, S, D), the cache of the whole sequence (empty while training), the routers' loads by layer)."""
        end = place.start + x_BSD.shape[1]
        cos, sin = rotary_table(end, self.rotated, self.base, x_BSD.device)
        rotary = cos[place.start :], sin[place.start :]
        if place.place_BS is not None:
            rotary = cos[place.place_BS][:, None], sin[place.place_BS][:, None]
        cache, loads = [], []
        for number, block in enumerate(self.blocks):
            before = past[number] if past else None
            if self.recompute and self.training:
                x_BSD, kept, load = checkpoint(block, x_BSD, rotary, place, before, use_reentrant=False)
            else:
                x_BSD, kept, load = block(x_BSD, rotary, place, before)
            if not self.training:  # there nothing reads it, and with `recompute` it would be all that is kept
                cache.append(kept)
            loads.append(load)
        return self.norm(x_BSD), cache, loads
