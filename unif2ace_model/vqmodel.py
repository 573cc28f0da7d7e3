"""diffusers' VQModel as an image tokenizer: a convolutional autoencoder with a learnt codebook (aMUSEd, latent diffusion).

B pictures   H, W pixels   N = (H / f) (W / f) codes   C channels
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unif2ace_data.errors import UserError
from unif2ace_model.weights import offline, weights_hash

CONFIG = "config.json"


class VqModel:
    """`model`: a diffusers VQModel in evaluation mode."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.revision = weights_hash(model.state_dict())

    def to(self, device: torch.device) -> VqModel:
        self.model.to(device)
        return self

    @property
    def levels(self) -> list[int]:
        """One factor: a learnt codebook has no digits."""
        return [self.codebook_size]

    @property
    def codebook_size(self) -> int:
        return int(self.model.config.num_vq_embeddings)

    @property
    def downscale(self) -> int:
        return int(2 ** (len(self.model.config.block_out_channels) - 1))

    @property
    def from_zero(self) -> bool:
        """Whether the network's pixels go from 0 to 1, not from -1 to 1. No configuration says so: those that aMUSEd's
        authors converted do, and they alone are marked for looking codes up."""
        return bool(self.model.config.lookup_from_codebook)

    @torch.no_grad()
    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """RGB in [-1, 1] to codes (B, N) int64, row by row."""
        latents = self.model.encode((pixels_BCHW + 1) / 2 if self.from_zero else pixels_BCHW).latents
        codes: Tensor = self.model.quantize(latents)[2][2]
        return codes.reshape(len(pixels_BCHW), -1)

    @torch.no_grad()
    def decode(self, codes_BN: Tensor, height: int, width: int) -> Tensor:
        """Codes to RGB (B, 3, height, width) in [-1, 1]."""
        shape = (len(codes_BN), height // self.downscale, width // self.downscale, self.model.quantize.vq_embed_dim)
        latents = self.model.quantize.get_codebook_entry(codes_BN.flatten(), shape)
        spatial = latents if self.model.config.norm_type == "spatial" else None
        pixels: Tensor = self.model.decoder(self.model.post_quant_conv(latents), spatial)
        return (pixels * 2 - 1 if self.from_zero else pixels).clamp(-1, 1)


def load_vqmodel(folder: Path) -> VqModel:
    """The VQModel of a folder that diffusers wrote. Raises UserError: not installed, another model, other or broken weights."""
    try:
        from diffusers import VQModel
    except ImportError as error:
        raise UserError(f"a VQModel needs diffusers ({error}): pip install 'unif2ace[train]'") from None
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        inside = sorted(found.parent.name for found in folder.glob(f"*/{CONFIG}"))
        hint = f"; name one of its folders behind #: {', '.join(inside)}" if inside else ""
        raise UserError(f"{folder} is no model of diffusers: it has no {CONFIG} that can be read{hint}", 2) from None
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if kind != "VQModel":
        raise UserError(f"{folder} holds a {kind or 'model of another library'}, not diffusers' VQModel", 2)
    try:
        with offline():
            model, told = VQModel.from_pretrained(  # type: ignore[no-untyped-call]
                str(folder), local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
            )
    except Exception as error:  # diffusers and torch raise nearly anything on what they cannot load
        why = " ".join(str(error).split())[:200]
        raise UserError(f"diffusers cannot load the VQModel in {folder} ({type(error).__name__}: {why})") from None
    problems = [f"{name} is missing" for name in told["missing_keys"]]
    problems += [f"{name} is not of this model" for name in told["unexpected_keys"]]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(f"the weights in {folder} are of another model: {'; '.join(problems[:3])}{more}")
    return VqModel(model.float().eval().requires_grad_(False))
