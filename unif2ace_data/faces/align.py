"""Where to crop, and the crop: FFHQ's alignment from the landmarks, or a plain square with a margin.

A quad is four corners (tl, tr, br, bl) in source pixels, always a square, perhaps rotated. The crop is a pure function
of the file's bytes, the quad and the recipe, so it can be made while a photo is analysed or years later.
"""

from __future__ import annotations

import cv2
import numpy as np

from unif2ace_data.faces.decode import Decoded, decode, jpeg_scale, open_header
from unif2ace_data.faces.runtime import warped
from unif2ace_data.recipe import Align

# fmt: off
EYE_LEFT = np.array([33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7])  # the image's left
EYE_RIGHT = np.array([263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249])
# fmt: on
MOUTH_LEFT, MOUTH_RIGHT = 61, 291
BASE_SIDE = 640  # a first decode covers this much of the longer side


def ffhq_quad(mesh: np.ndarray) -> np.ndarray:
    """(4, 2) corners. The published FFHQ recipe (Karras et al. 2019, appendix): eyes and mouth give axis, size, centre."""
    points = mesh[:, :2].astype(np.float64)
    eye_left, eye_right = points[EYE_LEFT].mean(0), points[EYE_RIGHT].mean(0)
    eyes, eye_to_eye = (eye_left + eye_right) / 2, eye_right - eye_left
    eye_to_mouth = (points[MOUTH_LEFT] + points[MOUTH_RIGHT]) / 2 - eyes
    x = eye_to_eye - np.array([-eye_to_mouth[1], eye_to_mouth[0]])
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8) / max(np.hypot(*x), 1e-9)
    y = np.array([-x[1], x[0]])
    centre = eyes + eye_to_mouth * 0.1
    return np.stack([centre - x - y, centre + x - y, centre + x + y, centre - x + y])


def box_quad(box: np.ndarray, margin: float) -> np.ndarray:
    """(4, 2) corners of the upright square around the box (x1 y1 x2 y2), grown by `margin` face sizes on every side."""
    centre = (box[:2] + box[2:4]) / 2
    half = max(box[2] - box[0], box[3] - box[1]) * (0.5 + margin)
    return np.array([centre + [sx * half, sy * half] for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))], np.float64)


def quad_side(quad: np.ndarray) -> float:
    return float(np.hypot(*(quad[1] - quad[0])))


def into_crop(points: np.ndarray, quad: np.ndarray, side: int) -> np.ndarray:
    """Places (N, 2) in source pixels as places in the crop of `side` pixels that covers `quad`."""
    width = max(quad_side(quad), 1e-9)
    axis_x, axis_y = ((quad[i] - quad[0]) / width for i in (1, 3))
    moved = points - quad[0]
    return np.asarray(np.stack([moved @ axis_x, moved @ axis_y], 1) * (side / width))


def output_side(quad: np.ndarray, size: int) -> int:
    """Side of the crop in pixels: the quad's own, at most `size`: nothing is enlarged."""
    return max(1, min(size, int(quad_side(quad))))


def base_scale(width: int, height: int, format: str) -> float:
    """The decode scale for a first look at a photo (source pixels given in either orientation)."""
    return jpeg_scale(width, height, format, min(1.0, BASE_SIDE / max(width, height)))


def crop_scale(width: int, height: int, format: str, quad: np.ndarray, size: int) -> float:
    """The decode scale for a crop: the smallest that covers the output, and never under the first look's."""
    needed = min(1.0, output_side(quad, size) / max(quad_side(quad), 1e-9))
    return max(base_scale(width, height, format), jpeg_scale(width, height, format, needed))


def crop(decoded: Decoded, quad: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """(S, S, 3) uint8 RGB and the share of it that lies outside the photo (filled by reflection)."""
    side = output_side(quad, size)
    scaled = quad * decoded.scale
    shrink = quad_side(scaled) / side
    over = min(8, max(1, round(shrink)))  # sample finer than the output and average: no aliasing when shrinking
    fine = side * over
    corners = np.array([[0, 0], [fine, 0], [fine, fine]], np.float32) - 0.5
    to_photo = cv2.getAffineTransform(corners, (scaled[:3] - 0.5).astype(np.float32))
    picture = warped(decoded.for_warps(), to_photo, fine, cv2.BORDER_REFLECT_101, cv2.WARP_INVERSE_MAP)
    if over > 1:
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    photo = np.array([[0, 0], [decoded.width, 0], [decoded.width, decoded.height], [0, decoded.height]], np.float32)
    covered, _ = cv2.intersectConvexConvex(quad.astype(np.float32), photo)
    return picture, min(1.0, max(0.0, 1 - covered / max(quad_side(quad) ** 2, 1e-9)))


def encode_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """4:4:4 baseline JPEG: lips and irises are a few pixels wide, halving their colour would show."""
    ok, data = cv2.imencode(
        ".jpg",
        cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    )
    if not ok:
        raise ValueError("OpenCV could not encode a JPEG")
    return bytes(data)


def crop_jpeg(data: bytes, quad: np.ndarray, align: Align, at_hand: Decoded | None = None) -> tuple[bytes, int, float]:
    """(JPEG bytes, side, padded share) of one face. `at_hand` is used where it has just the scale that is needed."""
    if at_hand is None:
        _, header = open_header(data)
        decoded = decode(data, crop_scale(header.width, header.height, header.format, quad, align.size))
    else:
        decoded = at_hand
        scale = crop_scale(decoded.width, decoded.height, decoded.format, quad, align.size)
        if abs(decoded.scale - scale) > 0.02 * scale:
            decoded = decode(data, scale)
    picture, padded = crop(decoded, quad, align.size)
    return encode_jpeg(picture, align.quality), picture.shape[0], padded
