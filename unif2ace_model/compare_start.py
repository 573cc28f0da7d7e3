"""Where all runs of a comparison start: a model that speaks as the texts of both variants do, and has seen no face.

Most of what a small model learns in its first hundreds of steps is the language of captions and questions, one run sooner
than another. That is alike in both variants, and its chance hides what is not. So it is learnt once, from the training
texts of both, every picture withheld and slowly, so that it learns to speak and less of the texts by heart; what looks at
pictures (resamplers, sequence-level experts) begins afresh in every run, by its seed.

    comparison/start/    config.json, model.safetensors without those, start.json (written last): steps, CPU seconds
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import torch

from unif2ace_data.run.progress import Progress
from unif2ace_model.checkpoint import atomic_folder, save_weights
from unif2ace_model.compare_plan import SLOW, START, Plan, encoded, seeded, with_shared
from unif2ace_model.data import Dataset
from unif2ace_model.mixture import Mixture, mixture_of
from unif2ace_model.model import UniF2ace
from unif2ace_model.prompts import Batch
from unif2ace_model.start import LOOKS
from unif2ace_model.text import load_tokenizer
from unif2ace_model.train import adamw, apply_step, filled, train_step

STATE = "start.json"


def share_start(out: Path, plan: Plan, quiet: bool) -> None:
    """Train it where it is not there yet. A preset that names a start of its own keeps that."""
    folder = out / START
    if not plan.start_steps or (folder / STATE).is_file():
        return
    before, steps = os.times(), plan.start_steps
    preset = seeded(with_shared(out, plan.preset), 0)
    optim = preset.optim.model_copy(
        update={
            "steps": steps,
            "lr": SLOW * preset.optim.lr,
            "body": 1.0,
            "gen_batch": 0,
            "und_batch": max(1, preset.optim.und_batch),
        }
    )
    preset = preset.model_copy(update={"optim": optim})
    text = load_tokenizer(preset.text.tokenizer)
    dataset = of_both(*(encoded(Path(plan.side(side).path), preset) for side in ("a", "b")))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.use_deterministic_algorithms(device.type == "cpu")  # made again after a kill, it is the same
    torch.manual_seed(0)
    model = UniF2ace(filled(preset.model, dataset, text)).to(device)
    optimizer, mixture = adamw(model, preset), mixture_of(dataset, "train", text, preset)
    progress = Progress("learning to speak", steps, quiet, "step")
    for step in range(steps):
        _, loads = train_step(model, optimizer, withheld(mixture, step), preset, step)
        apply_step(model, optimizer, preset, step, loads)
        progress.advance(1, [])
    progress.close()
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items() if not LOOKS.search(name)}
    after = os.times()
    seconds = after.user + after.system - before.user - before.system
    with atomic_folder(folder) as made:
        save_weights(model.config, tensors, made)
        (made / STATE).write_text(json.dumps({"steps": steps, "cpu_seconds": round(seconds, 1)}) + "\n")


def of_both(a: Dataset, b: Dataset) -> Dataset:
    """The samples of both, one after the other."""
    moved = [replace(record, shard=record.shard + len(a.shards)) for record in b.records]
    return replace(a, records=a.records + moved, shards=a.shards + b.shards)


def withheld(mixture: Mixture, step: int) -> list[Batch]:
    """A step's sequences with nothing to see: every code is the mask, every feature zero."""
    parts = mixture.batch(step)
    for part in parts:
        part.codes_BN.fill_(mixture.preset.model.codebook)
        for features in (part.face_BC, part.clip_BPC):
            if features is not None:
                features.zero_()
    return parts
