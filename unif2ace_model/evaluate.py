"""The evaluation of a trained model on a split of a dataset: which parts, over which samples, and the report they fill.

    qa          accuracy beside a reader without the picture and a control with exchanged pictures; answer NLL (primary)
    captions    caption NLL (primary)
    nelbo       bits an image token beside counting

Every figure carries a 95 % interval by bootstrap over identities. Nothing here is random beyond fixed seeds: the same
checkpoint and dataset give the same report.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.run.progress import Progress
from unif2ace_data.schema import SPLITS, Split, UserError
from unif2ace_data.shards import write_bytes
from unif2ace_model.blind import BlindReader
from unif2ace_model.bootstrap import Bootstrap, identities_of
from unif2ace_model.data import Dataset, Record, open_dataset
from unif2ace_model.evaluate_captions import evaluate_captions
from unif2ace_model.evaluate_codes import codes_of, evaluate_codes
from unif2ace_model.evaluate_qa import evaluate_qa, questions_of, sequences
from unif2ace_model.pictures import DatasetPictures, others
from unif2ace_model.train import filled
from unif2ace_model.trained import TrainedModel, load_trained

PARTS = ("qa", "captions", "nelbo")
EMBEDDED = "embedded"


def evaluate(
    run: Path,
    shards: Path,
    split: Split = "test",
    only: Sequence[str] = PARTS,
    limit: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """The report as JSON-ready data (docs/evaluation.md lists its fields).

    only: parts of PARTS. limit: at most so many samples, evenly spread over the split's keys; 0: all. Raises UserError:
    no run, no dataset, an empty split, no questions, a model of another shape than the dataset's codes and features.
    """
    parts = parts_of(only)
    trained = load_trained(run)
    dataset = opened(trained, shards, quiet)
    records = spread(dataset.of(checked_split(split)), limit)
    people = identities_of(dataset, records, trained.preset.features.face or EMBEDDED)
    bootstrap = Bootstrap(people)
    instead = others(people) if bootstrap.identities > 1 else None
    pictures = DatasetPictures(dataset, records)
    copies = 2 if instead else 1
    report: dict[str, Any] = facts_of(trained) | {
        "dataset": {
            "root_sha256": dataset.root_sha256,
            "split": split,
            "samples": len(records),
            "identities": bootstrap.identities,
            "trained_on_it": dataset.root_sha256 == trained.dataset,
        }
    }
    train = [record for record in dataset.records if record.split == "train"]
    if "qa" in parts:
        asked = questions_of(records)
        blind = BlindReader(qa for record in train for qa in record.qa) if any(r.qa for r in train) else None
        progress = Progress("answering", copies * sequences(asked), quiet)
        report["qa"], _ = evaluate_qa(trained, pictures, asked, blind, bootstrap, instead, tick_of(progress))
        progress.close()
    if "captions" in parts:
        progress = Progress("captions", copies * len(records), quiet)
        captions = [record.caption for record in records]
        report["captions"] = evaluate_captions(trained, pictures, captions, bootstrap, instead, tick_of(progress))
        progress.close()
    if "nelbo" in parts:
        progress = Progress("likelihood", (copies + 1) * len(records), quiet)
        ids = [trained.text.encode(record.caption)[: trained.preset.text.max_tokens] for record in records]
        report["nelbo"] = evaluate_codes(
            trained, pictures, ids, codes_of(dataset, train), bootstrap, instead, tick_of(progress)
        )
        progress.close()
    return report


def parts_of(only: Sequence[str]) -> list[str]:
    unknown = [part for part in only if part not in PARTS]
    if unknown or not only:
        raise UserError(f"--only {','.join(only)}: choose among {', '.join(PARTS)}", 2)
    return [part for part in PARTS if part in only]


def checked_split(split: str) -> Split:
    for known in SPLITS:
        if split == known:
            return known
    raise UserError(f"--split {split!r}: choose among {', '.join(SPLITS)}", 2)


def opened(trained: TrainedModel, shards: Path, quiet: bool) -> Dataset:
    """The dataset as the model's preset encodes it, with face features in any case: they tell people apart."""
    preset = trained.preset
    features = preset.features.model_copy(update={"face": preset.features.face or EMBEDDED})
    dataset = open_dataset(shards, preset.images, features, quiet)
    filled(trained.model.config, dataset, trained.text)
    return dataset


def spread(records: list[Record], limit: int) -> list[Record]:
    """At most `limit` of them, evenly spread; 0: all."""
    count = min(limit or len(records), len(records))
    return [records[i * len(records) // count] for i in range(count)]


def tick_of(progress: Progress) -> Any:
    return lambda count: progress.advance(count, [])


def facts_of(trained: TrainedModel) -> dict[str, Any]:
    """What was evaluated."""
    return {
        "checkpoint": {
            "name": f"{trained.folder.parent.name}/{trained.folder.name}",
            "step": trained.step,
            "sha256": trained.sha256,
            "dataset": trained.dataset,
        },
        "preset": trained.preset.model_dump(mode="json"),
    }


def save_report(report: dict[str, Any], out: Path) -> None:
    """Write eval.json, whole or not at all. Raises UserError where it cannot be written."""
    write_bytes(out, orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
