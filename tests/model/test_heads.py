"""One head: learnt, calibrated, and silent unless its precision was shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_data.taxonomy import MIN_CASES
from unif2ace_model.heads import (
    calibration_error,
    choose_claim,
    claim_at,
    count,
    fit_head,
    likeliest,
    softmax,
)


def faces(n: int, rare: float, noise: float, seed: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Features (n, 8) of which the first two tell a rare value from the usual one."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < rare
    features = rng.normal(0, 1, (n, 8)).astype(np.float32)
    features[:, 0] += 2 * labels / noise
    return features * 0.1 + 3, ["yes" if one else "no" for one in labels], [f"{seed}-{i}" for i in range(n)]


def test_probabilities_mean_what_they_say_also_of_rare_values() -> None:
    features, labels, keys = faces(1500, 0.1, 1.0, 0)
    held, held_labels, _ = faces(1500, 0.1, 1.0, 1)
    fitted = fit_head(features, labels, keys, ["no", "yes"], held, held_labels)
    test, test_labels, _ = faces(4000, 0.1, 1.0, 2)
    shares = fitted.probabilities(test)
    assert shares[:, 1].mean() == pytest.approx(np.mean(np.array(test_labels) == "yes"), abs=0.02)
    assert calibration_error(*likeliest(fitted, test), np.array(test_labels)) < 0.03
    assert fitted.penalty in (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003) and 0.5 < fitted.temperature < 2


def test_the_fit_repeats_itself_and_leaves_torch_as_it_was() -> None:
    threads = torch.get_num_threads()
    features, labels, keys = faces(200, 0.3, 1.0, 0)
    fits = [fit_head(features, labels, keys, ["no", "yes"], features, labels) for _ in range(2)]
    assert np.array_equal(fits[0].weights_DK, fits[1].weights_DK) and np.array_equal(fits[0].bias_K, fits[1].bias_K)
    assert torch.get_num_threads() == threads


def test_noise_is_penalised_harder_than_what_tells() -> None:
    clear, labels, keys = faces(200, 0.5, 0.2, 0)
    tossed = ["yes" if one else "no" for one in np.random.default_rng(9).random(200) < 0.5]
    telling = fit_head(clear, labels, keys, ["no", "yes"], clear, labels)
    guessing = fit_head(clear, tossed, keys, ["no", "yes"], clear, tossed)
    assert telling.penalty < guessing.penalty == 1.0


@given(st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5))
def test_softmax_adds_up(logits: list[list[float]]) -> None:
    assert softmax(np.array(logits)).sum(1) == pytest.approx(np.ones(len(logits)))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300), accuracy=st.floats(0, 1), seed=st.integers(0, 999),
    precision=st.floats(0.9, 0.99), least=st.sampled_from([0.0, 0.9, 0.96]),
)  # fmt: skip
def test_a_claim_is_only_made_where_it_holds(
    n: int, accuracy: float, seed: int, precision: float, least: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(n) < 0.5, "yes", "no")
    said = np.where(rng.random(n) < accuracy, labels, "yes")
    sure = rng.uniform(0.5, 1, n).round(3)
    claim = choose_claim("yes", said, sure, labels, precision, least)
    if claim is not None:
        assert claim.holds and claim.precision >= precision and claim.cases >= MIN_CASES and claim.threshold >= least
        again = claim_at(claim.threshold, count("yes", said, sure, labels, claim.threshold), n)
        assert again == claim


def test_what_is_said_of_everybody_is_no_claim() -> None:
    labels = np.array(["yes"] * 180 + ["no"] * 12)
    said, sure = np.full(192, "yes"), np.full(192, 0.97)
    assert choose_claim("yes", said, sure, labels, 0.9, 0.0) is None
