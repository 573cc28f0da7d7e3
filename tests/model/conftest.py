"""Fixtures of the model's tests: a built dataset of the examples, and a tiny CLIP."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled import write_clip

from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build


@pytest.fixture(scope="session")
def built(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "shards"
    recipe = load_recipe("embedded", ["subjects=adults"])
    build(recipe.model_copy(update={"sources": [SourceSpec(path=str(examples))]}), out, quiet=True)
    return out


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")
