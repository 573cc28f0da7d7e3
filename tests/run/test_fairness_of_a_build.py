"""Fairness of a real build: from the store, aggregates only, and kept where the store is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest
from photographs import write_photos

from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.run.private import recipe_at, work_folder
from unif2ace_data.run.qa_gen import qa_gen
from unif2ace_data.verify import verify

SETTINGS = [
    "subjects=adults",
    "duplicates.near_identical=false",
    "duplicates.perceptual=null",
    "filters.face_px.min=150",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fairness")
    recipe = load_recipe("embedded", SETTINGS)
    recipe = recipe.model_copy(update={"sources": [SourceSpec(path=str(write_photos(folder / "raw", 26)))]})
    build(recipe, folder / "shards", quiet=True)
    return folder / "shards"


def stats(out: Path) -> dict:
    return orjson.loads((out / "stats.json").read_bytes())


def test_a_build_counts_groups_and_tells_of_nobody(built: Path) -> None:
    found = stats(built)["fairness"]
    assert [entry["reason"] for entry in found["filters"]] == ["face_px"]
    male = next(c for c in found["filters"][0]["gender"] if c["group"] == "male")
    assert male["faces"] >= 10 and male["rate"] == round(male["dropped"] / male["faces"], 4)
    assert [c["group"] for c in found["filters"][0]["gender"]] == [
        "male"
    ]  # five photographs of one woman: too few to tell
    whole = stats(built)
    for cells in found["balance"].values():
        assert all(c["samples"] >= 10 for c in cells)
        assert sum(c["samples"] for c in cells) <= whole["kept"]
    assert b"skin_ita" not in b"".join(p.read_bytes() for p in built.rglob("*") if p.suffix != ".tar" and p.is_file())
    assert (
        "Who is in it?" in (built / "DATASHEET.md").read_text()
        and 'id="fairness"' in (built / "report.html").read_text()
    )
    assert verify(built).holds


def test_questions_are_counted_and_a_lost_store_changes_nothing(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    shutil.copytree(built, out)
    shutil.copytree(work_folder(built), work_folder(out))
    before = stats(out)["fairness"]
    qa_gen(out, recipe_at(out), quiet=True)
    asked = stats(out)["fairness"]
    assert asked["filters"] == before["filters"]
    assert all(c["questions_per_sample"] == 0 for cells in before["balance"].values() for c in cells)
    assert all(c["questions_per_sample"] > 0 for cells in asked["balance"].values() for c in cells)
    shutil.rmtree(work_folder(out))
    qa_gen(out, recipe_at(out, ["qa.per_sample=2"]), quiet=True)
    assert stats(out)["fairness"] == asked and verify(out).holds
