"""Fixtures that every folder of tests shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from photographs import EXAMPLES, write_photos

from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photographs of three people. Read only: copy before changing anything."""
    return write_photos(tmp_path_factory.mktemp("photos") / "raw", 20)


@pytest.fixture(scope="session")
def built(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the examples, beside its private folder. Read only: copy before changing anything."""
    out = tmp_path_factory.mktemp("built") / "shards"
    recipe = load_recipe("embedded", ["subjects=adults"])
    build(recipe.model_copy(update={"sources": [SourceSpec(path=str(examples))]}), out, quiet=True)
    return out
