"""What a model costs: parameters, FLOPs and memory, counted from its modules, so that MFU is a property of the model.

Multiply-adds count as two. A training step costs three forward passes (six per parameter and token); recomputation is
not counted, so MFU stays comparable.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from unif2ace_model.config import ModelConfig
from unif2ace_model.model import UniF2ace
from unif2ace_model.moe import Experts, TokenMoeLayer
from unif2ace_model.prompts import IGNORED, Batch

# dense bfloat16 FLOP/s by the datasheets
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
ADAMW_BYTES = 16  # a float32 weight, its gradient and two moments


@dataclass(slots=True)
class Cost:
    """`body`: products of one token through the blocks, `text_head` and `code_head`: of one row; all forward, in FLOPs.

    `attention`: per pair of tokens. `sequence`: per image token of a sequence, what resamplers and projections add.
    """

    body: int
    attention: int
    sequence: int
    text_head: int
    code_head: int


def cost_of(model: UniF2ace) -> Cost:
    config = model.config
    body = sequence = 0
    for name, module in model.body.named_modules():
        if isinstance(module, nn.Linear):
            if ".sequence." in name:
                sequence += 2 * module.weight.numel()
            else:
                body += 2 * module.weight.numel()
        elif isinstance(module, TokenMoeLayer):
            body += routed_flops(module)
    if model.guests is not None:
        sequence += sum(2 * m.weight.numel() for m in model.guests.modules() if isinstance(m, nn.Linear))
    attention = config.layers * 2 * 2 * config.dim  # scores and their sum, for each pair
    return Cost(
        body, attention, sequence, 2 * model.text_head.weight.numel(), 2 * config.dim * model.codes.head.out_features
    )


def routed_flops(layer: TokenMoeLayer) -> int:
    """Of one token: its router, its K experts, and its own of the grouped shared experts."""
    flops = 0
    if layer.router is not None and layer.routed is not None:
        expert = layer.routed.up_EDF[0].numel() + layer.routed.down_EFD[0].numel()
        flops += 2 * (layer.router.weight_GND.numel() + layer.router.top_k * expert)
    if isinstance(layer.shared, Experts):
        flops += 2 * (layer.shared.up_EDF[0].numel() + layer.shared.down_EFD[0].numel())
    return flops


def step_flops(cost: Cost, parts: list[Batch]) -> float:
    """Training FLOPs of one step: the tokens, pairs and rows of the heads that are really computed."""
    total = 0.0
    for batch in parts:
        tokens = int(batch.valid_BS.sum())
        pairs = len(batch.text_BS) * batch.text_BS.shape[1] ** 2
        images = batch.codes_BN.numel()
        text_rows = int((batch.labels_BS != IGNORED).sum())
        code_rows = int((batch.targets_BN != IGNORED).sum())
        total += cost.body * tokens + cost.attention * pairs + cost.sequence * images
        total += cost.text_head * text_rows + cost.code_head * code_rows
    return 3 * total


def peak_flops() -> float | None:
    """The GPU's FLOP/s by its datasheet; None for a CPU or a GPU that is not in the list."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for known, peak in PEAK.items() if known in name), None)


def training_bytes(parameters: int) -> int:
    """Weights, gradients and AdamW's moments in float32; activations come on top."""
    return ADAMW_BYTES * parameters


def inference_bytes(parameters: int) -> int:
    """The weights in float32."""
    return 4 * parameters


def cache_bytes(config: ModelConfig, length: int) -> int:
    """Keys and values of one sequence of `length` tokens, in float32."""
    return 4 * 2 * config.layers * config.dim * length
