"""Which sequences a step sees: a pure function of seed, step and the samples' keys, so that a resumed run goes on with the
same ones, and so does one whose samples lie in other shards. What two datasets share comes in the same order from both.

Understanding: a question and its answer, or the caption. Generation: a caption and a picture of which a part is masked.
Both take every sample of the split once before any comes again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from unif2ace_data.errors import UserError
from unif2ace_data.schema import Split
from unif2ace_model.config import Preset
from unif2ace_model.data import Dataset, Record
from unif2ace_model.diffusion import draw_times, mask_codes, rate_at
from unif2ace_model.prompts import IGNORED, Batch, Layout, conversation, generation, pack, understanding
from unif2ace_model.text import TextTokenizer

DESCRIBE = "Describe the person in this picture."
NO_QUESTIONS = "the dataset has no questions: run `unif2ace-data qa-gen` on it first"
UND_STREAM, GEN_STREAM, NOISE_STREAM, DROPOUT_STREAM = range(4)
ORDERS = 4  # kept at hand: this epoch's and the last one's of both streams


def question_text(question: str) -> str:
    """The form in which a question stands in a sequence: Show-o's, which answers after the second colon."""
    return f"USER: \n{question} ASSISTANT: "


@dataclass(slots=True)
class Texts:
    """The samples of a split with their texts as ids. Pairs: (question, answer). Marks: numbers of the samples' keys."""

    records: list[Record]
    captions: list[list[int]]
    pairs: list[list[tuple[list[int], list[int]]]]
    sided: list[bool]
    marks: np.ndarray


def texts_of(records: Sequence[Record], text: TextTokenizer, most: int) -> Texts:
    """Tokenize captions (up to `most` ids) and questions. Raises UserError where no sample has a question."""
    if not any(record.qa for record in records):
        raise UserError(NO_QUESTIONS)
    pairs = [
        [(text.encode(question_text(qa["question"])), text.encode(qa["answer"])[:most]) for qa in record.qa]
        for record in records
    ]
    captions = [text.encode(record.caption)[:most] for record in records]
    return Texts(list(records), captions, pairs, [record.sided for record in records], marks_of(records))


def marks_of(records: Sequence[Record]) -> np.ndarray:
    """A number of 64 bits for every sample, from its key; where a key comes again, from how often it came before, too."""
    seen: Counter[str] = Counter()
    marks = np.empty(len(records), np.uint64)
    for i, record in enumerate(records):
        name = f"{record.uid} {seen[record.uid]}".encode()
        marks[i] = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
        seen[record.uid] += 1
    return marks


@dataclass(slots=True)
class Mixture:
    """Batches of a split. `batch(step)` gives the parts of a step, for gradient accumulation and for ranks."""

    dataset: Dataset
    texts: Texts
    preset: Preset
    text_vocab: int
    describe: list[int]
    orders: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def batch(self, step: int, pieces: int = 0) -> list[Batch]:
        """The sequences of a step in so many pieces (0: `optim.accumulate`): the same ones, however many there are."""
        pieces = pieces or self.preset.optim.accumulate
        optim, seed = self.preset.optim, self.preset.run.seed
        und = [self.understood(step * optim.und_batch + place) for place in range(optim.und_batch)]
        gen = [self.generated(step * optim.gen_batch + place) for place in range(optim.gen_batch)]
        noise = torch.Generator().manual_seed(int(chance(seed, NOISE_STREAM, step).integers(2**62)))
        rate_B = rate_at(self.preset.objective.schedule, draw_times(len(gen), noise))
        targets_BN = torch.from_numpy(np.stack([codes for _, codes in gen])) if gen else torch.zeros(0, 0)
        noisy_BN = mask_codes(targets_BN, rate_B, self.preset.model.codebook, noise) if gen else targets_BN
        parts = []
        for part in range(pieces):
            mine = slice(part, None, pieces)
            layouts = [layout for layout, _ in und[mine]]
            chosen = list(range(len(gen)))[mine]
            layouts += [generation(gen[i][0], noisy_BN[i].numpy(), self.text_vocab, float(rate_B[i])) for i in chosen]
            if not layouts:
                continue
            batch = pack(layouts, self.text_vocab)
            first = len(und[mine])
            masked_BN = batch.codes_BN[first:] == self.preset.model.codebook
            if chosen:
                batch.targets_BN[first:] = torch.where(masked_BN, targets_BN[chosen], IGNORED)
            records = [record for _, record in und[mine]]
            if records:
                batch.face_BC = self.dataset.features("face", records)
                batch.clip_BPC = self.dataset.features("clip", records)
            parts.append(batch)
        return parts

    def uids(self, step: int) -> dict[str, list[str]]:
        """The keys of the samples of a step, by group."""
        optim, records = self.preset.optim, self.texts.records
        groups = (("und", UND_STREAM, optim.und_batch), ("gen", GEN_STREAM, optim.gen_batch))
        return {
            name: [records[self.drawn(stream, step * size + place)[0]].uid for place in range(size)]
            for name, stream, size in groups
        }

    def tokens(self, step: int) -> int:
        """How many tokens a step sees, padding aside."""
        optim, vocab = self.preset.optim, self.text_vocab
        und = [self.understood(step * optim.und_batch + place)[0] for place in range(optim.und_batch)]
        gen = [self.generated(step * optim.gen_batch + place) for place in range(optim.gen_batch)]
        layouts = [*und, *(generation(caption, codes, vocab) for caption, codes in gen)]
        return sum(len(layout.text) for layout in layouts)

    def understood(self, draw: int) -> tuple[Layout, Record]:
        place, rng = self.drawn(UND_STREAM, draw)
        pairs = self.texts.pairs[place]
        if not pairs or rng.random() < self.preset.objective.caption_share:
            asked = [(self.describe, self.texts.captions[place])]
        elif (several := self.preset.objective.questions) == 1:
            asked = [pairs[int(rng.integers(len(pairs)))]]
        else:
            asked = [pairs[i] for i in rng.permutation(len(pairs))[:several]]
        codes, record = self.view(place, rng), self.texts.records[place]
        if len(asked) == 1:
            return understanding(codes, *asked[0], self.text_vocab), record
        return conversation(codes, asked, self.text_vocab), record

    def generated(self, draw: int) -> tuple[list[int], np.ndarray]:
        place, rng = self.drawn(GEN_STREAM, draw)
        caption = [] if rng.random() < self.preset.text.drop else self.texts.captions[place]
        return caption, self.view(place, rng).astype(np.int64)

    def drawn(self, stream: int, draw: int) -> tuple[int, np.random.Generator]:
        """The sample of the draw-th draw, and its chance: epoch after epoch, each in an order of its own."""
        seed = self.preset.run.seed
        epoch, place = divmod(draw, len(self.texts.records))
        if (stream, epoch) not in self.orders:
            if len(self.orders) == ORDERS:
                self.orders.pop(next(iter(self.orders)))
            self.orders[stream, epoch] = order_of(seed, stream, epoch, self.texts.marks)
        return int(self.orders[stream, epoch][place]), chance(seed, stream, 1, draw)

    def view(self, place: int, rng: np.random.Generator) -> np.ndarray:
        """Codes of one view by chance; a text that tells left from right never meets a mirrored one."""
        record = self.texts.records[place]
        views = self.dataset.shards[record.shard].codes.shape[1]
        view = int(rng.integers(views))
        if self.texts.sided[place]:
            view -= view % 2
        return self.dataset.codes(record, view)


def chance(*key: int) -> np.random.Generator:
    """A stream of its own for every key, the same on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def order_of(seed: int, stream: int, epoch: int, marks: np.ndarray) -> np.ndarray:
    """Places of an epoch's samples, first to last: by a hash of mark and epoch, so wherever the others lie.

    The hash is SplitMix64's finalizer (Steele, Lea and Flood 2014).
    """
    mixed = marks ^ chance(seed, stream, 0, epoch).integers(2**64, dtype=np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")


def mixture_of(dataset: Dataset, split: Split, text: TextTokenizer, preset: Preset) -> Mixture:
    texts = texts_of(dataset.of(split), text, preset.text.max_tokens)
    return Mixture(dataset, texts, preset, text.size, text.encode(question_text(DESCRIBE)))
