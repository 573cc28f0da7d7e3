"""What a comparison declares before its first run, in plan.json: datasets, held-out samples, preset, measurements, threads.

It is written once; a later call with anything else is refused, so that nothing is chosen with the result in hand. Only
more seeds may be asked for, and the result says at which numbers of seeds somebody looked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field, ValidationError

from unif2ace_data.curate.leaks import cross_pairs
from unif2ace_data.errors import UserError
from unif2ace_data.faces.engine import find_pack
from unif2ace_data.schema import Split
from unif2ace_data.shards import read_index, write_bytes
from unif2ace_model.bootstrap import identities_of
from unif2ace_model.compare_metrics import PRIMARY, SECONDARY
from unif2ace_model.config import Preset
from unif2ace_model.data import Dataset, Record, open_dataset
from unif2ace_model.evaluate import EMBEDDED, spread
from unif2ace_model.mixture import Mixture, mixture_of
from unif2ace_model.run_tokenizer import FOLDER as IMAGES
from unif2ace_model.run_tokenizer import TRAIN, tokenizer_to_train
from unif2ace_model.text import learn_tokenizer, load_tokenizer
from unif2ace_model.tokenizer_training import train_tokenizer

PLAN, TEXT, START = "plan.json", "text_tokenizer", "start"
SIDES = ("a", "b")
START_SHARE = 4.0  # our choice: steps of the shared start, in steps of a run
SLOW = 0.3  # our choice: share of a run's learning rate, of the start while it is made and of its weights in the runs


class Side(BaseModel):
    """A variant, or the dataset of the held-out samples."""

    path: str
    root_sha256: str


class Plan(BaseModel):
    """What is compared, and how.

    preset: as asked for, `with_shared` puts the shared tokenizers in. steps: of A; B sees as many tokens. pictures: faces that
    each run generates. people: a number for each held-out sample, the same for the same person.
    """

    a: Side
    b: Side
    evaluation: Side
    split: Split
    limit: int
    preset: Preset
    steps: int = Field(ge=1)
    primary: list[str]
    secondary: list[str]
    pictures: int
    threads: int
    at_once: int
    people: list[int]

    @property
    def start_steps(self) -> int:
        """Of the start that all runs share (compare_start.py); 0 where the preset names one."""
        return 0 if self.preset.start else round(START_SHARE * self.steps)

    def side(self, name: str) -> Side:
        return self.a if name == "a" else self.b

    def declared(self) -> dict[str, Any]:
        """What a later call must ask for again; where the datasets lie does not matter."""
        told = self.model_dump(mode="json", exclude={"people", "steps", "threads", "at_once"})
        for side in (*SIDES, "evaluation"):
            told[side].pop("path")
        return told


def read_plan(out: Path) -> Plan | None:
    """None where the folder holds none. Raises UserError where it is broken."""
    try:
        return Plan.model_validate_json((out / PLAN).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UserError(f"{out / PLAN} cannot be read ({str(error).splitlines()[0]}): give another --out") from None


def write_plan(out: Path, plan: Plan) -> None:
    write_bytes(out / PLAN, plan.model_dump_json(indent=1).encode() + b"\n")


def same_plan(out: Path, before: Plan, asked: Plan) -> None:
    """Raises UserError (exit code 2) where a comparison was begun otherwise than is asked for now."""
    one, other = before.declared(), asked.declared()
    different = [key for key in one if one[key] != other[key]]
    if different:
        raise UserError(
            f"{out} holds a comparison that declared something else ({', '.join(different)}): what is compared, and by "
            "what, is settled before the first run. Give another --out",
            2,
        )


def side_of(shards: Path) -> Side:
    return Side(path=str(shards.absolute()), root_sha256=str(read_index(shards)["root_sha256"]))


def machine() -> tuple[int, int]:
    """(threads of a run, runs at once): on a CPU two runs side by side, which is faster than one with all cores."""
    cores = len(os.sched_getaffinity(0))
    if torch.cuda.is_available() or cores < 2:
        return cores, 1
    return cores // 2, 2


# ------------------------------------------------------------------ what both variants share


def share_tokenizers(a: Path, b: Path, out: Path, preset: Preset, quiet: bool) -> None:
    """One image tokenizer and one text tokenizer for both variants, so that their figures are of the same tokens.

    Those that the preset would train are trained on the training samples of both, where they are not there yet.
    """
    settings = tokenizer_to_train(preset)
    if settings is not None:
        train_tokenizer(a, out / IMAGES, settings, quiet, beside=[b])
    kind, _, size = preset.text.tokenizer.partition(":")
    if kind == TRAIN and not size.isdigit():
        raise UserError(f"text.tokenizer {preset.text.tokenizer!r}: write train:SIZE, for example train:4096", 2)
    if kind == TRAIN and not (out / TEXT / "tokenizer.json").is_file():
        learn_text(a, b, out / TEXT, with_shared(out, preset), int(size), quiet)


def with_shared(out: Path, preset: Preset) -> Preset:
    """The preset as runs use it: what it would train, and fresh weights, replaced by what lies in the comparison."""
    images, text = preset.images, preset.text
    if images.tokenizer.partition(":")[0] == TRAIN:
        images = images.model_copy(update={"tokenizer": f"fsq:{(out / IMAGES).absolute()}"})
    if text.tokenizer.partition(":")[0] == TRAIN:
        text = text.model_copy(update={"tokenizer": str((out / TEXT).absolute())})
    shared = {"images": images, "text": text}
    if preset.start:
        return preset.model_copy(update=shared)
    # What a body that can speak forgets and learns again is chance: at the full rate it hides what the variants differ in.
    optim = preset.optim.model_copy(update={"body": min(SLOW, preset.optim.body)})
    return preset.model_copy(update=shared | {"optim": optim, "start": f"unif2ace:{(out / START).absolute()}"})


def learn_text(a: Path, b: Path, folder: Path, preset: Preset, size: int, quiet: bool) -> None:
    texts: set[str] = set()
    for shards in (a, b):
        for record in encoded(shards, preset, quiet).of("train"):
            texts.add(record.caption)
            texts |= {text for qa in record.qa for text in (qa["question"], qa["answer"])}
    folder.mkdir(parents=True, exist_ok=True)
    learn_tokenizer(texts, size).save(folder)


def encoded(shards: Path, preset: Preset, quiet: bool = True) -> Dataset:
    """The dataset's codes and features (taken from its cache, or put there); with those of faces, which tell people apart."""
    features = preset.features.model_copy(update={"face": preset.features.face or EMBEDDED})
    return open_dataset(shards, preset.images, features, quiet)


def held_records(dataset: Dataset, split: Split, limit: int) -> list[Record]:
    return spread(dataset.of(split), limit)


def people_of(dataset: Dataset, records: Sequence[Record], preset: Preset) -> list[int]:
    return identities_of(dataset, list(records), preset.features.face or EMBEDDED)


# ------------------------------------------------------------------ what would make it no comparison


def check_held_out(
    held: Dataset, records: list[Record], variants: dict[str, tuple[Path, Dataset]], preset: Preset
) -> None:
    """Raises UserError where a variant learns from a photograph or a person that it is to be judged by.

    A photograph is known by its bytes, a person by the face pack's threshold, as the builder's splits are.
    """
    pack = find_pack(preset.features.face or EMBEDDED)
    problems = []
    for name, (shards, dataset) in variants.items():
        learnt = dataset.of("train")
        photos = {record.uid[:32] for record in learnt} & {record.uid[:32] for record in records}
        found = cross_pairs(unit(held, records), unit(dataset, learnt), pack.identity_cosine, most=5)
        if photos or found.over:
            near = zip(found.first.tolist(), found.second.tolist(), found.cosines.tolist(), strict=True)
            shown = [
                f"{records[i].uid[:8]} and {learnt[j].uid[:8]} ({c:.2f})"
                for i, j, c in near
                if c >= pack.identity_cosine
            ]
            problems.append(
                f"{name} ({shards}): {len(photos)} photographs and {found.over} pairs of one face in its `train`: "
                + ", ".join(shown or sorted(photo[:8] for photo in photos)[:5])
            )
    if problems:
        raise UserError(
            "the held-out samples are known to a variant, so nothing can be told from them.\n  "
            + "\n  ".join(problems)
            + "\nTake another --eval or --split, or remove them: `unif2ace-data audit` shows the pairs, "
            "`unif2ace-data remove --key` takes them out"
        )


def unit(dataset: Dataset, records: list[Record]) -> np.ndarray:
    features = dataset.features("face", records)
    if features is None:
        raise UserError("the samples carry no face features: identities cannot be told")
    found = features.numpy()
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12), np.float32)


# ------------------------------------------------------------------ as many tokens


def steps_of(out: Path, plan: Plan, side: str, seed: int) -> tuple[int, int]:
    """(steps, tokens) of a run: A takes the plan's steps, B as many as bring it nearest to the tokens that A has seen."""
    tokens = 0
    a = mixture(out, plan, "a", seed)
    for step in range(plan.steps):
        tokens += a.tokens(step)
    if side == "a":
        return plan.steps, tokens
    b, seen, step = mixture(out, plan, "b", seed), 0, 0
    while True:
        more = b.tokens(step)
        if step and abs(seen - tokens) <= abs(seen + more - tokens):
            return step, seen
        seen += more
        step += 1


def mixture(out: Path, plan: Plan, side: str, seed: int) -> Mixture:
    preset = seeded(with_shared(out, plan.preset), seed)
    text = load_tokenizer(preset.text.tokenizer)
    return mixture_of(encoded(Path(plan.side(side).path), preset), "train", text, preset)


def seeded(preset: Preset, seed: int) -> Preset:
    return preset.model_copy(update={"run": preset.run.model_copy(update={"seed": seed})})


def measurements(groups: Sequence[str], pictures: int, primary: Sequence[str]) -> tuple[list[str], list[str]]:
    """(primary, secondary) names of what is declared. Raises UserError (exit code 2) for a name that is measured by nobody."""
    known = [*PRIMARY, *(name for name in SECONDARY if pictures or name != "agreement")]
    known += [f"accuracy:{group}" for group in sorted(set(groups))]
    if unknown := [name for name in primary if name not in known]:
        raise UserError(f"--primary {unknown[0]}: choose among {', '.join(known)}", 2)
    chosen = list(dict.fromkeys(primary or PRIMARY))
    return chosen, [name for name in known if name not in chosen]
