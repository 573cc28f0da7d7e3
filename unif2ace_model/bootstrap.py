"""How sure a figure is: 95 % intervals by bootstrap over identities.

Questions about one face, and faces of one person, are not independent of each other, so whole people are drawn again.

    I identities   R rows of a measurement, each about one identity   T draws
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unif2ace_data.curate.identities import cluster_identities
from unif2ace_data.errors import UserError
from unif2ace_data.faces.engine import find_pack
from unif2ace_model.data import Dataset, Record

DRAWS = 1000  # our choice


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with the ends of its 95 % interval; None where one person alone bears on it, or nothing does."""

    value: float | None
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, float | None]:
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if end is None else round(end, 5) for name, end in ends.items()}


class Bootstrap:
    """Draws of people, the same for every figure of a report, so that differences are of the same people."""

    def __init__(self, identities: Sequence[int], draws: int = DRAWS, seed: int = 0) -> None:
        """identities: one number a sample, the same for samples of the same person."""
        names, self._identity = np.unique(np.asarray(identities, np.int64), return_inverse=True)
        self.identities = len(names)
        chance = np.full(self.identities, 1 / max(1, self.identities))
        self._times_TI = np.random.default_rng(seed).multinomial(self.identities, chance, size=draws).astype(np.float64)

    def ratio(self, samples: Sequence[int] | np.ndarray, above: Any, below: Any = None) -> Figure:
        """Sum of `above` (R,) over sum of `below` (R,; None: the number of rows). `samples`: whose each row is."""
        value, drawn_T = self._drawn(samples, above, below)
        return figure(value, drawn_T)

    def difference(self, one: tuple[Any, ...], other: tuple[Any, ...]) -> Figure:
        """How far one ratio lies above another, of the same people in every draw. one, other: arguments of `ratio`."""
        (value, drawn_T), (less, drawn_less_T) = self._drawn(*one), self._drawn(*other)
        if value is None or less is None:
            return Figure(None, None, None)
        both = None if drawn_T is None or drawn_less_T is None else drawn_T - drawn_less_T
        return figure(value - less, both)

    def _drawn(self, samples: Any, above: Any, below: Any = None) -> tuple[float | None, np.ndarray | None]:
        """The ratio, and that of each draw (T,), NaN where nothing drawn bears on it; None where one person alone does."""
        above_R = np.asarray(above, np.float64)
        below_R = np.ones_like(above_R) if below is None else np.asarray(below, np.float64)
        if not below_R.sum():
            return None, None
        who_R = self._identity[np.asarray(samples, np.int64)]
        value = float(above_R.sum() / below_R.sum())
        if np.count_nonzero(np.bincount(who_R, minlength=self.identities)) < 2:
            return value, None
        over_T = self._times_TI @ np.bincount(who_R, below_R, self.identities)
        under_T = self._times_TI @ np.bincount(who_R, above_R, self.identities)
        return value, np.divide(under_T, over_T, out=np.full_like(over_T, np.nan), where=over_T > 0)


def figure(value: float | None, drawn_T: np.ndarray | None) -> Figure:
    if value is None or drawn_T is None or np.isnan(drawn_T).all():
        return Figure(value, None, None)
    low, high = np.nanpercentile(drawn_T, [2.5, 97.5])
    return Figure(value, float(low), float(high))


def identities_of(dataset: Dataset, records: list[Record], pack: str) -> list[int]:
    """A number for each sample, the same for the same person, by the features of this face pack's recogniser."""
    features = dataset.features("face", records)
    if features is None:
        raise UserError("the samples carry no face features: identities cannot be told")
    return people_in(features.numpy(), pack)


def people_in(features_RC: np.ndarray, pack: str) -> list[int]:
    """Face features clustered as the builder clusters them; one of zero (no face) is a person of its own."""
    length_R1 = np.maximum(np.linalg.norm(features_RC, axis=1, keepdims=True), 1e-12)
    clusters = cluster_identities((features_RC / length_R1).astype(np.float32), find_pack(pack).identity_cosine)
    return [int(i) for i in clusters]
