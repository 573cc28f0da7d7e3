"""What a comparison measures of one run: for each measurement and sample, two numbers whose sums divide into the figure.

    B samples

Kept by sample, so that a figure can be taken again over other draws of people. Nothing here is by chance: both variants
answer the same questions, and their likelihoods are taken under the same masks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unif2ace_model.answering import Ask, answer_nll, spoken_answers
from unif2ace_model.caption_scores import grounding
from unif2ace_model.evaluate import Held, samples_of
from unif2ace_model.evaluate_codes import DRAWS, picture_nelbo
from unif2ace_model.evaluate_generation import Look, claims_of, seen_in, verdicts
from unif2ace_model.evaluate_qa import Answered, Asked, answered, questions_of
from unif2ace_model.generation import Sampling, generate
from unif2ace_model.mixture import DESCRIBE
from unif2ace_model.trained import tokenizer_of

PRIMARY = ("answer_nll", "caption_nll")
SECONDARY = ("accuracy", "caption_f1", "nelbo", "agreement")  # and `accuracy:GROUP` of every group that is asked about
LOWER = ("answer_nll", "caption_nll", "nelbo")  # less is better; of all others more
UNITS = {"answer_nll": "nats a token", "caption_nll": "nats a token", "nelbo": "bits a code"}
EXAMPLES = 6  # samples whose answers and captions a page shows

Rows = dict[str, tuple[np.ndarray, np.ndarray]]  # measurement -> (above (B,), below (B,))


def lower_is_better(name: str) -> bool:
    return name in LOWER


def unit_of(name: str) -> str:
    """In which a figure is told; shares are told in per cent."""
    return UNITS.get(name, "%")


@dataclass(frozen=True, slots=True)
class Examples:
    """What a model says of the first samples: their captions, and its answers to questions about them."""

    captions: list[str]
    answers: list[list[str]]  # of each sample, in the order of its questions


def measure(held: Held, look: Look, pictures: int) -> tuple[Rows, Examples]:
    """Every measurement. `pictures`: captions of which faces are generated and analysed, 0: none."""
    asked = questions_of(held.records)
    said = answered(held.trained, held.pictures, asked)
    rows = question_rows(asked, said, len(held.records))
    captions = spoken_answers(
        held.trained,
        held.pictures,
        [Ask(place, DESCRIBE) for place in range(len(held.records))],
        held.trained.preset.text.max_tokens,
    )
    rows |= caption_rows(held, captions)
    nats_B = picture_nelbo(held.trained, held.pictures, held.caption_ids, DRAWS, seed=0)
    codes = held.trained.model.config.image_tokens
    rows["nelbo"] = (nats_B / math.log(2), np.full(len(nats_B), float(codes)))
    if pictures:
        rows |= generated_rows(held, look, pictures)
    by_sample: list[list[str]] = [[] for _ in range(EXAMPLES)]
    for one, words in zip(asked, said.said, strict=True):
        if one.picture < EXAMPLES:
            by_sample[one.picture].append(words)
    return rows, Examples(captions[:EXAMPLES], by_sample[: len(held.records)])


def curve_point(held: Held) -> dict[str, float]:
    """The primary measurements alone, as figures: a point of a learning curve."""
    asked = questions_of(held.records)
    asks = [Ask(one.picture, one.qa["question"], one.qa["answer"]) for one in asked]
    asks += [Ask(place, DESCRIBE, caption) for place, caption in enumerate(held.captions)]
    nll_A, tokens_A = answer_nll(held.trained, held.pictures, asks)
    answers, captions = slice(0, len(asked)), slice(len(asked), None)
    return {
        "answer_nll": float(nll_A[answers].sum() / tokens_A[answers].sum()),
        "caption_nll": float(nll_A[captions].sum() / tokens_A[captions].sum()),
    }


# ------------------------------------------------------------------ rows


def question_rows(asked: Sequence[Asked], said: Answered, samples: int) -> Rows:
    who = np.array([one.picture for one in asked])
    right, nll, tokens = said.right.astype(float), said.nll, said.tokens.astype(float)

    def sums(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return np.bincount(who[chosen], values[chosen], samples)

    every = np.ones(len(asked), bool)
    rows: Rows = {"answer_nll": (sums(nll, every), sums(tokens, every))}
    parts: dict[str, np.ndarray] = {"accuracy": every}
    parts |= chosen_by("accuracy:", [str(one.qa["category"]) for one in asked])
    parts["accuracy_with_options"] = np.array([bool(one.qa["options"]) for one in asked])
    parts |= chosen_by("accuracy@", [str(one.qa["attribute"]) for one in asked])
    for name, chosen in parts.items():
        if chosen.any():
            rows[name] = (sums(right, chosen), sums(np.ones(len(asked)), chosen))
    return rows


def chosen_by(prefix: str, labels: Sequence[str]) -> dict[str, np.ndarray]:
    named = np.array(labels)
    return {f"{prefix}{name}": named == name for name in sorted(set(labels))}


def caption_rows(held: Held, captions: Sequence[str]) -> Rows:
    """NLL of the stored captions; of the model's own the attributes claimed rightly, by the evidence.

    F1 = 2 right / (claimed and settled + stateable by the evidence), summed over samples.
    """
    asks = [Ask(place, DESCRIBE, caption) for place, caption in enumerate(held.captions)]
    nll_B, tokens_B = answer_nll(held.trained, held.pictures, asks)
    evidence = [sample.attributes for sample, _ in samples_of(held.shards, held.records)]
    found = [grounding(text, known) for text, known in zip(captions, evidence, strict=True)]
    right = np.array([len((g.supported - g.contradicted) & g.evidence) for g in found], float)
    settled = np.array([len((g.supported | g.contradicted) & g.evidence) for g in found], float)
    stateable = np.array([len(g.evidence) for g in found], float)
    return {
        "caption_nll": (nll_B, tokens_B.astype(float)),
        "caption_f1": (2 * right, settled + stateable),
        "caption_precision": (right, settled),
        "caption_recall": (right, stateable),
    }


def generated_rows(held: Held, look: Look, pictures: int) -> Rows:
    """Faces made from the first captions: which of their claims the analyser confirms, of those that it settles."""
    count, samples = min(pictures, len(held.records)), len(held.records)
    prompts = held.caption_ids[:count]
    with held.trained.at_work():
        made = generate(
            held.trained.model, tokenizer_of(held.trained), prompts, held.trained.preset, Sampling("maskgit")
        )
    seen = seen_in(made, look)
    holds, settled, faces = np.zeros(samples), np.zeros(samples), np.zeros(samples)
    for verdict in verdicts(seen, [claims_of(caption) for caption in held.captions[:count]]):
        holds[verdict.sample] += verdict.holds
        settled[verdict.sample] += verdict.settled
    faces[:count] = [attributes is not None for attributes in seen]
    made_B = (np.arange(samples) < count).astype(float)
    return {"agreement": (holds, settled), "faces_found": (faces, made_B)}


# ------------------------------------------------------------------ as JSON


def rows_as_json(rows: Rows) -> dict[str, Any]:
    return {name: [np.round(part, 6).tolist() for part in both] for name, both in rows.items()}


def rows_of(data: Mapping[str, Any]) -> Rows:
    return {name: (np.array(above, float), np.array(below, float)) for name, (above, below) in data.items()}


def value_of(both: tuple[np.ndarray, np.ndarray]) -> float | None:
    """The figure: the sum of one over that of the other; None where nothing bears on it."""
    below = both[1].sum()
    return float(both[0].sum() / below) if below else None
