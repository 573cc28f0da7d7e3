"""What a model makes of texts about pictures: how likely it finds an answer, and what it says itself.

A asks
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unif2ace_model.decoding import answer, text_nll
from unif2ace_model.mixture import question_text
from unif2ace_model.pictures import Pictures
from unif2ace_model.prompts import Batch, pack, understanding
from unif2ace_model.trained import TrainedModel

BATCH = 32  # our choice: sequences at once, of like length


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about the picture of this number, and an answer ("": to be given)."""

    picture: int
    question: str
    answer: str = ""


def answer_nll(
    trained: TrainedModel, pictures: Pictures, asks: Sequence[Ask], tick: Callable[[int], None] = lambda n: None
) -> tuple[np.ndarray, np.ndarray]:
    """(A,) -log p of each answer in nats, and (A,) its tokens; the end of the answer is one of them.

    Answers are cut where the training cuts them. `tick` is called with the number of asks that are done.
    """
    nll_A, tokens_A = np.zeros(len(asks)), np.zeros(len(asks), np.int64)
    for chosen in batches(asks):
        batch = prompts_of(trained, pictures, [asks[i] for i in chosen])
        with trained.at_work():
            nll_B, count_B = text_nll(trained.model, batch.to(trained.device))
        nll_A[chosen], tokens_A[chosen] = nll_B.double().cpu().numpy(), count_B.cpu().numpy()
        tick(len(chosen))
    return nll_A, tokens_A


def spoken_answers(
    trained: TrainedModel,
    pictures: Pictures,
    asks: Sequence[Ask],
    most: int = 100,
    tick: Callable[[int], None] = lambda n: None,
) -> list[str]:
    """The model's own answers, the likeliest token again and again, of at most `most` tokens."""
    said = [""] * len(asks)
    for chosen in batches(asks):
        batch = prompts_of(trained, pictures, [asks[i] for i in chosen], left=True)
        with trained.at_work():
            found = answer(trained.model, batch.to(trained.device), most)
        for place, ids in zip(chosen, found, strict=True):
            said[place] = trained.text.decode(ids)
        tick(len(chosen))
    return said


def batches(asks: Sequence[Ask]) -> list[list[int]]:
    """Numbers of the asks, those of like length together."""
    order = sorted(range(len(asks)), key=lambda i: (len(asks[i].question) + len(asks[i].answer), i))
    return [order[first : first + BATCH] for first in range(0, len(order), BATCH)]


def prompts_of(trained: TrainedModel, pictures: Pictures, asks: Sequence[Ask], left: bool = False) -> Batch:
    text, vocab, most = trained.text, trained.model.config.text_vocab, trained.preset.text.max_tokens
    layouts = [
        understanding(
            pictures.codes(ask.picture),
            text.encode(question_text(ask.question)),
            text.encode(ask.answer)[:most] if ask.answer else [],
            vocab,
        )
        for ask in asks
    ]
    batch = pack(layouts, vocab, left=left)
    numbers = [ask.picture for ask in asks]
    batch.face_BC = pictures.features("face", numbers)
    batch.clip_BPC = pictures.features("clip", numbers)
    return batch
