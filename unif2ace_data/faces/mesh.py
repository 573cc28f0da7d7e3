"""Google's face landmarker: 478 points, 52 blendshapes, and the head pose from the points.

The .task file is a zip of TFLite graphs; they are called directly (ai_edge_litert), as MediaPipe's own graph does:
a rotated square region around the face, then once more around the points that were found.
"""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np

from unif2ace_data.faces.runtime import tflite, warped

ROI = 256  # the landmark graph's input, pixels
ROI_MARGIN = 1.5  # region side / extent of the points, as in MediaPipe's graph
EYE_OUTER_LEFT, EYE_OUTER_RIGHT = 33, 263  # sides of the image

# The 146 of the 478 points that the blendshape graph reads, in its order.
# fmt: off
BLENDSHAPE_POINTS = np.array([
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
])
# fmt: on
BLENDSHAPES = [
    "_neutral",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeLookDownLeft",
    "eyeLookDownRight",
    "eyeLookInLeft",
    "eyeLookInRight",
    "eyeLookOutLeft",
    "eyeLookOutRight",
    "eyeLookUpLeft",
    "eyeLookUpRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "noseSneerLeft",
    "noseSneerRight",
]


class FaceMesh:
    """`mesh(rgb, box, landmarks)`: points (478, 3) in image pixels, presence, blendshapes by name."""

    def __init__(self, task_file: Path) -> None:
        with zipfile.ZipFile(task_file) as task:
            self._landmarks = tflite(task.read("face_landmarks_detector.tflite"))
            self._blendshapes = tflite(task.read("face_blendshapes.tflite"))
            model = canonical_mesh(task.read("geometry_pipeline_metadata_landmarks.binarypb")) * [1, -1, -1]
            self._model = model - model.mean(0)

    def __call__(
        self, rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray
    ) -> tuple[np.ndarray, float, dict[str, float]]:
        """`rgb` (H, W, 3 or 4) uint8, `box` x1 y1 x2 y2, `landmarks` (5, 2) with the two eyes first."""
        centre = (box[:2] + box[2:4]) / 2
        side = ROI_MARGIN * float(max(box[2] - box[0], box[3] - box[1]))
        angle = float(np.arctan2(*(landmarks[1] - landmarks[0])[::-1]))
        points, _ = self._look(rgb, centre, side, angle)
        eyes = points[EYE_OUTER_RIGHT, :2] - points[EYE_OUTER_LEFT, :2]
        angle = math.atan2(eyes[1], eyes[0])
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        upright = points[:, :2] @ turn.T
        low, high = upright.min(0), upright.max(0)
        centre, side = turn.T @ ((low + high) / 2), ROI_MARGIN * float((high - low).max())
        points, presence = self._look(rgb, centre, side, angle)
        scores = self._blendshapes(points[BLENDSHAPE_POINTS, :2][None])[0].reshape(-1)
        return points, presence, dict(zip(BLENDSHAPES, scores.tolist(), strict=True))

    def _look(self, rgb: np.ndarray, centre: np.ndarray, side: float, angle: float) -> tuple[np.ndarray, float]:
        cos, sin = math.cos(angle) * side / ROI, math.sin(angle) * side / ROI
        half = ROI / 2
        to_image = np.array([[cos, -sin, centre[0] - half * (cos - sin)], [sin, cos, centre[1] - half * (sin + cos)]])
        region = warped(rgb, to_image, ROI, cv2.BORDER_REPLICATE, cv2.WARP_INVERSE_MAP)
        outputs = self._landmarks(region[None], 255)
        raw = next(o for o in outputs if o.size == 478 * 3).reshape(478, 3)
        logit = max(float(o.reshape(-1)[0]) for o in outputs if o.size == 1)
        xy = raw[:, :2] @ to_image[:, :2].T + to_image[:, 2]
        return np.column_stack((xy, raw[:, 2] * side / ROI)), 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))

    def pose(self, points: np.ndarray) -> tuple[float, float, float]:
        """Yaw, pitch, roll in degrees, by orthogonal Procrustes against MediaPipe's canonical mesh.

        yaw > 0: nose to the image's right; pitch > 0: looking up; roll > 0: clockwise in the image.
        """
        seen = points[:468].astype(np.float64)
        u, _, vt = np.linalg.svd((seen - seen.mean(0)).T @ self._model)
        r = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        # r[:, 2] is where the model's depth axis (away from the viewer) points: the nose points the other way.
        yaw = -math.degrees(math.atan2(r[0, 2], r[2, 2]))
        pitch = math.degrees(math.asin(max(-1.0, min(1.0, r[1, 2]))))
        roll = math.degrees(math.atan2(r[1, 0], r[1, 1]))
        return yaw, pitch, roll


def canonical_mesh(metadata: bytes) -> np.ndarray:
    """The 468 canonical points (x right, y up, z to the viewer) from the task's geometry protobuf (field 1: x y z u v)."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = metadata[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, at

    _, at = varint(0)
    length, at = varint(at)
    end, floats = at + length, []
    while at < end:
        tag, at = varint(at)
        if tag & 7 == 5:
            floats.append(struct.unpack_from("<f", metadata, at)[0])
            at += 4
        else:
            _, at = varint(at)
    return np.array(floats, np.float64).reshape(-1, 5)[:, :3]
