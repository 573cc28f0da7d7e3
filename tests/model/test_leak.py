"""No leak: in the batches that a model trains on, nothing of a picture's masked part reaches the logits that guess it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from unif2ace_models import CLIP, FACE, FULL, TOKENS, codes, random_model

from unif2ace_model.config import Features as FeatureNames
from unif2ace_model.config import ModelConfig, Optim, Preset, SequenceMoe
from unif2ace_model.data import Dataset, Record, ShardArrays
from unif2ace_model.mixture import Mixture, texts_of
from unif2ace_model.prompts import IGNORED, Batch
from unif2ace_model.text import learn_tokenizer

SAMPLES = 6
CAPTIONS = [f"A woman number {number} who smiles in the light." for number in range(SAMPLES)]


def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    qa = [{"question": "Does she smile?", "answer": "Yes.", "value": "broad", "options": []}]
    records = [Record(f"{i:032x}", "train", CAPTIONS[i], qa, {}, 0, i) for i in range(SAMPLES)]
    face = rng.normal(size=(SAMPLES, FACE)).astype(np.float16)
    clip = rng.normal(size=(SAMPLES, 3, CLIP)).astype(np.float16)
    return Dataset("", records, [ShardArrays(codes(SAMPLES)[:, None], face, clip)])


def mixture_over(data: Dataset, model: ModelConfig) -> Mixture:
    text = learn_tokenizer(CAPTIONS, 300)
    preset = Preset(
        model=model.model_copy(update={"text_vocab": text.size}),
        features=FeatureNames(clip="any", face="any"),
        optim=Optim(und_batch=SAMPLES, gen_batch=SAMPLES),
    )
    return Mixture(data, texts_of(data.records, text, 40), preset, text.size, text.encode("Describe it."))


def generation_logits(mixture: Mixture, change: Callable[[Batch], None] = lambda _: None) -> tuple[torch.Tensor, Batch]:
    """(B, N, Q) of the generation sequences of step 0."""
    model = random_model(mixture.preset.model)
    (batch,) = mixture.batch(0)
    change(batch)
    rows = (batch.group_B == 1).nonzero()[:, 0]
    with torch.no_grad():
        hidden_BSD = model(batch).hidden_BSD[rows]
    span_BN = batch.start_B[rows, None] + torch.arange(TOKENS)
    return model.code_logits(hidden_BSD.gather(1, span_BN[..., None].expand(-1, -1, hidden_BSD.shape[-1]))), batch


LAYOUTS = {
    "dense": FULL.model_copy(update={"token_moe": None, "sequence_moe": None}),
    "full": FULL,
    "every expert": FULL.model_copy(update={"sequence_moe": SequenceMoe(dim=16, heads=2, scale=0.5, top_k=4)}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_lies_under_the_masks_changes_no_generation_logit(name: str) -> None:
    """The same samples are in the batch as understanding, with their clean pictures and features: these change, too."""
    data = dataset()
    before, batch = generation_logits(mixture_over(data, LAYOUTS[name]))
    targets_BN = batch.targets_BN[batch.group_B == 1]
    masked_BN = targets_BN != IGNORED
    assert 0.2 < masked_BN.float().mean() < 1

    other = copy.deepcopy(data)
    uids = mixture_over(data, LAYOUTS[name]).uids(0)["gen"]
    for row, uid in enumerate(uids):
        picture = other.shards[0].codes[int(uid, 16), 0]
        hidden = masked_BN[row].numpy()
        picture[hidden] = (picture[hidden] + 11) % FULL.codebook
    for features in (other.shards[0].face, other.shards[0].clip):
        assert features is not None
        features[:] = features[::-1] * 2 + 1
    after, changed = generation_logits(mixture_over(other, LAYOUTS[name]))
    assert (changed.targets_BN[changed.group_B == 1] != targets_BN)[masked_BN].all()
    assert not torch.equal(changed.codes_BN[changed.group_B == 0], batch.codes_BN[batch.group_B == 0])
    assert torch.equal(before, after)


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_lies_open_does(name: str) -> None:
    """The same comparison, of one open code: it can tell."""
    before, batch = generation_logits(mixture_over(dataset(), LAYOUTS[name]))
    opened = (batch.codes_BN != FULL.codebook) & (batch.group_B == 1)[:, None]
    row, position = opened.nonzero()[0].tolist()

    def change(batch: Batch) -> None:
        batch.codes_BN[row, position] = (batch.codes_BN[row, position] + 11) % FULL.codebook

    after, _ = generation_logits(mixture_over(dataset(), LAYOUTS[name]), change)
    moved_B = (after - before).abs().amax((1, 2))
    number = int((batch.group_B[:row] == 1).sum())
    assert moved_B[number] > 1e-4
    assert (moved_B.index_fill(0, torch.tensor([number]), 0) == 0).all()  # and of its own sequence alone
