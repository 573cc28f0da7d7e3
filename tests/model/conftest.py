"""Fixtures of the model's tests: a built dataset of the examples, the same with questions, a preset, and a tiny CLIP."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from labelled import write_clip

from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_model.config import Preset, load_preset
from unif2ace_model.fsq import Fsq, FsqConfig, save_fsq
from unif2ace_model.train import train


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="session")
def asked(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the examples with questions."""
    out = tmp_path_factory.mktemp("asked") / "shards"
    recipe = load_recipe("embedded", ["subjects=adults"])
    build(recipe.model_copy(update={"sources": [SourceSpec(path=str(examples))]}), out, quiet=True)
    subprocess.run([str(Path(sys.executable).parent / "unif2ace-data"), "qa-gen", str(out)], check=True)
    return out


@pytest.fixture(scope="session")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    folder = tmp_path_factory.mktemp("tokenizer")
    torch.manual_seed(0)
    save_fsq(Fsq(FsqConfig(width=16)), folder)
    return load_preset(
        "train-tiny",
        [
            f"images.tokenizer=fsq:{folder}", "images.size=32", "images.views=2", "model.image_tokens=16",
            "model.dim=32", "model.layers=2", "model.ffn_dim=64", "model.token_moe.expert_dim=16",
            "text.tokenizer=train:400", "optim.und_batch=4", "optim.gen_batch=2", "optim.accumulate=2",
            "optim.steps=8", "run.save_every=3", "run.sample_every=5", "run.log_every=2",
        ],
    )  # fmt: skip


@pytest.fixture(scope="session")
def people(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with questions in which one split holds three people."""
    out = tmp_path_factory.mktemp("people") / "shards"
    recipe = load_recipe("embedded", ["subjects=adults", "splits.train=1", "splits.validation=0", "splits.test=0"])
    build(recipe.model_copy(update={"sources": [SourceSpec(path=str(photos))]}), out, quiet=True)
    subprocess.run([str(Path(sys.executable).parent / "unif2ace-data"), "qa-gen", str(out)], check=True)
    return out


@pytest.fixture(scope="session")
def trained_run(people: Path, preset: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps on them."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(people, out, preset, quiet=True)
    return out
