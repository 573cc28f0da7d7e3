"""Image likelihood: an upper bound (NELBO) of -log2 p of a picture's codes, in bits a token, beside plain counting.

B pictures   N image tokens   Q codes
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.data import Dataset, Record
from unif2ace_model.decoding import denoiser
from unif2ace_model.diffusion import nelbo
from unif2ace_model.pictures import Pictures
from unif2ace_model.trained import TrainedModel

DRAWS = 16  # our choice: mask counts a picture, one in each sixteenth of 1 .. N
BATCH = 16
Tick = Callable[[int], None]


def picture_nelbo(
    trained: TrainedModel,
    pictures: Pictures,
    captions: Sequence[Sequence[int]],
    draws: int,
    seed: int,
    tick: Tick = lambda n: None,
) -> np.ndarray:
    """(B,) nats a picture, given its caption's ids ([]: none). The same masks whatever the captions, so that these differ
    by what they tell alone."""
    model, bounds = trained.model, []
    for first in range(0, len(captions), BATCH):
        rows = range(first, min(first + BATCH, len(captions)))
        codes_BN = torch.from_numpy(np.stack([pictures.codes(i) for i in rows]).astype(np.int64))
        generator = torch.Generator().manual_seed(seed + first)
        with trained.at_work():
            denoise = denoiser(model, [captions[i] for i in rows])

            def log_probs(codes: Tensor, rate_B: Tensor, denoise: Any = denoise) -> Tensor:
                found = denoise(codes, rate_B.float()).float().log_softmax(-1).cpu()
                assert isinstance(found, Tensor)
                return found

            bound_B = nelbo(log_probs, codes_BN, model.config.codebook, draws, generator)
        bounds.append(bound_B.numpy())
        tick(len(rows))
    return np.concatenate(bounds) if bounds else np.zeros(0)


def unigram_nats(train: Sequence[np.ndarray], codes: np.ndarray, codebook: int) -> np.ndarray:
    """(B,) -log p of each row of codes (B, N) by the training codes' counts, one added to each code's."""
    counts = np.ones(codebook)
    for one in train:
        counts += np.bincount(np.asarray(one).ravel(), minlength=codebook)
    return np.asarray(-np.log(counts / counts.sum())[codes].sum(-1))


def codes_of(dataset: Dataset, records: Sequence[Record]) -> list[np.ndarray]:
    """All views of these samples' codes, (V, N) each: what the training saw."""
    return [np.asarray(dataset.shards[record.shard].codes[record.row]) for record in records]


def evaluate_codes(
    trained: TrainedModel,
    pictures: Pictures,
    captions: Sequence[Sequence[int]],
    train: Sequence[np.ndarray],
    bootstrap: Bootstrap,
    instead: list[int] | None,
    tick: Tick = lambda n: None,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Bits a token, with intervals: given the caption, given none, given another person's, and by counting alone."""
    who = range(len(captions))
    codes_BN = np.stack([pictures.codes(i) for i in who])
    tokens_B = np.full(len(who), codes_BN.shape[1])
    counted_B = unigram_nats(train, codes_BN, trained.model.config.codebook)
    seed = trained.preset.run.seed
    given_B = picture_nelbo(trained, pictures, captions, draws, seed, tick)
    alone_B = picture_nelbo(trained, pictures, [[] for _ in captions], draws, seed, tick)

    def bits(nats_B: np.ndarray) -> dict[str, Any]:
        return bootstrap.ratio(who, nats_B / math.log(2), tokens_B).as_json()

    found: dict[str, Any] = {
        "draws": draws,
        "bits_per_token": bits(given_B),
        "without_caption": bits(alone_B),
        "unigram": bits(counted_B),
        "under_unigram": bootstrap.ratio(who, counted_B - given_B, counted_B).as_json(),
        "uniform": round(math.log2(trained.model.config.codebook), 5),
    }
    if instead:
        other_B = picture_nelbo(trained, pictures, [captions[i] for i in instead], draws, seed, tick)
        found["exchanged_caption"] = bits(other_B)
        found["caption_tells"] = bits(other_B - given_B)
    return found
