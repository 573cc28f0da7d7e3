"""MAGVIT-v2 in the published layout: names and numbering of the codes, the network against another library's, the folder."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from diffusers import VQModel
from safetensors.torch import load_file, save_file

from unif2ace_data.errors import UserError
from unif2ace_model.image_tokenizer import load_image_tokenizer
from unif2ace_model.magvitv2 import PUBLISHED, Magvitv2, Shape, Stage

SMALL = Shape(width=32, bits=5, down=(Stage(32, 1), Stage(64, 1)), up=(Stage(32, 2), Stage(64, 2)))
BLOCK = ("norm1", "conv1", "norm2", "conv2")
MIDDLE = [
    *(f"mid.block_{number}.{part}" for number in (1, 2) for part in BLOCK),
    *(f"mid.attn_1.{part}" for part in ("norm", "q", "k", "v", "proj_out")),
]


def random_model(shape: Shape = SMALL) -> Magvitv2:
    torch.manual_seed(0)
    return Magvitv2(shape).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "magvitv2"
    made.mkdir()
    save_file({name: t.contiguous() for name, t in random_model().state_dict().items()}, made / "model.safetensors")
    return made


def test_the_tensors_have_the_names_of_the_published_checkpoint() -> None:
    modules = [
        *(f"encoder.{name}" for name in ("conv_in", "norm_out", "conv_out", "quant_conv", *MIDDLE)),
        *(f"encoder.down.0.block.0.{part}" for part in BLOCK),
        "encoder.down.0.downsample.conv",
        *(f"encoder.down.1.block.0.{part}" for part in (*BLOCK, "nin_shortcut")),
        *(f"decoder.{name}" for name in ("post_quant_conv", "conv_in", "norm_out", "conv_out", *MIDDLE)),
        *(f"decoder.up.{level}.block.{block}.{part}" for level in (0, 1) for block in (0, 1) for part in BLOCK),
        "decoder.up.0.block.0.nin_shortcut",
        "decoder.up.1.upsample.conv",
    ]
    names = {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
    assert set(random_model().state_dict()) == names | {"quantize.embedding", "quantize.power_vals"}


def test_the_published_network_has_13_bits_for_16_x_16_pixels() -> None:
    with torch.device("meta"):
        model = Magvitv2(PUBLISHED)
    assert (model.levels, model.codebook_size, model.downscale) == ([2] * 13, 8192, 16)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    assert shapes["encoder.down.4.block.3.conv2.weight"] == (512, 512, 3, 3)
    assert shapes["decoder.up.1.block.0.conv1.weight"] == (128, 256, 3, 3)
    assert shapes["encoder.quant_conv.weight"] == (13, 13, 1, 1)
    assert shapes["quantize.embedding"] == (8192, 13)


def test_the_first_channel_is_the_highest_bit_of_a_code() -> None:
    model = random_model()
    signs, places = model.quantize.embedding, model.quantize.power_vals
    assert signs[1].tolist() == [-1, -1, -1, -1, 1] and places.tolist() == [16, 8, 4, 2, 1]
    assert torch.equal((places * (signs > 0)).sum(-1), torch.arange(32))  # as Show-o computes a code


def test_every_code_is_decoded_from_the_signs_that_make_it() -> None:
    """With encoder and decoder taken out, what goes in as signs comes out as the same signs: quantization is exact."""
    model = random_model()
    codes = torch.arange(32).reshape(1, 32)
    seen: list[torch.Tensor] = []
    model.decoder = Recorder(seen)  # type: ignore[assignment]
    model.decode(codes, 8, 16)
    model.encoder = Recorder([])  # type: ignore[assignment]
    assert seen[0].shape == (1, 5, 4, 8)
    assert torch.equal(model.encode(seen[0] * 0.3), codes)


class Recorder(torch.nn.Module):
    def __init__(self, seen: list[torch.Tensor]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return x


def theirs(name: str) -> str:
    """The name in diffusers' VQModel of one of our tensors."""
    name = name.replace("encoder.quant_conv", "quant_conv").replace("decoder.post_quant_conv", "post_quant_conv")
    name = name.replace("norm_out", "conv_norm_out").replace("nin_shortcut", "conv_shortcut")
    for number in (0, 1):
        name = name.replace(f"encoder.down.{number}.", f"encoder.down_blocks.{number}.")
        name = name.replace(f"decoder.up.{number}.", f"decoder.up_blocks.{1 - number}.")
        name = name.replace(f"mid.block_{number + 1}", f"mid_block.resnets.{number}")
    name = name.replace(".block.", ".resnets.").replace("mid.attn_1", "mid_block.attentions.0")
    name = name.replace(".downsample.", ".downsamplers.0.").replace(".upsample.", ".upsamplers.0.")
    for ours, other in (("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        name = name.replace(f"attentions.0.{ours}.", f"attentions.0.{other}.")
    return name


def test_the_network_computes_what_diffusers_vqgan_does() -> None:
    model = random_model()
    oracle = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64), layers_per_block=1, latent_channels=5, num_vq_embeddings=32, norm_num_groups=32,
    ).eval()  # fmt: skip
    wanted = oracle.state_dict()
    tensors = {theirs(name): t for name, t in model.state_dict().items() if not name.startswith("quantize.")}
    tensors = {n: t.flatten(1) if "attentions" in n and t.ndim == 4 else t for n, t in tensors.items()}
    oracle.load_state_dict(tensors | {"quantize.embedding.weight": wanted["quantize.embedding.weight"]})
    pixels = torch.rand(2, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(pixels), oracle.encode(pixels).latents, atol=1e-5, rtol=1e-4)
        signs = torch.randn(2, 5, 8, 12).sign()
        shown = oracle.decoder(oracle.post_quant_conv(signs))
        torch.testing.assert_close(model.decoder(signs), shown, atol=1e-5, rtol=1e-4)


def test_a_folder_of_any_size_and_both_formats_load(folder: Path) -> None:
    loaded = load_image_tokenizer(f"magvitv2:{folder}")
    assert (loaded.levels, loaded.codebook_size, loaded.downscale) == ([2] * 5, 32, 2)
    pixels = torch.rand(2, 3, 16, 24) * 2 - 1
    codes = loaded.encode(pixels)
    assert codes.shape == (2, 96) and codes.dtype == torch.int64
    assert int(codes.min()) >= 0 and int(codes.max()) < 32
    assert torch.equal(codes, random_model().encode(pixels))
    shown = loaded.decode(codes, 16, 24)
    assert shown.shape == pixels.shape and float(shown.abs().max()) <= 1
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    pickled = load_image_tokenizer(f"magvitv2:{folder}")
    assert pickled.revision == loaded.revision and torch.equal(pickled.encode(pixels), codes)


def test_other_tensors_are_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    conv = "encoder.down.0.block.0.conv2.weight"
    for changed, said in (
        ({conv: None}, rf"{conv} is missing"),
        (
            {"encoder.down.0.attn.0.q.weight": torch.zeros(1)},
            r"encoder\.down\.0\.attn\.0\.q\.weight is not of this model",
        ),
        ({conv: tensors[conv][:, :16].clone()}, r"conv2\.weight is \(32, 16, 3, 3\), the model has \(32, 32, 3, 3\)"),
        ({"encoder.conv_in.weight": None}, "has no tensor 'encoder.conv_in.weight'"),
        ({"encoder.conv_in.weight": torch.zeros(24, 3, 3, 3)}, "its shapes make no such network"),
        ({"quantize.embedding": tensors["quantize.embedding"].flip(1)}, "numbers the codes otherwise"),
    ):
        new = {name: t.contiguous() for name, t in (tensors | changed).items() if t is not None}
        save_file(new, weights)
        with pytest.raises(UserError, match=said):
            load_image_tokenizer(f"magvitv2:{folder}")


def test_what_is_not_weights_is_said_in_a_line(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="the file is broken or not whole"):
        load_image_tokenizer(f"magvitv2:{folder}")
    weights.unlink()
    with pytest.raises(
        UserError, match=r"holds no weights: MAGVIT-v2 as Show-o publishes it has one of model\.safetensors"
    ):
        load_image_tokenizer(f"magvitv2:{folder}")
    for content in (b"not a pickle", pickle.dumps(print, 2), pickle.dumps(Path(), 2)):
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(UserError, match="the file is broken, or holds more than tensors") as caught:
            load_image_tokenizer(f"magvitv2:{folder}")
        assert "\n" not in caught.value.message
    torch.save([1, 2], folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="is not a mapping of names to tensors"):
        load_image_tokenizer(f"magvitv2:{folder}")
