"""The evaluation of a trained model on a split of a dataset: which parts, over which samples, and the report they fill.

    qa           accuracy beside readers without the picture and beside exchanged pictures; answer NLL (primary)
    captions     caption NLL (primary); the model's own captions against the stored ones and the evidence
    nelbo        bits an image token beside counting
    generation   faces made from captions: what the builder's analyser sees in them; FID

Every figure that is a mean over samples carries a 95 % interval by bootstrap over identities. Nothing here is random
beyond fixed seeds: the same checkpoint and dataset give the same report.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from unif2ace_data.errors import UserError
from unif2ace_data.faces.align import encode_jpeg
from unif2ace_data.faces.decode import decode
from unif2ace_data.recipe import Llm
from unif2ace_data.release.read import pick
from unif2ace_data.run.progress import Progress
from unif2ace_data.schema import SPLITS, Sample, Split
from unif2ace_data.shards import read_index, write_bytes
from unif2ace_model.blind import BlindReader
from unif2ace_model.bootstrap import Bootstrap, identities_of
from unif2ace_model.data import Dataset, Record, open_dataset, private_folder, same_encoders, views_of
from unif2ace_model.evaluate_captions import evaluate_captions
from unif2ace_model.evaluate_codes import codes_of, evaluate_codes
from unif2ace_model.evaluate_generation import Look, agreements, claims_of, decoded, look_of, seen_in
from unif2ace_model.evaluate_qa import evaluate_qa, questions_of, sequences
from unif2ace_model.fid import FidNetwork, fid_network, frechet
from unif2ace_model.generation import Sampling, generate, steps_of
from unif2ace_model.judge import VQA_CONTROL, Case, conv_cases, desc_cases, judge, vqa_cases
from unif2ace_model.pictures import DatasetPictures, exchanges
from unif2ace_model.train import filled
from unif2ace_model.trained import TrainedModel, facts_of, load_trained, tokenizer_of

PARTS = ("qa", "captions", "nelbo", "generation")
EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an evaluation is to do. `limit`: samples at most, evenly spread; 0: all. `judge`: None asks no other model.

    `attributes`: the file of the attribute model that the dataset was built with, which then judges generated faces too.
    """

    split: Split = "test"
    parts: Sequence[str] = PARTS
    limit: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    fid: str = "face"
    judge: Llm | None = None
    attributes: Path | None = None


@dataclass(slots=True)
class Held:
    """The samples that are evaluated. `controls`: whose picture stands in for each, in several exchanges; empty: none."""

    trained: TrainedModel
    shards: Path
    dataset: Dataset
    records: list[Record]
    bootstrap: Bootstrap
    controls: list[list[int]]
    quiet: bool
    cases: list[Case] = field(default_factory=list)  # for the judge

    @property
    def pictures(self) -> DatasetPictures:
        return DatasetPictures(self.dataset, self.records)

    @property
    def captions(self) -> list[str]:
        return [record.caption for record in self.records]

    @property
    def caption_ids(self) -> list[list[int]]:
        text, most = self.trained.text, self.trained.preset.text.max_tokens
        return [text.encode(caption)[:most] for caption in self.captions]

    @property
    def train(self) -> list[Record]:
        return [record for record in self.dataset.records if record.split == "train"]

    @property
    def times(self) -> int:
        """1, or 2 with a control."""
        return 2 if self.controls else 1

    @property
    def instead(self) -> list[int] | None:
        """The first exchange, for controls that take a single one."""
        return self.controls[0] if self.controls else None

    @property
    def pack(self) -> str:
        return self.trained.preset.features.face or EMBEDDED


def evaluate(run: Path, shards: Path, wanted: Wanted, quiet: bool = False) -> dict[str, Any]:
    """The report as JSON-ready data (docs/evaluation.md lists its fields).

    Raises UserError: no run, no dataset, an empty split, no questions, a model of another shape than the dataset's codes
    and features, a network or a server that is not there.
    """
    held = held_out(load_trained(run), shards, wanted, quiet)
    report = facts_of(held.trained) | {
        "dataset": {
            "root_sha256": held.dataset.root_sha256,
            "split": wanted.split,
            "samples": len(held.records),
            "identities": held.bootstrap.identities,
            "trained_on_it": held.dataset.root_sha256 == held.trained.dataset,
        }
    }
    makers: dict[str, Callable[[Held], dict[str, Any]]] = {
        "qa": part_qa,
        "captions": part_captions,
        "nelbo": part_nelbo,
    }
    if "generation" in wanted.parts:  # before anything is measured: what is named may not be there
        look = look_of(shards, wanted.attributes)
        network = fid_network(wanted.fid, held.pack, mean_landmarks(shards, held.records))
        makers["generation"] = partial(part_generation, sampling=wanted.sampling, look=look, network=network)
    for part in wanted.parts:
        report[part] = makers[part](held)
    if wanted.judge is not None:
        journal = private_folder(shards) / "judge.sqlite"
        try:
            report["judge"] = judge(held.cases, wanted.judge, journal, held.bootstrap, quiet)
        except UserError as error:  # what was measured stays
            report["not_judged"] = error.message
    return report


def asked_for(
    split: str, only: str | None, limit: int, sampler: str, steps: int, guidance: float, fid: str,
    attributes: Path | None, judge_url: str | None, judge_model: str | None,
) -> Wanted:  # fmt: skip
    """What a command line asks for. Raises UserError (exit code 2) for what is no split, part, sampler or server."""
    parts = PARTS if only is None else tuple(part.strip() for part in only.split(","))
    if unknown := [part for part in parts if part not in PARTS]:
        raise UserError(f"--only {','.join(unknown)}: choose among {', '.join(PARTS)}", 2)
    splits: dict[str, Split] = {name: name for name in SPLITS}
    if split not in splits:
        raise UserError(f"--split {split!r}: choose among {', '.join(SPLITS)}", 2)
    sampling = Sampling(sampler, steps, guidance)
    if (judge_url is None) != (judge_model is None):
        raise UserError("--judge-url and --judge-model go together: the server, and the model's name on it", 2)
    llm = None
    if judge_url is not None and judge_model is not None:
        if not judge_url.startswith(("http://", "https://")):
            raise UserError(f"--judge-url {judge_url!r} is no URL, for example http://127.0.0.1:8000/v1", 2)
        if parts == ("nelbo",):
            raise UserError("--judge-url: of --only nelbo there is nothing to grade", 2)
        llm = Llm(model=judge_model, base_url=judge_url, temperature=0.0)
    chosen = tuple(part for part in PARTS if part in parts)
    if attributes is not None and "generation" not in parts:
        raise UserError(f"--attributes judges generated faces, and --only {only} makes none", 2)
    return Wanted(splits[split], chosen, limit, sampling, fid, llm, attributes)


# ------------------------------------------------------------------ the samples


def held_out(trained: TrainedModel, shards: Path, wanted: Wanted, quiet: bool) -> Held:
    dataset = opened(trained, shards, quiet)
    records = spread(dataset.of(wanted.split), wanted.limit)
    people = identities_of(dataset, records, trained.preset.features.face or EMBEDDED)
    bootstrap = Bootstrap(people)
    return Held(trained, shards, dataset, records, bootstrap, exchanges(people), quiet)


def opened(trained: TrainedModel, shards: Path, quiet: bool) -> Dataset:
    """The dataset as the model's preset encodes it, with face features in any case: they tell people apart."""
    preset = trained.preset
    features = preset.features.model_copy(update={"face": preset.features.face or EMBEDDED})
    dataset = open_dataset(shards, preset.images, features, quiet)
    filled(trained.model.config, dataset, trained.text)
    same_encoders(trained.encoders, dataset.encoders)
    return dataset


def samples_of(shards: Path, records: Sequence[Record]) -> Iterator[tuple[Sample, bytes]]:
    """(sample, JPEG) of these records of a dataset, in their order, which is that of the shards."""
    names = [shard["name"] for shard in read_index(shards)["shards"]]
    for shard, group in itertools.groupby(records, key=lambda record: record.shard):
        yield from pick(shards / names[shard], {record.uid for record in group})


def crops_of(shards: Path, records: Sequence[Record], size: int) -> np.ndarray:
    """(B, size, size, 3) uint8 crops at the model's size."""
    crops = np.zeros((len(records), size, size, 3), np.uint8)
    for place, (sample, jpeg) in enumerate(samples_of(shards, records)):
        crops[place] = views_of(decode(jpeg).rgb, sample.uid, size, 1)[0]
    return crops


def mean_landmarks(shards: Path, records: Sequence[Record]) -> np.ndarray:
    """(5, 2) from 0 to 1: where the aligned crops have eyes, nose and corners of the mouth."""
    found = [
        np.array(sample.face.landmarks) / [sample.image.width, sample.image.height]
        for sample, _ in samples_of(shards, records)
    ]
    return np.asarray(np.mean(found, axis=0))


def spread(records: list[Record], limit: int) -> list[Record]:
    """At most `limit` of them, evenly spread; 0: all."""
    count = min(limit or len(records), len(records))
    return [records[i * len(records) // count] for i in range(count)]


def tick_of(progress: Progress) -> Callable[[int], None]:
    return lambda count: progress.advance(count, [])


# ------------------------------------------------------------------ the parts


def part_qa(held: Held) -> dict[str, Any]:
    asked = questions_of(held.records)
    blind = blind_reader(qa for record in held.train for qa in record.qa)
    progress = Progress("answering", (1 + len(held.controls)) * sequences(asked), held.quiet)
    report, found = evaluate_qa(
        held.trained, held.pictures, asked, blind, held.bootstrap, held.controls, tick_of(progress)
    )
    progress.close()
    turns = [(a.picture, a.qa["question"], a.qa["answer"], said) for a, said in zip(asked, found.said, strict=True)]
    held.cases += conv_cases(turns)
    return report


def blind_reader(questions: Any) -> BlindReader | None:
    """None where there is nothing to fit it on."""
    known = list(questions)
    return BlindReader(known) if known else None


def part_captions(held: Held) -> dict[str, Any]:
    progress = Progress("captions", (held.times + 1) * len(held.records), held.quiet)
    evidence = [sample.attributes for sample, _ in samples_of(held.shards, held.records)]
    report, said = evaluate_captions(
        held.trained, held.pictures, held.captions, evidence, held.bootstrap, held.instead, tick_of(progress)
    )
    progress.close()
    held.cases += desc_cases(said, held.captions)
    return report


def part_nelbo(held: Held) -> dict[str, Any]:
    progress = Progress("likelihood", (held.times + 1) * len(held.records), held.quiet)
    counted = codes_of(held.dataset, held.train)
    report = evaluate_codes(
        held.trained, held.pictures, held.caption_ids, counted, held.bootstrap, held.instead, tick_of(progress)
    )
    progress.close()
    return report


def part_generation(held: Held, sampling: Sampling, look: Look, network: FidNetwork) -> dict[str, Any]:
    size, count = held.trained.preset.images.size, len(held.records)
    real = crops_of(held.shards, held.records, size)
    tokenizer = tokenizer_of(held.trained)
    progress = Progress("generating", 3 * count, held.quiet)
    tick = tick_of(progress)
    with held.trained.at_work():
        made = generate(held.trained.model, tokenizer, held.caption_ids, held.trained.preset, sampling)
    tick(count)
    rebuilt = decoded(tokenizer, np.stack([held.pictures.codes(i) for i in range(count)]), size)
    report: dict[str, Any] = {
        "sampler": sampling.sampler,
        "steps": steps_of(sampling, held.trained.preset),
        "guidance": sampling.guidance,
        "seed": sampling.seed,
        "analyser": Path(look.faces.engine).name,
        "attribute_model": Path(look.attributes).name if look.attributes else None,
    } | agreements(seen_in(made, look, tick), seen_in(rebuilt, look, tick), held.captions, held.bootstrap, held.instead)
    progress.close()
    known = crops_of(held.shards, spread(held.train, count), size)
    report["fid"] = {
        "network": network.name,
        "pictures": count,
        "generated": frechet(network, real, made),
        "reconstructed": frechet(network, real, rebuilt),
        # pictures of other people: of `train` there are none
        "training_pictures": None if held.records[0].split == "train" else frechet(network, real, known),
    }
    jpegs = [encode_jpeg(picture, 95) for picture in made]
    claims = [claims_of(caption) for caption in held.captions]
    held.cases += vqa_cases(jpegs, claims)
    if held.instead:
        held.cases += vqa_cases(jpegs, [claims[i] for i in held.instead], VQA_CONTROL)
    return report


def save_report(report: dict[str, Any], out: Path) -> None:
    """Write eval.json, whole or not at all. Raises UserError where it cannot be written."""
    write_bytes(out, orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
