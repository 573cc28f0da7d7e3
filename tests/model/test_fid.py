"""The Fréchet distance: closed forms, and every network that it may be taken with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models import inception_v3

from unif2ace_data.errors import UserError
from unif2ace_model.fid import Features, FidNetwork, fid_network, frechet

LANDMARKS = np.array([[0.35, 0.45], [0.65, 0.45], [0.5, 0.6], [0.38, 0.75], [0.62, 0.75]])


def noise(count: int, low: int = 0, high: int = 200, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (count, side, side, 3), dtype=np.uint8)


def mean_colour(pixels_BCHW: Tensor) -> Tensor:
    return pixels_BCHW.float().mean((2, 3))


def test_pictures_that_are_all_shifted_are_apart_by_the_square_of_the_shift() -> None:
    """The covariances are the same, so what is left of the distance is that of the means: 10^2 in three channels."""
    network = FidNetwork("mean colour", Features(mean_colour, 3))
    pictures = noise(64)
    assert frechet(network, pictures, pictures + 10) == pytest.approx(300, rel=1e-3)
    assert frechet(network, pictures, pictures) == pytest.approx(0, abs=1e-2)


def test_twice_the_spread_by_hand() -> None:
    """One feature: (m - m')^2 + (s - s')^2."""
    network = FidNetwork("red", Features(lambda p: p[:, :1].float().mean((2, 3)), 1))
    values = np.array([90, 110] * 20, np.uint8)
    one = np.broadcast_to(values[:, None, None, None], (40, 4, 4, 3))
    two = np.broadcast_to((2 * values.astype(int) - 100).astype(np.uint8)[:, None, None, None], (40, 4, 4, 3))
    spread = float(np.std(values, ddof=1))
    assert frechet(network, one, two) == pytest.approx(spread**2, rel=1e-3)


def test_one_picture_has_no_distance() -> None:
    assert frechet(FidNetwork("mean colour", Features(mean_colour, 3)), noise(1), noise(4)) is None


def test_the_face_network_and_a_clip_are_named_with_their_weights(clip: Path) -> None:
    face = fid_network("face", "embedded", LANDMARKS)
    assert face.name.startswith("face recogniser of embedded (")
    dark, light = noise(6, 0, 60), noise(6, 180, 240, seed=1)
    assert (frechet(face, dark, light) or 0) > 0.1
    made = fid_network(str(clip), "embedded", LANDMARKS)
    assert made.name.startswith("CLIP tiny-clip (")
    assert (frechet(made, dark, light) or 0) > (frechet(made, dark, noise(6, 0, 60, seed=2)) or 0)


def test_fid_s_own_inception_from_a_file(tmp_path: Path) -> None:
    """Random weights under its names. Its features are 2048 wide, and pictures of any size are taken."""
    torch.manual_seed(0)
    made = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    torch.save(made.state_dict(), tmp_path / "pt_inception.pth")
    network = fid_network(f"inception:{tmp_path / 'pt_inception.pth'}", "embedded", LANDMARKS)
    assert network.name.startswith("Inception (")
    assert network.features(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 2048)


def test_networks_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Inception weights in"):
        fid_network(f"inception:{tmp_path / 'none.pth'}", "embedded", LANDMARKS)
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="holds no weights of FID's Inception"):
        fid_network(f"inception:{tmp_path / 'odd.pth'}", "embedded", LANDMARKS)
    with pytest.raises(UserError):
        fid_network(str(tmp_path), "embedded", LANDMARKS)
