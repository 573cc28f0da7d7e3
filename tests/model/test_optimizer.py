"""Who learns at which rate: all alike, or the body at a share of it."""

from __future__ import annotations

import pytest
import torch

from unif2ace_model.config import Preset
from unif2ace_model.model import UniF2ace
from unif2ace_model.start import LOOKS
from unif2ace_model.train import adamw, apply_step, learning_rate


def moved_by(preset: Preset, body: float) -> dict[str, float]:
    """How far each weight goes in a first step of which every gradient is 1: for Adam that is the rate itself."""
    optim = preset.optim.model_copy(update={"body": body, "weight_decay": 0.0})
    preset = preset.model_copy(update={"optim": optim})
    widths = {f"{name}_dim": 8 for name in preset.model.guests}
    model = UniF2ace(preset.model.model_copy(update={"text_vocab": 300} | widths))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = adamw(model, preset)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    apply_step(model, optimizer, preset, preset.optim.warmup, [])
    return {name: float((before[name] - p.detach()).mean()) for name, p in model.named_parameters()}


def test_the_body_takes_its_share_of_the_rate_and_what_looks_at_pictures_the_whole(preset: Preset) -> None:
    rate = learning_rate(preset, preset.optim.warmup)
    moved = moved_by(preset, 0.3)
    looks = {name for name in moved if LOOKS.search(name)}
    assert looks and looks != set(moved)
    for name, distance in moved.items():
        assert distance == pytest.approx(rate if name in looks else 0.3 * rate, rel=1e-2), name


def test_without_a_share_all_learn_alike_in_the_two_groups_that_checkpoints_have_always_had(preset: Preset) -> None:
    rate = learning_rate(preset, preset.optim.warmup)
    assert all(distance == pytest.approx(rate, rel=1e-2) for distance in moved_by(preset, 1.0).values())
    widths = {f"{name}_dim": 8 for name in preset.model.guests}
    model = UniF2ace(preset.model.model_copy(update={"text_vocab": 300} | widths))
    groups = adamw(model, preset).param_groups
    assert [group["weight_decay"] for group in groups] == [preset.optim.weight_decay, 0.0]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
