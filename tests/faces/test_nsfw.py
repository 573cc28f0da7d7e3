"""The NSFW filter with nudenet's real network: portraits pass, and a photo without the measurement does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from unif2ace_data.faces.decode import decode
from unif2ace_data.faces.nsfw import NsfwNet
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build


def test_portraits_score_low(examples: Path) -> None:
    net = NsfwNet()
    for path in sorted(examples.glob("*.jpg")):
        assert 0 <= net(decode(path.read_bytes()).rgb) < 0.3, path.name


@pytest.mark.slow
def test_a_build_with_the_filter_measures_every_photo(examples: Path, tmp_path: Path) -> None:
    recipe = load_recipe("embedded", ["subjects=adults", "filters.nsfw.max=0.3"])
    recipe = recipe.model_copy(update={"sources": [SourceSpec(path=str(examples))]})
    assert build(recipe, tmp_path / "shards", quiet=True).counts["kept"] == 5
