"""How many planted leaks `audit` finds: copies of portraits in another split, and what else it reports.

    unif2ace-data build --src PHOTOS --out shards/ --subjects adults
    python benchmarks/planted_leaks.py --shards shards/ --photos PHOTOS --people 100

Takes samples of `--people` people who have one photograph in the dataset, makes four copies of each source photograph
(re-encoded, cropped, mirrored, relit), builds them, and moves the copies into another split than the person's own. The
dataset at `--shards` is not changed. Exit code 1 where fewer than 95 % of the planted pairs are found.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "run"))
from planted import WAYS, copy_of, move, people_of

from unif2ace_data.recipe import SourceSpec
from unif2ace_data.run.audit import audit
from unif2ace_data.run.build import build
from unif2ace_data.run.private import recipe_at, work_folder

WANTED = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--threshold", type=float, default=None)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="planted-leaks-") as folder:
        return measure(told, Path(folder))


def measure(told: argparse.Namespace, folder: Path) -> int:
    present = sorted(people_of(told.shards))
    chosen = [present[i] for i in np.linspace(0, len(present) - 1, told.people).astype(int)]
    raw = folder / "raw"
    raw.mkdir()
    for name in chosen:
        path = told.photos / name.split("/", 1)[1]
        shutil.copy(path, raw / path.name)
        for way in WAYS:
            (raw / f"{path.stem}+{way}.jpg").write_bytes(copy_of(Image.open(path), way))
    # All photographs with their copies, nothing dropped as a duplicate.
    for name in present:
        path = told.photos / name.split("/", 1)[1]
        if not (raw / path.name).exists():
            shutil.copy(path, raw / path.name)
    recipe = recipe_at(told.shards, ["duplicates.near_identical=false", "duplicates.perceptual=null"])
    recipe = recipe.model_copy(update={"sources": [SourceSpec(path=str(raw))]})
    if work_folder(told.shards).is_dir():  # what is measured already
        shutil.copytree(work_folder(told.shards), work_folder(folder / "shards"))
    build(recipe, folder / "shards")
    people = people_of(folder / "shards")
    stem = {name: Path(name).stem.split("+")[0] for name in people}
    before = audit(folder / "shards")
    print(
        f"as built: {sum(s.over for s in before.splits)} pairs across splits, {sum(s.over for s in before.copies)} near-copies"
    )
    to = {name: "test" if people[name][1] != "test" else "train" for name in people if "+" in name}
    leaky = move(folder / "shards", folder / "leaky" / "shards", to)
    people = people_of(leaky)
    names = {key: name for name, (key, _) in people.items()}
    planted = {
        frozenset((a, b))
        for a in people
        for b in people
        if "+" in b and "+" not in a and stem[a] == stem[b] and people[a][1] != people[b][1]
    }
    found = audit(leaky, threshold=told.threshold)
    reported = {
        frozenset((names[p.a], names[p.b])): p for s in found.splits for p in s.pairs if p.cosine >= found.threshold
    }
    alarms = {pair: p for pair, p in reported.items() if len({stem[name] for name in pair}) > 1}
    print(
        f"threshold {found.threshold}; planted {len(planted)} pairs ({len({stem[b] for p in planted for b in p})} people)"
    )
    for way in WAYS:
        mine = {pair for pair in planted if any(name.endswith(f"+{way}.jpg") for name in pair)}
        print(f"  {way:<11} {len(mine & set(reported))} of {len(mine)}")
    recall = len(planted & set(reported)) / len(planted)
    print(f"found {recall:.1%}; pairs reported {sum(s.over for s in found.splits)}")
    print(f"false alarms, pairs of different people: {len(alarms)}")
    for pair, p in sorted(alarms.items(), key=lambda item: -item[1].cosine):
        print(f"  {p.cosine:.3f} {' | '.join(sorted(pair))}")
    copies = [frozenset((names[p.a], names[p.b])) for s in found.copies for p in s.pairs]
    wrong = sum(len({stem[name] for name in pair}) > 1 for pair in copies)
    print(
        f"near-copies by perceptual hash: {len(copies)}, of them of different people {wrong}; planted found "
        f"{len(planted & set(copies))} of {len(planted)}"
    )
    return 0 if recall >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
