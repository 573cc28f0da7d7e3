"""Recipes are strict: an unknown key, a wrong value or a broken override is named, with what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Recipe, load_recipe
from unif2ace_data.resources import resource


@pytest.mark.parametrize(
    "path",
    sorted(set(resource("pipelines").glob("*.yaml")) - set(resource("pipelines").glob("train-*.yaml"))),
    ids=lambda p: p.stem,
)
def test_every_shipped_recipe_holds(path: Path) -> None:
    assert load_recipe(path.stem).name == path.stem


def test_overrides_change_one_number_and_keep_its_neighbours() -> None:
    recipe = load_recipe("embedded", ["filters.face_px.min=256", "filters.exposure.max=200", "filters.sharpness=null"])
    assert recipe.filters.face_px is not None and recipe.filters.face_px.min == 256
    assert recipe.filters.exposure is not None and (recipe.filters.exposure.min, recipe.filters.exposure.max) == (
        35,
        200,
    )
    assert recipe.filters.sharpness is None


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("filters.face_pixels.min=3", "filters.face_pixels"),
        ("filters.face_px.min=many", "filters.face_px.min"),
        ("splits.train=0.9", "must be 1"),
        ("filters", "write KEY=VALUE"),
        ("filters.face_px.min=[1", "not YAML"),
        ("filters.face_px.min=-1", "filters.face_px.min"),
        ("filters.face_px.min=.nan", "filters.face_px.min: Input should be a finite number"),
        ("filters.sharpness.min=.inf", "filters.sharpness.min"),
        ("filters.yaw.max=-10", "filters.yaw.max"),
        ("filters.exposure.min=226", "filters.exposure: min must not be above max"),
        ("filters.score.min=1.5", "score.min must not be above 1"),
        ("filters.adult.min_age=.nan", "filters.adult.min_age"),
        ("filters.adult.max_child_proportion=.inf", "filters.adult.max_child_proportion"),
        ("alarm.max_failed=.nan", "alarm.max_failed"),
    ],
)
def test_bad_overrides_are_named(override: str, named: str) -> None:
    with pytest.raises(UserError, match=named.replace(".", r"\.")) as caught:
        load_recipe("embedded", [override])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("filter.yaw=null", "filter: there is no such key; did you mean filters?"),
        ("filters.face_pixels.min=3", "filters.face_pixels: there is no such key; did you mean filters.face_px?"),
        ("filters.adult.minage=30", "did you mean filters.adult.min_age?"),
        ("min_age=30", "did you mean filters.adult.min_age?"),
        ("sources=[{paht: raw}]", "did you mean sources.0.path?"),
        ("filters.nose=1", "here may stand resolution, face_px,"),
    ],
)
def test_a_misspelt_key_gets_a_suggestion(misspelt: str, meant: str) -> None:
    with pytest.raises(UserError, match=re.escape(meant)):
        load_recipe("embedded", [misspelt])


def test_unknown_recipes_list_the_known_ones() -> None:
    with pytest.raises(UserError, match="embedded, strict, unif2ace-130k"):
        load_recipe("no-such")


def test_a_recipe_survives_its_own_dump() -> None:
    recipe = load_recipe("strict")
    assert Recipe.model_validate(recipe.model_dump()) == recipe
