"""Filters: each is a predicate that gives its reason, the value it measured and the threshold that was missed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unif2ace_data.faces.adult import adult_drop
from unif2ace_data.filters import REASONS, face_drop, photo_drop
from unif2ace_data.recipe import AdultGate, AtMost, Recipe, load_recipe
from unif2ace_data.schema import Annotations, FaceRecord, PhotoRecord

ADULT = {
    "expected": 48.0, "expected_mirrored": 50.0, "p_under_18": 0.001, "tells_distribution": 1.0, "child_proportion": 0.1,
}  # fmt: skip
FACE = FaceRecord(
    box=[100, 100, 200, 220], landmarks=[[0, 0]] * 5, score=0.9, measured=True, yaw=3, pitch=-4, roll=1, age=ADULT,
    p_female=0.5, quality={"sharpness": 300.0, "brightness": 130.0, "contrast": 40, "dark": 0, "bright": 0, "outside": 0.0},
)  # fmt: skip
PHOTO = PhotoRecord(sha256="0" * 64, bytes=1, width=800, height=600, faces=[FACE])
RECIPE = load_recipe("embedded")
NOTES = Annotations()


def changed(**quality: float) -> FaceRecord:
    return replace(FACE, quality={**FACE.quality, **quality})


def test_a_good_portrait_passes_everything() -> None:
    assert photo_drop(PHOTO, RECIPE) is None
    assert face_drop(FACE, PHOTO, NOTES, RECIPE) is None


@pytest.mark.parametrize(
    ("photo", "reason", "value"),
    [
        (replace(PHOTO, width=95), "resolution", 95),
        (replace(PHOTO, faces=[]), "no_face", 0),
        (replace(PHOTO, faces=[FACE, FACE]), "several_faces", 2),
    ],
)
def test_photo_filters(photo: PhotoRecord, reason: str, value: float) -> None:
    drop = photo_drop(photo, RECIPE)
    assert drop is not None and (drop.reason, drop.value) == (reason, value)


@pytest.mark.parametrize(
    ("face", "reason", "value", "threshold"),
    [
        (replace(FACE, box=[0, 0, 30, 39]), "face_px", 39, 40),
        (replace(FACE, measured=False), "not_measured", 120, 16),
        (replace(FACE, score=0.5), "score", 0.5, 0.55),
        (replace(FACE, yaw=-46.0), "yaw", -46, 45),
        (replace(FACE, pitch=36.0), "pitch", 36, 35),
        (changed(outside=0.05), "border", 0.05, 0.02),
        (changed(sharpness=3.0), "sharpness", 3, 8),
        (changed(brightness=20.0), "exposure", 20, 35),
        (changed(brightness=240.0), "exposure", 240, 225),
        (replace(FACE, age={}), "adult", -1, 35),
    ],
)
def test_face_filters(face: FaceRecord, reason: str, value: float, threshold: float) -> None:
    drop = face_drop(face, PHOTO, NOTES, RECIPE)
    assert drop is not None and (drop.reason, drop.value, drop.threshold) == (reason, value, threshold)
    assert reason in REASONS


def test_each_face_its_own_sample() -> None:
    recipe = load_recipe("embedded", ["faces.per_photo=each"])
    assert photo_drop(replace(PHOTO, faces=[FACE, FACE]), recipe) is None


def test_a_filter_can_be_switched_off() -> None:
    recipe = load_recipe("embedded", ["filters.yaw=null"])
    assert face_drop(replace(FACE, yaw=80.0), PHOTO, NOTES, recipe) is None


def test_nsfw_fails_closed() -> None:
    recipe = Recipe(filters=RECIPE.filters.model_copy(update={"nsfw": AtMost(max=0.3)}))
    for score, dropped in ((-1.0, True), (0.5, True), (0.1, False)):
        assert (photo_drop(replace(PHOTO, nsfw=score), recipe) is not None) is dropped


# ------------------------------------------------------------------ the adult gate


GATE = AdultGate()


def test_an_adult_with_every_signal_passes() -> None:
    assert adult_drop(FACE, NOTES, GATE) is None


@pytest.mark.parametrize(
    ("change", "signal"),
    [
        ({"expected": 34.9}, "expected age"),
        ({"expected_mirrored": 34.9}, "expected age"),
        ({"expected": float("nan")}, "no age estimate"),
        ({"expected_mirrored": None}, "no age estimate"),
        ({"p_under_18": float("nan")}, "no probability"),
        ({"p_under_18": 0.2}, "under 18"),
        ({"expected": 70.0}, "mirror image"),
        ({"child_proportion": 2.5}, "proportions"),
    ],
)
def test_any_one_signal_keeps_a_face_out(change: dict[str, float], signal: str) -> None:
    found = adult_drop(replace(FACE, age=ADULT | change), NOTES, GATE)
    assert found is not None and signal in found[2]


@pytest.mark.parametrize("missing", ["expected", "expected_mirrored", "p_under_18", "child_proportion"])
def test_a_missing_estimate_keeps_a_face_out(missing: str) -> None:
    readings = {k: v for k, v in ADULT.items() if k != missing}
    assert adult_drop(replace(FACE, age=readings), NOTES, GATE) is not None


def test_the_sources_own_age_counts_against_but_never_for() -> None:
    def noted(age: str) -> Annotations:
        return Annotations(attributes=[{"name": "source_age", "value": age}])

    assert adult_drop(FACE, noted("9"), GATE) is not None
    assert adult_drop(replace(FACE, age={}), noted("60"), GATE) is not None
    assert adult_drop(FACE, noted("60"), GATE) is None


def test_a_pack_that_tells_no_distribution_is_judged_by_the_other_signals() -> None:
    readings = {k: v for k, v in ADULT.items() if k != "p_under_18"} | {"tells_distribution": 0.0}
    assert adult_drop(replace(FACE, age=readings), NOTES, GATE) is None


def test_a_stated_age_counts_also_where_somebody_vouches() -> None:
    child = Annotations(attributes=[{"name": "source_age", "value": "5"}], adults=True)
    drop = face_drop(FACE, PHOTO, child, load_recipe("embedded", ["subjects=adults"]))
    assert drop is not None and drop.reason == "adult"


def test_vouching_is_the_only_way_round() -> None:
    child = replace(FACE, age=ADULT | {"expected": 8.0})
    assert face_drop(child, PHOTO, NOTES, RECIPE) is not None
    assert face_drop(child, PHOTO, Annotations(adults=True), RECIPE) is None
    assert face_drop(child, PHOTO, NOTES, load_recipe("embedded", ["subjects=adults"])) is None
