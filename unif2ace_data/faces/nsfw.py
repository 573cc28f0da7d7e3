"""Nudity by nudenet's detector (the `nsfw` extra): the largest score of any exposed class."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from unif2ace_data.errors import UserError
from unif2ace_data.faces.runtime import bgr_of, session_options
from unif2ace_data.shards import sha256_file

# Bare feet, bellies and armpits are no reason to lose a portrait.
EXPOSED = {
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_EXPOSED",
}


def nsfw_model() -> str:
    """SHA-256 of nudenet's network; empty where it is not installed."""
    found = importlib.util.find_spec("nudenet")
    folder = Path(found.origin).parent if found and found.origin else None
    return "".join(sha256_file(path) for path in sorted(folder.glob("*.onnx"))) if folder else ""


class NsfwNet:
    """Raises UserError where nudenet is not installed."""

    def __init__(self) -> None:
        try:
            import nudenet
            import onnxruntime
        except ImportError:
            raise UserError(
                "filters.nsfw needs nudenet: pip install 'unif2ace[nsfw]', or set filters.nsfw=null"
            ) from None
        self._detector = nudenet.NudeDetector()
        path = self._detector.onnx_session._model_path
        self._detector.onnx_session = onnxruntime.InferenceSession(path, session_options())

    def __call__(self, rgb: np.ndarray) -> float:
        """0..1 for an (H, W, 3) uint8 photo."""
        found = self._detector.detect(bgr_of(rgb))
        return max((float(f["score"]) for f in found if f["class"] in EXPOSED), default=0.0)
