"""Proportions of a face from its 478-point mesh, in a frame that turns with the head.

The mesh is rotated so that the outer eye corners lie level and the line from forehead to chin stands upright in three
dimensions; what is then read off are ratios, so that neither the distance to the camera nor the pose should matter.
"""

from __future__ import annotations

import numpy as np

# Points of MediaPipe's mesh. "Left" is the image's left in a frontal picture.
TOP, CHIN, NOSE_ROOT, NOSE_TIP, NOSE_BASE = 10, 152, 168, 1, 2
SIDE_L, SIDE_R = 234, 454  # face outline at the ears
EYE_OUT_L, EYE_IN_L, EYE_UP_L, EYE_LOW_L, IRIS_L = 33, 133, 159, 145, 468
EYE_OUT_R, EYE_IN_R, EYE_UP_R, EYE_LOW_R, IRIS_R = 263, 362, 386, 374, 473
MOUTH_L, MOUTH_R, LIP_TOP, LIP_UP, LIP_LOW, LIP_BOTTOM = 61, 291, 0, 13, 14, 17

# Horizontal distances as shares of the face's width.
WIDTHS = {
    "jaw_width": (172, 397),
    "jaw_low_width": (150, 379),
    "chin_width": (148, 377),
    "forehead_width": (54, 284),
    "temple_width": (21, 251),
    "cheek_width": (132, 361),
    "eye_gap": (EYE_IN_L, EYE_IN_R),
    "eye_span": (EYE_OUT_L, EYE_OUT_R),
    "pupil_gap": (IRIS_L, IRIS_R),
    "brow_gap": (55, 285),
    "nose_width": (64, 294),
    "nostril_width": (48, 278),
    "mouth_width": (MOUTH_L, MOUTH_R),
}
# Vertical distances as shares of the face's height.
HEIGHTS = {
    "forehead_height": (TOP, NOSE_ROOT),
    "nose_length": (NOSE_ROOT, NOSE_BASE),
    "upper_lip_skin": (NOSE_BASE, LIP_TOP),
    "lip_upper": (LIP_TOP, LIP_UP),
    "mouth_gap": (LIP_UP, LIP_LOW),
    "lip_lower": (LIP_LOW, LIP_BOTTOM),
    "chin_height": (LIP_BOTTOM, CHIN),
    "brow_eye_left": (52, EYE_UP_L),
    "brow_eye_right": (282, EYE_UP_R),
    "brow_eye_inner": (55, EYE_IN_L),
    "brow_depth_left": (105, 52),
    "brow_depth_right": (334, 282),
    "brow_slope": (70, 107),
    "eye_open_left": (EYE_UP_L, EYE_LOW_L),
    "eye_open_right": (EYE_UP_R, EYE_LOW_R),
}


def geometry_of(mesh: np.ndarray) -> dict[str, float]:
    """Proportions of `mesh` (478, 3), pixels with z on the same scale; rounded to 4 digits.

    Similarity transforms of the points change nothing. Shares of the face's width (ears) or height (forehead to chin),
    except `face_ratio` (height / width), `eye_aspect_*` (opening / eye width), `lip_fullness` (both lips / mouth width),
    `corner_lift` (mouth corners above the lip line / mouth width), `iris_*` (offset of the iris from the middle of the
    eye / eye width; x to the image's right, y down), `jaw_angle` (degrees at the jaw corner).
    """
    p = frontal(mesh)
    x, y = p[:, 0].tolist(), p[:, 1].tolist()  # plain numbers: arrays take longer over one number at a time
    width = max(x[SIDE_R] - x[SIDE_L], 1e-9)
    height = max(y[CHIN] - y[TOP], 1e-9)
    values = {"face_ratio": height / width}
    for name, (a, b) in WIDTHS.items():
        values[name] = (x[b] - x[a]) / width
    for name, (a, b) in HEIGHTS.items():
        values[name] = (y[b] - y[a]) / height

    mouth = max(x[MOUTH_R] - x[MOUTH_L], 1e-9)
    values["mouth_aspect"] = (y[LIP_LOW] - y[LIP_UP]) / mouth
    lips = y[LIP_UP] - y[LIP_TOP] + y[LIP_BOTTOM] - y[LIP_LOW]
    values["lip_fullness"] = lips / mouth
    values["corner_lift"] = (y[LIP_UP] + y[LIP_LOW] - y[MOUTH_L] - y[MOUTH_R]) / 2 / mouth
    for side, (out, inner, up, low, iris) in {
        "left": (EYE_OUT_L, EYE_IN_L, EYE_UP_L, EYE_LOW_L, IRIS_L),
        "right": (EYE_OUT_R, EYE_IN_R, EYE_UP_R, EYE_LOW_R, IRIS_R),
    }.items():
        eye = max(abs(x[inner] - x[out]), 1e-9)
        values[f"eye_aspect_{side}"] = (y[low] - y[up]) / eye
        values[f"iris_x_{side}"] = (x[iris] - (x[out] + x[inner]) / 2) / eye
        values[f"iris_y_{side}"] = (y[iris] - (y[out] + y[inner]) / 2) / eye
    values["jaw_angle"] = (angle(p[132], p[172], p[CHIN]) + angle(p[361], p[397], p[CHIN])) / 2
    return {name: round(value, 4) for name, value in values.items()}


def frontal(mesh: np.ndarray) -> np.ndarray:
    """`mesh` (478, 3) in the head's own axes: x from eye to eye, y from forehead to chin, z away from the viewer."""
    p = np.asarray(mesh, np.float64)
    across = p[EYE_OUT_R] - p[EYE_OUT_L] + p[SIDE_R] - p[SIDE_L]
    down = p[CHIN] - p[TOP]
    x = across / max(float(np.linalg.norm(across)), 1e-9)
    down = down - (down @ x) * x
    y = down / max(float(np.linalg.norm(down)), 1e-9)
    z = np.cross(x, y)
    return np.asarray((p - p.mean(0)) @ np.stack([x, y, z], 1))


def angle(a: np.ndarray, corner: np.ndarray, b: np.ndarray) -> float:
    """Degrees between the directions from `corner` to `a` and to `b`, seen from the front."""
    u, v = (a - corner)[:2], (b - corner)[:2]
    cosine = float(u @ v) / max(float(np.linalg.norm(u) * np.linalg.norm(v)), 1e-9)
    return float(np.degrees(np.arccos(min(1.0, max(-1.0, cosine)))))
