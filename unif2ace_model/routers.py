"""What the routers of a step did, for the metrics: loads summed over parts, violations, dead experts, shares."""

from __future__ import annotations

from typing import Any

import torch

from unif2ace_model.moe import GROUPS, Load, max_violation
from unif2ace_model.transformer import Loads


def token_loads(loads: list[list[Loads]]) -> list[Load]:
    """The token routers' loads of each layer, summed over the parts of a step."""
    summed = []
    for layer in zip(*loads, strict=True):
        found = [load.tokens for load in layer if load.tokens is not None]
        if found:
            summed.append(
                Load(
                    torch.stack([load.chosen_GN for load in found]).sum(0),
                    torch.stack([load.score_GN.detach() for load in found]).sum(0),
                    torch.stack([load.tokens_G for load in found]).sum(0),
                )
            )
    return summed


def router_facts(loads: list[list[Loads]]) -> dict[str, Any]:
    """By group and layer: each token expert's share of the tokens' choices, MaxVio, dead experts, entropy (nats) of the
    mean score; how often each sequence expert was chosen."""
    facts: dict[str, Any] = {}
    layers = token_loads(loads)
    for number, group in enumerate(GROUPS):
        if layers and all(int(load.tokens_G[number]) for load in layers):
            mean = [load.score_GN[number] / load.tokens_G[number] for load in layers]
            facts[group] = {
                "load": [shares(load.chosen_GN[number]) for load in layers],
                "max_violation": [round(float(max_violation(load.chosen_GN)[number]), 4) for load in layers],
                "dead": [int((load.chosen_GN[number] == 0).sum()) for load in layers],
                "mean_entropy": [round(float(-(p * p.clamp(min=1e-9).log()).sum()), 4) for p in mean],
            }
        taken = []
        for layer in zip(*loads, strict=True):
            chosen = [load.sequences[number].chosen_GN[0] for load in layer if number in load.sequences]
            rows = sum(int(load.sequences[number].tokens_G[0]) for load in layer if number in load.sequences)
            if chosen:
                taken.append([round(int(n) / rows, 4) for n in torch.stack(chosen).sum(0)])
        if taken:
            facts.setdefault(group, {})["sequence_experts"] = taken
    return facts


def shares(chosen_N: torch.Tensor) -> list[float]:
    return [round(float(share), 4) for share in chosen_N / chosen_N.sum().clamp(min=1)]
