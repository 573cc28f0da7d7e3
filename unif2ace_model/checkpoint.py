"""Weights on disk: config.json and model.safetensors, and the ways in from Phi and Show-o.

A checkpoint folder appears whole or not at all: written beside its place, then renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unif2ace_data.errors import UserError
from unif2ace_model.config import ModelConfig
from unif2ace_model.model import UniF2ace
from unif2ace_model.moe import TokenMoeLayer
from unif2ace_model.prompts import SPECIAL
from unif2ace_model.sequence_moe import SequenceMoeLayer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"


# ------------------------------------------------------------------ our own


def save_model(model: UniF2ace, folder: Path) -> None:
    """Write config.json and model.safetensors (float32, no path of this machine in them) into an existing folder."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    save_weights(model.config, tensors, folder)


def save_weights(config: ModelConfig, tensors: dict[str, Tensor], folder: Path) -> None:
    """The same from whole tensors on the CPU."""
    (folder / CONFIG).write_text(json.dumps(config.model_dump(), indent=1, sort_keys=True) + "\n")
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def load_model(folder: Path) -> UniF2ace:
    """The model of a folder that `save_model` wrote. Raises UserError: no checkpoint, another shape, a broken file."""
    config = load_config(folder)
    model = UniF2ace(config)
    load_weights(model, folder)
    return model


def load_config(folder: Path) -> ModelConfig:
    try:
        return ModelConfig.model_validate_json((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise UserError(f"no model in {folder}: it has no {CONFIG}", 2) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{folder / CONFIG} is not a model's configuration: {where} {first['msg']}") from None


def load_weights(model: UniF2ace, folder: Path) -> None:
    """Weights into a model that exists. Raises UserError that names the tensors which do not fit."""
    fill(model, read_tensors(folder), folder)


def fill(model: torch.nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    wanted = model.state_dict()
    problems = [f"{n} is missing" for n in wanted if n not in tensors]
    problems += [f"{n} is not of this model" for n in tensors if n not in wanted]
    problems += [
        f"{n} is {tuple(tensors[n].shape)}, the model has {tuple(wanted[n].shape)}"
        for n in wanted
        if n in tensors and tensors[n].shape != wanted[n].shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(f"the weights in {where} are of another model: {'; '.join(problems[:3])}{more}")
    model.load_state_dict(dict(tensors))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder in safetensors format, in one file or in several with an index."""
    index = folder / SHARD_INDEX
    try:
        if index.is_file():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        else:
            names = [WEIGHTS]
        tensors: dict[str, Tensor] = {}
        for name in names:
            if not (folder / name).is_file():
                raise UserError(f"no weights in {folder}: {name} is not there", 2)
            tensors.update(load_file(folder / name))
        return tensors
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"the weights in {folder} cannot be read ({error}): the file is broken or not whole") from None


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes `folder`'s name once everything in it is on the disk."""
    made = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        yield made
        for file in sorted(made.rglob("*")):
            if file.is_file():
                sync(file)
        sync(made)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ------------------------------------------------------------------ from Phi and Show-o


def from_phi(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """A dense body's tensors from `transformers`' PhiForCausalLM: what has no counterpart there is left out.

    The text table takes Phi's first `text_vocab` rows; its other rows are padding that Phi never learned.
    """
    ours: dict[str, Tensor] = {}
    for name, table in (("text_embed", "model.embed_tokens.weight"), ("text_head", "lm_head.weight")):
        ours[f"{name}.weight"] = tensors[table][: config.text_vocab]
    if "lm_head.bias" in tensors:
        ours["text_head.bias"] = tensors["lm_head.bias"][: config.text_vocab]
    for kind in ("weight", "bias"):
        ours[f"body.norm.{kind}"] = tensors[f"model.final_layernorm.{kind}"]
    for layer in range(config.layers):
        theirs, block = f"model.layers.{layer}.", f"body.blocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [tensors[f"{theirs}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            ours[f"{block}attention.qkv.{kind}"] = torch.cat(parts)
            ours[f"{block}attention.out.{kind}"] = tensors[f"{theirs}self_attn.dense.{kind}"]
            ours[f"{block}norm.{kind}"] = tensors[f"{theirs}input_layernorm.{kind}"]
            ours[f"{block}feed.shared.up.{kind}"] = tensors[f"{theirs}mlp.fc1.{kind}"]
            ours[f"{block}feed.shared.down.{kind}"] = tensors[f"{theirs}mlp.fc2.{kind}"]
            if config.qk_norm and f"{theirs}self_attn.q_layernorm.{kind}" in tensors:
                for part in "qk":
                    ours[f"{block}attention.{part}_norm.{kind}"] = tensors[f"{theirs}self_attn.{part}_layernorm.{kind}"]
    return ours


# Show-o's vocabulary: text, then its special tokens in the order in which its tokenizer adds them, codes, mask
SHOWO_SPECIAL = {"pad": 0, "soi": 1, "eoi": 2, "t2i": 5, "mmu": 6}


def from_showo(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """A dense body's tensors from Show-o: Phi under `showo.`, one table for text, special tokens, codes and the mask."""
    phi = {name.removeprefix("showo."): t for name, t in tensors.items() if name.startswith("showo.")}
    ours = from_phi(phi, config)
    whole = len(phi["model.embed_tokens.weight"])
    first = whole - 1 - config.codebook  # of the codes; the last row is the mask
    if first < config.text_vocab:
        raise UserError(
            f"these weights have {whole} rows of vocabulary, and {config.text_vocab} text ids with {config.codebook} "
            "codes and a mask do not fit in: is it another image tokenizer's checkpoint?"
        )
    ours["codes.embed.weight"] = phi["model.embed_tokens.weight"][first:]
    ours["codes.head.weight"] = phi["lm_head.weight"][first:-1]
    ours["codes.head.bias"] = phi["lm_head.bias"][first:-1]
    return ours


def special_rows(tensors: Mapping[str, Tensor], config: ModelConfig, bos: int) -> dict[str, Tensor]:
    """The special ids' rows of both text tables from Show-o's; `bos` (also eos) is a text id there, as in GPT-2."""
    phi = {name.removeprefix("showo."): t for name, t in tensors.items() if name.startswith("showo.")}
    where = [config.text_vocab + SHOWO_SPECIAL[n] if n in SHOWO_SPECIAL else bos for n in SPECIAL]
    return {
        "text_embed.weight": phi["model.embed_tokens.weight"][where],
        "text_head.weight": phi["lm_head.weight"][where],
        "text_head.bias": phi["lm_head.bias"][where],
    }


@torch.no_grad()
def upcycle(model: UniF2ace, dense: Mapping[str, Tensor]) -> None:
    """Fill a model with a dense body's tensors so that it starts exactly at the dense function.

    Routed experts write nothing at first (zero down-projections), and the sequence MoE's residual has scale 0; both get
    gradients from the first step on. Rows of the text table that the dense body lacks keep their fresh start.
    """
    state = model.state_dict()
    for name, tensor in dense.items():
        if name not in state:
            raise UserError(f"the dense weights have {name}, and this model has no such tensor")
        target = state[name]
        if tensor.shape[1:] != target.shape[1:] or len(tensor) > len(target):
            raise UserError(f"the dense weights' {name} is {tuple(tensor.shape)}, the model has {tuple(target.shape)}")
        target[: len(tensor)].copy_(tensor)
    for module in model.modules():
        if isinstance(module, TokenMoeLayer) and module.routed is not None:
            module.routed.down_EFD.zero_()
            module.routed.down_ED.zero_()
        elif isinstance(module, SequenceMoeLayer):
            module.scale_D.zero_()
