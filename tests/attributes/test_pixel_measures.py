"""What is drawn is what is measured, at any size and wherever the face stands."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn_head import BEHIND, HAIR, SIZE, SKIN, canonical, draw, polygon
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_data.attributes.pixels import pixels_of


def lab(colour: tuple[int, int, int]) -> np.ndarray:
    raw = cv2.cvtColor(np.array([[colour]], np.uint8), cv2.COLOR_RGB2LAB)[0, 0].astype(float)
    return raw * [100 / 255, 1, 1] - [0, 128, 128]


def test_background_hair_and_clothing_have_the_colours_that_were_drawn() -> None:
    values = pixels_of(draw(), canonical())
    for name, colour in (("behind", BEHIND), ("hair", HAIR)):
        assert [values[f"{name}.{c}"] for c in "Lab"] == pytest.approx(lab(colour).tolist(), abs=2)
    assert values["garment.L"] < 25 < lab((230, 230, 230))[0] - 40
    assert pixels_of(draw(coat=(230, 230, 230)), canonical())["garment.L"] > 70


def test_the_skin_is_private_by_its_name_and_other_colours_are_differences_from_it() -> None:
    values = pixels_of(draw(), canonical())
    lightness, _, yellow = lab(SKIN)
    assert values["skin_ita"] == pytest.approx(np.degrees(np.arctan2(lightness - 50, yellow)), abs=3)
    assert abs(values["chin.L"]) < 2 and abs(values["jaw.b"]) < 2
    assert not any(name.startswith(("cheek.L", "forehead.L")) for name in values)


@given(skin=st.tuples(*[st.integers(60, 240)] * 3))
@settings(max_examples=10, deadline=None)
def test_what_is_not_named_skin_does_not_tell_the_colour_of_the_face(skin: tuple[int, int, int]) -> None:
    values = pixels_of(draw(skin=skin), canonical())
    inner = ("chin", "jaw.", "upper_lip", "lip_", "brow", "lid", "eyebag", "under_", "bridge", "mouth")
    assert all(abs(v) < 4 for name, v in values.items() if name.startswith(inner))


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_brighter_side_of_the_face_is_found(side: str) -> None:
    picture = draw().astype(float)
    half = np.s_[:, :200] if side == "left" else np.s_[:, 200:]
    picture[half] = picture[half] * 1.2
    difference = pixels_of(picture.clip(0, 255).astype(np.uint8), canonical())["face.side"]
    assert difference < -6 if side == "left" else difference > 6


def test_a_bald_head_shows_skin_where_hair_would_be() -> None:
    haired, bald = pixels_of(draw(), canonical()), pixels_of(draw(hair=None), canonical())
    assert haired["crown_2.skin"] < 0.2 < 0.8 < bald["crown_1.skin"]
    assert haired["hair.share"] > 0.2


def test_long_hair_lies_beside_the_jaw() -> None:
    picture = draw()
    long = picture.copy()
    cv2.rectangle(long, (100, 150), (135, 330), HAIR, -1)
    cv2.rectangle(long, (265, 150), (300, 330), HAIR, -1)
    assert pixels_of(picture, canonical())["jawside.hair"] < 0.2
    assert pixels_of(long, canonical())["jawside.hair"] > 0.7


def test_teeth_beard_brows_and_glasses_leave_their_marks() -> None:
    plain = pixels_of(draw(), canonical())
    toothy = draw()
    polygon(toothy, [82, 312, 317, 87], (250, 250, 245))
    cv2.circle(toothy, tuple(canonical()[[13, 14], :2].mean(0).round().astype(int).tolist()), 6, (250, 250, 245), -1)
    assert pixels_of(toothy, canonical())["mouth.high"] > plain["mouth.high"] + 5
    bearded = draw()
    polygon(bearded, [204, 424, 369, 140], (40, 30, 25))
    assert pixels_of(bearded, canonical())["chin.L"] < plain["chin.L"] - 20
    browed = draw()
    polygon(browed, [70, 105, 107, 55, 52, 46], (40, 30, 25))
    polygon(browed, [336, 334, 300, 276, 282, 285], (40, 30, 25))
    assert pixels_of(browed, canonical())["brow.L"] < plain["brow.L"] - 10
    glassy = draw()
    left, right = (tuple(canonical()[i, :2].round().astype(int).tolist()) for i in (193, 417))
    cv2.line(glassy, left, right, (20, 20, 20), 3)
    assert pixels_of(glassy, canonical())["bridge.ey"] > plain["bridge.ey"] + 1


def test_a_white_collar_beside_a_tie_is_seen() -> None:
    plain, dressed = draw(coat=(60, 60, 70)), draw(coat=(60, 60, 70))
    cv2.fillConvexPoly(dressed, np.array([[150, 290], [250, 290], [200, 400]]), (245, 245, 245))
    cv2.rectangle(dressed, (190, 300), (210, 400), (170, 20, 30), -1)
    seen, unseen = pixels_of(dressed, canonical()), pixels_of(plain, canonical())
    assert seen["chest_3.white"] > unseen["chest_3.white"]
    assert seen["chest_3.middle"] > unseen["chest_3.middle"] + 10


@settings(max_examples=12, deadline=None)
@given(scale=st.floats(0.5, 3), x=st.integers(0, 60), y=st.integers(0, 40))
def test_size_and_place_hardly_matter(scale: float, x: int, y: int) -> None:
    reference = pixels_of(draw(), canonical())
    matrix = np.array([[scale, 0, x], [0, scale, y]], float)
    size = (int(SIZE * scale) + x, int(SIZE * scale) + y)
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grown = cv2.resize(draw(), None, fx=scale, fy=scale, interpolation=flags)
    picture = np.full((size[1], size[0], 3), BEHIND, np.uint8)
    picture[y : y + grown.shape[0], x : x + grown.shape[1]] = grown[: size[1] - y, : size[0] - x]
    mesh = canonical() * scale
    mesh[:, :2] += matrix[:, 2]
    values = pixels_of(picture, mesh)
    for name in ("behind.L", "behind.b", "hair.L", "garment.L", "chin.L", "brow.L", "skin_ita", "face.side"):
        assert values[name] == pytest.approx(reference[name], abs=4), name


def test_what_lies_outside_the_picture_is_missing_not_invented() -> None:
    mesh = canonical()
    x1, y1 = (mesh[:, :2].min(0) - 2).astype(int)
    x2, y2 = (mesh[:, :2].max(0) + 2).astype(int)
    tight = pixels_of(np.ascontiguousarray(draw()[y1:y2, x1:x2]), mesh - [x1, y1, 0])
    assert "chin.L" in tight and "skin_ita" in tight
    assert not any(name.startswith(("behind", "garment", "hair.", "chest")) for name in tight)


def test_a_face_far_outside_the_picture_gives_finite_numbers() -> None:
    values = pixels_of(np.zeros((3, 5, 3), np.uint8), canonical() + [5000, -3000, 0])
    assert all(np.isfinite(v) for v in values.values())
