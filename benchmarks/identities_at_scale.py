"""Identity clusters at scale, on made-up embeddings: time, memory, what an inverted file misses, and chaining.

    python benchmarks/identities_at_scale.py --faces 200000 --width 128 --photos 5

Vectors mimic a face network's: directions of unequal strength (so that strangers lie as far apart as those of the pack
named in docs/audit.md do), one centre a person, and photographs around it. `--exact` also compares each with each.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from unif2ace_data.curate import identities
from unif2ace_data.curate.identities import cluster_at, cluster_identities, crowded


def made_up(
    faces: int, width: int, photos: int, cosine: float, decay: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(unit vectors (N, width) float32, person of each): people with `photos` photographs each, and singles.

    cosine: mean between two photographs of one person. decay: how fast the directions' strengths fall.
    """
    rng = np.random.default_rng(seed)
    strength = np.exp(-decay * np.arange(width) / width).astype(np.float32)
    person = np.repeat(np.arange(-(-faces // photos)), photos)[:faces]
    rng.shuffle(person)
    centres = rng.standard_normal((person.max() + 1, width), np.float32) * strength
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = centres[person]
    for start in range(0, faces, 65_536):
        block = vectors[start : start + 65_536]
        noise = rng.standard_normal(block.shape, np.float32) * strength
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        spread = (1 / cosine - 1) ** 0.5 * rng.uniform(0.7, 1.3, (len(block), 1)).astype(np.float32)
        block += noise * spread
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors, person


def planted_pairs(person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each photograph with the next of the same person."""
    order = np.argsort(person, kind="stable")
    same = person[order][1:] == person[order][:-1]
    return order[:-1][same], order[1:][same]


def memory(name: str) -> float:
    """MB of this process: VmRSS now, VmHWM at most (Linux)."""
    line = next(n for n in Path("/proc/self/status").read_text().splitlines() if n.startswith(name))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--photos", type=int, default=5)
    parser.add_argument("--cosine", type=float, default=0.8, help="mean cosine of two photographs of one person")
    parser.add_argument("--decay", type=float, default=4.0)
    parser.add_argument("--threshold", type=float, default=0.65)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--ladder", action="store_true", help="largest cluster at higher thresholds")
    told = parser.parse_args()
    vectors, person = made_up(told.faces, told.width, told.photos, told.cosine, told.decay, 0)
    some = np.random.default_rng(1).integers(0, len(vectors), (2, 400_000))
    strangers = np.einsum("nd,nd->n", vectors[some[0]], vectors[some[1]])[person[some[0]] != person[some[1]]]
    one, other = planted_pairs(person)
    mates = np.einsum("nd,nd->n", vectors[one], vectors[other])
    print(
        f"{told.faces:,} x {told.width}: strangers {strangers.mean():.3f} ± {strangers.std():.3f}, "
        f"{(strangers >= told.threshold).mean():.2e} at or over {told.threshold}; photographs of one person "
        f"{mates.mean():.3f} ± {mates.std():.3f}, {(mates >= told.threshold).mean():.4f} at or over"
    )
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    started, cpu = time.monotonic(), time.process_time()
    found = cluster_identities(vectors, told.threshold)
    wall, cpu = time.monotonic() - started, time.process_time() - cpu
    peak = memory("VmHWM")
    print(
        f"clusters: {wall:.0f} s ({cpu:.0f} s of CPU), peak {peak:,.0f} MB ({before:,.0f} before), "
        f"{len(np.unique(found)):,} clusters of "
        f"{person.max() + 1:,} people, largest {np.bincount(found).max():,}, crowded {crowded(found):,}"
    )
    linkable = mates >= told.threshold
    print(
        f"planted pairs kept together: {(found[one] == found[other]).mean():.5f} of all, "
        f"{(found[one] == found[other])[linkable].mean():.6f} of those at or over the threshold"
    )
    if told.exact:
        limit, identities.EXACT = identities.EXACT, len(vectors)
        started = time.process_time()
        exact = cluster_identities(vectors, told.threshold)
        identities.EXACT = limit
        print(
            f"each with each: {time.process_time() - started:.0f} s of CPU, {len(np.unique(exact)):,} clusters, "
            f"together {(exact[one] == exact[other]).mean():.5f}; of its joined planted pairs kept "
            f"{(found[one] == found[other])[exact[one] == exact[other]].mean():.6f}; the same partition: {(exact == found).all()}"
        )
    if told.ladder:
        steps = [round(told.threshold + 0.02 * i, 2) for i in range(8)]
        for cosine, clusters in zip(steps, cluster_at(vectors, steps), strict=True):
            print(
                f"  at {cosine}: largest cluster {np.bincount(clusters).max():,}, planted pairs together "
                f"{(clusters[one] == clusters[other]).mean():.4f}"
            )


if __name__ == "__main__":
    main()
