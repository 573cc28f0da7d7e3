"""Proportions do not change with size, place and pose; they say what was done to the face."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_head import canonical
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_data.attributes.mesh import CHIN, LIP_BOTTOM, LIP_LOW, SIDE_L, SIDE_R, TOP, geometry_of


def turned(mesh: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in np.radians([yaw, pitch, roll]))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return mesh @ (about_z @ about_x @ about_y).T


@settings(max_examples=40, deadline=None)
@given(
    scale=st.floats(0.05, 20),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500), st.floats(-100, 100)),
    angles=st.tuples(st.floats(-40, 40), st.floats(-30, 30), st.floats(-180, 180)),
)
def test_size_place_and_pose_change_nothing(
    scale: float, shift: tuple[float, float, float], angles: tuple[float, float, float]
) -> None:
    moved = turned(canonical(), *angles) * scale + shift
    expected = geometry_of(canonical())
    assert geometry_of(moved) == pytest.approx(expected, abs=2e-3 * max(1, abs(expected["jaw_angle"]) / 10))


def test_a_mirrored_face_swaps_its_sides() -> None:
    mesh = canonical().copy()
    mesh[159, 1] -= 3  # the left eye, wider open
    values = geometry_of(mesh)
    assert values["eye_open_left"] > values["eye_open_right"] > 0


def test_face_ratio_is_height_over_width() -> None:
    mesh = canonical()
    expected = (mesh[CHIN, 1] - mesh[TOP, 1]) / (mesh[SIDE_R, 0] - mesh[SIDE_L, 0])
    assert geometry_of(mesh)["face_ratio"] == pytest.approx(expected, rel=0.02)


@given(stretch=st.floats(0.7, 1.5))
@settings(max_examples=20, deadline=None)
def test_a_stretched_face_is_longer_by_as_much(stretch: float) -> None:
    plain, longer = geometry_of(canonical()), geometry_of(canonical() * [1, stretch, 1])
    assert longer["face_ratio"] / plain["face_ratio"] == pytest.approx(stretch, rel=0.02)
    assert longer["eye_gap"] == pytest.approx(plain["eye_gap"], abs=0.01)


def test_an_open_mouth_and_raised_corners_are_seen() -> None:
    mesh = canonical().copy()
    closed = geometry_of(mesh)
    mesh[[LIP_LOW, LIP_BOTTOM], 1] += 10
    opened = geometry_of(mesh)
    assert opened["mouth_gap"] > closed["mouth_gap"] + 0.03
    mesh = canonical().copy()
    mesh[[61, 291], 1] -= 6
    assert geometry_of(mesh)["corner_lift"] > closed["corner_lift"] + 0.08


def test_an_iris_that_moves_right_is_seen_to_the_right() -> None:
    mesh = canonical().copy()
    mesh[468:, 0] += 4
    values = geometry_of(mesh)
    assert values["iris_x_left"] > 0.05 and values["iris_x_right"] > 0.05


def test_numbers_are_finite_and_rounded_even_for_a_mesh_of_one_point() -> None:
    values = geometry_of(np.zeros((478, 3)))
    assert all(np.isfinite(v) and v == round(v, 4) for v in values.values())
