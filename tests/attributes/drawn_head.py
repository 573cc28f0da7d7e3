"""A drawn head with its mesh: known proportions and colours to measure."""

from __future__ import annotations

import functools
import zipfile

import cv2
import numpy as np

from unif2ace_data.faces.engine import EMBEDDED
from unif2ace_data.faces.mesh import canonical_mesh

SIZE = 400
CENTRE, SCALE = (200, 190), 9.0
SKIN, HAIR, BEHIND, COAT = (205, 160, 135), (60, 40, 30), (90, 120, 210), (35, 35, 45)


@functools.cache
def canonical() -> np.ndarray:
    """The canonical mesh as a frontal face in a 400-pixel picture, (478, 3); irises in the middle of the eyes."""
    with zipfile.ZipFile(EMBEDDED / "face_landmarker.task") as task:
        points = canonical_mesh(task.read("geometry_pipeline_metadata_landmarks.binarypb"))
    face = points * [SCALE, -SCALE, -SCALE] + [*CENTRE, 0]
    irises = [face[[33, 133]].mean(0)] * 5 + [face[[263, 362]].mean(0)] * 5
    return np.vstack([face, irises])


def draw(
    skin: tuple[int, int, int] = SKIN,
    hair: tuple[int, int, int] | None = HAIR,
    behind: tuple[int, int, int] = BEHIND,
    coat: tuple[int, int, int] = COAT,
) -> np.ndarray:
    """(400, 400, 3) uint8: a head on shoulders before a plain background; no hair where `hair` is None."""
    picture = np.full((SIZE, SIZE, 3), behind, np.uint8)
    cv2.ellipse(picture, (200, 420), (170, 130), 0, 0, 360, coat, -1)
    cv2.rectangle(picture, (165, 230), (235, 320), skin, -1)
    if hair is not None:
        cv2.ellipse(picture, (200, 165), (90, 110), 0, 180, 360, hair, -1)
    cv2.ellipse(picture, (200, 195), (76, 88), 0, 0, 360, skin, -1)
    if hair is None:
        cv2.ellipse(picture, (200, 160), (76, 100), 0, 180, 360, skin, -1)
    return picture


def polygon(picture: np.ndarray, points: list[int], colour: tuple[int, int, int]) -> None:
    """Fill a polygon of mesh points."""
    cv2.fillConvexPoly(picture, canonical()[points, :2].round().astype(np.int32), colour)
