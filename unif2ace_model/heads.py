"""One softmax head on frozen features: fitted, its L2 penalty chosen, calibrated, its thresholds chosen and counted.

Small and repeatable: float64 on one thread, from zero, no random numbers.

    N samples   D features   K values
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from unif2ace_data.curate.intervals import wilson
from unif2ace_data.taxonomy import ValueClaim

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)  # our choice: L2, per sample, on standardised features
FOLDS = 5
TEMPERATURES = 2.0 ** np.linspace(-2, 2, 41)
THRESHOLDS = (*np.arange(0.75, 0.95, 0.025).round(3).tolist(), 0.95, 0.96, 0.97, 0.98, 0.99)  # as docs/attributes.md
MARGIN = 0.35  # our choice: a threshold flatters itself where it is chosen, so more than `precision` is asked for there
BINS = 5


@dataclass(slots=True)
class Fitted:
    """Softmax over `values` of features · weights_DK + bias_K, on features as the encoder gives them."""

    values: list[str]
    weights_DK: np.ndarray
    bias_K: np.ndarray
    penalty: float
    temperature: float

    def probabilities(self, features_ND: np.ndarray) -> np.ndarray:
        return softmax(features_ND @ self.weights_DK + self.bias_K)


@dataclass(slots=True)
class Counted:
    """What a value's threshold gave on labelled samples: asserted in `cases`, of these `right`; `carrying` have it."""

    cases: int
    right: int
    carrying: int

    @property
    def precision(self) -> float:
        return self.right / self.cases if self.cases else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.carrying if self.carrying else 0.0


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    shares = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


# ------------------------------------------------------------------ fitting


def fit_head(
    features_ND: np.ndarray,
    labels: Sequence[str],
    keys: Sequence[str],
    values: list[str],
    held: np.ndarray,
    held_labels: Sequence[str],
) -> Fitted:
    """`values`: the classes; every label of the training samples is one of them. `held`: features for the temperature.

    Rare values weigh as much as frequent ones while the head is fitted; then the frequencies go back into the bias, so
    that a probability means what it says.
    """
    mean, scale = features_ND.mean(0, dtype=np.float64), np.maximum(features_ND.std(0, dtype=np.float64), 1e-6)
    scores_ND = (features_ND - mean) / scale
    target = np.array([values.index(label) for label in labels])
    penalty = choose_penalty(scores_ND, target, len(values), np.array([fold_of(key) for key in keys]))
    weights, bias = next(solutions(scores_ND, target, len(values), [penalty]))
    fitted = Fitted(values, weights / scale[:, None], bias - (mean / scale) @ weights, penalty, 1.0)
    known = np.array([label in values for label in held_labels], bool)
    if known.any():
        logits = held[known] @ fitted.weights_DK + fitted.bias_K
        truth = np.array([values.index(label) for label in held_labels if label in values])
        losses = [mean_loss(logits / t, truth) for t in TEMPERATURES]
        fitted.temperature = float(TEMPERATURES[int(np.argmin(losses))])
        fitted.weights_DK, fitted.bias_K = fitted.weights_DK / fitted.temperature, fitted.bias_K / fitted.temperature
    return fitted


def fold_of(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % FOLDS


def choose_penalty(scores_ND: np.ndarray, target: np.ndarray, count: int, folds: np.ndarray) -> float:
    """The penalty whose heads, fitted without a fold, lose least on that fold; the strongest of equals."""
    losses = np.zeros(len(PENALTIES))
    for fold in range(FOLDS):
        inside, outside = folds != fold, folds == fold
        if outside.any() and len(np.unique(target[inside])) == count:
            for at, (weights, bias) in enumerate(solutions(scores_ND[inside], target[inside], count, list(PENALTIES))):
                losses[at] += mean_loss(scores_ND[outside] @ weights + bias, target[outside]) * outside.sum()
    return PENALTIES[int(np.argmin(losses.round(6)))]


def mean_loss(logits_NK: np.ndarray, target: np.ndarray) -> float:
    shares = softmax(logits_NK)[np.arange(len(target)), target]
    return float(-np.log(np.maximum(shares, 1e-12)).mean())


def solutions(
    scores_ND: np.ndarray, target: np.ndarray, count: int, penalties: list[float]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(weights (D, K), bias (K,)) for each penalty, each started from the one before."""
    frequency = np.bincount(target, minlength=count) / len(target)
    with one_thread():
        scores, truth = torch.from_numpy(scores_ND), torch.from_numpy(target)
        balance = torch.from_numpy(1 / (count * frequency))[truth] / len(target)
        weights = torch.zeros(scores.shape[1], count, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(count, dtype=torch.float64, requires_grad=True)
        for penalty in penalties:
            solver = torch.optim.LBFGS(
                [weights, bias],
                max_iter=200,
                tolerance_grad=1e-6,
                tolerance_change=1e-10,
                line_search_fn="strong_wolfe",
            )

            def loss(penalty: float = penalty, solver: torch.optim.LBFGS = solver) -> torch.Tensor:
                solver.zero_grad()
                each = torch.nn.functional.cross_entropy(scores @ weights + bias, truth, reduction="none")
                value = (balance * each).sum() + penalty / 2 * (weights**2).sum()
                value.backward()  # type: ignore[no-untyped-call]
                return value

            solver.step(loss)  # type: ignore[no-untyped-call]
            back = np.log(count * frequency)  # the frequencies that `balance` took out
            yield weights.detach().numpy().copy(), bias.detach().numpy() + back


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine is doing."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ------------------------------------------------------------------ thresholds and figures


def likeliest(fitted: Fitted, features_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(value, probability) of each sample, rounded as predict.py rounds."""
    shares = fitted.probabilities(features_ND)
    return np.array(fitted.values)[shares.argmax(1)], shares.max(1).round(3)


def choose_claim(
    value: str, said: np.ndarray, sure: np.ndarray, labels: np.ndarray, precision: float, least: float
) -> ValueClaim | None:
    """The claim at the lowest threshold (`least` and up) at which the value is precise enough; None where there is none."""
    aim = precision + MARGIN * (1 - precision)
    for threshold in (t for t in THRESHOLDS if t >= least):
        claim = claim_at(threshold, count(value, said, sure, labels, threshold), len(labels))
        if claim.holds and claim.precision >= aim:
            return claim
    return None


def best_claim(value: str, said: np.ndarray, sure: np.ndarray, labels: np.ndarray, least: float) -> ValueClaim:
    """The most precise claim that was to be had, for the reason why none is made."""
    claims = [claim_at(t, count(value, said, sure, labels, t), len(labels)) for t in THRESHOLDS if t >= least]
    return max(claims, key=lambda c: (c.wilson_low, c.cases))


def count(value: str, said: np.ndarray, sure: np.ndarray, labels: np.ndarray, threshold: float) -> Counted:
    asserted = (said == value) & (sure >= threshold)
    return Counted(int(asserted.sum()), int((asserted & (labels == value)).sum()), int((labels == value).sum()))


def claim_at(threshold: float, counted: Counted, labels: int) -> ValueClaim:
    return ValueClaim(
        threshold=threshold,
        labels=labels,
        cases=counted.cases,
        others=labels - counted.carrying,
        mistaken=counted.cases - counted.right,
        precision=round(counted.precision, 3),
        coverage=round(counted.recall, 3),
        wilson_low=round(wilson(counted.right, counted.cases)[0], 3),
    )


def calibration_error(said: np.ndarray, sure: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error of the likeliest value, in five bins of equal count."""
    order = np.argsort(sure, kind="stable")
    right = (said == labels)[order]
    bins = np.array_split(np.stack([sure[order], right]), min(BINS, len(sure)), axis=1)
    return float(sum(b.shape[1] * abs(b[0].mean() - b[1].mean()) for b in bins) / max(len(sure), 1))
