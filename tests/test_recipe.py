"""Recipes are strict: an unknown key, a wrong value or a broken override is named, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from unif2ace_data.recipe import Recipe, load_recipe
from unif2ace_data.resources import resource
from unif2ace_data.schema import UserError


@pytest.mark.parametrize("path", sorted(resource("pipelines").glob("*.yaml")), ids=lambda p: p.stem)
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
    ],
)
def test_bad_overrides_are_named(override: str, named: str) -> None:
    with pytest.raises(UserError, match=named.replace(".", r"\.")) as caught:
        load_recipe("embedded", [override])
    assert caught.value.exit_code == 2


def test_unknown_recipes_list_the_known_ones() -> None:
    with pytest.raises(UserError, match="embedded, strict"):
        load_recipe("no-such")


def test_a_recipe_survives_its_own_dump() -> None:
    recipe = load_recipe("strict")
    assert Recipe.model_validate(recipe.model_dump()) == recipe
