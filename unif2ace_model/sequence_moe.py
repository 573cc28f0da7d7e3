"""Sequence-level mixture of experts in two task groups (paper, section 3.4), on the image span only.

    B sequences   N image tokens   D model width   R width of what a resampler hands on   X experts of a group

    E_copy(x) = x     E_zero(x) = 0     E_guest(x) = w x + (1 - w) S(guest),  w from a softmax of trainable weights

Understanding has {copy, copy, CLIP, face}, generation {copy, copy, zero, noise}; K = 2 of them are taken per sequence.
CLIP and face features come from the clean picture: they belong to understanding alone, in generation they would leak
the target. Nothing here reads or changes a text position, so text keys and values can be cached over sampling steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unif2ace_model.config import SequenceMoe
from unif2ace_model.moe import GEN, UND, Load, Mlp, counted

# which experts read a guest, and the group that may: "noise" is the mask rate of the sequence
GUEST_GROUP = {"clip": UND, "face": UND, "noise": GEN}
GUEST_BIAS = 1.0  # of a guest's score at the start
NOISE_CHANNELS = 64  # our choice: the form of the noise embedding is not published


def noise_features(rate_B: Tensor) -> Tensor:
    """(B, 1, NOISE_CHANNELS) sines and cosines of the mask rate, in [0, 1], at frequencies of 1 to 1000."""
    half = NOISE_CHANNELS // 2
    frequency = torch.logspace(0, 3, half, dtype=torch.float32, device=rate_B.device)
    angle = rate_B.float()[:, None] * frequency * math.pi
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[:, None]


class Resampler(nn.Module):
    """S: features (B, P, C) of any number into one vector for each image token, (B, N, R); queries read them and each other.

    The form follows the public resamplers on face embeddings (IP-Adapter, InstantID), with a query per image token. Our
    choice: the queries start from the features' normed mean. A single face vector among N queries has 1 / (N + 1) of
    their attention at first, and a model in its first hundreds of steps does not look at what is so faint.
    """

    def __init__(self, channels: int, tokens: int, dim: int, heads: int, depth: int) -> None:
        super().__init__()
        self.take_in = nn.Linear(channels, dim)
        self.query_NR = nn.Parameter(torch.empty(tokens, dim))
        self.layers = nn.ModuleList(ResamplerLayer(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features_BPC: Tensor) -> Tensor:
        given = self.take_in(features_BPC)
        mean = F.layer_norm(given.mean(1, keepdim=True), given.shape[-1:])
        out = self.query_NR.to(given.dtype) + mean
        for layer in self.layers:
            out = layer(out, given)
        normed = self.norm(out)
        assert isinstance(normed, Tensor)
        return normed


class ResamplerLayer(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_given, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, latent_BNR: Tensor, given_BPR: Tensor) -> Tensor:
        batch, tokens, dim = latent_BNR.shape
        normed = self.norm_query(latent_BNR)
        seen = torch.cat([self.norm_given(given_BPR), normed], dim=1)
        query = self.query(normed).view(batch, tokens, self.heads, -1).transpose(1, 2)
        key, value = self.key_value(seen).view(batch, seen.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, tokens, dim)
        latent_BNR = latent_BNR + self.out(mixed)
        out = latent_BNR + self.mlp(self.norm_mlp(latent_BNR))
        assert isinstance(out, Tensor)
        return out


class Guests(nn.Module):
    """The resamplers, one a modality for all blocks (our choice: one a block would overshoot 1.8B)."""

    def __init__(self, config: SequenceMoe, tokens: int, channels: Mapping[str, int]) -> None:
        super().__init__()
        names = [name for name in GUEST_GROUP if name in (*config.und, *config.gen)]
        self.resamplers = nn.ModuleDict(
            {name: Resampler(channels[name], tokens, config.dim, config.heads, config.depth) for name in names}
        )

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """(B', N, R) for each guest that is there: B' are the sequences of its group, in their order."""
        return {name: resampler(features[name]) for name, resampler in self.resamplers.items() if name in features}


class SequenceMoeLayer(nn.Module):
    """One block's layer: x + scale * MoE(LN(x)). A scale of 0 leaves a dense body as it was (upcycling).

    Our choice where the figure draws no residual: a residual with a per-channel scale. The K weights are a softmax over
    the chosen scores, so a chosen zero expert takes its share away.
    """

    experts: dict[int, list[str]]

    def __init__(self, dim: int, eps: float, config: SequenceMoe) -> None:
        super().__init__()
        self.experts = {UND: list(config.und), GEN: list(config.gen)}
        self.top_k = config.top_k
        self.norm = nn.LayerNorm(dim, eps)
        self.scale_D = nn.Parameter(torch.full((dim,), config.scale))
        self.routers = nn.ModuleList(nn.Linear(dim, len(self.experts[group])) for group in (UND, GEN))
        guests = [name for name in GUEST_GROUP if name in (*config.und, *config.gen)]
        self.blend = nn.ParameterDict({name: nn.Parameter(torch.zeros(2)) for name in guests})
        self.project = nn.ModuleDict({name: nn.Linear(config.dim, dim) for name in guests})

    @torch.no_grad()
    def favour_guests(self) -> None:
        """Start with the guests chosen. Our choice: K = 2 copies would do, and what is never chosen never learns."""
        for group, router in zip((UND, GEN), self.routers, strict=True):
            assert isinstance(router, nn.Linear)
            router.bias.copy_(torch.tensor([GUEST_BIAS * (name in GUEST_GROUP) for name in self.experts[group]]))

    def forward(self, x_BND: Tensor, group_B: Tensor, guests: Mapping[str, Tensor]) -> tuple[Tensor, dict[int, Load]]:
        """`group_B` says whose experts a sequence has; `guests` as `Guests` gives them."""
        out_BND, loads = torch.zeros_like(x_BND), {}
        for group in (UND, GEN):
            rows = (group_B == group).nonzero()[:, 0]
            if len(rows):
                mixed, loads[group] = self.mix(self.norm(x_BND[rows]), group, guests)
                out_BND = out_BND.index_copy(0, rows, mixed.to(out_BND.dtype))
        return x_BND + self.scale_D * out_BND, loads

    def mix(self, x_BND: Tensor, group: int, guests: Mapping[str, Tensor]) -> tuple[Tensor, Load]:
        with torch.autocast(x_BND.device.type, enabled=False):  # routed in float32, like tokens
            router = self.routers[group]
            scores_BX = router(x_BND.float().mean(1))
        top_BK = scores_BX.topk(self.top_k, dim=-1)
        weights_BX = torch.zeros_like(scores_BX).scatter(1, top_BK.indices, top_BK.values.softmax(-1))
        out_BND = torch.zeros_like(x_BND)
        for position, name in enumerate(self.experts[group]):
            weight_B11 = weights_BX[:, position, None, None].to(x_BND.dtype)
            if name == "copy":
                out_BND = out_BND + weight_B11 * x_BND
            elif name != "zero":
                own, other = self.blend[name].softmax(0)
                out_BND = out_BND + weight_B11 * (own * x_BND + other * self.project[name](guests[name]))
        chosen_X = counted(top_BK.indices.flatten(), scores_BX.shape[1])
        load = Load(
            chosen_X[None],
            scores_BX.softmax(-1).sum(0, keepdim=True),
            x_BND.new_tensor([len(x_BND)], dtype=torch.float32),
        )
        return out_BND, load
