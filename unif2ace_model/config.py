"""Presets: everything that decides a model and its training, as strict typed data. An unknown key is an error.

A preset is a file pipelines/train-*.yaml; `--set optim.lr=1e-3` changes one number; the resolved preset is written into
the run. "paper: …" marks the paper's numbers, "our choice: …" ours (the paper gives few).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Section, set_key
from unif2ace_data.resources import resource

UndExpert = Literal["copy", "clip", "face"]
GenExpert = Literal["copy", "zero", "noise"]


class TokenMoe(Section):
    experts: int = Field(8, ge=1, description="paper: 8 routed experts a group")
    top_k: int = Field(2, ge=1, description="paper (measured on its activity figure): 2")
    expert_dim: int = Field(
        256, ge=8, multiple_of=8, description="our choice: 1.89B in all at Phi-1.5's size (the paper says 1.8B)"
    )
    shared: Literal["common", "grouped"] = Field(
        "common", description="paper: one shared expert a group; our choice: one for both, or 1.8B is overshot"
    )
    balance: Literal["loss", "bias", "none"] = Field(
        "loss", description="paper: a loss; or DeepSeek-V3's bias, or nothing"
    )
    und_weight: float = Field(0.01, ge=0, description="our choice: lambda_mmu is not published")
    gen_weight: float = Field(0.01, ge=0, description="our choice: lambda_t2i is not published")
    bias_rate: float = Field(1e-3, gt=0, description="our choice: DeepSeek-V3's step of the selection bias")

    @model_validator(mode="after")
    def enough(self) -> TokenMoe:
        if self.top_k > self.experts:
            raise ValueError(f"top_k {self.top_k} is more than the {self.experts} experts of a group")
        return self


class SequenceMoe(Section):
    und: list[UndExpert] = Field(["copy", "copy", "clip", "face"], description="paper: copy, copy, CLIP, face")
    gen: list[GenExpert] = Field(["copy", "copy", "zero", "noise"], description="paper: copy, copy, zero, noise")
    top_k: int = Field(2, ge=1, description="paper: 2")
    dim: int = Field(256, ge=8, description="our choice: width of the resamplers and of what they hand to a block")
    heads: int = Field(4, ge=1, description="our choice: of the resamplers")
    depth: int = Field(1, ge=1, description="our choice: one resampler a modality for all blocks")
    scale: float = Field(0.0, description="our choice: per-channel scale of the residual at the start; 0 starts dense")

    @model_validator(mode="after")
    def enough(self) -> SequenceMoe:
        if self.top_k > min(len(self.und), len(self.gen)):
            raise ValueError(f"top_k {self.top_k} is more than the experts of a group")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self


class ModelConfig(Section):
    """The architecture: config.json of a checkpoint."""

    dim: int = Field(ge=16, multiple_of=8, description="grouped products want strides of 16 bytes in bfloat16")
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    ffn_dim: int = Field(ge=8)
    rotary: float = Field(0.5, ge=0, le=1, description="paper: Show-o's body, Phi-1.5, which turns half of each head")
    rotary_base: float = Field(10000.0, gt=0, description="paper: Phi-1.5's")
    qk_norm: bool = Field(True, description="paper: Show-o's body, which norms queries and keys")
    eps: float = Field(1e-5, gt=0, description="paper: Phi-1.5's layer norms")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="our choice: none; on the two branches of a block, while training"
    )
    text_vocab: int = Field(0, ge=0, description="0: as many as the text tokenizer has")
    levels: list[int] = Field(
        [8, 8, 8, 4, 4], description="our choice: FSQ's 8192 codes (the paper: MAGVIT-v2, 13 bits); factors of a code"
    )
    image_tokens: int = Field(256, ge=1, description="paper: 256 pixels, 16 x 16")
    code_embedding: Literal["table", "factors"] = Field(
        "table", description="our choice: `factors` for small data, where a table of 8192 rows starves"
    )
    token_moe: TokenMoe | None = TokenMoe()
    sequence_moe: SequenceMoe | None = SequenceMoe()
    clip_dim: int = Field(0, ge=0, description="width of the CLIP features, 0 before they are known")
    face_dim: int = Field(0, ge=0, description="width of the face features, 0 before they are known")

    @property
    def codebook(self) -> int:
        return math.prod(self.levels)

    @property
    def guests(self) -> list[str]:
        """The features that experts of the understanding group read."""
        return [name for name in ("clip", "face") if self.sequence_moe and name in self.sequence_moe.und]

    @model_validator(mode="after")
    def fits(self) -> ModelConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        if self.rotated % 2:
            raise ValueError(f"rotary {self.rotary} of a head of {self.dim // self.heads} is not an even width")
        return self

    @property
    def rotated(self) -> int:
        """Channels of a head that carry position."""
        return int(self.dim // self.heads * self.rotary)


class Images(Section):
    tokenizer: str = Field(
        "", description="train (or train:STEPS) learns one into the run; fsq:PATH, magvitv2:PATH, diffusers:PATH#vqvae"
    )
    size: int = Field(256, ge=8, description="paper: 256 pixels")
    views: int = Field(1, ge=1, description="our choice: shifted and mirrored versions of a photograph, cached")


class Text(Section):
    tokenizer: str = Field(
        "train:4096", description="our choice: train:SIZE learns one from the captions; or a folder / Hub name"
    )
    max_tokens: int = Field(
        381, ge=8, description="our choice: Show-o's tuning length; the paper's captions average 120 tokens"
    )
    drop: float = Field(
        0.1, ge=0, le=1, description="our choice: Show-o's; captions left out, for classifier-free guidance"
    )


class Features(Section):
    clip: str = Field("", description="an open_clip folder or MODEL=WEIGHTS; empty: none")
    face: str = Field("embedded", description="our choice: the embedded pack (the paper: AntelopeV2); empty: none")


class Objective(Section):
    schedule: Literal["cosine", "loglinear"] = Field(
        "cosine", description="our choice: Show-o's law; the paper's is not published"
    )
    mask: float = Field(1.0, ge=0, description="paper: 1, of the masked-token NLL; 0: score only")
    alpha: float = Field(0.01, ge=0, description="paper: 0.01, of a score term summed over tokens; 0: mask only")
    und: float = Field(1.0, ge=0, description="paper: 1 : 1")
    und_mean: Literal["tokens", "sequences"] = Field(
        "tokens",
        description="our choice: Show-o's, over tokens; `sequences`: an answer of five tokens counts as a caption of a hundred",
    )
    gen: float = Field(1.0, ge=0, description="paper: 1 : 1")
    caption_share: float = Field(0.25, ge=0, le=1, description="our choice: understanding samples that are captions")
    questions: int = Field(
        1, ge=1, description="our choice: questions of one sample in a sequence, each unseen by the others"
    )


class Optim(Section):
    lr: float = Field(2e-5, gt=0, description="our choice: Show-o's, of its tuning stage")
    body: float = Field(
        1.0, gt=0, le=1, description="our choice: share of lr for all but what looks at pictures (start.LOOKS)"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="our choice: Show-o's")
    weight_decay: float = Field(0.01, ge=0, description="our choice: Show-o's")
    warmup: int = Field(1000, ge=0, description="our choice: steps")
    steps: int = Field(10000, ge=1, description="our choice")
    final: float = Field(0.0, ge=0, le=1, description="our choice: share of lr at the end of the cosine")
    clip: float = Field(1.0, gt=0, description="our choice: norm of the gradient at most")
    und_batch: int = Field(8, ge=0, description="our choice: sequences of a step, over all accumulation")
    gen_batch: int = Field(8, ge=0, description="our choice: the same of generation")
    accumulate: int = Field(1, ge=1, description="our choice: parts that a step's sequences are taken through in")


class Run(Section):
    seed: int = Field(0, ge=0)
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the products (autocast); weights are float32"
    )
    recompute: bool = Field(False, description="activation checkpointing: a block's activations are made twice")
    log_every: int = Field(10, ge=1)
    save_every: int = Field(500, ge=1)
    keep: int = Field(2, ge=1, description="checkpoints kept")
    sample_every: int = Field(500, ge=0, description="pictures and answers; 0: none")


class Preset(Section):
    model: ModelConfig
    start: str = Field(
        "", description="weights to begin with: unif2ace:PATH, phi:PATH or showo:PATH (upcycled); empty: fresh"
    )
    images: Images = Images()
    text: Text = Text()
    features: Features = Features()
    objective: Objective = Objective()
    optim: Optim
    run: Run = Run()

    @model_validator(mode="after")
    def whole(self) -> Preset:
        if self.optim.und_batch + self.optim.gen_batch == 0:
            raise ValueError("optim: und_batch and gen_batch are both 0")
        for name in self.model.guests:
            if not getattr(self.features, name):
                raise ValueError(
                    f"model.sequence_moe.und has the expert {name!r}, and features.{name} names no network"
                )
        return self


def load_preset(name_or_path: str, overrides: Sequence[str] = ()) -> Preset:
    """A preset by name (pipelines/NAME.yaml) or path, with `KEY.SUBKEY=VALUE` overrides. Raises UserError (exit 2)."""
    path = Path(name_or_path)
    if not path.suffix:
        path = resource("pipelines", f"{name_or_path}.yaml")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in resource("pipelines").glob("train-*.yaml")))
        raise UserError(f"no preset {name_or_path!r}: give a file, or one of {known}", 2)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}", 2) from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a preset is a mapping, this is a {type(data).__name__}", 2)
    for override in overrides:
        set_key(data, override)
    return validated(data, path.name)


def validated(data: dict[str, Any], where: str) -> Preset:
    try:
        return Preset.model_validate(data)
    except ValidationError as error:
        raise UserError(f"preset {where} does not hold:\n{problems_of(error, 'preset')}", 2) from None


def problems_of(error: ValidationError, whole: str) -> str:
    """A line for each setting that does not hold; `whole` names what is wrong as a whole."""
    return "\n".join(
        f"  {'.'.join(map(str, e['loc'])) or whole}: {e['msg'].removeprefix('Value error, ')}"
        + ("" if isinstance(e["input"], dict) else f" (got {e['input']!r})")
        for e in error.errors()
    )
