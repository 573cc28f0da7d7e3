"""A trained model with all that using it takes: its preset, its text tokenizer, and what it was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unif2ace_data.errors import UserError
from unif2ace_data.shards import sha256_file
from unif2ace_model.checkpoint import CONFIG, WEIGHTS, load_model
from unif2ace_model.config import Preset, load_preset
from unif2ace_model.data import same_encoders
from unif2ace_model.image_tokenizer import ImageTokenizer, load_image_tokenizer
from unif2ace_model.model import UniF2ace
from unif2ace_model.run_folder import PRESET, STATE, latest, state_of
from unif2ace_model.run_tokenizer import with_tokenizer
from unif2ace_model.text import TextTokenizer, load_tokenizer


@dataclass(slots=True)
class TrainedModel:
    """`folder`: of the checkpoint; `sha256`: of its weights; `dataset`: root hash of the dataset that it was trained on;
    `encoders`: revisions of the image tokenizer and the feature networks that encoded it."""

    run: Path
    folder: Path
    step: int
    sha256: str
    dataset: str
    encoders: dict[str, str]
    preset: Preset
    model: UniF2ace
    text: TextTokenizer
    device: torch.device

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inference in the number format of the training: bfloat16 on the GPU alone, so that the CPU's figures are exact."""
        half = self.preset.run.dtype == "bfloat16" and self.device.type == "cuda"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            yield


def load_trained(where: Path) -> TrainedModel:
    """The latest checkpoint of a run, or the checkpoint in `where`. Raises UserError: neither of them, a broken file."""
    folder = where if (where / CONFIG).is_file() else latest(where)
    run = next((place for place in (folder, folder.parent) if (place / PRESET).is_file()), None)
    if run is None:
        raise UserError(f"{folder} is of no run: neither it nor the folder that it is in holds {PRESET}", 2)
    state = state_of(folder) if (folder / STATE).is_file() else {}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedModel(
        run=run,
        folder=folder,
        step=int(state.get("step", 0)),
        sha256=sha256_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else "",
        dataset=str(state.get("dataset", "")),
        encoders=state.get("encoders", {}),
        preset=with_tokenizer(run, load_preset(str(run / PRESET))),
        model=load_model(folder).to(device).eval(),
        text=load_tokenizer(str(run)),
        device=device,
    )


def tokenizer_of(trained: TrainedModel) -> ImageTokenizer:
    """The image tokenizer that the model learnt with. Raises UserError: it is not there, or another lies in its place."""
    tokenizer = load_image_tokenizer(trained.preset.images.tokenizer)
    same_encoders(trained.encoders, {"tokenizer": tokenizer.revision})
    return tokenizer


def facts_of(trained: TrainedModel) -> dict[str, Any]:
    """Which weights of which preset these are, as reports say it."""
    folder = trained.folder.resolve()
    return {
        "checkpoint": {
            "name": f"{folder.parent.name}/{folder.name}",
            "step": trained.step,
            "sha256": trained.sha256,
            "dataset": trained.dataset,
        },
        "preset": trained.preset.model_dump(mode="json"),
    }
