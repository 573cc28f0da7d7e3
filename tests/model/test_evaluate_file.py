"""Questions from a file in FaceBench's layout: what qa-gen exports comes back as it was; every row is counted."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from rich.console import Console

from unif2ace_data.errors import UserError
from unif2ace_data.faces.analyse import Analyser
from unif2ace_data.qa.jsonl import write_jsonl
from unif2ace_data.recipe import Faces
from unif2ace_data.release.read import sample_records
from unif2ace_data.schema import NOT_VISIBLE
from unif2ace_data.shards import dataset_shards, read_samples
from unif2ace_model.evaluate import Wanted, evaluate, opened
from unif2ace_model.evaluate_file import evaluate_file
from unif2ace_model.evaluate_table import render_report
from unif2ace_model.features import networks_of
from unif2ace_model.image_tokenizer import load_image_tokenizer
from unif2ace_model.qa_file import aligned, encode_pictures, read_qa_file
from unif2ace_model.trained import load_trained

ROW = {
    "question_id": "1", "question_type": "SCQ", "image_id": "face.jpg", "text": "How is the mouth?",
    "options": ["open", "closed"], "conditions": {}, "gt_answer": "closed",
    "metadata": {"view": "Action", "attribute": "mouth"},
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(people: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The dataset's questions and crops, as files."""
    folder = tmp_path_factory.mktemp("exported")
    write_jsonl(people, folder / "qa.jsonl")
    (folder / "images").mkdir()
    for shard in dataset_shards(people):
        for key, files in read_samples(shard):
            (folder / "images" / f"{key}.jpg").write_bytes(files["jpg"])
    return folder / "qa.jsonl", folder / "images"


def written(folder: Path, *rows: Any) -> Path:
    (folder / "face.jpg").touch()
    file = folder / "qa.jsonl"
    file.write_bytes(b"\n".join(row if isinstance(row, bytes) else orjson.dumps(row) for row in rows))
    return file


# ------------------------------------------------------------------ the questions


def test_what_qa_gen_exports_is_read_as_it_was(exported: tuple[Path, Path], people: Path) -> None:
    found = read_qa_file(*exported, "train")
    stored = [qa for shard in dataset_shards(people) for record in sample_records(shard) for qa in record["qa"]]
    assert found.rows == len(found.asked) == len(stored)
    for one, qa in zip(found.asked, stored, strict=True):
        same = ("question", "kind", "options", "letter", "attribute", "category")
        assert {name: one.qa[name] for name in same} == {name: qa[name] for name in same}
        if qa["kind"] == "open" and qa["value"] != NOT_VISIBLE:
            assert (one.qa["answer"], one.qa["value"]) == (qa["answer"], qa["value"])


def test_rows_of_another_split_are_left_out_and_counted(exported: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of split train: "):
        read_qa_file(*exported, "test")
    mine = ROW | {"metadata": {"split": "test"}}
    found = read_qa_file(written(tmp_path, mine, ROW | {"metadata": {"split": "train"}}, ROW), tmp_path)
    assert len(found.asked) == 2 and found.left_out == {"of split train": 1}


def test_answers_by_words_or_by_letter_and_pictures_with_or_without_ending(tmp_path: Path) -> None:
    rows = [
        ROW,
        ROW | {"gt_answer": "B"},
        ROW | {"gt_answer": "(b)"},
        ROW | {"gt_answer": ["Closed"], "image_id": "face"},
    ]
    found = read_qa_file(written(tmp_path, *rows), tmp_path)
    assert [one.qa["letter"] for one in found.asked] == ["B"] * 4
    assert {one.picture for one in found.asked} == {0}
    six = ROW | {"options": list("uvwxyz"), "gt_answer": "z"}
    assert read_qa_file(written(tmp_path, six), tmp_path).asked[0].right == 5


def test_rows_that_cannot_be_asked_are_counted_by_reason(tmp_path: Path) -> None:
    several = ROW | {"question_type": "MCQ", "gt_answer": ["open", "closed"]}
    found = read_qa_file(written(tmp_path, ROW, several, several, ROW | {"gt_answer": "ajar"}, b""), tmp_path)
    assert found.as_json() == {
        "rows": 4, "asked": 1, "images": 1, "images_without_a_face": 0,
        "left_out": {"several answers are right": 2, "the answer is none of the options": 1},
    }  # fmt: skip
    with pytest.raises(UserError, match=r"no question that can be asked \(several answers are right: 1\)"):
        read_qa_file(written(tmp_path, several), tmp_path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROW, b"{"], "line 2 is not JSON"),
        ([b"[]"], "line 1 is not a JSON object"),
        ([{k: v for k, v in ROW.items() if k != "gt_answer"}], "line 1 has no field 'gt_answer': it has conditions, image_id"),
        ([ROW | {"options": "open"}], "line 1: options is a str"),
        ([ROW | {"question_type": "ESSAY"}], "'ESSAY' is none of OEQ, SCQ, TFQ, MCQ"),
        ([ROW, ROW | {"image_id": "a.jpg"}, ROW | {"image_id": "b.jpg"}], r"lacks 2 of the pictures .* in 2 of 3 rows .*a.jpg, b.jpg"),
        ([], "it is empty"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_hold_is_said_by_its_line(rows: list[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        read_qa_file(written(tmp_path, *rows), tmp_path)


def test_files_and_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_qa_file(tmp_path / "none.jsonl", tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        read_qa_file(written(tmp_path, ROW), tmp_path / "none")


# ------------------------------------------------------------------ the pictures


def test_a_crop_stays_as_it_is_and_a_photograph_is_aligned(exported: tuple[Path, Path], photos: Path) -> None:
    analyser = Analyser(Faces())
    crop = next(exported[1].glob("*.jpg")).read_bytes()
    pixels, landmarks = aligned(crop, analyser)
    again, _ = aligned(crop, analyser)
    assert landmarks is not None and (pixels == again).all()
    photo = next(photos.rglob("*.jpg")).read_bytes()
    pixels, landmarks = aligned(photo, analyser)
    assert landmarks is not None and pixels.shape[0] == pixels.shape[1]
    eyes = landmarks[:2].mean(0) / pixels.shape[0]
    assert 0.4 < eyes[0] < 0.6 and 0.35 < eyes[1] < 0.55


@pytest.mark.slow
def test_the_report_of_an_export_is_near_that_of_the_dataset(
    exported: tuple[Path, Path], people: Path, trained_run: Path
) -> None:
    found = evaluate_file(trained_run, *exported, shards=people, split="train", quiet=True)
    known = evaluate(trained_run, people, Wanted("train", ("qa",)), quiet=True)
    assert found["questions"]["asked"] == found["qa"]["all"]["questions"] == known["qa"]["all"]["questions"]
    assert found["questions"]["identities"] == known["dataset"]["identities"]
    assert found["questions"]["images_without_a_face"] == 0
    assert found["qa"]["all"]["nll"]["value"] == pytest.approx(known["qa"]["all"]["nll"]["value"], rel=0.02)
    assert found["qa"]["with_options"]["majority"] == known["qa"]["with_options"]["majority"]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_report(found))
    assert f"{found['questions']['rows']} rows asked about" in console.export_text()


def test_codes_of_exported_crops_are_those_of_the_dataset(
    exported: tuple[Path, Path], people: Path, trained_run: Path
) -> None:
    model = load_trained(trained_run)
    dataset = opened(model, people, quiet=True)
    found = read_qa_file(*exported, "train")
    tokenizer = load_image_tokenizer(model.preset.images.tokenizer)
    networks = networks_of(model.preset.features)
    pictures = encode_pictures(found, model.preset.images, tokenizer, Faces(), networks, quiet=True)
    by_key = {record.uid: record for record in dataset.records}
    same = [
        np.array_equal(pictures.codes(place), dataset.codes(by_key[path.stem]))
        for place, path in enumerate(found.images)
    ]
    assert np.mean(same) > 0.8  # a few crops lie near the border of what is aligned anew


def test_a_picture_that_is_none_is_named(exported: tuple[Path, Path], trained_run: Path, tmp_path: Path) -> None:
    file = written(tmp_path, ROW)
    with pytest.raises(UserError, match=r"face\.jpg cannot be read"):
        evaluate_file(trained_run, file, tmp_path, None, quiet=True)


def test_the_options_of_the_command_go_together(trained_run: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "unif2ace-model"
    for options, said in [
        (["--qa", "x.jsonl"], "--qa and --images go together"),
        (["--qa", "x.jsonl", "--images", ".", "--only", "qa"], "do not go with it"),
    ]:
        done = subprocess.run([program, "eval", "--run", trained_run, *options], capture_output=True, text=True)
        assert done.returncode == 2 and said in done.stderr
