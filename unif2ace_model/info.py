"""What a preset costs before anything is trained: parameters, FLOPs and memory, from a model that takes no memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from unif2ace_model.config import ModelConfig, Preset
from unif2ace_model.features import clip_network, face_network
from unif2ace_model.flops import cache_bytes, cost_of, inference_bytes, training_bytes
from unif2ace_model.model import UniF2ace
from unif2ace_model.moe import GROUPS
from unif2ace_model.prompts import generation
from unif2ace_model.text import load_tokenizer

ROUTED, SHARED = "routed experts", "shared FFN"
# the part that a parameter belongs to: the first of which its name holds something
PARTS = {
    "text embedding, head": ("text_embed.", "text_head."),
    "code embedding, head": ("codes.",),
    "attention": (".attention.",),
    SHARED: (".feed.shared.",),
    ROUTED: (".feed.routed.",),
    "token routers": (".feed.router.",),
    "sequence experts": (".sequence.", "guests."),
    "norms": ("norm.",),
}


def info(preset: Preset) -> dict[str, Any]:
    """Parameters by part, FLOPs of a token in the longest sequence, bytes, and whose the numbers are; JSON-ready.

    Raises UserError where the size of a vocabulary or the width of features is not in the preset, and the tokenizer or
    network that decides it is not there.
    """
    config = filled(preset)
    with torch.device("meta"):
        model = UniF2ace(config)
    counts, cost = model.parameter_counts(), cost_of(model)
    length = longest(preset, config)
    in_blocks = cost.body + cost.attention * length
    text, image = in_blocks + cost.text_head, in_blocks + cost.sequence + cost.code_head
    return {
        "parameters": {**counts, "parts": parts_of(model)},
        "tokens": {"sequence": length, "image": config.image_tokens, "text_vocab": config.text_vocab},
        "flops": {
            "text_token": {"forward": text, "training": 3 * text},
            "image_token": {"forward": image, "training": 3 * image},
        },
        "bytes": {
            "training": training_bytes(counts["total"]),
            "inference": inference_bytes(counts["total"]),
            "cache": cache_bytes(config, length),
        },
        "settings": list(settings_of(preset)),
    }


def filled(preset: Preset) -> ModelConfig:
    """The model's configuration with what tokenizers and networks decide; a vocabulary to be learnt is taken as full."""
    config, update = preset.model, {}
    if not config.text_vocab:
        kind, _, size = preset.text.tokenizer.partition(":")
        learnt = kind == "train" and size.isdigit()
        update["text_vocab"] = int(size) if learnt else load_tokenizer(preset.text.tokenizer).size
    crop, landmarks = np.zeros((112, 112, 3), np.uint8), np.array([[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]])
    for name, network in (("face", face_network), ("clip", clip_network)):
        if name in config.guests and not getattr(config, f"{name}_dim"):
            update[f"{name}_dim"] = network(getattr(preset.features, name)).of([crop], [landmarks]).shape[-1]
    return config.model_copy(update=update)


def longest(preset: Preset, config: ModelConfig) -> int:
    """Tokens of a caption of `text.max_tokens` with its picture."""
    codes = np.zeros(config.image_tokens, np.int64)
    return len(generation([0] * preset.text.max_tokens, codes, config.text_vocab).text)


def parts_of(model: UniF2ace) -> dict[str, dict[str, int]]:
    """Parameters of each part: in all, and those that one token uses."""
    total = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        total[next(part for part, found in PARTS.items() if any(f in name for f in found))] += parameter.numel()
    used = dict(total)
    moe = model.config.token_moe
    if moe is not None:
        used[ROUTED] = total[ROUTED] * moe.top_k // (len(GROUPS) * moe.experts)
        used[SHARED] = total[SHARED] // (len(GROUPS) if moe.shared == "grouped" else 1)
    return {part: {"total": total[part], "active": used[part]} for part in PARTS if total[part]}


def settings_of(section: BaseModel, path: str = "") -> Iterator[dict[str, Any]]:
    """Every setting whose description tells whose number its default is, "paper: …" or "our choice: …"."""
    for name, field in type(section).model_fields.items():
        value, note = getattr(section, name), field.description or ""
        if isinstance(value, BaseModel):
            yield from settings_of(value, f"{path}{name}.")
        elif note.startswith(("paper", "our choice")):
            yield {"key": path + name, "value": value, "default": value == field.default, "note": note}


def lines_of(name: str, facts: dict[str, Any]) -> list[str]:
    """The same for a terminal."""
    counts, tokens, flops, size = facts["parameters"], facts["tokens"], facts["flops"], facts["bytes"]
    lines = [f"{name}", f"  {'parameters':<22} {'total':>15} {'active':>15}"]
    rows = [*counts["parts"].items(), ("in all", counts)]
    lines += [f"  {part:<22} {row['total']:>15,} {row['active']:>15,}" for part, row in rows]
    lines.append(f"  {'FLOPs a token':<22} {'forward':>15} {'training':>15}")
    lines += [
        f"  {kind:<22} {flops[key]['forward'] / 1e6:>13,.2f} M {flops[key]['training'] / 1e6:>13,.2f} M"
        for kind, key in (("text", "text_token"), ("image", "image_token"))
    ]
    lines += [
        f"  (in a sequence of {tokens['sequence']}: {tokens['image']} image tokens, captions of text.max_tokens, their frame)",
        "  memory",
        f"  {'training':<22} {gibibytes(size['training']):>15}   weights, gradients, AdamW; activations come on top",
        f"  {'inference':<22} {gibibytes(size['inference']):>15}   weights in float32",
        f"  {'':<22} {gibibytes(size['cache']):>15}   keys and values of one such sequence",
        "  settings",
    ]
    for setting in facts["settings"]:
        mark = "" if setting["default"] else "(changed) "
        lines.append(f"  {setting['key']:<27} {setting['value']!s:<33} {mark}{setting['note']}")
    return lines


def gibibytes(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 else f"{count / 2**20:,.2f} MiB"
