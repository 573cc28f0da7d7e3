"""Captions: how likely a model finds the stored ones, and what the ones that it writes itself are worth.

B samples
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from unif2ace_data.schema import Attribute
from unif2ace_model.answering import Ask, answer_nll, spoken_answers
from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.caption_scores import grounding, grounding_scores, text_scores
from unif2ace_model.mixture import DESCRIBE
from unif2ace_model.pictures import Exchanged, Pictures
from unif2ace_model.trained import TrainedModel

EXAMPLES = 4
Tick = Callable[[int], None]


def evaluate_captions(
    trained: TrainedModel,
    pictures: Pictures,
    captions: Sequence[str],
    evidence: Sequence[Sequence[Attribute]],
    bootstrap: Bootstrap,
    instead: list[int] | None,
    tick: Tick = lambda n: None,
) -> tuple[dict[str, Any], list[str]]:
    """The report and the model's captions. `instead`: whose picture each sample gets in the control; None: no control."""
    asks = [Ask(place, DESCRIBE, caption) for place, caption in enumerate(captions)]
    who = range(len(asks))
    nll_B, tokens_B = answer_nll(trained, pictures, asks, tick)
    found: dict[str, Any] = {"tokens": int(tokens_B.sum()), "nll": bootstrap.ratio(who, nll_B, tokens_B).as_json()}
    if instead:
        other_B, _ = answer_nll(trained, Exchanged(pictures, instead), asks, tick)
        found["exchanged_nll"] = bootstrap.ratio(who, other_B, tokens_B).as_json()
        found["picture_tells"] = bootstrap.ratio(who, other_B - nll_B, tokens_B).as_json()
    prompts = [Ask(place, DESCRIBE) for place in who]
    said = spoken_answers(trained, pictures, prompts, trained.preset.text.max_tokens, tick)
    found |= caption_report(said, captions, evidence, bootstrap, instead)
    return found, said


def caption_report(
    said: Sequence[str],
    captions: Sequence[str],
    evidence: Sequence[Sequence[Attribute]],
    bootstrap: Bootstrap,
    instead: list[int] | None,
) -> dict[str, Any]:
    """Scores of generated captions; beside them the stored ones' by the evidence, and those written of other people."""
    own = [grounding(text, known) for text, known in zip(said, evidence, strict=True)]
    stored = [grounding(text, known) for text, known in zip(captions, evidence, strict=True)]
    report: dict[str, Any] = {
        "written": text_scores(said, captions, bootstrap) | grounding_scores(own, bootstrap),
        "stored": bare(grounding_scores(stored, bootstrap)),
    }
    if instead:
        strangers = [said[i] for i in instead]
        other = [grounding(text, known) for text, known in zip(strangers, evidence, strict=True)]
        report["exchanged"] = text_scores(strangers, captions, bootstrap) | bare(grounding_scores(other, bootstrap))
    report["examples"] = [
        {"written": text, "stored": caption} for text, caption in list(zip(said, captions, strict=True))[:EXAMPLES]
    ]
    return report


def bare(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: score for name, score in scores.items() if name != "by_attribute"}
