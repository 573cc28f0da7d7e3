"""Codes and digits, FSQ's way from pixels to codes and back, its folder, and what is said of folders that are no tokenizer's."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unif2ace_data.errors import UserError
from unif2ace_model.codes import to_codes, to_digits
from unif2ace_model.fsq import Fsq, FsqConfig, load_fsq, save_fsq
from unif2ace_model.image_tokenizer import check_fit, load_image_tokenizer

SMALL = FsqConfig(width=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    made = tmp_path / "tok"
    made.mkdir()
    save_fsq(Fsq(SMALL), made)
    return made


@pytest.mark.parametrize("levels", [[8, 8, 8, 4, 4], [2] * 13, [7], [3, 2, 5]], ids=str)
def test_every_code_is_one_list_of_digits(levels: list[int]) -> None:
    codes = torch.arange(math.prod(levels))
    digits = to_digits(codes, levels)
    assert torch.equal(to_codes(digits, levels), codes)
    assert torch.equal(digits.amax(0), torch.tensor(levels) - 1) and int(digits.min()) == 0
    assert digits[1].tolist() == [1] + [0] * (len(levels) - 1)  # the first factor varies fastest


@pytest.mark.parametrize("downscale", [1, 2, 4, 8, 16])
def test_pixels_to_codes_and_back(downscale: int) -> None:
    torch.manual_seed(0)
    model = Fsq(FsqConfig(width=8, downscale=downscale, levels=[4, 4, 2]))
    pixels = torch.rand(2, 3, 32, 16) * 2 - 1
    codes = model.encode(pixels)
    assert codes.shape == (2, 32 * 16 // downscale**2) and codes.dtype == torch.int64
    assert int(codes.min()) >= 0 and int(codes.max()) < model.codebook_size == 32
    shown = model.decode(codes, 32, 16)
    assert shown.shape == pixels.shape and float(shown.abs().max()) <= 1
    torch.testing.assert_close(shown, model(pixels).clamp(-1, 1), atol=1e-5, rtol=0)


def test_rounding_lets_gradients_through_to_the_encoder() -> None:
    torch.manual_seed(0)
    model = Fsq(SMALL)
    model(torch.rand(1, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in model.encoder[-1].parameters())


def test_a_saved_tokenizer_makes_the_same_codes(folder: Path) -> None:
    torch.manual_seed(0)
    before, loaded = Fsq(SMALL), load_image_tokenizer(f"fsq:{folder}")
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(loaded.encode(pixels), before.encode(pixels))
    assert (loaded.levels, loaded.codebook_size, loaded.downscale) == ([8, 8, 8, 4, 4], 8192, 8)
    assert len(loaded.revision) == 64 and loaded.revision == load_fsq(folder).revision


def test_what_is_no_tokenizer_is_said_in_a_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`unif2ace-model tokenizer --shards shards/ --out tok/` makes one"):
        load_image_tokenizer("")
    with pytest.raises(UserError, match="write fsq:PATH"):
        load_image_tokenizer(str(folder))
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        load_image_tokenizer(f"fsq:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="no such repository in the local cache of the Hub"):
        load_image_tokenizer("magvitv2:nobody/nothing")
    with pytest.raises(UserError, match=r"no image tokenizer in .*: it has no config\.json"):
        load_image_tokenizer(f"fsq:{tmp_path}")
    config = json.loads((folder / "config.json").read_text())
    for text, said in (
        ("{", "is not JSON"),
        (json.dumps({"dim": 8}), 'does not say "kind": "fsq"'),
        (json.dumps(config | {"downscale": 6}), "downscale 6 is not a power of 2"),
        (json.dumps(config | {"width": 12}), "width Input should be a multiple of 8"),
        (json.dumps(config | {"levels": [8, 1]}), "of 2 levels or more"),
        (json.dumps(config | {"width": 16}), r"encoder\.1\.weight is \(8, 48, 3, 3\), the model has \(16, 48, 3, 3\)"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match=said) as caught:
            load_fsq(folder)
        assert "\n" not in caught.value.message


def test_broken_weights_are_said_in_a_line(folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: t for name, t in tensors.items() if name != "decoder.0.bias"}, weights)
    with pytest.raises(UserError, match=r"decoder\.0\.bias is missing"):
        load_fsq(folder)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="the file is broken or not whole"):
        load_fsq(folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is not there"):
        load_fsq(folder)


@pytest.mark.parametrize(
    ("levels", "size", "image_tokens", "said"),
    [
        ([8, 8, 8, 4, 4], 60, 64, "images.size 60 is not a multiple of the tokenizer's 8"),
        ([2] * 13, 64, 64, "--set model.levels=[8,8,8,4,4]"),
        (
            [8, 8, 8, 4, 4],
            64,
            256,
            "makes 64 codes of a picture of images.size=64, the model takes model.image_tokens=256",
        ),
    ],
)
def test_a_tokenizer_that_does_not_fit_the_model(levels: list[int], size: int, image_tokens: int, said: str) -> None:
    check_fit(Fsq(SMALL), [8, 8, 8, 4, 4], 64, 64)
    with pytest.raises(UserError) as caught:
        check_fit(Fsq(SMALL), levels, size, image_tokens)
    assert said in caught.value.message and caught.value.exit_code == 2
