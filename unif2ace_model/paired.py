"""Do two variants differ? An exact test, intervals and power for differences within pairs of runs.

    S pairs   K measurements of one family   F sign flips   I identities   T draws

Both runs of a pair start from the same weights and draw with the same seed. Where the variants teach equally, it is a toss
of a coin which of a pair comes out above, so every flip of signs is as likely as what was seen (Fisher's randomisation
test). Nothing is assumed about the distribution of the differences but that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALL = 14  # pairs up to which every flip is taken; beyond, so many by chance:
SOME = 19_999
LEVEL = 0.95
POWER = 0.8  # of `smallest_found`
SIMULATED = 2_000
PEOPLE_DRAWS = 1_000


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        return {"low": round(self.low, 6), "high": round(self.high, 6)}


def flips(pairs: int) -> np.ndarray:
    """(F, S) of +1 and -1, the first row all +1: every flip of up to 14 pairs, else 20,000 by chance (seed 0)."""
    if pairs <= ALL:
        numbers = np.arange(2**pairs)[:, None]
        return np.where(numbers >> np.arange(pairs) & 1, -1.0, 1.0)
    chance = np.where(np.random.default_rng(0).random((SOME, pairs)) < 0.5, -1.0, 1.0)
    return np.concatenate([np.ones((1, pairs)), chance])


def sign_flip(differences_S: np.ndarray) -> float:
    """Two-sided p of a mean difference as far from zero as this one. It cannot be under 2 / 2^S."""
    return float(family_p(np.asarray(differences_S, float)[:, None])[0])


def family_p(differences_SK: np.ndarray) -> np.ndarray:
    """(K,) p of several measurements of the same pairs, corrected for their number.

    Westfall and Young's step-down: each is held against the largest of all that are not clearer than it, under the same
    flips, so measurements that say the same cost nothing, and the chance of one false alarm or more stays under the level.
    """
    differences_SK = np.asarray(differences_SK, float)
    length_K = np.sqrt(np.square(differences_SK).sum(0))
    unit_SK = np.divide(differences_SK, length_K, out=np.zeros_like(differences_SK), where=length_K > 0)
    flipped_FK = np.abs(flips(len(unit_SK)) @ unit_SK)
    seen_K = flipped_FK[0]
    p_K, so_far = np.ones(len(seen_K)), 0.0
    order = np.argsort(-seen_K, kind="stable")
    for place, k in enumerate(order):
        largest_F = flipped_FK[:, order[place:]].max(1)
        so_far = max(so_far, float(np.mean(largest_F >= seen_K[k] - 1e-9)))  # 1e-9: equal but for rounding
        p_K[k] = so_far
    return p_K


def interval(differences_S: np.ndarray, level: float = LEVEL) -> Interval | None:
    """The mean differences that `sign_flip` does not refuse at 1 - level; None where the pairs are too few for any refusal.

    Hartigan (1969): the means of all subsets of the pairs cut the line into 2^S intervals that hold the true difference
    with equal chance, so the ends are two of those means. Of many pairs as many subsets by chance.
    """
    differences_S = np.asarray(differences_S, float)
    taken_FS = flips(len(differences_S))[1:] < 0  # every subset but the empty one
    taken_FS = taken_FS[taken_FS.any(1)]
    means_F = np.sort(taken_FS @ differences_S / taken_FS.sum(1))
    skipped = int((1 - level) / 2 * (len(means_F) + 1) + 1e-9)
    if not skipped:
        return None
    return Interval(float(means_F[skipped - 1]), float(means_F[-skipped]))


def smallest_found(differences_S: np.ndarray, alpha: float = 1 - LEVEL, power: float = POWER) -> float | None:
    """The difference that so many pairs, as scattered as these, show with p < alpha in 80 of 100 comparisons.

    By simulation of normal differences and the test itself. None where so few pairs cannot show any.
    """
    differences_S = np.asarray(differences_S, float)
    pairs = len(differences_S)
    if pairs < 2 or 2 / len(flips(pairs)) >= alpha:
        return None
    return float(np.std(differences_S, ddof=1)) * detectable(pairs, alpha, power)


def detectable(pairs: int, alpha: float = 1 - LEVEL, power: float = POWER) -> float:
    """`smallest_found` in standard deviations of a pair's difference."""
    noise_TS = np.random.default_rng(0).standard_normal((SIMULATED, pairs))
    signs_FS = flips(pairs) if pairs <= 10 else flips(pairs)[:1024]  # for a power, a thousandth is exact enough
    low, high = 0.0, 20.0
    for _ in range(12):
        middle = (low + high) / 2
        found = np.mean(p_values(noise_TS + middle, signs_FS) < alpha)
        low, high = (low, middle) if found >= power else (middle, high)
    return high


def p_values(differences_TS: np.ndarray, signs_FS: np.ndarray) -> np.ndarray:
    """(T,) `sign_flip` of each row."""
    sums_TF = np.abs(differences_TS @ signs_FS.T)
    return np.asarray(np.mean(sums_TF >= sums_TF[:, :1] - 1e-9, axis=1))


def over_people(
    a_SI: tuple[np.ndarray, np.ndarray], b_SI: tuple[np.ndarray, np.ndarray], level: float = LEVEL
) -> Interval | None:
    """An interval of the difference for other pairs *and* other people: bootstrap over both.

    a_SI, b_SI: (above, below) of each pair and identity; a variant's figure is the sum of one over that of the other. None
    where one person alone, or one pair, bears on it.
    """
    pairs, people = a_SI[0].shape
    if pairs < 2 or np.count_nonzero(a_SI[1].sum(0)) < 2:
        return None
    chance = np.random.default_rng(0)
    times_TI = chance.multinomial(people, np.full(people, 1 / people), size=PEOPLE_DRAWS).astype(float)
    pair_TS = chance.integers(pairs, size=(PEOPLE_DRAWS, pairs))
    drawn_TS = ratios(b_SI, times_TI) - ratios(a_SI, times_TI)
    drawn_T = np.take_along_axis(drawn_TS, pair_TS, axis=1).mean(1)
    if np.isnan(drawn_T).all():
        return None
    low, high = np.nanpercentile(drawn_T, [50 * (1 - level), 100 - 50 * (1 - level)])
    return Interval(float(low), float(high))


def ratios(of_SI: tuple[np.ndarray, np.ndarray], times_TI: np.ndarray) -> np.ndarray:
    """(T, S): each run's figure for each draw of people, NaN where nobody drawn bears on it."""
    above_TS, below_TS = times_TI @ of_SI[0].T, times_TI @ of_SI[1].T
    return np.asarray(np.divide(above_TS, below_TS, out=np.full_like(above_TS, np.nan), where=below_TS > 0))
