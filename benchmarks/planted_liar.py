"""How many of a liar's false statements come out contradicted and are cut, and how many true ones are lost.

    unif2ace-data build --src PHOTOS --out shards/ --subjects adults
    python benchmarks/planted_liar.py --shards shards/ [--statements FILE] [--rounds 3] [--show]

The liar (tests/captions/liar.py) is an engine that writes prose only; its captions go through the same stages as those of
any model. `--statements`: another file of independently written statements.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "captions"))
import liar
import yaml

from unif2ace_data.captions.vlm import Stage, Subject, Written, write_caption
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.journal import Journal
from unif2ace_data.llm.prompts import load_prompts
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.recipe import Captions, Llm
from unif2ace_data.schema import Sample
from unif2ace_data.shards import dataset_shards, read_samples


def score_of(shards: Path, turn: int) -> liar.Score:
    subjects, tales = [], []
    for shard in dataset_shards(shards):
        for key, files in read_samples(shard):
            attributes = Sample.model_validate_json(files["json"]).attributes
            subjects.append(Subject(key, files["jpg"], attributes, []))
            tales.append(liar.tale_of(f"{key} {turn}" if turn else key, attributes))
    engine = liar.Liar(zip((s.image for s in subjects), tales, strict=True))
    stage = Stage("openai", load_prompts(None), Captions(), 0.0, 0)
    score, settings = liar.Score(), Llm(model="liar", attempts=1)

    async def work(room: EngineRoom, place: int) -> Written:
        return await write_caption(room, subjects[place], stage)

    def done(place: int, result: Written | AnswerFailed) -> None:
        failed = isinstance(result, AnswerFailed)
        score.add(tales[place], "" if failed else result.caption, "all=failed" if failed else result.captioner.removed)

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.sqlite")
        run_rows(functools.partial(EngineRoom, engine, journal, settings), range(len(subjects)), work, done)
        journal.close()
    return score


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
    for turn in range(args.rounds):
        score = score_of(args.shards, turn)
        print(json.dumps(score.figures()))
        for line in score.missed * args.show:
            print("  missed ", line)
        for line in score.lost * args.show:
            print("  lost   ", line)


if __name__ == "__main__":
    main()
