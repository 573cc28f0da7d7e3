"""The emotion net (mini-Xception, FER2013 classes). Measured on portraits: reliable for happy and neutral only."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from unif2ace_data.faces.runtime import tflite

EMOTIONS = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
MARGIN = 1.1  # square side / longer side of the face box
INPUT = 64


class EmotionNet:
    def __init__(self, graph_file: Path) -> None:
        self._run = tflite(graph_file.read_bytes())

    def __call__(self, rgb: np.ndarray, box: np.ndarray) -> dict[str, float]:
        """Probabilities of EMOTIONS for the face in `box` (x1 y1 x2 y2, pixels of `rgb`)."""
        side = max(2, int(MARGIN * max(box[2] - box[0], box[3] - box[1])))
        centre = (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
        grey = cv2.cvtColor(cv2.getRectSubPix(rgb, (side, side), centre), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (INPUT, INPUT), interpolation=cv2.INTER_AREA).astype(np.float32) / 127.5 - 1
        scores = self._run(small[None, ..., None])[0].reshape(-1)
        return dict(zip(EMOTIONS, map(float, scores), strict=True))
