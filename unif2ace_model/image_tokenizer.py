"""Image tokenizers: pictures to codes and back, behind one protocol.

    B pictures   H, W pixels   N = (H / f) (W / f) codes   C channels

FSQ is ours and trained here; MAGVIT-v2 (Show-o's and the paper's) and diffusers' VQModel are taken over from their
checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from unif2ace_data.errors import UserError
from unif2ace_model.fsq import load_fsq
from unif2ace_model.magvitv2 import load_magvitv2
from unif2ace_model.vqmodel import load_vqmodel
from unif2ace_model.weights import folder_of


class ImageTokenizer(Protocol):
    """`revision`: hash of the weights. Frozen: nothing of it is trained with the model."""

    def to(self, device: torch.device) -> Any: ...
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


def load_image_tokenizer(where: str) -> ImageTokenizer:
    """`fsq:PATH`, `magvitv2:PATH` or `diffusers:PATH#SUBFOLDER`; PATH is a folder, or a Hub name in the local cache.

    Raises UserError: none named, another kind, no such folder, or one that holds something else.
    """
    if not where:
        raise UserError(
            "images.tokenizer is empty: `unif2ace-model tokenizer --shards shards/ --out tok/` makes one, and "
            "`--set images.tokenizer=fsq:tok` takes it; with `train` a run makes its own",
            2,
        )
    kind, _, place = where.partition(":")
    if kind not in ("fsq", "magvitv2", "diffusers") or not place:
        raise UserError(f"images.tokenizer {where!r}: write fsq:PATH, magvitv2:PATH or diffusers:PATH#SUBFOLDER", 2)
    if kind == "fsq":
        return load_fsq(folder_of(place))
    if kind == "magvitv2":
        return load_magvitv2(folder_of(place))
    path, _, inside = place.partition("#")
    return load_vqmodel(folder_of(path) / inside)


def check_fit(tokenizer: ImageTokenizer, levels: Sequence[int], size: int, image_tokens: int) -> None:
    """Whether a model of these levels and image tokens takes this tokenizer's codes of size x size pixels.

    Raises UserError (exit code 2) that names the keys of the preset.
    """
    if size % tokenizer.downscale:
        raise UserError(
            f"images.size {size} is not a multiple of the tokenizer's {tokenizer.downscale} pixels a code", 2
        )
    if tokenizer.levels != list(levels):
        raise UserError(
            f"the image tokenizer has the levels {tokenizer.levels} ({tokenizer.codebook_size} codes), the model "
            f"model.levels={list(levels)}: --set model.levels={str(tokenizer.levels).replace(' ', '')}",
            2,
        )
    tokens = (size // tokenizer.downscale) ** 2
    if tokens != image_tokens:
        raise UserError(
            f"the image tokenizer makes {tokens} codes of a picture of images.size={size}, the model takes "
            f"model.image_tokens={image_tokens}",
            2,
        )
