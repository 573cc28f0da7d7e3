"""How many of a liar's false statements come out contradicted and are cut, and how many true ones are lost.

    unif2ace-data build --src PHOTOS --out shards/ --subjects adults
    python benchmarks/planted_liar.py --shards shards/ [--statements FILE] [--rounds 3] [--show]

The liar (tests/captions/liar.py) is an engine that writes prose only; its captions go through the same stages as those of
any model. `--statements`: another file of independently written statements.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "captions"))
import liar
import yaml

from unif2ace_data.schema import Attribute, Sample
from unif2ace_data.shards import dataset_shards, read_samples


def faces_of(shards: Path) -> list[tuple[str, bytes, list[Attribute]]]:
    return [
        (key, files["jpg"], Sample.model_validate_json(files["json"]).attributes)
        for shard in dataset_shards(shards)
        for key, files in read_samples(shard)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--statements", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="print what was missed and what was lost")
    args = parser.parse_args()
    if args.statements:
        told = yaml.safe_load(args.statements.read_text("utf-8"))["statements"]
        liar.statements = lambda: told
    faces = faces_of(args.shards)
    for turn in range(args.rounds):
        score = liar.score_of(faces, turn)
        print(json.dumps(score.figures()))
        for line in score.missed * args.show:
            print("  missed ", line)
        for line in score.lost * args.show:
            print("  lost   ", line)


if __name__ == "__main__":
    main()
