"""The weights of a run before its first step: fresh ones, those of a checkpoint of ours, or a published body, upcycled
(checkpoint.py has the key maps)."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from unif2ace_data.errors import UserError
from unif2ace_model.checkpoint import (
    SHARD_INDEX,
    WEIGHTS,
    fill,
    from_phi,
    from_showo,
    read_tensors,
    special_rows,
    upcycle,
)
from unif2ace_model.model import UniF2ace
from unif2ace_model.text import TextTokenizer
from unif2ace_model.weights import folder_of, read_weights

BOS = "<|endoftext|>"  # Show-o begins and ends texts with GPT-2's, a text id there


LOOKS = re.compile(r"^guests\.|\.sequence\.")  # resamplers and sequence-level experts: what looks at pictures


def place_of(start: str) -> tuple[str, Path] | None:
    """(kind, folder) of `unif2ace:PATH`, `phi:PATH` or `showo:PATH`; None: fresh weights. Raises UserError (exit code 2)."""
    if not start:
        return None
    kind, _, where = start.partition(":")
    if kind not in ("unif2ace", "phi", "showo") or not where:
        raise UserError(
            f"start {start!r}: write unif2ace:PATH, phi:PATH or showo:PATH, a folder or a repository in the Hub's cache",
            2,
        )
    return kind, folder_of(where)


@torch.no_grad()
def start_from(model: UniF2ace, start: str, text: TextTokenizer) -> None:
    """Fill a fresh model with a checkpoint of ours, or with a published body: there it starts at the dense function, its
    experts at nothing (`upcycle`). What looks at pictures may be missing in a checkpoint, and stays fresh then.

    Raises UserError: no such weights, a body of another shape, a text tokenizer that is not the body's.
    """
    place = place_of(start)
    if place is None:
        return
    kind, folder = place
    tensors, config = tensors_of(folder), model.config
    if kind == "unif2ace":
        fresh = {name: t for name, t in model.state_dict().items() if LOOKS.search(name) and name not in tensors}
        fill(model, {**fresh, **tensors}, folder)
        return
    normed = any("q_layernorm" in name for name in tensors)
    if normed != config.qk_norm:
        raise UserError(
            f"the body in {folder} {'norms' if normed else 'does not norm'} queries and keys, and this model "
            f"{'does' if config.qk_norm else 'does not'}: --set model.qk_norm={str(normed).lower()}",
            2,
        )
    try:
        upcycle(model, from_phi(tensors, config) if kind == "phi" else from_showo(tensors, config))
        rows = special_rows(tensors, config, bos_of(text)) if kind == "showo" else {}
    except KeyError as error:
        raise UserError(f"{folder} is no checkpoint of the kind {kind!r}: it has no tensor {error}", 2) from None
    state = model.state_dict()
    for name, special in rows.items():
        state[name][config.text_vocab :].copy_(special)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    if (folder / SHARD_INDEX).is_file() or (folder / WEIGHTS).is_file():
        return read_tensors(folder)
    return read_weights(folder, [WEIGHTS, "pytorch_model.bin"], "a published body")


def bos_of(text: TextTokenizer) -> int:
    ids = text.encode(BOS)
    if len(ids) != 1:
        raise UserError(
            f"the text tokenizer has no {BOS}: Show-o's weights go with Phi's (text.tokenizer=microsoft/phi-1_5)", 2
        )
    return ids[0]
