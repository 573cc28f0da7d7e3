"""What the filters look at besides the networks: sharpness, exposure, and how much of the face lies outside."""

from __future__ import annotations

import cv2
import numpy as np

PATCH = 128  # sharpness is measured at this size at most, so that a large soft face does not pass for a sharp one


def quality_of(rgb: np.ndarray, box: np.ndarray, points: np.ndarray | None = None) -> dict[str, float]:
    """Measures of the face in `box` (x1 y1 x2 y2) with mesh `points` (N, 2+), pixels of `rgb`; both may leave the image.

    sharpness: variance of the Laplacian of the grey patch (grey levels squared), the patch shrunk to PATCH wide;
    brightness, contrast: mean and standard deviation (0..255); dark, bright: shares under 16 and over 247;
    outside: share of the face outside the image: of the box or of the points, whichever is larger (detectors trained on
    whole photographs like to end a box at the border, the mesh goes on beyond it).
    """
    height, width = rgb.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in box)
    left, top = max(0, int(x1)), max(0, int(y1))
    right, bottom = min(width, int(np.ceil(x2))), min(height, int(np.ceil(y2)))
    area = max((x2 - x1) * (y2 - y1), 1e-9)
    outside_points = 0.0
    if points is not None:
        x, y = points[:, 0], points[:, 1]
        outside_points = float(np.mean((x < 0) | (y < 0) | (x >= width) | (y >= height)))
    inside = max(0.0, min(x2, width) - max(x1, 0)) * max(0.0, min(y2, height) - max(y1, 0))
    if right - left < 2 or bottom - top < 2:
        return {"sharpness": 0.0, "brightness": 0.0, "contrast": 0.0, "dark": 1.0, "bright": 0.0, "outside": 1.0}
    grey = cv2.cvtColor(rgb[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
    shrink = PATCH / grey.shape[1]
    if shrink < 1:
        grey = cv2.resize(grey, (PATCH, max(2, round(grey.shape[0] * shrink))), interpolation=cv2.INTER_AREA)
    return {
        "sharpness": float(cv2.Laplacian(grey, cv2.CV_32F).var()),
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "dark": np.count_nonzero(grey < 16) / grey.size,
        "bright": np.count_nonzero(grey > 247) / grey.size,
        "outside": min(1.0, max(0.0, 1 - inside / area, outside_points)),
    }
