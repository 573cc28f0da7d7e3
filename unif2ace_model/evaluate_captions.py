"""Captions: how likely a model finds the stored ones.

B samples
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from unif2ace_model.answering import Ask, answer_nll
from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.mixture import DESCRIBE
from unif2ace_model.pictures import Exchanged, Pictures
from unif2ace_model.trained import TrainedModel

Tick = Callable[[int], None]


def evaluate_captions(
    trained: TrainedModel,
    pictures: Pictures,
    captions: Sequence[str],
    bootstrap: Bootstrap,
    instead: list[int] | None,
    tick: Tick = lambda n: None,
) -> dict[str, Any]:
    """Nats a token of the stored captions, with intervals, and the same with every picture exchanged."""
    asks = [Ask(place, DESCRIBE, caption) for place, caption in enumerate(captions)]
    who = range(len(asks))
    nll_B, tokens_B = answer_nll(trained, pictures, asks, tick)
    found: dict[str, Any] = {"tokens": int(tokens_B.sum()), "nll": bootstrap.ratio(who, nll_B, tokens_B).as_json()}
    if instead:
        other_B, _ = answer_nll(trained, Exchanged(pictures, instead), asks, tick)
        found["exchanged_nll"] = bootstrap.ratio(who, other_B, tokens_B).as_json()
        found["picture_tells"] = bootstrap.ratio(who, other_B - nll_B, tokens_B).as_json()
    return found
