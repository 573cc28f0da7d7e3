"""A photograph from outside, seen as the dataset's own: the same crop, codes and features, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Faces
from unif2ace_data.shards import read_samples
from unif2ace_model.config import Preset
from unif2ace_model.data import open_dataset
from unif2ace_model.photograph import faces_of, keep_faces, see


def test_a_photograph_of_the_dataset_is_seen_as_the_dataset_shows_it(
    built: Path, examples: Path, preset: Preset, tmp_path: Path
) -> None:
    keep_faces(built, tmp_path)
    dataset = open_dataset(built, preset.images, preset.features, quiet=True)
    jpegs = {key: parts["jpg"] for shard in sorted(built.glob("*.tar")) for key, parts in read_samples(shard)}
    names = ("astronaut.png", "biden.jpg", "obama2.jpg")
    found = [see(examples / name, faces_of(tmp_path), preset, dataset.encoders) for name in names]
    for seen in found:
        (key,) = [key for key, jpeg in jpegs.items() if jpeg == seen.jpeg]
        record = next(record for record in dataset.records if record.uid == key)
        assert np.array_equal(seen.codes_N, dataset.codes(record)) and seen.faces == 1
        features = dataset.features("face", [record])
        assert features is not None
        assert np.array_equal(seen.features["face"].astype(np.float16), features[0].numpy().astype(np.float16))


def test_other_weights_than_those_of_the_training_are_refused(examples: Path, preset: Preset, tmp_path: Path) -> None:
    for name, key in (("tokenizer", r"images\.tokenizer"), ("face", r"features\.face")):
        with pytest.raises(UserError, match=f"learnt with other weights of {key} \\(0000"):
            see(examples / "astronaut.png", Faces(), preset, {name: "0" * 64})


def test_a_run_without_its_faces_file_is_told(built: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"faces\.yaml is missing"):
        faces_of(tmp_path)
    (tmp_path / "faces.yaml").write_text("engine: [")
    with pytest.raises(UserError, match=r"faces\.yaml is broken"):
        faces_of(tmp_path)
