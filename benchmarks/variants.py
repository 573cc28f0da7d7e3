"""Variants of a dataset with a known fault, to ask `unif2ace-model compare` whether it finds it.

    python benchmarks/variants.py --shards shards/ --out variants/ reordered wrong-answers:0.3 shuffled-captions half

Only `train` is changed: each variant lies in a folder of its own, with its own index, and `verify`s but for the statistics.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pyarrow.parquet as pq

from unif2ace_data.run.card import write_card
from unif2ace_data.run.describe import files_of
from unif2ace_data.schema import QA, Sample
from unif2ace_data.shards import read_index, read_samples, write_index, write_shard

Row = tuple[str, bytes, Sample]
Change = Callable[[list[Row], np.random.Generator], list[Row]]


def variant(shards: Path, out: Path, change: Change, seed: int = 0) -> Path:
    """Write the dataset at `shards` to the new folder `out`, its training samples as `change` makes them."""
    shutil.copytree(shards, out)
    index, chance = read_index(shards), np.random.default_rng(seed)
    for entry in index["shards"]:
        if entry["split"] != "train":
            continue
        found = read_samples(shards / entry["name"])
        rows = [(key, files["jpg"], Sample.model_validate_json(files["json"])) for key, files in found]
        changed = change(rows, chance)
        info = write_shard(out / entry["name"], changed)
        entry |= {"sha256": info.sha256, "bytes": info.bytes, "samples": info.samples}
        keep_rows(out / "ledger" / f"kept-{Path(entry['name']).stem}.parquet", [key for key, _, _ in changed])
    write_index(out, index["shards"], files_of(out, list(index["files"])), index["counts"])
    write_card(out, [])  # statistics, card and index say what is there now
    return out


def keep_rows(ledger: Path, keys: list[str]) -> None:
    table = pq.read_table(ledger)
    place = {key: i for i, key in enumerate(table["key"].to_pylist())}
    pq.write_table(table.take([place[key] for key in keys]), ledger)


def reordered(rows: list[Row], chance: np.random.Generator) -> list[Row]:
    return [rows[i] for i in chance.permutation(len(rows))]


def half(rows: list[Row], chance: np.random.Generator) -> list[Row]:
    kept = sorted(chance.permutation(len(rows))[: len(rows) // 2])
    return [rows[i] for i in kept]


def shuffled_captions(rows: list[Row], chance: np.random.Generator) -> list[Row]:
    """Every caption, with its claims, beside another person's picture."""
    places = chance.permutation(len(rows))
    giver = dict(zip(places, np.roll(places, 1), strict=True))
    texts = ("caption", "captioner", "claims")
    said = [{name: getattr(sample, name) for name in texts} for _, _, sample in rows]
    return [(key, jpeg, sample.model_copy(update=said[giver[i]])) for i, (key, jpeg, sample) in enumerate(rows)]


def wrong_answers(share: float) -> Change:
    """So many of all answers, by chance, replaced by wrong ones: another option, or what is true of somebody else."""

    def change(rows: list[Row], chance: np.random.Generator) -> list[Row]:
        open_answers: dict[tuple[str, str], list[QA]] = {}
        for _, _, sample in rows:
            for qa in sample.qa:
                if not qa.options:
                    open_answers.setdefault((qa.attribute, qa.kind), []).append(qa)

        def wrong(qa: QA) -> QA:
            if qa.options:
                others = [i for i, option in enumerate(qa.options) if option != qa.answer]
                taken = int(chance.choice(others))
                return qa.model_copy(update={"answer": qa.options[taken], "letter": ascii_uppercase[taken]})
            others_said = [other for other in open_answers[qa.attribute, qa.kind] if other.value != qa.value]
            if not others_said:
                return qa
            other = others_said[int(chance.integers(len(others_said)))]
            return qa.model_copy(update={"answer": other.answer, "value": other.value})

        return [
            (
                key,
                jpeg,
                sample.model_copy(update={"qa": [wrong(qa) if chance.random() < share else qa for qa in sample.qa]}),
            )
            for key, jpeg, sample in rows
        ]

    return change


def named(name: str) -> Change:
    """A change by its name on the command line."""
    kind, _, share = name.partition(":")
    plain: dict[str, Change] = {"reordered": reordered, "half": half, "shuffled-captions": shuffled_captions}
    return wrong_answers(float(share)) if kind == "wrong-answers" else plain[kind]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="+", help="reordered, half, shuffled-captions, wrong-answers:SHARE")
    asked = parser.parse_args()
    asked.out.mkdir(exist_ok=True)
    for name in asked.names:
        print(variant(asked.shards, asked.out / name.replace(":", "-"), named(name), asked.seed))


if __name__ == "__main__":
    main()
