"""FSQ, finite scalar quantization (Mentzer et al., 2023): the image tokenizer that is trained here.

    B pictures   H, W pixels   h, w codes a column, a row   N = h w codes   L factors of a code

A folder of it holds config.json (`"kind": "fsq"`) and model.safetensors; tokenizer_training.py writes them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Section
from unif2ace_model.checkpoint import CONFIG, WEIGHTS, fill, read_tensors
from unif2ace_model.codes import to_codes, to_digits
from unif2ace_model.weights import weights_hash

KIND = "fsq"
GROUPS = 8  # of the norms: widths are multiples of it


class FsqConfig(Section):
    levels: list[int] = Field([8, 8, 8, 4, 4], description="our choice: 8192 codes, as the paper's codebook has")
    downscale: int = Field(8, ge=1, description="our choice: pixels a code, along each side; the paper's has 16")
    width: int = Field(64, ge=GROUPS, multiple_of=GROUPS, description="our choice: channels next to the pixels")

    @model_validator(mode="after")
    def sound(self) -> FsqConfig:
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"levels {self.levels}: at least one factor, of 2 levels or more each")
        if self.downscale & (self.downscale - 1):
            raise ValueError(f"downscale {self.downscale} is not a power of 2")
        return self


class Fsq(nn.Module):
    """A convolutional autoencoder whose latent channels are rounded to a few levels each."""

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
            *down, Residual(width), nn.GroupNorm(GROUPS, width), nn.Conv2d(width, len(config.levels), 1)
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

    def pixels(self, digits_BLhw: Tensor) -> Tensor:
        levels = torch.tensor(self.config.levels, device=digits_BLhw.device)[:, None, None]
        out = self.decoder(digits_BLhw / (levels - 1) * 2 - 1)
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
            nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(GROUPS, width), nn.SiLU(), last,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out = x + self.layers(x)
        assert isinstance(out, Tensor)
        return out


def save_fsq(model: Fsq, folder: Path) -> None:
    """Write config.json and model.safetensors into an existing folder."""
    (folder / CONFIG).write_text(json.dumps({"kind": KIND, **model.config.model_dump()}, indent=1) + "\n")
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def load_fsq(folder: Path) -> Fsq:
    """The tokenizer of a folder that `save_fsq` wrote. Raises UserError: another folder, other weights, a broken file."""
    made_by = "`unif2ace-model tokenizer` writes one"
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise UserError(f"no image tokenizer in {folder}: it has no {CONFIG}; {made_by}", 2) from None
    except ValueError:
        raise UserError(f"{folder / CONFIG} is not JSON; {made_by}", 2) from None
    if not isinstance(config, dict) or config.pop("kind", None) != KIND:
        raise UserError(f'{folder} is not an FSQ tokenizer: its {CONFIG} does not say "kind": "{KIND}"; {made_by}', 2)
    try:
        model = Fsq(FsqConfig.model_validate(config))
    except ValidationError as error:
        first = error.errors()[0]
        where, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise UserError(f"{folder / CONFIG} is not an FSQ tokenizer's: {where} {what}".replace(":  ", ": ")) from None
    fill(model, read_tensors(folder), folder)
    model.revision = weights_hash(model.state_dict())
    return model.eval().requires_grad_(False)
