"""What the frozen encoders see in a crop: a face recogniser's embedding, CLIP's patches. Computed once, then cached.

P patches   C channels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime

from unif2ace_data.attributes.predict import PIXELS, pixels_of
from unif2ace_data.faces.runtime import session_options
from unif2ace_data.run.local import usable_cores
from unif2ace_model.encoders import FEATURES, clip_source, face_encoder, load_clip, weights_hash

CLIP_LAYER = -2  # Show-o reads CLIP's last layer but one


@dataclass(slots=True)
class FeatureNetwork:
    """`of(crop (H, W, 3) uint8 RGB, landmarks (5, 2)) -> float32 (C,) or (P, C)`. `revision` names the weights."""

    revision: str
    of: Callable[[np.ndarray, np.ndarray], np.ndarray]


def face_network(pack: str) -> FeatureNetwork:
    """The recogniser of a face pack: its embedding at unit length, (C,). Raises UserError: no such pack."""
    encoder = face_encoder(pack)
    options = session_options()
    options.intra_op_num_threads = usable_cores()  # nothing else runs beside this
    session = onnxruntime.InferenceSession(
        encoder.graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def of(crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        pixels = pixels_of(crop, landmarks, encoder.preprocessing)
        embedding = np.asarray(session.run([FEATURES], {PIXELS: pixels})[0][0], np.float32)
        return embedding / max(float(np.linalg.norm(embedding)), 1e-12) * np.float32(embedding.size**0.5)

    return FeatureNetwork(encoder.facts.sha256, of)


def clip_network(name: str) -> FeatureNetwork:
    """The patches of an open_clip image tower, (P, C) of its layer -2. Raises UserError: no such weights."""
    import torch
    from PIL import Image

    clip = load_clip(*clip_source(name))
    visual, how = clip.visual, clip.visual.preprocess_cfg
    side = how["size"] if isinstance(how["size"], int) else int(how["size"][0])
    mean, std = (np.array(how[key], np.float32) for key in ("mean", "std"))

    @torch.no_grad()
    def of(crop: np.ndarray, _: np.ndarray) -> np.ndarray:
        resized = Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC)
        pixels = (np.asarray(resized, np.float32) / 255 - mean) / std
        batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None])
        depth = len(visual.transformer.resblocks)
        found = visual.forward_intermediates(
            batch, indices=[depth + CLIP_LAYER], intermediates_only=True, output_fmt="NLC"
        )
        return np.asarray(found["image_intermediates"][0][0].numpy(), np.float32)

    return FeatureNetwork(weights_hash(visual.state_dict()), of)
