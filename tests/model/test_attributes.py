"""Training the attribute model: what is learnt from whom, what is left out and why, and what lies there afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from labelled import annotation, base_samples, person_of, write_labelled

from unif2ace_data.attributes.predict import METADATA, AttributeModel, describe_model
from unif2ace_data.errors import UserError
from unif2ace_data.shards import read_index, read_samples
from unif2ace_model.attributes import Report, train


def gender(person: str) -> str:
    return "female" if person == "astronaut" else "male"


def labels(number: int, person: str) -> dict[str, str]:
    """True of the pictures: apparent gender and the darkened ones. Tossed: glasses. One value only: teeth."""
    tossed = np.random.default_rng(number).integers(2)
    return {
        "apparent_gender": gender(person),
        "clothing_tone": "dark" if number % 4 < 2 else "light",
        "glasses": ["none", "eyeglasses"][tossed],
        "teeth": "visible",
        "complexion": "light",
    }


@pytest.fixture(scope="module")
def shards(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    measured = annotation("smiling", "yes", evidence={"by": "face_landmarker"})
    machine = annotation("young", "yes", evidence={"by": "source:ffhq"}, validated=False)
    return write_labelled(built, tmp_path_factory.mktemp("m") / "shards", labels, extra=[measured, machine])


@pytest.fixture(scope="module")
def trained(shards: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return train(shards, tmp_path_factory.mktemp("t") / "attributes.onnx", str(clip), quiet=True)


def test_what_can_be_seen_is_stated_with_the_precision_wanted(trained: Report) -> None:
    stated = {head.name: set(head.stated) for head in trained.metadata.heads}
    assert stated == {"apparent_gender": {"female", "male"}, "clothing_tone": {"dark", "light"}}
    for finding in trained.findings:
        for value in finding.values:
            if not value.why:
                assert value.claim.holds and value.claim.precision >= 0.9 and value.claim.cases >= 30
                assert value.test.precision >= 0.9 and value.test.recall > 0.5
    assert min(c.threshold for c in trained.metadata.heads[0].stated.values()) >= 0.96, "the taxonomy's own floor"


def test_what_is_left_out_is_named_with_its_reason(trained: Report) -> None:
    assert set(trained.left_out) == {"glasses", "teeth"}
    assert "fewer than two values with 20 labels in train: visible 60" in trained.left_out["teeth"]
    assert "validation" in trained.left_out["glasses"]
    card = trained.card.read_text()
    assert "- teeth: fewer than two values" in card and "- glasses: " in card


def test_only_what_people_said_is_learnt(trained: Report) -> None:
    """Not measurements, not a machine's labels, not what is stated on request only."""
    learnt = {finding.name for finding in trained.findings} | set(trained.left_out)
    assert learnt.isdisjoint({"smiling", "young", "complexion"})


def test_the_card_tells_what_it_is_and_how_good(trained: Report, shards: Path) -> None:
    card = trained.card.read_text()
    for words in (
        "clip-tiny-clip", "licence: not stated", "72 in validation", "Intended use", "Limits", "Calibration error",
        read_index(shards)["root_sha256"][:16], "Public domain",
    ):  # fmt: skip
        assert words in card, words
    line = next(line for line in card.splitlines() if line.startswith("| clothing_tone | dark"))
    assert "**yes**" in line and line.count("|") == 12


def test_the_file_holds_everything_and_nothing_of_this_machine(trained: Report, clip: Path) -> None:
    model = onnx.load(trained.out)
    onnx.checker.check_model(model)
    facts = json.loads({e.key: e.value for e in model.metadata_props}[METADATA])
    assert facts["encoder"]["name"] == "clip-tiny-clip" and len(facts["encoder"]["sha256"]) == 64
    assert facts["preprocessing"] == {"kind": "crop", "size": 64, "align": "ffhq"}
    assert [head["name"] for head in facts["heads"]] == ["apparent_gender", "clothing_tone"]
    data = trained.out.read_bytes()
    for path in (clip, trained.out.parent, Path.cwd(), Path.home()):
        assert str(path).encode() not in data


def test_the_same_input_gives_the_same_bytes(trained: Report, shards: Path, clip: Path, tmp_path: Path) -> None:
    again = train(shards, tmp_path / "attributes.onnx", str(clip), quiet=True)
    assert again.out.read_bytes() == trained.out.read_bytes()
    assert again.card.read_bytes() == trained.card.read_bytes()
    assert describe_model(str(again.out))[1] == trained.metadata


def test_what_ships_says_what_was_counted(trained: Report, shards: Path) -> None:
    """The finished file, run on the test crops as a build runs it, gives the card's test figures."""
    from unif2ace_data.faces.decode import decode
    from unif2ace_data.schema import Sample

    model, asserted = AttributeModel(trained.out), {}
    for _, files in read_samples(shards / "test-000000.tar"):
        sample = Sample.model_validate_json(files["json"])
        for said in model.predict(decode(files["jpg"]).rgb, np.array(sample.face.landmarks)):
            truth = next(a.value for a in sample.attributes if a.name == said.name)
            asserted.setdefault((said.name, said.value), []).append(said.value == truth)
    for finding in trained.findings:
        for value in finding.values:
            if not value.why:
                counted = asserted[finding.name, value.name]
                assert (len(counted), sum(counted)) == (value.test.cases, value.test.right)


def test_the_face_network_learns_faces_and_is_not_asked_what_it_cannot_see(built: Path, tmp_path: Path) -> None:
    out = write_labelled(built, tmp_path / "shards", labels, {"train": 40, "validation": 64, "test": 24})
    report = train(out, tmp_path / "attributes.onnx", quiet=True)
    assert {head.name: set(head.stated) for head in report.metadata.heads} == {"apparent_gender": {"female", "male"}}
    assert "does not show" in report.left_out["clothing_tone"]
    model = AttributeModel(report.out)
    for sample, crop in base_samples(built):
        found = model.predict(crop, np.array(sample.face.landmarks))
        assert [(a.name, a.value) for a in found] in ([], [("apparent_gender", gender(person_of(sample)))])
        for a in found:
            assert a.evidence.by == "attributes:face-embedded" and a.evidence.revision == model.sha256[:8]


@pytest.mark.parametrize(
    ("counts", "said", "message"),
    [
        ({"train": 4, "validation": 2, "test": 2}, {}, "none of the 8 samples .* carries a label that people gave"),
        ({"train": 4, "validation": 2, "test": 2}, {"glasses": "none"}, r"too few labels .* glasses \(fewer than two"),
        ({"train": 4, "validation": 0, "test": 2}, {"glasses": "none"}, "no labelled samples in validation"),
        ({"train": 4, "validation": 0, "test": 0}, {"glasses": "none"}, "validation and test"),
    ],
)
def test_too_little_is_one_clear_error(
    built: Path, clip: Path, tmp_path: Path, counts: dict[str, int], said: dict[str, str], message: str
) -> None:
    shards = write_labelled(built, tmp_path / "shards", lambda number, person: said, counts)
    with pytest.raises(UserError, match=message):
        train(shards, tmp_path / "attributes.onnx", str(clip), quiet=True)
    assert not list(tmp_path.glob("attributes*"))


def test_where_nothing_reaches_the_precision_nothing_is_written(built: Path, clip: Path, tmp_path: Path) -> None:
    tossed = lambda number, person: {"smiling": ["no", "yes"][np.random.default_rng(number).integers(2)]}
    shards = write_labelled(built, tmp_path / "shards", tossed)
    with pytest.raises(UserError, match=r"no value of any attribute reaches precision 0\.9 .* smiling \("):
        train(shards, tmp_path / "attributes.onnx", str(clip), quiet=True)
    assert not list(tmp_path.glob("attributes*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "model.pt"}, "name an .onnx file"),
        ({"out": "nowhere/a.onnx"}, "folder that exists"),
        ({"precision": 0.5}, "from 0.9"),
        ({"precision": 1.0}, "under 1"),
        ({"encoder_name": "nobody"}, "no encoder 'nobody'"),
        ({"shards": "nowhere"}, "no dataset at"),
    ],
)
def test_wrong_use_is_one_clear_error(shards: Path, tmp_path: Path, options: dict, message: str) -> None:
    given = {"shards": shards, "out": "a.onnx"} | options
    with pytest.raises(UserError, match=message):
        train(Path(given.pop("shards")), tmp_path / given.pop("out"), quiet=True, **given)


@pytest.mark.slow
def test_the_command_line(shards: Path, clip: Path, tmp_path: Path) -> None:
    def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "unif2ace_model.cli", *arguments], capture_output=True, text=True, cwd=tmp_path
        )

    done = cli("attributes", "--shards", str(shards), "--encoder", str(clip), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["stated"]["clothing_tone"]["dark"]["precision"] >= 0.9
    assert {p.name for p in tmp_path.iterdir()} == {"attributes.onnx", "attributes.md"}
    assert "Example: " in cli("attributes", "--help").stdout
    wrong = cli("attributes", "--shards", "nowhere")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1) and wrong.stderr.startswith(
        "unif2ace-model: no dataset"
    )
