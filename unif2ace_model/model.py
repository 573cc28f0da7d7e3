"""UniF²ace: embeddings, body and heads. What trains it is in train.py, what samples from it in sampling.py, answer.py.

B sequences   S tokens   N image tokens   D width   V text and special ids   Q codes   L factors of a code
M rows that a loss counts
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unif2ace_data.errors import UserError
from unif2ace_model.attention import KeyValue, mask_for
from unif2ace_model.config import ModelConfig
from unif2ace_model.moe import Experts, Router, TokenMoeLayer
from unif2ace_model.prompts import SPECIAL, Batch
from unif2ace_model.sequence_moe import NOISE_CHANNELS, Guests, Resampler, SequenceMoeLayer, noise_features
from unif2ace_model.transformer import Body, Loads, Place


@dataclass(slots=True)
class Output:
    hidden_BSD: Tensor
    loads: list[Loads]
    cache: list[KeyValue]


# ------------------------------------------------------------------ codes


class CodeTable(nn.Module):
    """Codes through a table of Q + 1 rows (the last is the mask) and a head of Q columns, as in Show-o."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.codebook + 1, config.dim)
        self.head = nn.Linear(config.dim, config.codebook)

    def forward(self, codes_BN: Tensor) -> Tensor:
        out = self.embed(codes_BN)
        assert isinstance(out, Tensor)
        return out

    def logits(self, hidden_MD: Tensor) -> Tensor:
        out = self.head(hidden_MD)
        assert isinstance(out, Tensor)
        return out


class CodeFactors(nn.Module):
    """Codes as sums over their factors: 8 + 8 + 8 + 4 + 4 rows and columns instead of 8192 (our choice, for small data).

    The softmax over all Q codes is then a product of softmaxes over factors: given the hidden state they are independent.
    """

    digit_QL: Tensor
    member_FQ: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        levels = torch.tensor(config.levels)
        basis = torch.cat([torch.ones(1, dtype=torch.long), levels.cumprod(0)[:-1]])
        first = torch.cat([torch.zeros(1, dtype=torch.long), levels.cumsum(0)[:-1]])
        digit_QL = torch.arange(config.codebook)[:, None] // basis % levels + first  # rows of the factor table
        self.mask_row = sum(config.levels)
        mask = torch.full((1, len(levels)), self.mask_row)
        self.register_buffer("digit_QL", torch.cat([digit_QL, mask]), persistent=False)
        member = F.one_hot(digit_QL, self.mask_row).sum(1).T.float()
        self.register_buffer("member_FQ", member, persistent=False)
        self.embed = nn.Embedding(self.mask_row + 1, config.dim)
        self.head = nn.Linear(config.dim, self.mask_row)

    def forward(self, codes_BN: Tensor) -> Tensor:
        out = self.embed(self.digit_QL[codes_BN]).sum(-2)
        assert isinstance(out, Tensor)
        return out

    def logits(self, hidden_MD: Tensor) -> Tensor:
        factor_MF: Tensor = self.head(hidden_MD)
        return factor_MF @ self.member_FQ.to(factor_MF.dtype)


# ------------------------------------------------------------------ the model


class UniF2ace(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        for name in config.guests:
            if not getattr(config, f"{name}_dim"):
                raise UserError(f"the model has a {name} expert and does not know how wide its features are")
        if not config.text_vocab:
            raise UserError("the model does not know the size of its text vocabulary")
        self.config = config
        self.text_embed = nn.Embedding(config.text_vocab + len(SPECIAL), config.dim)
        self.text_head = nn.Linear(config.dim, config.text_vocab + len(SPECIAL))
        self.codes = CodeTable(config) if config.code_embedding == "table" else CodeFactors(config)
        self.body = Body(config)
        channels = {"clip": config.clip_dim, "face": config.face_dim, "noise": NOISE_CHANNELS}
        self.guests = Guests(config.sequence_moe, config.image_tokens, channels) if config.sequence_moe else None
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Normal of 0.02 as Phi has it, 0.02 / sqrt(2 layers) for what writes into the residual; norms 1, biases 0."""
        small = 0.02 / math.sqrt(2 * self.config.layers)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                guest = ".project." in name  # its output stands beside a normed state: unit variance
                std = module.in_features**-0.5 if guest else small if name.endswith((".out", ".down")) else 0.02
                nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, Experts):
                nn.init.normal_(module.up_EDF, std=0.02)
                nn.init.normal_(module.down_EFD, std=small)
            elif isinstance(module, Router):
                nn.init.normal_(module.weight_GND, std=0.02)
            elif isinstance(module, Resampler):
                nn.init.normal_(module.query_NR, std=1.0)
        for module in self.modules():
            if isinstance(module, SequenceMoeLayer):
                module.favour_guests()

    # -------------------------------------------------------------- forward

    def forward(self, batch: Batch) -> Output:
        """Hidden states of whole sequences."""
        mask = mask_for(batch.image_BS, batch.valid_BS, batch.turn_BS)
        rows = None if bool(batch.valid_BS.all()) else batch.valid_BS.flatten().nonzero()[:, 0]
        span_BN = batch.start_B[:, None] + torch.arange(batch.codes_BN.shape[1], device=batch.codes_BN.device)
        place = Place(mask, batch.group_B, span_BN, rows, batch.place_BS, guests=self.received(batch))
        hidden, cache, loads = self.body(self.embed(batch.text_BS, batch.codes_BN, span_BN), place)
        return Output(hidden, loads, cache)

    def embed(self, text_BS: Tensor, codes_BN: Tensor, span_BN: Tensor) -> Tensor:
        """(B, S, D): text everywhere, codes on the span."""
        x_BSD = self.text_embed(text_BS)
        codes_BND = self.codes(codes_BN).to(x_BSD.dtype)
        out = x_BSD.scatter(1, span_BN[..., None].expand_as(codes_BND), codes_BND)
        assert isinstance(out, Tensor)
        return out

    def received(self, batch: Batch) -> dict[str, Tensor]:
        """What the sequence-level experts read. Features are of understanding sequences, mask rates of generation."""
        if self.guests is None:
            return {}
        given: dict[str, Tensor] = {}
        understood, generated = batch.group_B == 0, batch.group_B == 1
        if bool(understood.any()):
            for name in self.config.guests:
                features = batch.clip_BPC if name == "clip" else batch.face_BC
                if features is None:
                    raise UserError(f"the model has a {name} expert, and these samples carry no {name} features")
                given[name] = features if features.ndim == 3 else features[:, None]
        if bool(generated.any()) and "noise" in self.guests.resamplers:
            given["noise"] = noise_features(batch.rate_B[generated])
        received = self.guests(given)
        assert isinstance(received, dict)
        return received

    # -------------------------------------------------------------- heads: only the rows and columns that are asked for

    def text_logits(self, hidden_MD: Tensor) -> Tensor:
        """(M, V): text and special ids."""
        out = self.text_head(hidden_MD)
        assert isinstance(out, Tensor)
        return out

    def code_logits(self, hidden_MD: Tensor) -> Tensor:
        """(M, Q): codes alone, never the mask or text."""
        return self.codes.logits(hidden_MD)

    # -------------------------------------------------------------- size and cost

    def parameter_counts(self) -> dict[str, int]:
        """Parameters in all, and those that one token of one group uses."""
        total = sum(p.numel() for p in self.parameters())
        idle = 0
        for module in self.modules():
            if isinstance(module, TokenMoeLayer):
                if module.routed is not None and module.router is not None:
                    bank = sum(p.numel() for p in module.routed.parameters())
                    experts = module.routed.up_EF.shape[0]
                    idle += bank * (experts - module.router.top_k) // experts
                if isinstance(module.shared, Experts):
                    idle += sum(p.numel() for p in module.shared.parameters()) // 2
        return {"total": total, "active": total - idle}
