"""From stored numbers to attributes: what is stated, with which evidence, and when nothing is said."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from drawn_head import canonical, draw
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_data.attributes.measure import (
    attributes_of,
    fits_of_taxonomy,
    is_annotation,
    like_labelled,
    measure,
    probabilities_of,
    quantities_of,
)
from unif2ace_data.attributes.mesh import geometry_of
from unif2ace_data.attributes.pixels import pixels_of
from unif2ace_data.faces.emotion import EMOTIONS
from unif2ace_data.faces.mesh import BLENDSHAPES
from unif2ace_data.schema import Annotations, Attribute, Evidence, FaceRecord
from unif2ace_data.taxonomy import Bands, Entry, Fit, ValueClaim, Weights, load_taxonomy


def face(**changes: Any) -> FaceRecord:
    """A frontal, neutral face with every measurement."""
    record = FaceRecord(
        box=[120, 100, 280, 290],
        landmarks=[[165, 166], [235, 166], [200, 205], [178, 232], [222, 232]],
        score=0.9,
        measured=True,
        presence=1.0,
        pitch=-6.0,
        age={"expected": 50.0, "expected_mirrored": 50.0},
        p_female=0.98,
        emotion={name: float(name == "neutral") for name in EMOTIONS},
        blendshapes=dict.fromkeys(BLENDSHAPES, 0.0),
        geometry=geometry_of(canonical()),
        pixels=pixels_of(draw(), canonical()),
    )
    return dataclasses.replace(record, **changes)


def note(name: str, value: str, group: str = "appearance", **changes: Any) -> dict[str, Any]:
    attribute = {"name": name, "group": group, "value": value, "confidence": 1.0, "validated": True}
    return attribute | {"evidence": Evidence(by="source:celeba").model_dump()} | changes


def by_name(attributes: list[Attribute]) -> dict[str, list[Attribute]]:
    found: dict[str, list[Attribute]] = {}
    for attribute in attributes:
        found.setdefault(attribute.name, []).append(attribute)
    return found


CLAIM = ValueClaim(
    threshold=0.7, labels=100, cases=60, others=40, mistaken=2, precision=0.96, coverage=0.9, wilson_low=0.88
)
PITCH = Entry(
    name="head_pitch", group="action", values=["down", "level", "up"], which="?", yes_no="{value}?",
    bands=Bands(quantity="pitch", edges=[-10, 10], width=2), claims={"level": CLAIM},
)  # fmt: skip


def test_a_face_gets_at_most_one_measured_record_per_name_in_the_taxonomys_order() -> None:
    names = [a.name for a in attributes_of(face(), Annotations())]
    assert len(names) == len(set(names)) > 5
    assert names == [n for n in load_taxonomy().attributes if n in names]


def test_evidence_names_the_network_its_weights_and_the_number() -> None:
    gender = by_name(attributes_of(face(), Annotations()))["apparent_gender"][0]
    assert (gender.value, gender.validated) == ("female", True)
    assert gender.evidence == Evidence(by="genderage", revision="d9a81d81", measured="p_female=0.98")
    pitch = by_name(attributes_of(face(), Annotations()))["head_pitch"][0]
    assert (pitch.value, pitch.evidence.by, pitch.evidence.revision) == ("level", "face_landmarker", "64184e22")


def test_another_packs_gender_is_recorded_but_not_claimed() -> None:
    gender = by_name(attributes_of(face(), Annotations(), engine="buffalo_l"))["apparent_gender"][0]
    assert not gender.validated and gender.evidence.revision == ""


def test_what_was_only_detected_has_no_attributes() -> None:
    assert attributes_of(FaceRecord(box=[0, 0, 9, 9], landmarks=[[0, 0]] * 5, score=0.8), Annotations()) == []


@pytest.mark.parametrize("pitch, value", [(-30, "down"), (0, "level"), (30, "up"), (-10.0, None), (9.8, None)])
def test_bands_cut_and_say_nothing_near_an_edge(pitch: float, value: str | None) -> None:
    found = measure(PITCH, {"pitch": pitch})
    assert (found.value if found else None) == value


def test_only_claimed_values_are_validated_and_a_band_is_no_surer_than_its_record() -> None:
    level, down = measure(PITCH, {"pitch": 0.0}), measure(PITCH, {"pitch": -30.0})
    assert level and level.validated and level.confidence == CLAIM.precision
    assert down and not down.validated


@given(x=st.floats(-1e3, 1e3))
def test_probabilities_add_up(x: float) -> None:
    shares = probabilities_of(PITCH, {"pitch": x})
    assert shares is not None and sum(shares.values()) == pytest.approx(1) and min(shares.values()) >= 0


def fitted(values: list[str], claims: dict[str, ValueClaim] | None = None) -> Entry:
    return Entry(
        name="glasses", group="appearance", values=["none", "eyeglasses"], which="?", yes_no="{value}?",
        fit=Fit(quantities=["pixels.bridge.ey"]), claims=claims or {},
        weights=Weights(quantities=["pixels.bridge.ey"], values=values, mean=[2.0], scale=[0.5], bias=[0, 0], weights=[[-2], [2]]),
    )  # fmt: skip


def test_a_model_answers_where_it_is_sure_abstains_between_and_far_from_what_it_has_seen() -> None:
    entry = fitted(["none", "eyeglasses"])
    sure = measure(entry, {"pixels.bridge.ey": 3.0})
    assert sure and (sure.value, sure.confidence, sure.validated) == ("eyeglasses", 1.0, False)
    assert sure.evidence == Evidence(by="pixels", revision="", measured="bridge.ey=3.00")
    assert measure(entry, {"pixels.bridge.ey": 2.0}) is None
    assert measure(entry, {"pixels.bridge.ey": 50.0}) is None
    assert measure(entry, {}) is None


def test_models_side_by_side_say_what_each_says_alone() -> None:
    fits, quantities = fits_of_taxonomy(), quantities_of(face())
    models = [entry for entry in load_taxonomy().attributes.values() if entry.weights]
    del quantities["pixels.bridge.ey"]
    quantities["pixels.hair.L"] = 1e6
    together = fits(quantities)
    alone = {entry.name: shares for entry in models if (shares := probabilities_of(entry, quantities))}
    assert together == alone
    assert {"apparent_gender", "smile"} <= together.keys() and not {"glasses", "hair_color"} & together.keys()
    assert all(sum(shares.values()) == pytest.approx(1) for shares in together.values())
    assert fits({}) == {}


def test_none_of_the_values_is_never_stated() -> None:
    assert measure(fitted(["none", ""]), {"pixels.bridge.ey": 3.0}) is None


def test_complexion_is_stated_only_on_request_and_never_shows_the_number() -> None:
    assert "complexion" not in by_name(attributes_of(face(), Annotations()))
    pale = Annotations(attributes=[note("pale_skin", "yes")])
    assert "pale_skin" not in by_name(attributes_of(face(), pale))
    asked = by_name(attributes_of(face(), pale, complexion=True))
    assert asked["complexion"][0].evidence.measured == "" and "pale_skin" in asked


def test_an_annotation_replaces_what_is_not_validated() -> None:
    measured = by_name(attributes_of(face(pitch=-40.0), Annotations()))["head_pitch"]
    assert [(a.value, a.validated) for a in measured] == [("down", False)]
    notes = Annotations(attributes=[note("head_pitch", "up", "action")])
    both = by_name(attributes_of(face(pitch=-40.0), notes))["head_pitch"]
    assert [(a.value, a.evidence.by) for a in both] == [("up", "source:celeba")]


def test_beside_a_validated_measurement_an_annotation_is_kept_even_where_they_disagree() -> None:
    notes = Annotations(attributes=[note("apparent_gender", "male")])
    both = by_name(attributes_of(face(), notes))["apparent_gender"]
    assert [(a.value, a.evidence.by) for a in both] == [("female", "genderage"), ("male", "source:celeba")]


def test_a_prediction_counts_like_any_other_evidence() -> None:
    def predicted(name: str, value: str, group: str = "appearance") -> Attribute:
        by = Evidence(by="attributes:clip", revision="0" * 8, measured="p=0.97").model_dump()
        return Attribute.model_validate(note(name, value, group, confidence=0.97, evidence=by))

    said = [
        predicted("head_pitch", "up", "action"),
        predicted("apparent_gender", "male"),
        predicted("pale_skin", "yes"),
    ]
    lowered = by_name(attributes_of(face(pitch=-40.0), Annotations(), said))
    assert [a.evidence.by for a in lowered["head_pitch"]] == ["attributes:clip"], "instead of what is not validated"
    found = by_name(attributes_of(face(), Annotations(attributes=[note("apparent_gender", "male")]), said))
    assert [(a.value, a.evidence.by) for a in found["apparent_gender"]] == [
        ("female", "genderage"), ("male", "attributes:clip"), ("male", "source:celeba"),
    ]  # fmt: skip
    assert "pale_skin" not in found, "stated on request only"
    assert [is_annotation(a) for a in found["apparent_gender"]] == [False, False, True]


def test_annotations_outside_the_taxonomy_are_left_out() -> None:
    notes = Annotations(attributes=[note("source_age", "25"), note("hair_color", "plaid")])
    names = by_name(attributes_of(face(), notes))
    assert "source_age" not in names and all(a.value != "plaid" for a in names.get("hair_color", []))


def test_left_and_right_measurements_have_a_mean_under_their_common_name() -> None:
    shapes = dict.fromkeys(BLENDSHAPES, 0.0) | {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.4, "eyeBlinkLeft": 0.9}
    quantities = quantities_of(face(blendshapes=shapes))
    assert quantities["blendshape.mouthSmile"] == pytest.approx(0.6)
    assert quantities["blink_difference"] == pytest.approx(0.9)
    assert by_name(attributes_of(face(blendshapes=shapes), Annotations()))["wink"][0].value == "yes"


@settings(max_examples=25, deadline=None)
@given(
    yaw=st.floats(-45, 45), pitch=st.floats(-35, 35), p_female=st.floats(0, 1), age=st.floats(18, 90),
    values=st.lists(st.floats(0, 1), min_size=52, max_size=52),
)  # fmt: skip
def test_any_face_gives_values_of_the_taxonomy_and_the_same_ones_again(
    yaw: float, pitch: float, p_female: float, age: float, values: list[float]
) -> None:
    record = face(
        yaw=yaw, pitch=pitch, p_female=p_female, age={"expected": age, "expected_mirrored": age},
        blendshapes=dict(zip(BLENDSHAPES, values, strict=True)),
    )  # fmt: skip
    attributes = attributes_of(record, Annotations())
    for attribute in attributes:
        entry = load_taxonomy()[attribute.name]
        assert attribute.value in entry.values and attribute.group == entry.group
        claim = entry.claims.get(attribute.value)
        assert not attribute.validated or (
            claim and claim.holds and like_labelled(attribute.name, {"yaw": yaw, "pitch": pitch})
        )
    assert attributes_of(record, Annotations()) == attributes


def test_what_no_labelled_portrait_shows_is_not_claimed() -> None:
    assert like_labelled("smile", {"yaw": 10.0, "pitch": -10.0, "blendshape.jawOpen": 0.2})
    assert not like_labelled("smile", {"yaw": 0.0, "pitch": 0.0, "blendshape.jawOpen": 0.41})
    assert like_labelled("glasses", {"yaw": 0.0, "pitch": 0.0, "blendshape.jawOpen": 0.41})
    assert not like_labelled("glasses", {"yaw": 40.0, "pitch": 0.0})
