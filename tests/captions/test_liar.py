"""A planted liar among the engines: what the taxonomy can measure comes out contradicted and is cut, and truth stays.

The statements of liar.yaml were written by somebody who did not know the reader of claims. docs/captions.md says how the
reader does on statements that it was not improved with.
"""

from __future__ import annotations

from pathlib import Path

import liar
import pytest

from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.schema import Attribute, Sample
from unif2ace_data.shards import dataset_shards, read_samples

ROUNDS = 8


@pytest.fixture(scope="module")
def faces(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes, list[Attribute]]]:
    out = tmp_path_factory.mktemp("liar") / "shards"
    recipe = load_recipe(
        "embedded", ["subjects=adults", "duplicates.perceptual=null", "duplicates.near_identical=false"]
    )
    build(recipe.model_copy(update={"sources": [SourceSpec(path=str(photos))]}), out, quiet=True)
    return [
        (key, files["jpg"], Sample.model_validate_json(files["json"]).attributes)
        for shard in dataset_shards(out)
        for key, files in read_samples(shard)
    ]


def test_lies_about_real_photographs_are_cut_and_truth_stays(faces: list[tuple[str, bytes, list[Attribute]]]) -> None:
    scores = [liar.score_of(faces, turn) for turn in range(ROUNDS)]
    lies, cut = sum(s.lies for s in scores), sum(s.cut for s in scores)
    truths = sum(s.truths + s.grounded for s in scores)
    kept = sum(s.kept + s.grounded_kept for s in scores)
    assert lies >= 400 and cut >= 0.95 * lies, [line for s in scores for line in s.missed]
    assert kept >= 0.98 * truths, [line for s in scores for line in s.lost]


def test_negations_are_among_the_lies() -> None:
    texts = [one["text"].lower() for values in liar.statements().values() for some in values.values() for one in some]
    assert sum(any(f" {word} " in f" {text} " for word in ("no", "not", "without", "nothing")) for text in texts) >= 100
