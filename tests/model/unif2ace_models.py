"""Small models and batches for the tests of the model."""

from __future__ import annotations

import numpy as np
import torch

from unif2ace_model.config import ModelConfig, SequenceMoe, TokenMoe
from unif2ace_model.model import UniF2ace
from unif2ace_model.prompts import Batch, generation, pack, understanding

VOCAB, TOKENS, FACE, CLIP = 96, 16, 12, 20
DENSE = ModelConfig(
    dim=64, layers=3, heads=4, ffn_dim=96, text_vocab=VOCAB, image_tokens=TOKENS, levels=[4, 4, 2],
    token_moe=None, sequence_moe=None,
)  # fmt: skip
FULL = DENSE.model_copy(
    update={
        "token_moe": TokenMoe(experts=4, top_k=2, expert_dim=16),
        "sequence_moe": SequenceMoe(dim=16, heads=2, scale=0.5),
        "face_dim": FACE,
        "clip_dim": CLIP,
    }
)


def random_model(config: ModelConfig = FULL, seed: int = 0, std: float = 0.08) -> UniF2ace:
    """Every parameter random, so that nothing hides behind a zero."""
    torch.manual_seed(seed)
    model = UniF2ace(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * std)
    return model


def codes(rows: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, DENSE.codebook, (rows, TOKENS))


def mixed_batch(seed: int = 0) -> Batch:
    """Two of each group, of different lengths, half of the generation's codes masked."""
    rng = np.random.default_rng(seed)
    image = codes(4, seed)
    masked = image.copy()
    masked[2:, ::2] = DENSE.codebook
    layouts = [
        understanding(image[0], rng.integers(0, VOCAB, 5).tolist(), rng.integers(0, VOCAB, 4).tolist(), VOCAB),
        understanding(image[1], rng.integers(0, VOCAB, 2).tolist(), rng.integers(0, VOCAB, 9).tolist(), VOCAB),
        generation(rng.integers(0, VOCAB, 7).tolist(), masked[2], VOCAB, 0.5),
        generation([], masked[3], VOCAB, 0.5),
    ]
    batch = pack(layouts, VOCAB)
    batch.targets_BN = torch.where(batch.codes_BN == DENSE.codebook, torch.from_numpy(image), -100)
    torch.manual_seed(seed)
    batch.face_BC, batch.clip_BPC = torch.randn(2, FACE), torch.randn(2, 3, CLIP)
    return batch
