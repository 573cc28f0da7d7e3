"""Pictures as a trained model reads them, by number: codes and features, from a dataset or encoded on the spot.

X pictures   N image tokens   R asked for
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unif2ace_model.data import Dataset, Record

EXCHANGES = 4  # our choice: what one exchange of 79 portraits reaches moves by 3 points with whom each meets


class Pictures(Protocol):
    def codes(self, picture: int) -> np.ndarray:
        """(N,) int."""
        ...

    def features(self, name: str, pictures: Sequence[int]) -> Tensor | None:
        """(R, ...) float32 of "face" or "clip", None where there are none."""
        ...


@dataclass(slots=True)
class DatasetPictures:
    """The whole crops of these samples."""

    dataset: Dataset
    records: list[Record]

    def codes(self, picture: int) -> np.ndarray:
        return self.dataset.codes(self.records[picture])

    def features(self, name: str, pictures: Sequence[int]) -> Tensor | None:
        return self.dataset.features(name, [self.records[i] for i in pictures])


@dataclass(slots=True)
class EncodedPictures:
    """Encoded on the spot. `guests`: (X, ...) float32 by name."""

    codes_XN: np.ndarray
    guests: dict[str, np.ndarray]

    def codes(self, picture: int) -> np.ndarray:
        return np.asarray(self.codes_XN[picture])

    def features(self, name: str, pictures: Sequence[int]) -> Tensor | None:
        found = self.guests.get(name)
        return None if found is None else torch.from_numpy(found[list(pictures)])


@dataclass(slots=True)
class Exchanged:
    """Every picture in the place of another: the control that shows what texts and habits alone would reach."""

    pictures: Pictures
    instead: list[int]

    def codes(self, picture: int) -> np.ndarray:
        return self.pictures.codes(self.instead[picture])

    def features(self, name: str, pictures: Sequence[int]) -> Tensor | None:
        return self.pictures.features(name, [self.instead[i] for i in pictures])


def exchanges(identities: Sequence[int]) -> list[list[int]]:
    """Several of `others`; none where all pictures are of one person."""
    return [others(identities, seed) for seed in range(EXCHANGES)] if len(set(identities)) > 1 else []


def others(identities: Sequence[int], seed: int = 0) -> list[int]:
    """For each picture the number of another person's; every picture is taken once. Nobody keeps a picture of his own
    as long as no one person has more than half of them."""
    groups: dict[int, list[int]] = {}
    for picture, identity in enumerate(identities):
        groups.setdefault(identity, []).append(picture)
    order = np.random.default_rng(seed).permutation(len(groups))
    members = list(groups.values())
    line = [picture for place in order for picture in members[place]]  # people side by side
    step = max(map(len, members), default=0)  # so many further on stands another person
    instead = [0] * len(line)
    for place, picture in enumerate(line):
        instead[picture] = line[(place + step) % len(line)]
    return instead
