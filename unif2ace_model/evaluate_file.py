"""The evaluation of a trained model on questions from a file: the `qa` report of whatever pictures they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unif2ace_data.release.read import sample_records, shard_paths, split_of
from unif2ace_data.run.progress import Progress
from unif2ace_model.bootstrap import Bootstrap, people_in
from unif2ace_model.data import same_encoders
from unif2ace_model.evaluate import EMBEDDED, blind_reader, tick_of
from unif2ace_model.evaluate_qa import evaluate_qa, sequences
from unif2ace_model.features import networks_of
from unif2ace_model.photograph import faces_of
from unif2ace_model.pictures import exchanges
from unif2ace_model.qa_file import encode_pictures, read_qa_file
from unif2ace_model.trained import facts_of, load_trained, tokenizer_of


def evaluate_file(
    run: Path, file: Path, images: Path, shards: Path | None, split: str = "test", quiet: bool = False
) -> dict[str, Any]:
    """The `qa` report of a file in FaceBench's layout and its pictures.

    shards: the dataset whose training questions the readers without the picture know; None: they can only guess. Raises
    UserError as `read_qa_file` and `encode_pictures` do.
    """
    found = read_qa_file(file, images, split)
    trained = load_trained(run)
    preset = trained.preset
    pack = preset.features.face or EMBEDDED
    networks = networks_of(preset.features.model_copy(update={"face": pack}))
    same_encoders(trained.encoders, {name: network.revision for name, network in networks.items()})
    pictures = encode_pictures(found, preset.images, tokenizer_of(trained), faces_of(trained.run), networks, quiet)
    people = people_in(pictures.guests["face"], pack)
    bootstrap = Bootstrap(people)
    controls = exchanges(people)
    blind = blind_reader(training_questions(shards) if shards else ())
    progress = Progress("answering", (1 + len(controls)) * sequences(found.asked), quiet)
    report, _ = evaluate_qa(trained, pictures, found.asked, blind, bootstrap, controls, tick_of(progress))
    progress.close()
    facts = {"file": file.name, **found.as_json(), "identities": bootstrap.identities}
    return facts_of(trained) | {"questions": facts, "qa": report}


def training_questions(shards: Path) -> list[dict[str, Any]]:
    paths = [path for path in shard_paths(shards) if split_of(path) == "train"]
    return [qa for path in paths for record in sample_records(path) for qa in record["qa"]]
