"""MAGVIT-v2's image tokenizer as Show-o publishes it (showlab/magvitv2): a VQGAN around lookup-free quantization.

    B pictures   H, W pixels   C channels   h, w codes a column, a row   N = h w codes   L bits of a code

Lookup-free quantization (Yu et al., 2023) keeps the signs of L latent channels: a code is a number of L bits, and the
codebook is not learnt. Names and shapes of the tensors are those of the published checkpoint (13 bits, 16 x 16 pixels a
code, 128 channels next to the pixels); widths and depths are read from the shapes, so smaller ones load, too. Codes are
numbered as there, the first channel being the highest bit: the rows of a body trained on them keep their meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention, silu

from unif2ace_data.errors import UserError
from unif2ace_model.checkpoint import fill
from unif2ace_model.codes import to_codes, to_digits
from unif2ace_model.weights import read_weights, weights_hash

FILES = ("model.safetensors", "pytorch_model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin")
GROUPS, EPS = 32, 1e-6  # of the norms


@dataclass(frozen=True, slots=True)
class Stage:
    """One resolution: its residual blocks write `width` channels."""

    width: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Shape:
    """An architecture. `down`, `up`: from the pixels to the codes, both."""

    width: int
    bits: int
    down: tuple[Stage, ...]
    up: tuple[Stage, ...]


PUBLISHED = Shape(
    width=128,
    bits=13,
    down=tuple(Stage(128 * times, blocks) for times, blocks in zip((1, 2, 2, 4, 4), (4, 3, 4, 3, 4), strict=True)),
    up=tuple(Stage(128 * times, blocks) for times, blocks in zip((1, 1, 2, 2, 4), (4, 4, 3, 4, 3), strict=True)),
)


class Magvitv2(nn.Module):
    def __init__(self, shape: Shape = PUBLISHED) -> None:
        super().__init__()
        self.shape = shape
        self.revision = ""
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)
        self.quantize = SignTable(shape.bits)

    @property
    def levels(self) -> list[int]:
        return [2] * self.shape.bits

    @property
    def codebook_size(self) -> int:
        return int(2**self.shape.bits)

    @property
    def downscale(self) -> int:
        return int(2 ** (len(self.shape.down) - 1))

    @torch.no_grad()
    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        bits_BhwL = (self.encoder(pixels_BCHW) > 0).long().permute(0, 2, 3, 1)
        return to_codes(bits_BhwL.flip(-1), self.levels).flatten(1)

    @torch.no_grad()
    def decode(self, codes_BN: Tensor, height: int, width: int) -> Tensor:
        grid_Bhw = codes_BN.reshape(-1, height // self.downscale, width // self.downscale)
        pixels = self.decoder(self.quantize.embedding[grid_Bhw].permute(0, 3, 1, 2))
        assert isinstance(pixels, Tensor)
        return pixels.clamp(-1, 1)


class SignTable(nn.Module):
    """The two constants that the checkpoint carries: each code's signs, and each channel's place value."""

    embedding: Tensor
    power_vals: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        digits = to_digits(torch.arange(2**bits), [2] * bits).flip(-1)
        self.register_buffer("embedding", digits.float() * 2 - 1)
        self.register_buffer("power_vals", 2 ** torch.arange(bits).flip(0))


class Encoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv_in = conv(3, shape.width)
        self.down = nn.ModuleList()
        width = shape.width
        for place, stage in enumerate(shape.down):
            self.down.append(Level(width, stage, "downsample" if place < len(shape.down) - 1 else None))
            width = stage.width
        self.mid = Middle(width)
        self.norm_out = norm(width)
        self.conv_out = conv(width, shape.bits)
        self.quant_conv = nn.Conv2d(shape.bits, shape.bits, 1)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, L, h, w): a bit is whether its channel is above 0."""
        x = self.conv_in(pixels_BCHW)
        for level in self.down:
            x = level(x)
        out = self.quant_conv(self.conv_out(silu(self.norm_out(self.mid(x)))))
        assert isinstance(out, Tensor)
        return out


class Decoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.up[-1].width
        self.post_quant_conv = nn.Conv2d(shape.bits, shape.bits, 1)
        self.conv_in = conv(shape.bits, width)
        self.mid = Middle(width)
        levels: list[nn.Module] = []
        for place in range(len(shape.up) - 1, -1, -1):
            levels.append(Level(width, shape.up[place], "upsample" if place else None))
            width = shape.up[place].width
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = norm(width)
        self.conv_out = conv(width, 3)

    def forward(self, signs_BLhw: Tensor) -> Tensor:
        x = self.mid(self.conv_in(self.post_quant_conv(signs_BLhw)))
        for level in reversed(self.up):
            x = level(x)
        out = self.conv_out(silu(self.norm_out(x)))
        assert isinstance(out, Tensor)
        return out


class Level(nn.Module):
    """The residual blocks of one resolution, then the way to the next one, if there is one."""

    def __init__(self, width: int, stage: Stage, resample: str | None) -> None:
        super().__init__()
        widths = [width] + [stage.width] * stage.blocks
        self.block = nn.ModuleList(ResidualBlock(i, o) for i, o in pairwise(widths))
        self.downsample = Downsample(stage.width) if resample == "downsample" else None
        self.upsample = Upsample(stage.width) if resample == "upsample" else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        for resample in (self.downsample, self.upsample):
            x = x if resample is None else resample(x)
        return x


class ResidualBlock(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(width), conv(width, out)
        self.norm2, self.conv2 = norm(out), conv(out, out)
        self.nin_shortcut = nn.Conv2d(width, out, 1) if width != out else None

    def forward(self, x: Tensor) -> Tensor:
        changed = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))
        kept = x if self.nin_shortcut is None else self.nin_shortcut(x)
        out = kept + changed
        assert isinstance(out, Tensor)
        return out


class Middle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(width, width)
        self.attn_1 = Attention(width)
        self.block_2 = ResidualBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block_2(self.attn_1(self.block_1(x)))
        assert isinstance(out, Tensor)
        return out


class Attention(nn.Module):
    """One head over all places of the grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (part(normed).flatten(2).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        out = x + self.proj_out(mixed)
        assert isinstance(out, Tensor)
        return out


class Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(pad(x, (0, 1, 0, 1)))  # a border at the right and below alone, as these weights learnt it
        assert isinstance(out, Tensor)
        return out


class Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
        assert isinstance(out, Tensor)
        return out


def conv(width: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(width, out, 3, padding=1)


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, width, EPS)


# ------------------------------------------------------------------ from a checkpoint


def load_magvitv2(folder: Path) -> Magvitv2:
    """The tokenizer of a folder in the published layout. Raises UserError: no weights, other tensors, a broken file."""
    tensors = read_weights(folder, FILES, "MAGVIT-v2 as Show-o publishes it")
    shape = shape_of(tensors, folder)
    model = Magvitv2(shape)
    own = model.state_dict()
    constants = {name: own[name].clone() for name in own if name.startswith("quantize.")}
    fill(model, {name: t.to(own[name].dtype) if name in own else t for name, t in tensors.items()}, folder)
    for name, expected in constants.items():
        if not torch.equal(model.state_dict()[name], expected):
            raise UserError(f"{folder}: {name} numbers the codes otherwise than the published checkpoint does")
    model.revision = weights_hash(model.state_dict())
    return model.eval().requires_grad_(False)


def shape_of(tensors: Mapping[str, Tensor], folder: Path) -> Shape:
    """The architecture that the names and shapes of a checkpoint's tensors tell. Raises UserError where they do not."""
    try:
        shape = Shape(
            width=len(tensors["encoder.conv_in.weight"]),
            bits=len(tensors["encoder.conv_out.weight"]),
            down=stages_of(tensors, "encoder.down"),
            up=stages_of(tensors, "decoder.up"),
        )
    except KeyError as error:
        raise UserError(f"{folder} is not MAGVIT-v2 as Show-o publishes it: it has no tensor {error}") from None
    widths = [shape.width, *(stage.width for stage in (*shape.down, *shape.up))]
    if len(shape.down) != len(shape.up) or any(width % GROUPS for width in widths) or shape.bits > 20:
        raise UserError(f"{folder} is not MAGVIT-v2 as Show-o publishes it: its shapes make no such network ({shape})")
    return shape


def stages_of(tensors: Mapping[str, Tensor], prefix: str) -> tuple[Stage, ...]:
    places = [re.match(rf"{re.escape(prefix)}\.(\d+)\.block\.(\d+)\.", name) for name in tensors]
    blocks = {(int(found[1]), int(found[2])) for found in places if found}
    count = max((level for level, _ in blocks), default=0) + 1
    return tuple(
        Stage(len(tensors[f"{prefix}.{level}.block.0.conv1.weight"]), sum(1 for at, _ in blocks if at == level))
        for level in range(count)
    )
