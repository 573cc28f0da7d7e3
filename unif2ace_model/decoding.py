"""The model at work: answers with a cache of keys and values, pictures with a cached text prefix.

B sequences   N image tokens   Q codes   V text and special ids   S positions
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unif2ace_model.attention import dense_mask
from unif2ace_model.model import UniF2ace
from unif2ace_model.prompts import IGNORED, Batch, generation, pack, special_id
from unif2ace_model.transformer import Place

Denoise = Callable[[Tensor, Tensor], Tensor]  # codes_BN with masks, rate_B -> logits_BNQ


@torch.no_grad()
def answer(model: UniF2ace, prompts: Batch, max_new: int = 100) -> list[list[int]]:
    """The likeliest next token again and again (Show-o: top_k = 1), up to <eos>, for each understanding prompt.

    `prompts` are padded on the left. Each step computes one position; everything before it comes from the cache.
    """
    vocab = model.config.text_vocab
    eos = special_id("eos", vocab)
    out = model(prompts)
    last_BD, cache = out.hidden_BSD[:, -1], out.cache
    image_BS, valid_BS = prompts.image_BS, prompts.valid_BS
    answers: list[list[int]] = [[] for _ in range(len(prompts.text_BS))]
    open_rows = set(range(len(answers)))
    for _ in range(max_new):
        next_B = spoken(model.text_logits(last_BD), vocab).argmax(-1)
        for row in sorted(open_rows):
            token = int(next_B[row])
            if token == eos:
                open_rows.discard(row)
            else:
                answers[row].append(token)
        if not open_rows:
            break
        image_BS = F.pad(image_BS, (0, 1), value=False)
        valid_BS = F.pad(valid_BS, (0, 1), value=True)
        start = valid_BS.shape[1] - 1
        place = Place(dense_mask(image_BS, valid_BS, start), prompts.group_B, None, start=start)
        hidden, cache, _ = model.body(model.text_embed(next_B)[:, None], place, cache)
        last_BD = hidden[:, -1]
    return answers


def spoken(logits_BV: Tensor, text_vocab: int) -> Tensor:
    """Logits with every special id but <eos> ruled out: no layout has one inside an answer."""
    ruled_out = torch.ones(logits_BV.shape[-1], dtype=torch.bool, device=logits_BV.device)
    ruled_out[:text_vocab] = False
    ruled_out[special_id("eos", text_vocab)] = False
    return logits_BV.masked_fill(ruled_out, -torch.inf)


def text_nll(model: UniF2ace, batch: Batch) -> tuple[Tensor, Tensor]:
    """(sum of -log p over each sequence's labels, how many): nats, (B,) each. Differentiable."""
    return label_nll(model, model(batch).hidden_BSD, batch.labels_BS)


def label_nll(model: UniF2ace, hidden_BSD: Tensor, labels_BS: Tensor) -> tuple[Tensor, Tensor]:
    """The same from hidden states. The head sees only the rows in front of a label."""
    labelled_BS = labels_BS[:, 1:] != IGNORED
    row_M, column_M = labelled_BS.nonzero(as_tuple=True)
    logits_MV = model.text_logits(hidden_BSD[row_M, column_M])
    nll_M = F.cross_entropy(logits_MV.float(), labels_BS[row_M, column_M + 1], reduction="none")
    rows = len(labels_BS)
    total_B = nll_M.new_zeros(rows).index_add(0, row_M, nll_M)
    return total_B, labelled_BS.sum(1)


@torch.no_grad()
def denoiser(model: UniF2ace, captions: Sequence[Sequence[int]], guidance: float = 0.0) -> Denoise:
    """A function for the samplers: (codes_BN, rate_B) -> logits_BNQ, given captions.

    The text prefix is causal and nothing of the image or the mask rate reaches it, so its keys and values are computed
    once. Classifier-free guidance combines hidden states, (1 + g) h - g h_unconditional, before one call of the head:
    the head is affine, so these are the combined logits.
    """
    config, device = model.config, next(model.parameters()).device
    masked = np.full(config.image_tokens, config.codebook)
    texts = [list(caption) for caption in captions] + ([[] for _ in captions] if guidance else [])
    batch = pack([generation(text, masked, config.text_vocab) for text in texts], config.text_vocab).to(device)
    prefix = int(batch.start_B[0]) - 1  # padding is on the left: every picture starts at the same position
    image_BS, valid_BS = batch.image_BS, batch.valid_BS
    before = Place(dense_mask(image_BS[:, :prefix], valid_BS[:, :prefix]), batch.group_B, None)
    _, cache, _ = model.body(model.text_embed(batch.text_BS[:, :prefix]), before)
    mask = dense_mask(image_BS, valid_BS, prefix)
    span_BN = (1 + torch.arange(config.image_tokens, device=device)).expand(len(texts), -1)
    copies = 2 if guidance else 1

    @torch.no_grad()
    def denoise(codes_BN: Tensor, rate_B: Tensor) -> Tensor:
        codes_BN, rate_B = codes_BN.to(device), rate_B.to(device)
        guests = model.received(replace(batch, group_B=batch.group_B[: len(rate_B)], rate_B=rate_B))
        guests = {name: guest.repeat(copies, 1, 1) for name, guest in guests.items()}
        place = Place(mask, batch.group_B, span_BN, start=prefix, guests=guests)
        x_BSD = model.embed(batch.text_BS[:, prefix:], codes_BN.repeat(copies, 1), span_BN)
        hidden, _, _ = model.body(x_BSD, place, cache)
        hidden_BND = hidden[:, 1:-1]
        if guidance:
            with_BND, without_BND = hidden_BND.chunk(2)
            hidden_BND = (1 + guidance) * with_BND - guidance * without_BND
        return model.code_logits(hidden_BND)

    return denoise
