"""How faces are aligned for the recogniser, and how pictures are warped."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.faces.engine import TEMPLATE_112, similarity
from unif2ace_data.faces.runtime import four_channels, warped

small = st.floats(-30, 30)


def through_singular_values(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Umeyama 1991, in any number of dimensions."""
    s, t = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(t.T @ s)
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt))])
    linear = (u * sign) @ vt * (d * sign).sum() / (s**2).sum()
    return np.hstack([linear, (target.mean(0) - linear @ source.mean(0))[:, None]])


@given(st.lists(st.tuples(small, small), min_size=5, max_size=5), st.floats(0.2, 9), st.floats(-3, 3))
def test_the_similarity_is_the_least_squares_one(noise: list[tuple[float, float]], scale: float, angle: float) -> None:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    source = TEMPLATE_112 @ np.array([[cos, sin], [-sin, cos]]) + [300, 200] + scale * np.array(noise)
    expected = through_singular_values(source, TEMPLATE_112)
    assert similarity(source, TEMPLATE_112) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_points_in_one_place_have_no_similarity_but_a_place() -> None:
    found = similarity(np.full((5, 2), 7.0), TEMPLATE_112)
    assert found[:, :2] == pytest.approx(0) and found[:, 2] == pytest.approx(TEMPLATE_112.mean(0))


@pytest.mark.parametrize("border", [cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101, cv2.BORDER_CONSTANT])
@pytest.mark.parametrize("flags", [0, cv2.WARP_INVERSE_MAP])
def test_a_fourth_channel_changes_nothing_in_the_other_three(border: int, flags: int) -> None:
    rng = np.random.default_rng(border)
    for side in (1, 7, 64, 131):
        rgb = rng.integers(0, 256, (rng.integers(1, 90), rng.integers(1, 90), 3), dtype=np.uint8)
        matrix = np.column_stack([np.eye(2) * rng.uniform(0.3, 3) + rng.normal(0, 0.3, (2, 2)), rng.normal(0, 20, 2)])
        plain, with_fourth = (warped(picture, matrix, side, border, flags) for picture in (rgb, four_channels(rgb)))
        assert plain.shape == (side, side, 3) and np.array_equal(plain, with_fourth)
