"""Quads and crops, against closed forms: slicing, turning, block means, areas; and FFHQ's recipe under similarities."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from unif2ace_data.faces.align import (
    BASE_SIDE,
    EYE_LEFT,
    EYE_RIGHT,
    MOUTH_LEFT,
    MOUTH_RIGHT,
    base_scale,
    box_quad,
    crop,
    crop_jpeg,
    crop_scale,
    encode_jpeg,
    ffhq_quad,
    output_side,
    quad_side,
)
from unif2ace_data.faces.decode import Decoded, decode
from unif2ace_data.recipe import Align

WIDTH, HEIGHT = 120, 90
PICTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
PHOTO = Decoded(PICTURE, 1.0, WIDTH, HEIGHT, "PNG", "RGB")


def square(left: float, top: float, side: float) -> np.ndarray:
    return np.array([[left, top], [left + side, top], [left + side, top + side], [left, top + side]], np.float64)


def turned(quad: np.ndarray, degrees: float) -> np.ndarray:
    """The quad turned around its centre, clockwise in the image."""
    centre, angle = quad.mean(0), np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray((quad - centre) @ turn.T + centre)


def jpeg(picture: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def smooth_photo(width: int, height: int, radius: float = 12) -> np.ndarray:
    """A repeatable picture without fine detail, as photographs of many megapixels are."""
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    blurred = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(radius)), np.float64)
    low, high = blurred.min(), blurred.max()
    return ((blurred - low) / (high - low) * 255).astype(np.uint8)


# ------------------------------------------------------------------ the crop


@given(st.integers(1, 80), st.data())
@settings(max_examples=50, deadline=None)
def test_an_upright_quad_on_whole_pixels_is_a_slice(side: int, data: st.DataObject) -> None:
    left, top = data.draw(st.integers(0, WIDTH - side)), data.draw(st.integers(0, HEIGHT - side))
    picture, padded = crop(PHOTO, square(left, top, side), 512)
    assert np.array_equal(picture, PICTURE[top : top + side, left : left + side])
    assert padded == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_quarter_turns_of_the_quad_turn_the_picture_back(quarter_turns: int) -> None:
    face = PICTURE[20:60, 30:70]
    picture, padded = crop(PHOTO, turned(square(30, 20, 40), 90 * quarter_turns), 512)
    assert np.abs(picture.astype(int) - np.rot90(face, quarter_turns)).max() <= 1
    assert padded == pytest.approx(0, abs=1e-5)


def test_a_turned_quad_makes_a_turned_picture_upright() -> None:
    upright = smooth_photo(400, 400)
    tilted = np.asarray(Image.fromarray(upright).rotate(-20, Image.Resampling.BICUBIC))  # clockwise
    quad = square(120, 120, 160)
    straight, _ = crop(Decoded(upright, 1.0, 400, 400, "PNG", "RGB"), quad, 512)
    corrected, _ = crop(Decoded(tilted, 1.0, 400, 400, "PNG", "RGB"), turned(quad, 20), 512)
    side = min(len(straight), len(corrected))  # the turned side may come out as 159.99…
    assert len(straight) - side <= 1
    assert np.abs(straight[:side, :side].astype(int) - corrected[:side, :side]).mean() < 2


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_shrinking_averages_blocks(factor: int) -> None:
    side = 80 // factor
    picture, _ = crop(PHOTO, square(12, 4, 80), side)
    blocks = PICTURE[4:84, 12:92].reshape(side, factor, side, factor, 3).mean((1, 3))
    assert picture.shape == (side, side, 3)
    assert np.abs(picture - blocks).max() <= 1


@given(st.floats(-200, 200), st.floats(-200, 200), st.floats(0.01, 300), st.floats(0, 360), st.integers(1, 256))
@settings(max_examples=60, deadline=None)
def test_nothing_is_enlarged(left: float, top: float, side: float, degrees: float, size: int) -> None:
    quad = turned(square(left, top, side), degrees)
    picture, padded = crop(PHOTO, quad, size)
    assert picture.shape == (output_side(quad, size),) * 2 + (3,)
    assert 1 <= picture.shape[0] <= size
    assert picture.shape[0] <= max(1, quad_side(quad))
    assert picture.shape[0] > min(size, side) - 1.001  # and not shrunk without need
    assert 0 <= padded <= 1


def test_half_outside_is_half_padded() -> None:
    for quad in (square(-20, 10, 40), square(WIDTH - 20, 10, 40), square(30, -20, 40), square(30, HEIGHT - 20, 40)):
        for degrees in (0, 90, 180):
            assert crop(PHOTO, turned(quad, degrees), 512)[1] == pytest.approx(0.5, abs=1e-5)
    assert crop(PHOTO, turned(square(-20, 20, 40), 45), 512)[1] == pytest.approx(0.5, abs=1e-5)
    assert crop(PHOTO, square(-20, -20, 40), 512)[1] == pytest.approx(0.75, abs=1e-5)
    assert crop(PHOTO, square(-500, 10, 40), 512)[1] == 1


@given(st.integers(-60, 150), st.integers(-60, 120), st.integers(1, 200))
@settings(deadline=None)
def test_the_padded_share_is_the_area_outside(left: int, top: int, side: int) -> None:
    across = max(0, min(left + side, WIDTH) - max(left, 0))
    down = max(0, min(top + side, HEIGHT) - max(top, 0))
    _, padded = crop(PHOTO, square(left, top, side), 64)
    assert padded == pytest.approx(1 - across * down / side**2, abs=1e-4)


def test_padding_mirrors_the_photo() -> None:
    picture, _ = crop(PHOTO, square(-10, 0, 40), 512)
    assert np.array_equal(picture[:, 10:], PICTURE[:40, :30])
    assert np.array_equal(picture[:, :10], PICTURE[:40, 10:0:-1])  # column -k is column k


def test_quads_without_area_give_one_pixel() -> None:
    picture, padded = crop(PHOTO, square(10, 10, 0), 64)
    assert picture.shape == (1, 1, 3)
    assert padded == 1
    one = Decoded(PICTURE[:1, :1], 1.0, 1, 1, "PNG", "RGB")
    assert np.array_equal(crop(one, square(0, 0, 1), 64)[0], PICTURE[:1, :1])


# ------------------------------------------------------------------ reduced decodes


@pytest.mark.parametrize(("orientation", "degrees"), [(1, 0), (1, 17), (6, 0), (8, 33)])
def test_a_crop_from_a_reduced_decode_is_the_crop(orientation: int, degrees: float) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(smooth_photo(1600, 1200), exif=exif)
    full = decode(data)
    quad = turned(square(full.width / 2 - 300, full.height / 2 - 280, 600), degrees)
    scale = crop_scale(full.width, full.height, "JPEG", quad, 128)
    assert scale == 0.5  # 640 / 1600 rounded up
    picture, padded = crop(decode(data, scale), quad, 128)
    expected, padded_in_full = crop(full, quad, 128)
    difference = np.abs(picture.astype(int) - expected)
    assert difference.mean() < 1.5 and difference.max() <= 12
    assert padded == padded_in_full


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_sizes_that_no_scale_divides_shift_nothing(orientation: int) -> None:
    """161 x 131 at an eighth is 20.1 x 16.4 pixels: the rest must not stretch the picture, nor come first when turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(smooth_photo(161, 131), exif=exif)
    full, reduced = decode(data), decode(data, 0.125)
    assert (reduced.width, reduced.height) == (full.width, full.height)
    for left, top in ((0, 0), (full.width - 88, full.height - 88)):
        quad = square(left, top, 88)
        difference = np.abs(crop(reduced, quad, 11)[0].astype(int) - crop(full, quad, 11)[0])
        assert difference.mean() < 1.5


def test_a_crop_of_a_photograph_from_a_reduced_decode(examples: Path) -> None:
    data = (examples / "obama2.jpg").read_bytes()
    full = decode(data)
    quad = square(full.width * 0.2, full.height * 0.1, full.width * 0.6)
    size = int(quad_side(quad) / 4)
    reduced, expected = crop(decode(data, 0.25), quad, size)[0], crop(full, quad, size)[0]
    assert np.abs(reduced.astype(int) - expected).mean() < 2


@given(st.integers(1, 9000), st.integers(1, 9000), st.floats(1, 9000), st.integers(64, 1024))
def test_the_decode_scale_always_covers_the_output(width: int, height: int, side: float, size: int) -> None:
    quad = square(0, 0, side)
    scale = crop_scale(width, height, "JPEG", quad, size)
    assert scale * side >= output_side(quad, size) - 1e-6  # no pixel of the output is invented
    assert scale >= base_scale(width, height, "JPEG") >= min(1, BASE_SIDE / max(width, height)) - 1e-9
    assert crop_scale(height, width, "JPEG", quad, size) == scale  # the same for a turned photo
    assert crop_scale(width, height, "PNG", quad, size) == 1


@pytest.mark.parametrize("at_hand", [0.125, 0.5, 1.0])
@pytest.mark.parametrize(("side", "size"), [(600, 128), (900, 512)])
def test_the_crop_does_not_depend_on_what_was_decoded_before(at_hand: float, side: int, size: int) -> None:
    data, quad, align = jpeg(smooth_photo(1600, 1200)), square(300, 200, side), Align(size=size)
    fresh = crop_jpeg(data, quad, align)
    assert crop_jpeg(data, quad, align, decode(data, at_hand)) == fresh
    assert fresh[1] == size and fresh[2] == 0


def test_the_jpeg_is_444_and_close_to_the_crop() -> None:
    picture = smooth_photo(160, 160, 4)
    data = encode_jpeg(picture, 95)
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG" and image.size == (160, 160)
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
    assert np.abs(np.asarray(image).astype(int) - picture).mean() < 2
    assert encode_jpeg(picture, 95) == data
    assert len(encode_jpeg(picture, 60)) < len(data)


# ------------------------------------------------------------------ the quads


@pytest.mark.parametrize("margin", [0, 0.4, 2])
def test_the_box_quad_is_a_square_around_the_box(margin: float) -> None:
    quad = box_quad(np.array([10.0, 20.0, 50.0, 80.0]), margin)
    side = 60 * (1 + 2 * margin)  # the longer side of the face, and the margin twice
    assert np.allclose(quad, square(30 - side / 2, 50 - side / 2, side))


def mesh_with(eye_left: np.ndarray, eye_right: np.ndarray, mouth: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(478, 3) a mesh whose eyes are rings around these centres and whose mouth has these corners."""
    mesh = np.full((478, 3), 1e6)  # a landmark that must not matter would throw everything off
    for indices, centre in ((EYE_LEFT, eye_left), (EYE_RIGHT, eye_right)):
        angles = np.arange(len(indices)) / len(indices) * 2 * np.pi
        mesh[indices, :2] = centre + 5 * np.stack([np.cos(angles), np.sin(angles)], -1)
    mesh[MOUTH_LEFT, :2], mesh[MOUTH_RIGHT, :2] = mouth
    return mesh


def upright_mesh(between_eyes: float, eyes_to_mouth: float, centre: tuple[float, float] = (0, 0)) -> np.ndarray:
    eyes = np.array(centre, np.float64)
    half, down = np.array([between_eyes / 2, 0]), np.array([0, eyes_to_mouth])
    mouth = (eyes + down - half / 2, eyes + down + half / 2)
    return mesh_with(eyes - half, eyes + half, mouth)


@pytest.mark.parametrize(("between_eyes", "eyes_to_mouth"), [(60, 60), (60, 80), (40, 20)])
def test_ffhq_of_an_upright_face(between_eyes: float, eyes_to_mouth: float) -> None:
    """The paper: half a side is max(2 x between the eyes, 1.8 x eyes to mouth); centre: a tenth of the way to the mouth."""
    quad = ffhq_quad(upright_mesh(between_eyes, eyes_to_mouth, (500, 400)))
    half = max(2 * between_eyes, 1.8 * eyes_to_mouth)
    assert np.allclose(quad, square(500 - half, 400 + 0.1 * eyes_to_mouth - half, 2 * half))


points = st.tuples(st.floats(-50, 50), st.floats(-50, 50)).map(np.array)


@given(points, points, points, points, st.floats(-180, 180), st.floats(0.1, 10), points)
def test_ffhq_is_a_square_that_follows_the_face(
    eye_left: np.ndarray,
    eye_right: np.ndarray,
    mouth_left: np.ndarray,
    mouth_right: np.ndarray,
    degrees: float,
    scale: float,
    shift: np.ndarray,
) -> None:
    mesh = mesh_with(eye_left - [100, 0], eye_right + [100, 0], (mouth_left + [-40, 150], mouth_right + [40, 150]))
    quad = ffhq_quad(mesh)
    sides = np.roll(quad, -1, axis=0) - quad
    assert np.allclose(np.hypot(*sides.T), quad_side(quad))
    assert np.allclose((sides * np.roll(sides, -1, axis=0)).sum(1) / quad_side(quad) ** 2, 0)
    assert sides[0] @ [1, 0] > 0 and sides[1] @ [0, 1] > 0  # tl, tr, br, bl

    angle = np.radians(degrees)
    similarity = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = mesh.copy()
    moved[:, :2] = mesh[:, :2] @ similarity.T + shift
    assert np.allclose(ffhq_quad(moved), quad @ similarity.T + shift, rtol=1e-6, atol=1e-6)


def test_ffhq_mirrors_with_the_face() -> None:
    mesh = mesh_with(
        np.array([80.0, 90.0]), np.array([150.0, 100.0]), (np.array([90.0, 170.0]), np.array([140.0, 165.0]))
    )
    mirrored = mesh.copy()
    mirrored[EYE_LEFT], mirrored[EYE_RIGHT] = mesh[EYE_RIGHT], mesh[EYE_LEFT]
    mirrored[[MOUTH_LEFT, MOUTH_RIGHT]] = mesh[[MOUTH_RIGHT, MOUTH_LEFT]]
    mirrored[:, 0] = 300 - mirrored[:, 0]
    expected = ffhq_quad(mesh)[[1, 0, 3, 2]] * [-1, 1] + [300, 0]
    assert np.allclose(ffhq_quad(mirrored), expected)


def test_ffhq_of_a_collapsed_mesh_is_finite() -> None:
    quad = ffhq_quad(np.zeros((478, 3)))
    assert np.isfinite(quad).all() and output_side(quad, 512) == 1
