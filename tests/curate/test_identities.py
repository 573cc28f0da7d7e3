"""Identities of many faces: the inverted file finds what comparing each with each finds, whatever the threads."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_data.curate import identities
from unif2ace_data.curate.identities import cluster_at, cluster_identities, crowded, join, roots, uncrowded_cosine
from unif2ace_data.dedup import close_embeddings


def people(count: int, photos: int, width: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(unit vectors (count * photos, width), person of each), shuffled."""
    rng = np.random.default_rng(seed)
    person = rng.permutation(np.repeat(np.arange(count), photos))
    vectors = rng.normal(size=(count, width))[person] + spread * rng.normal(size=(count * photos, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), person


@given(st.integers(1, 30), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_join_makes_components_with_the_smallest_member_as_root(n: int, edges: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, n, (edges, 2))
    parent = np.arange(n)
    for part in np.array_split(pairs, 3):
        join(parent, part[:, 0], part[:, 1])
    label = list(range(n))
    for _ in range(n):
        for a, b in pairs.tolist():
            label[a] = label[b] = min(label[a], label[b])
    assert roots(parent, np.arange(n)).tolist() == label


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_several_thresholds_at_once_are_each_alone(n: int, seed: int) -> None:
    vectors, _ = people(n, 2, 4, 0.4, seed)
    several = cluster_at(vectors, [0.5, 0.7, 0.9])
    for cosine, clusters in zip([0.5, 0.7, 0.9], several, strict=True):
        assert (clusters == cluster_identities(vectors, cosine)).all()
        for a, b, _ in close_embeddings(vectors, cosine):
            assert clusters[a] == clusters[b]


@pytest.mark.parametrize(("width", "cosine"), [(128, 0.65), (512, 0.4)])
def test_the_inverted_file_keeps_people_together(monkeypatch: pytest.MonkeyPatch, width: int, cosine: float) -> None:
    vectors, person = people(1500, 4, width, 0.5, 0)
    exact = cluster_identities(vectors, cosine)
    monkeypatch.setattr(identities, "EXACT", 100)
    monkeypatch.setattr(identities, "PROBES", 16)  # of 155 cells
    found = cluster_identities(vectors, cosine)
    assert (found[found] == found).all() and (found <= np.arange(len(found))).all()
    order = np.argsort(person, kind="stable")
    a, b = order[:-1], order[1:]
    together = (exact[a] == exact[b]) & (person[a] == person[b])
    assert (found[a] == found[b])[together].mean() > 0.99
    assert not (found[a] == found[b])[exact[a] != exact[b]].any()  # it never joins what comparing all does not


def test_threads_change_nothing() -> None:
    code = (
        "import numpy as np, hashlib; from unif2ace_data.curate import identities as i; i.EXACT = 100\n"
        "v = np.random.default_rng(0).normal(size=(4000, 24)).astype(np.float32); v[1::2] = v[::2] + 0.5 * v[1::2]\n"
        "v /= np.linalg.norm(v, axis=1, keepdims=True)\n"
        "print(hashlib.sha256(i.cluster_identities(v, 0.7).tobytes()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n, "PATH": "", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for n in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1] and len(runs[0]) == 65


def test_a_chain_of_strangers_is_crowded_until_the_threshold_is_raised() -> None:
    angles = np.linspace(0, 3, 300)  # each a little further: neighbours are alike, ends are not
    chain = np.stack([np.cos(angles), np.sin(angles), np.zeros(300)], 1)
    apart = np.stack([np.zeros(300), np.zeros(300), np.ones(300)], 1)
    vectors = np.concatenate([chain, apart[:5]]).astype(np.float32)
    assert crowded(cluster_identities(vectors, 0.9)) == 300
    assert (
        crowded(np.arange(500)) == 0 and crowded(np.zeros(20, np.int64)) == 0 and crowded(np.zeros(21, np.int64)) == 21
    )
    assert uncrowded_cosine(vectors, 0.9) is None  # neighbours stay nearer than any threshold tried
    spread = people(300, 2, 12, 0.05, 1)[0]
    cosine = uncrowded_cosine(spread, 0.6)
    assert cosine is not None and not crowded(cluster_identities(spread, cosine))
    assert crowded(cluster_identities(spread, round(cosine - 0.02, 2)))
