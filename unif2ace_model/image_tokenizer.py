"""Image tokenizers: pictures to codes and back, behind one protocol.

    B pictures   H, W pixels   N = (H / f) (W / f) codes   C channels of a latent   L factors of a code

FSQ (finite scalar quantization) is ours and trained here; MAGVIT-v2 (Show-o's and the paper's) and diffusers' VQModel
are taken over from their checkpoints.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unif2ace_data.recipe import Section
from unif2ace_data.schema import UserError
from unif2ace_model.encoders import weights_hash

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class ImageTokenizer(Protocol):
    """`revision`: hash of the weights. Frozen: nothing of it is trained with the model."""

    @property
    def levels(self) -> list[int]: ...
    @property
    def codebook_size(self) -> int: ...
    @property
    def downscale(self) -> int: ...
    @property
    def revision(self) -> str: ...
    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """RGB in [-1, 1] to codes (B, N) int64, row by row."""
        ...

    def decode(self, codes_BN: Tensor, height: int, width: int) -> Tensor:
        """Codes to RGB (B, 3, height, width) in [-1, 1]."""
        ...


# ------------------------------------------------------------------ codes as digits


def to_codes(digits: Tensor, levels: list[int]) -> Tensor:
    """(..., L) digits, 0 .. level - 1 each, to codes: mixed radix, the first factor varies fastest."""
    return (digits * basis(levels).to(digits.device)).sum(-1)


def to_digits(codes: Tensor, levels: list[int]) -> Tensor:
    """(...) codes to (..., L) digits."""
    return codes[..., None] // basis(levels).to(codes.device) % torch.tensor(levels, device=codes.device)


def basis(levels: list[int]) -> Tensor:
    return torch.tensor([math.prod(levels[:place]) for place in range(len(levels))])


# ------------------------------------------------------------------ FSQ


class FsqConfig(Section):
    levels: list[int] = [8, 8, 8, 4, 4]  # our choice: 8192 codes, as the paper's codebook has
    downscale: int = 8
    width: int = 64


class Fsq(nn.Module):
    """A convolutional autoencoder whose latent channels are rounded to a few levels each (Mentzer et al., 2023)."""

    def __init__(self, config: FsqConfig) -> None:
        super().__init__()
        self.config = config
        self.revision = ""
        width, steps, stem = config.width, int(math.log2(config.downscale)), min(4, config.downscale)
        down: list[nn.Module] = [nn.PixelUnshuffle(stem), nn.Conv2d(3 * stem**2, width, 3, padding=1), Residual(width)]
        up: list[nn.Module] = [Residual(width), nn.Conv2d(width, 3 * stem**2, 3, padding=1), nn.PixelShuffle(stem)]
        for _ in range(steps - int(math.log2(stem))):
            down += [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), Residual(2 * width)]
            up = [Residual(2 * width), nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.PixelShuffle(2), *up]
            width *= 2
        self.encoder = nn.Sequential(
            *down, Residual(width), nn.GroupNorm(8, width), nn.Conv2d(width, len(config.levels), 1)
        )
        self.decoder = nn.Sequential(nn.Conv2d(len(config.levels), width, 3, padding=1), Residual(width), *up)

    @property
    def levels(self) -> list[int]:
        return list(self.config.levels)

    @property
    def codebook_size(self) -> int:
        return math.prod(self.config.levels)

    @property
    def downscale(self) -> int:
        return self.config.downscale

    def digits(self, pixels_BCHW: Tensor) -> Tensor:
        """Continuous digits (B, L, h, w): each within its level's range, to be rounded."""
        levels = torch.tensor(self.config.levels, device=pixels_BCHW.device)[:, None, None]
        return torch.sigmoid(self.encoder(pixels_BCHW)) * (levels - 1)

    def pixels(self, digits: Tensor) -> Tensor:
        levels = torch.tensor(self.config.levels, device=digits.device)[:, None, None]
        out = self.decoder(digits / (levels - 1) * 2 - 1)
        assert isinstance(out, Tensor)
        return out

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """The reconstruction, with gradients straight through the rounding."""
        digits = self.digits(pixels_BCHW)
        return self.pixels(digits + (digits.round() - digits).detach())

    @torch.no_grad()
    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        digits = self.digits(pixels_BCHW).round().long()
        return to_codes(digits.flatten(2).transpose(1, 2), self.config.levels)

    @torch.no_grad()
    def decode(self, codes_BN: Tensor, height: int, width: int) -> Tensor:
        digits = to_digits(codes_BN, self.config.levels).transpose(1, 2)
        grid = digits.reshape(*digits.shape[:2], height // self.downscale, width // self.downscale)
        return self.pixels(grid.float()).clamp(-1, 1)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width), nn.SiLU(), last,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out = x + self.layers(x)
        assert isinstance(out, Tensor)
        return out


def save_fsq(model: Fsq, folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps({"kind": "fsq", **model.config.model_dump()}, indent=1) + "\n")
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / WEIGHTS)


def load_image_tokenizer(where: str) -> ImageTokenizer:
    """`fsq:PATH`."""
    kind, _, path = where.partition(":")
    if kind != "fsq" or not path:
        raise UserError(f"images.tokenizer {where!r}: write fsq:PATH", 2)
    folder = Path(path).expanduser()
    config = json.loads((folder / CONFIG).read_text())
    config.pop("kind")
    model = Fsq(FsqConfig.model_validate(config))
    model.load_state_dict(load_file(folder / WEIGHTS))
    model.revision = weights_hash(model.state_dict())
    return model.eval().requires_grad_(False)
