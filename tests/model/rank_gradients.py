"""Run by torchrun, or alone: the gradients of one step of a fresh model, whole, written by rank 0.

rank_gradients.py PRESET.yaml SHARDS TARGET.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from unif2ace_model.config import load_preset
from unif2ace_model.data import open_dataset
from unif2ace_model.mixture import mixture_of
from unif2ace_model.model import UniF2ace
from unif2ace_model.ranks import ranks_of, spread
from unif2ace_model.text import learn_tokenizer
from unif2ace_model.train import adamw, filled, train_step


def main() -> None:
    preset, shards, target = load_preset(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    with ranks_of(preset) as ranks:
        dataset = open_dataset(shards, preset.images, preset.features, quiet=True)
        text = learn_tokenizer([record.caption for record in dataset.of("train")], 300)
        torch.manual_seed(0)
        model = UniF2ace(filled(preset.model, dataset, text))
        spread(model, ranks)
        parts = mixture_of(dataset, "train", text, preset).batch(3, ranks.world * preset.optim.accumulate)
        train_step(model, adamw(model, preset), parts, preset, 3, ranks)
        whole = {}
        for name, parameter in model.named_parameters():
            found = parameter.grad
            assert found is not None or ranks.world == 1, name
            if found is not None:
                whole[name] = found.full_tensor() if isinstance(found, DTensor) else found
        banks = [p for name, p in model.named_parameters() if name.endswith("up_EDF")]
        if ranks.world > 1:
            held = [p.to_local().shape[0] for p in banks if isinstance(p, DTensor)]
            assert held == [p.shape[0] // ranks.world for p in banks]  # experts are whole, and spread
        if ranks.first:
            save_file({name: gradient.contiguous() for name, gradient in whole.items()}, target)


if __name__ == "__main__":
    main()
