"""Image tokenizers: pictures to codes and back, behind one protocol.

    B pictures   H, W pixels   N = (H / f) (W / f) codes   C channels

FSQ is ours and trained here; MAGVIT-v2 (Show-o's and the paper's) and diffusers' VQModel are taken over from their
checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor

from unif2ace_data.schema import UserError
from unif2ace_model.fsq import load_fsq


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


def load_image_tokenizer(where: str) -> ImageTokenizer:
    """`fsq:PATH`. Raises UserError."""
    if not where:
        raise UserError(
            "images.tokenizer is empty: `unif2ace-model tokenizer --shards shards/ --out tok/` makes one, and "
            "`--set images.tokenizer=fsq:tok` takes it",
            2,
        )
    kind, _, path = where.partition(":")
    if kind != "fsq" or not path:
        raise UserError(f"images.tokenizer {where!r}: write fsq:PATH", 2)
    return load_fsq(Path(path).expanduser())
