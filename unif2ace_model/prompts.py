"""The two sequence layouts, and the special tokens that hold them together (Show-o's, which the paper builds on).

    B sequences   S tokens   N image tokens

    understanding   <mmu> <soi> N codes <eoi> <bos> text <eos> <pad> ...
                    the same with more turns <bos> text <eos>, each of which sees the image and itself alone
    generation      <pad> ... <t2i> <bos> text <eos> <soi> N codes <eoi>

One vocabulary: [text | special | codes | mask]. Text and special ids go through one table, codes and the mask (id =
number of codes) through the other, so the codes of a sequence are kept apart from its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from unif2ace_model.moe import GEN, UND

SPECIAL = ("pad", "soi", "eoi", "bos", "eos", "t2i", "mmu", "image")  # Show-o's, without the video ones
IGNORED = -100  # a label that no loss counts


def special_id(name: str, text_vocab: int) -> int:
    return text_vocab + SPECIAL.index(name)


@dataclass(slots=True)
class Batch:
    """Sequences of both groups, in one shape. `text_BS` holds <image> where the codes stand."""

    text_BS: Tensor  # int64, ids of the text table
    codes_BN: Tensor  # int64, 0 .. codebook - 1, or codebook for a masked one
    start_B: Tensor  # position of the first code
    group_B: Tensor  # moe.UND or moe.GEN
    valid_BS: Tensor  # bool, False for padding
    labels_BS: Tensor  # the id that this position's token has, where the text loss counts it; IGNORED elsewhere
    targets_BN: Tensor  # the code under each mask, IGNORED elsewhere
    rate_B: Tensor  # mask rate of the sequence, in [0, 1]; 0 for understanding
    turn_BS: Tensor | None = None  # int64, the turn that a token is of, 0 for the image; None: no sequence has several
    place_BS: Tensor | None = None  # int64, positions for the rotation: every turn follows the image
    clip_BPC: Tensor | None = None  # features of the understanding sequences, in their order
    face_BC: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device, non_blocking=True) for k, v in moved.items() if v is not None})

    @property
    def image_BS(self) -> Tensor:
        """True from <soi> to <eoi>: what attends to itself whole."""
        position_S = torch.arange(self.text_BS.shape[1], device=self.text_BS.device)
        first_B1 = self.start_B[:, None] - 1
        return (position_S >= first_B1) & (position_S <= first_B1 + self.codes_BN.shape[1] + 1)


@dataclass(slots=True)
class Layout:
    """One sequence before it is padded."""

    text: list[int]
    labels: list[int]
    codes: np.ndarray
    start: int
    group: int
    rate: float = 0.0
    turns: list[int] | None = None  # of each token; None: one turn
    places: list[int] | None = None


def understanding(codes: np.ndarray, question: Sequence[int], answer: Sequence[int], text_vocab: int) -> Layout:
    """Codes, a question and its answer; the loss counts the answer and its <eos>. An empty answer: a prompt to go on."""
    sp = {name: special_id(name, text_vocab) for name in SPECIAL}
    head = [sp["mmu"], sp["soi"], *[sp["image"]] * len(codes), sp["eoi"], sp["bos"], *question]
    tail = [*answer, sp["eos"]] if answer else []
    return Layout(head + tail, [IGNORED] * len(head) + tail, codes, 2, UND)


def conversation(codes: np.ndarray, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], text_vocab: int) -> Layout:
    """Codes, and several questions with their answers: each turn is computed as if it were the only one."""
    turns = [understanding(codes, question, answer, text_vocab) for question, answer in pairs]
    head = turns[0].text.index(special_id("bos", text_vocab))
    first = turns[0]
    text, labels = first.text[:head], first.labels[:head]
    of, places = [0] * head, list(range(head))
    for number, turn in enumerate(turns, 1):
        text, labels = text + turn.text[head:], labels + turn.labels[head:]
        of += [number] * (len(turn.text) - head)
        places += range(head, len(turn.text))
    return Layout(text, labels, codes, first.start, UND, turns=of, places=places)


def generation(caption: Sequence[int], codes: np.ndarray, text_vocab: int, rate: float = 1.0) -> Layout:
    """A caption (empty: the unconditional prompt of classifier-free guidance) and codes, of which some are masked."""
    sp = {name: special_id(name, text_vocab) for name in SPECIAL}
    head = [sp["t2i"], sp["bos"], *caption, sp["eos"], sp["soi"]]
    text = [*head, *[sp["image"]] * len(codes), sp["eoi"]]
    return Layout(text, [IGNORED] * len(text), codes, len(head), GEN, rate)


def pack(layouts: Sequence[Layout], text_vocab: int, length: int = 0, left: bool = False) -> Batch:
    """Pad sequences to one length (at least `length`): generation on the left, understanding on the right.

    `left`: understanding on the left too, for prompts that are to be gone on with. Positions are relative: no matter.
    """
    length = max(length, *(len(layout.text) for layout in layouts))
    pad = special_id("pad", text_vocab)
    text = np.full((len(layouts), length), pad)
    labels = np.full((len(layouts), length), IGNORED)
    valid = np.zeros((len(layouts), length), bool)
    several = any(layout.turns is not None for layout in layouts)
    turns, places = np.zeros_like(text), np.tile(np.arange(length), (len(layouts), 1))
    starts = []
    for row, layout in enumerate(layouts):
        first = length - len(layout.text) if left or layout.group == GEN else 0
        span = slice(first, first + len(layout.text))
        text[row, span], labels[row, span], valid[row, span] = layout.text, layout.labels, True
        starts.append(first + layout.start)
        if layout.turns is not None and layout.places is not None:
            turns[row, span], places[row, span] = layout.turns, first + np.array(layout.places)
    codes = torch.from_numpy(np.stack([layout.codes for layout in layouts]).astype(np.int64))
    return Batch(
        text_BS=torch.from_numpy(text),
        codes_BN=codes,
        start_B=torch.tensor(starts),
        group_B=torch.tensor([layout.group for layout in layouts]),
        valid_BS=torch.from_numpy(valid),
        labels_BS=torch.from_numpy(labels),
        targets_BN=torch.full_like(codes, IGNORED),
        rate_B=torch.tensor([layout.rate for layout in layouts], dtype=torch.float32),
        turn_BS=torch.from_numpy(turns) if several else None,
        place_BS=torch.from_numpy(places) if several else None,
    )
