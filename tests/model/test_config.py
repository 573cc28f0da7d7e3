"""Presets are data: each one loads, and what does not hold is said."""

from __future__ import annotations

import pytest
import torch

from unif2ace_data.errors import UserError
from unif2ace_data.resources import resource
from unif2ace_model.config import load_preset
from unif2ace_model.model import UniF2ace


@pytest.mark.parametrize("name", sorted(path.stem for path in resource("pipelines").glob("train-*.yaml")))
def test_every_preset_makes_a_model(name: str) -> None:
    config = load_preset(name).model
    widths = {f"{guest}_dim": getattr(config, f"{guest}_dim") or 128 for guest in config.guests}
    with torch.device("meta"):
        model = UniF2ace(config.model_copy(update={"text_vocab": config.text_vocab or 1000} | widths))
    counts = model.parameter_counts()
    assert counts["active"] < counts["total"]


def test_the_papers_preset_has_the_papers_size() -> None:
    with torch.device("meta"):
        total = UniF2ace(load_preset("train-1p8b").model).parameter_counts()["total"]
    assert 1.75e9 < total < 1.95e9


@pytest.mark.parametrize(
    "override,message",
    [
        ("optim.learning_rate=1", r"optim\.learning_rate"),
        ("model.token_moe.top_k=9", "more than the 8 experts"),
        ("model.heads=3", "not a multiple of heads"),
        ("features.face=''", "names no network"),
        ("optim.lr=-1", "greater than 0"),
    ],
)
def test_what_does_not_hold_is_said(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_preset("train-tiny", [override])
    assert error.value.exit_code == 2


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(UserError, match="train-1p8b, train-compare, train-small, train-tiny"):
        load_preset("train-huge")
