"""What the frozen encoders see in a crop: a face recogniser's embedding, CLIP's patches. Computed once, then cached.

P patches   C channels
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime

from unif2ace_data.attributes.predict import PIXELS, pixels_of
from unif2ace_data.faces.runtime import session_options
from unif2ace_data.run.local import usable_cores
from unif2ace_model.config import Features
from unif2ace_model.encoders import FEATURES, clip_source, face_encoder, load_clip

CLIP_LAYER = -2  # Show-o reads CLIP's last layer but one


@dataclass(slots=True)
class FeatureNetwork:
    """`of(crops (H, W, 3) uint8 RGB, their landmarks (5, 2)) -> float32 (B, C) or (B, P, C)`. `revision` names the weights."""

    revision: str
    of: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], np.ndarray]


def networks_of(features: Features) -> dict[str, FeatureNetwork]:
    """The networks that a preset names, as "face" and "clip". Raises UserError where one is not there."""
    found = {}
    if features.face:
        found["face"] = face_network(features.face)
    if features.clip:
        found["clip"] = clip_network(features.clip)
    return found


def kept(features: np.ndarray) -> np.ndarray:
    """Features as a dataset's cache keeps them: what is encoded on the spot must be the same numbers."""
    return features.astype(np.float16).astype(np.float32)


def face_network(pack: str) -> FeatureNetwork:
    """The recogniser of a face pack: its embedding at unit length, (C,). Raises UserError: no such pack."""
    encoder = face_encoder(pack)
    options = session_options()
    options.intra_op_num_threads = usable_cores()  # nothing else runs beside this
    session = onnxruntime.InferenceSession(
        encoder.graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def embedding(crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        pixels = pixels_of(crop, landmarks, encoder.preprocessing)
        found = np.asarray(session.run([FEATURES], {PIXELS: pixels})[0][0], np.float32)
        return found / max(float(np.linalg.norm(found)), 1e-12) * np.float32(found.size**0.5)

    def of(crops: Sequence[np.ndarray], landmarks: Sequence[np.ndarray]) -> np.ndarray:
        # one by one: a batch gives other last digits, and the builder's embeddings are of single faces
        return np.stack([embedding(crop, points) for crop, points in zip(crops, landmarks, strict=True)])

    return FeatureNetwork(encoder.facts.sha256, of)


def clip_network(name: str) -> FeatureNetwork:
    """The patches of an open_clip image tower, (P, C) of its layer -2. Raises UserError: no such weights."""
    import torch
    from PIL import Image

    from unif2ace_model.weights import weights_hash

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    visual = load_clip(*clip_source(name)).visual
    revision, how = weights_hash(visual.state_dict()), visual.preprocess_cfg
    visual.to(device)
    side = how["size"] if isinstance(how["size"], int) else int(how["size"][0])
    mean, std = (np.array(how[key], np.float32) for key in ("mean", "std"))

    @torch.no_grad()
    def of(crops: Sequence[np.ndarray], _: Sequence[np.ndarray]) -> np.ndarray:
        resized = [Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC) for crop in crops]
        pixels = (np.stack([np.asarray(picture, np.float32) for picture in resized]) / 255 - mean) / std
        batch = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).to(device)
        depth = len(visual.transformer.resblocks)
        found = visual.forward_intermediates(
            batch, indices=[depth + CLIP_LAYER], intermediates_only=True, output_fmt="NLC"
        )
        return np.asarray(found["image_intermediates"][0].cpu().numpy(), np.float32)

    return FeatureNetwork(revision, of)
