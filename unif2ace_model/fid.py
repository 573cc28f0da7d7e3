"""The Fréchet distance between two sets of pictures, in the feature space of a network that is named with the figure.

    B pictures   H, W pixels   C channels of a feature

torchmetrics computes it. Figures of different networks, picture sizes or numbers of pictures are not comparable: with few
pictures it is biased upwards, so what real pictures reach among themselves stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from unif2ace_data.errors import UserError
from unif2ace_model.encoders import clip_source, load_clip
from unif2ace_model.features import face_network
from unif2ace_model.weights import weights_hash

BATCH = 32
INCEPTION_CHANNELS = 2048  # of FID's Inception, as the field reports it


class Features(nn.Module):
    """A feature function as the module that torchmetrics wants: uint8 (B, 3, H, W) to (B, C)."""

    def __init__(self, of: Callable[[Tensor], Tensor], channels: int) -> None:
        super().__init__()
        self.of, self.num_features = of, channels

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.of(pixels_BCHW)


@dataclass(slots=True)
class FidNetwork:
    """`name`: as it stands in the report, with the first hex digits of the weights' hash."""

    name: str
    features: nn.Module


def fid_network(asked: str, pack: str, landmarks: np.ndarray) -> FidNetwork:
    """`face` (the recogniser of `pack`), `inception:FILE` (FID's own network), or a CLIP as `attributes --encoder` takes it.

    landmarks (5, 2) from 0 to 1: where the dataset's aligned crops have them, for the face network. Raises UserError.
    """
    if asked == "face":
        return face_features(pack, landmarks)
    kind, _, path = asked.partition(":")
    if kind == "inception":
        return inception_features(Path(path).expanduser())
    return clip_features(asked)


def face_features(pack: str, landmarks: np.ndarray) -> FidNetwork:
    network = face_network(pack)

    def of(pixels_BCHW: Tensor) -> Tensor:
        crops = pixels_BCHW.permute(0, 2, 3, 1).numpy()
        points = landmarks * [crops.shape[2], crops.shape[1]]
        return torch.from_numpy(network.of([np.ascontiguousarray(crop) for crop in crops], [points] * len(crops)))

    channels = of(torch.zeros(1, 3, 112, 112, dtype=torch.uint8)).shape[1]
    return FidNetwork(f"face recogniser of {Path(pack).name} ({network.revision[:8]})", Features(of, channels))


def clip_features(asked: str) -> FidNetwork:
    model, weights, shown = clip_source(asked)
    visual = load_clip(model, weights, shown).visual
    how = visual.preprocess_cfg
    side = how["size"] if isinstance(how["size"], int) else int(how["size"][0])
    mean, std = (torch.tensor(how[key])[:, None, None] for key in ("mean", "std"))

    @torch.no_grad()
    def of(pixels_BCHW: Tensor) -> Tensor:
        sized = nn.functional.interpolate(
            pixels_BCHW.float(), size=(side, side), mode="bicubic", align_corners=False, antialias=True
        )
        found = visual((sized.clamp(0, 255) / 255 - mean) / std)
        assert isinstance(found, Tensor)
        return found

    channels = of(torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape[1]
    return FidNetwork(f"CLIP {shown} ({weights_hash(visual.state_dict())[:8]})", Features(of, channels))


def inception_features(file: Path) -> FidNetwork:
    """FID's Inception from the weights in `file` (pt_inception-2015-12-05): figures comparable with published ones."""
    if not file.is_file():
        raise UserError(
            f"no Inception weights in {file}: give inception:FILE with FID's pt_inception-2015-12-05 weights", 2
        )
    try:
        state = torch.load(
            file, map_location="cpu", weights_only=True
        )  # the library would run whatever is pickled there
        made = FrechetInceptionDistance(feature=INCEPTION_CHANNELS, feature_extractor_weights_path=str(file))
    except ModuleNotFoundError:
        raise UserError("FID with Inception needs torch-fidelity: pip install torch-fidelity") from None
    except Exception as error:  # torch raises nearly anything on a file that does not fit
        raise UserError(f"{file} holds no weights of FID's Inception ({str(error).splitlines()[0]})") from None
    return FidNetwork(f"Inception ({weights_hash(state)[:8]})", made.inception)


def frechet(network: FidNetwork, real_BHWC: np.ndarray, other_BHWC: np.ndarray) -> float | None:
    """The distance; None where a side has fewer than two pictures. Pictures are uint8 RGB, all of one size."""
    if min(len(real_BHWC), len(other_BHWC)) < 2:
        return None
    metric = FrechetInceptionDistance(feature=network.features)
    for pictures, real in ((real_BHWC, True), (other_BHWC, False)):
        for first in range(0, len(pictures), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(pictures[first : first + BATCH])).permute(0, 3, 1, 2)
            metric.update(batch, real=real)
    return max(0.0, round(float(metric.compute()), 4))
