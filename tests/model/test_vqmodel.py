"""diffusers' VQModel as a tokenizer: its own forward pass in two halves, and folders that hold something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from safetensors.torch import load_file, save_file

from unif2ace_data.errors import UserError
from unif2ace_model.image_tokenizer import load_image_tokenizer

WEIGHTS = "diffusion_pytorch_model.safetensors"
CODES = 24


def write(folder: Path, **changes: Any) -> VQModel:
    torch.manual_seed(0)
    model = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16), norm_num_groups=4, latent_channels=6, num_vq_embeddings=CODES, **changes,
    ).eval()  # fmt: skip
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.5)
    model.save_pretrained(folder)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "pipeline" / "vqvae")
    return tmp_path / "pipeline"


@pytest.mark.parametrize("from_zero", [False, True])
def test_encoding_and_decoding_are_the_two_halves_of_its_forward_pass(tmp_path: Path, from_zero: bool) -> None:
    model = write(tmp_path / "vq", lookup_from_codebook=from_zero)
    loaded = load_image_tokenizer(f"diffusers:{tmp_path / 'vq'}")
    assert (loaded.levels, loaded.codebook_size, loaded.downscale) == ([CODES], CODES, 4)
    pixels = torch.rand(2, 3, 16, 24) * 2 - 1
    codes = loaded.encode(pixels)
    assert codes.shape == (2, 24) and codes.dtype == torch.int64
    assert int(codes.min()) >= 0 and int(codes.max()) < CODES and len(codes.unique()) > 1
    with torch.no_grad():  # aMUSEd's networks see pixels from 0 to 1
        whole = model((pixels + 1) / 2).sample * 2 - 1 if from_zero else model(pixels).sample
    torch.testing.assert_close(loaded.decode(codes, 16, 24), whole.clamp(-1, 1), atol=1e-5, rtol=1e-4)


def test_every_row_of_the_codebook_is_its_own_nearest(folder: Path) -> None:
    model = VQModel.from_pretrained(folder / "vqvae")
    rows = model.quantize.get_codebook_entry(torch.arange(CODES), (1, 4, 6, 6))
    assert torch.equal(model.quantize(rows)[2][2], torch.arange(CODES))


def test_a_subfolder_of_a_pipeline_is_named_behind_the_hash(folder: Path) -> None:
    loaded = load_image_tokenizer(f"diffusers:{folder}#vqvae")
    assert loaded.revision == load_image_tokenizer(f"diffusers:{folder / 'vqvae'}").revision
    with pytest.raises(UserError, match="name one of its folders behind #: vqvae"):
        load_image_tokenizer(f"diffusers:{folder}")
    with pytest.raises(UserError, match=r"nothing is no model of diffusers: it has no config\.json"):
        load_image_tokenizer(f"diffusers:{folder}#nothing")


def test_other_models_and_other_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    place = f"diffusers:{folder}#vqvae"
    AutoencoderKL(block_out_channels=(32,)).save_pretrained(tmp_path / "kl")
    with pytest.raises(UserError, match="holds a AutoencoderKL, not diffusers' VQModel"):
        load_image_tokenizer(f"diffusers:{tmp_path / 'kl'}")
    weights, config = folder / "vqvae" / WEIGHTS, folder / "vqvae" / "config.json"
    tensors = load_file(weights)
    save_file({name: t for name, t in tensors.items() if name != "quant_conv.bias"}, weights)
    with pytest.raises(UserError, match=r"of another model: quant_conv\.bias is missing"):
        load_image_tokenizer(place)
    save_file(tensors | {"more": torch.zeros(1)}, weights)
    with pytest.raises(UserError, match="more is not of this model"):
        load_image_tokenizer(place)
    save_file(tensors, weights)
    kept = config.read_text()
    config.write_text(json.dumps(json.loads(kept) | {"num_vq_embeddings": 7}))
    with pytest.raises(UserError, match=r"cannot load the VQModel .*quantize\.embedding\.weight"):
        load_image_tokenizer(place)
    config.write_text(kept)
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match="diffusers cannot load the VQModel") as caught:
        load_image_tokenizer(place)
    assert "\n" not in caught.value.message
