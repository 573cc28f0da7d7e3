"""What benchmarks/model.py holds the model against: the same functions of the same weights, written the obvious way.

B sequences   S tokens   N image tokens   T tokens   D width   E experts   K experts a token   V, Q: text ids, codes
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unif2ace_model.attention import dense_mask
from unif2ace_model.config import ModelConfig, Preset
from unif2ace_model.decoding import Denoise, spoken
from unif2ace_model.diffusion import weight
from unif2ace_model.flops import cost_of, step_flops
from unif2ace_model.model import UniF2ace
from unif2ace_model.moe import Experts, Mlp, Router
from unif2ace_model.prompts import IGNORED, Batch, generation, pack, special_id, understanding
from unif2ace_model.train import counts_of
from unif2ace_model.transformer import Place


def made_batch(config: ModelConfig, each: int, text: int) -> Batch:
    """`each` sequences of both groups with texts of `text` ids: one understanding sequence in four is a caption."""
    rng = np.random.default_rng(0)
    clean_BN = rng.integers(0, config.codebook, (2 * each, config.image_tokens))
    rate_B = np.linspace(1 / each, 1, each)
    noisy_BN = clean_BN.copy()
    noisy_BN[each:][rng.random((each, config.image_tokens)) < rate_B[:, None]] = config.codebook

    def said(count: int) -> list[int]:
        return rng.integers(0, config.text_vocab, count).tolist()

    layouts = [
        understanding(clean_BN[row], said(20), said(text - 20 if row % 4 == 0 else 4), config.text_vocab)
        for row in range(each)
    ] + [
        generation(said(text), noisy_BN[each + row], config.text_vocab, float(rate_B[row])) for row in range(each)
    ]  # fmt: skip
    batch = pack(layouts, config.text_vocab)
    batch.targets_BN = torch.from_numpy(np.where(noisy_BN == config.codebook, clean_BN, IGNORED))
    if "face" in config.guests:
        batch.face_BC = torch.randn(each, config.face_dim)
    if "clip" in config.guests:
        batch.clip_BPC = torch.randn(each, 577, config.clip_dim)
    return batch


def flops(config: ModelConfig, batch: Batch) -> float:
    with torch.device("meta"):
        return step_flops(cost_of(UniF2ace(config)), [batch])


def dense_of(config: ModelConfig, batch: Batch) -> ModelConfig:
    """The body without mixtures whose feed-forward network is as much wider as makes a step cost the same FLOPs."""

    def plain(ffn_dim: int) -> ModelConfig:
        return config.model_copy(update={"token_moe": None, "sequence_moe": None, "ffn_dim": ffn_dim})

    low, high = (flops(plain(width), batch) for width in (8, 16))
    return plain(8 + 8 * round((flops(config, batch) - low) / (high - low)))


class TwoGroupsThenWhere(nn.Module):
    """A group is a layer of its own; both see every token, and `torch.where` takes the right one."""

    def __init__(self, router: Router, routed: Experts, shared: Experts | None) -> None:
        super().__init__()
        groups, experts, dim = router.weight_GND.shape
        self.top_k, self.experts = router.top_k, experts
        self.routers = nn.ModuleList(nn.Linear(dim, experts, bias=False) for _ in range(groups))
        self.routed = separate(routed)
        self.shared = separate(shared) if shared is not None else None
        with torch.no_grad():
            for mine, weight_ND in zip(self.routers, router.weight_GND, strict=True):
                mine.weight.copy_(weight_ND)

    def forward(self, x_TD: Tensor, group_T: Tensor) -> Tensor:
        out = [self.group(number, x_TD) for number in range(len(self.routers))]
        return torch.where((group_T == 0)[:, None], *out)

    def group(self, number: int, x_TD: Tensor) -> Tensor:
        with torch.autocast(x_TD.device.type, enabled=False):
            top = self.routers[number](x_TD).softmax(-1).topk(self.top_k, dim=-1)
        weights_TK = top.values / top.values.sum(-1, keepdim=True)
        out_TD = self.shared[number](x_TD) if self.shared is not None else torch.zeros_like(x_TD)
        for expert in range(self.experts):
            token, place = (top.indices == expert).nonzero(as_tuple=True)
            result = self.routed[number * self.experts + expert](x_TD[token]) * weights_TK[token, place, None]
            out_TD = out_TD.index_add(0, token, result.to(out_TD.dtype))
        return out_TD


def separate(bank: Experts) -> nn.ModuleList:
    """The experts of a bank as modules of their own."""
    experts, dim, width = bank.up_EDF.shape
    modules = nn.ModuleList(Mlp(dim, width) for _ in range(experts))
    with torch.no_grad():
        for number, expert in enumerate(modules):
            expert.up.weight.copy_(bank.up_EDF[number].T)
            expert.up.bias.copy_(bank.up_EF[number])
            expert.down.weight.copy_(bank.down_EFD[number].T)
            expert.down.bias.copy_(bank.down_ED[number])
    return modules


def whole_head_loss(model: UniF2ace, batch: Batch, preset: Preset) -> Tensor:
    """The same loss from a head of every column on every row, sliced after it (and without a balance term)."""
    hidden_BSD = model(batch).hidden_BSD
    text_BSV = model.text_logits(hidden_BSD)
    code_BSQ = model.code_logits(hidden_BSD)
    counts = counts_of([batch])
    text_nll = F.cross_entropy(
        text_BSV[:, :-1].flatten(0, 1).float(), batch.labels_BS[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    span_BN = batch.start_B[:, None] + torch.arange(batch.codes_BN.shape[1], device=hidden_BSD.device)
    rows = torch.arange(len(span_BN), device=hidden_BSD.device)[:, None]
    code_nll_BN = F.cross_entropy(
        code_BSQ[rows, span_BN].flatten(0, 1).float(),
        batch.targets_BN.flatten(),
        ignore_index=IGNORED,
        reduction="none",
    ).view_as(span_BN)
    own_B = code_nll_BN.sum(1)
    score = (weight(preset.objective.schedule, batch.rate_B) * own_B)[batch.group_B == 1].sum()
    return (
        text_nll / counts.answer_tokens
        + own_B.sum() / counts.masked
        + preset.objective.alpha * score / counts.generated
    )


def uncached_denoiser(model: UniF2ace, captions: list[list[int]], guidance: float) -> Denoise:
    """Every call the whole padded sequences, with and without caption, and a head of every column on every row."""
    config, device = model.config, model.text_head.weight.device

    @torch.no_grad()
    def denoise(codes_BN: Tensor, rate_B: Tensor) -> Tensor:
        texts = [*captions, *[[] for _ in captions]]
        layouts = [
            generation(text, codes, config.text_vocab, float(rate))
            for text, codes, rate in zip(texts, codes_BN.repeat(2, 1).numpy(), rate_B.repeat(2), strict=True)
        ]
        batch = pack(layouts, config.text_vocab).to(device)
        start = int(batch.start_B[0])
        span_BN = (start + torch.arange(config.image_tokens, device=device)).expand(len(texts), -1)
        mask = dense_mask(batch.image_BS, batch.valid_BS)
        place = Place(mask, batch.group_B, span_BN, guests=model.received(batch))  # padding goes through every layer
        hidden_BSD, _, _ = model.body(model.embed(batch.text_BS, batch.codes_BN, span_BN), place)
        logits_BSV = torch.cat([model.text_logits(hidden_BSD), model.code_logits(hidden_BSD)], dim=-1)
        code_BNQ = logits_BSV[:, start : start + config.image_tokens, -config.codebook :]
        with_BNQ, without_BNQ = code_BNQ.chunk(2)
        return (1 + guidance) * with_BNQ - guidance * without_BNQ

    return denoise


@torch.no_grad()
def answer_uncached(model: UniF2ace, codes: np.ndarray, question: list[int], face_BC: Tensor, most: int) -> list[int]:
    """Every token from the whole sequence before it; the head on its last row alone, as with a cache."""
    vocab, said = model.config.text_vocab, list[int]()
    while len(said) < most:
        batch = pack([understanding(codes, question + said, [], vocab)], vocab).to(face_BC.device)
        batch.face_BC = face_BC
        token = int(spoken(model.text_logits(model(batch).hidden_BSD[:, -1]), vocab).argmax())
        if token == special_id("eos", vocab):
            break
        said.append(token)
    return said
