"""The whole evaluation on a model of eight steps; image likelihood by hand; what cannot be evaluated is said."""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from unif2ace_data.errors import UserError
from unif2ace_model.answering import Ask, answer_nll, prompts_of, spoken_answers
from unif2ace_model.bootstrap import Bootstrap, identities_of
from unif2ace_model.evaluate import Wanted, asked_for, evaluate, opened, samples_of, spread
from unif2ace_model.evaluate_codes import codes_of, picture_nelbo, unigram_nats
from unif2ace_model.evaluate_table import render_report
from unif2ace_model.generation import Sampling
from unif2ace_model.pictures import DatasetPictures
from unif2ace_model.trained import TrainedModel, load_trained


@pytest.fixture(scope="module")
def model(trained_run: Path) -> TrainedModel:
    return load_trained(trained_run)


@pytest.fixture(scope="module")
def pictures(model: TrainedModel, people: Path) -> DatasetPictures:
    dataset = opened(model, people, quiet=True)
    return DatasetPictures(dataset, dataset.of("train"))


# ------------------------------------------------------------------ likelihood of texts and codes


def test_an_answer_s_likelihood_is_that_of_its_tokens_one_by_one(
    model: TrainedModel, pictures: DatasetPictures
) -> None:
    asks = [Ask(0, "Is it dark?", "yes"), Ask(1, "How is the mouth, as far as you can see?", "The mouth is closed.")]
    nll, tokens = answer_nll(model, pictures, asks)
    for place, ask in enumerate(asks):
        ids = model.text.encode(ask.answer)
        assert tokens[place] == len(ids) + 1  # and the end
        batch = prompts_of(model, pictures, [ask])
        with torch.no_grad():
            log_p = model.model.text_logits(model.model(batch).hidden_BSD[0]).log_softmax(-1)
        labels = batch.labels_BS[0]
        where = (labels != -100).nonzero()[:, 0]
        assert nll[place] == pytest.approx(-float(sum(log_p[at - 1, labels[at]] for at in where)), rel=1e-4)


def test_an_answer_said_is_the_likeliest_word_for_word(model: TrainedModel, pictures: DatasetPictures) -> None:
    asks = [Ask(i, "Describe the person in this picture.") for i in range(3)]
    together = spoken_answers(model, pictures, asks, most=6)
    assert together == [spoken_answers(model, pictures, [ask], most=6)[0] for ask in asks]


def test_the_bound_of_a_model_that_knows_nothing_is_the_uniform_code(
    model: TrainedModel, pictures: DatasetPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every code equally likely: each masked token costs log Q, so that the bound is N log Q whatever is masked."""
    size = model.model.config.codebook
    even = lambda hidden: torch.zeros(*hidden.shape[:-1], size)
    monkeypatch.setattr(model.model, "code_logits", even)
    nats = picture_nelbo(model, pictures, [[], [1, 2, 3]], draws=4, seed=0)
    assert nats == pytest.approx([16 * math.log(size)] * 2, rel=1e-6)


def test_the_bound_is_the_same_for_the_same_seed_and_sees_the_caption(
    model: TrainedModel, pictures: DatasetPictures
) -> None:
    captions = [[1, 2, 3], [4, 5]]
    first = picture_nelbo(model, pictures, captions, draws=4, seed=0)
    assert first.tolist() == picture_nelbo(model, pictures, captions, draws=4, seed=0).tolist()
    assert first.tolist() != picture_nelbo(model, pictures, [[], []], draws=4, seed=0).tolist()


def test_counting_by_hand() -> None:
    """Codes 0 0 1 of 4 in training: p = 3/7, 2/7, 1/7, 1/7 with one added to each."""
    nats = unigram_nats([np.array([[0, 0, 1]])], np.array([[0, 1], [3, 3]]), 4)
    assert nats == pytest.approx([-math.log(3 / 7 * 2 / 7), -2 * math.log(1 / 7)])


def test_counting_takes_every_view_that_the_training_saw(pictures: DatasetPictures) -> None:
    counted = codes_of(pictures.dataset, pictures.records)
    assert {one.shape for one in counted} == {(2, 16)}
    assert counted[0][0].tolist() == pictures.codes(0).tolist()


# ------------------------------------------------------------------ the report


@pytest.fixture(scope="module")
def report(trained_run: Path, people: Path) -> dict[str, Any]:
    return evaluate(trained_run, people, Wanted("train", sampling=Sampling("maskgit", 4)), quiet=True)


def test_the_report_says_what_was_evaluated_on_what(report: dict[str, Any], people: Path, trained_run: Path) -> None:
    assert report["checkpoint"]["step"] == 8
    assert report["checkpoint"]["name"] == "tiny/step-000008"
    assert len(report["checkpoint"]["sha256"]) == 64
    assert report["preset"]["optim"]["steps"] == 8
    index = json.loads((people / "index.json").read_text())
    assert report["dataset"]["root_sha256"] == report["checkpoint"]["dataset"] == index["root_sha256"]
    assert report["dataset"]["identities"] <= report["dataset"]["samples"]
    assert str(trained_run.parent) not in json.dumps(report["checkpoint"])


def test_every_part_has_its_figures(report: dict[str, Any]) -> None:
    assert report["qa"]["all"]["questions"] == 8 * report["dataset"]["samples"]
    assert 0 <= report["qa"]["all"]["accuracy"]["value"] <= 1
    assert 0 < report["qa"]["all"]["nll"]["value"] < 10
    assert report["qa"]["all"]["exchanged"]["value"] is not None and report["dataset"]["identities"] == 3
    assert report["captions"]["nll"]["value"] > 0
    bits = report["nelbo"]
    assert bits["uniform"] == 13
    faces = report["generation"]
    assert (faces["sampler"], faces["steps"]) == ("maskgit", 4)
    assert 0 <= faces["generated"]["faces_found"]["value"] <= 1
    assert faces["exchanged_prompts"]["claims"] == faces["generated"]["claims"]
    assert faces["fid"]["reconstructed"] > 0 and faces["fid"]["network"].startswith("face recogniser of embedded")
    assert report["captions"]["stored"]["precision"]["value"] == 1
    assert len(report["captions"]["examples"]) == 4
    assert bits["under_unigram"]["value"] == pytest.approx(
        1 - bits["bits_per_token"]["value"] / bits["unigram"]["value"], abs=1e-3
    )


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_report(report: dict[str, Any], trained_run: Path, people: Path) -> None:
    again = evaluate(trained_run / "step-000008", people, Wanted("train", ("captions", "nelbo")), quiet=True)
    assert again["captions"] == report["captions"]
    assert again["nelbo"] == report["nelbo"]
    assert "qa" not in again


def test_the_table_shows_every_attribute(report: dict[str, Any]) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_report(report))
    text = console.export_text()
    assert all(name in text for name in report["qa"]["by_attribute"])
    assert "add-one unigram" in text and "±" in text
    assert all(name in text for name in ("BLEU-4", "faces found", "FID by face recogniser", "exchanged prompts"))


def test_people_are_told_apart_as_the_builder_does(pictures: DatasetPictures) -> None:
    found = identities_of(pictures.dataset, pictures.records, "embedded")
    assert len(found) == len(pictures.records)
    assert Bootstrap(found).identities == 3


def test_a_limit_spreads_over_the_keys() -> None:
    assert spread(list("abcdefghij"), 3) == ["a", "d", "g"]  # type: ignore[arg-type, comparison-overlap]
    assert spread(list("abc"), 0) == spread(list("abc"), 9) == ["a", "b", "c"]  # type: ignore[arg-type, comparison-overlap]


def test_samples_come_in_the_order_of_the_records(pictures: DatasetPictures, people: Path) -> None:
    some = pictures.records[1::3]
    assert [sample.uid for sample, _ in samples_of(people, some)] == [record.uid for record in some]
    assert list(samples_of(people, [])) == []


# ------------------------------------------------------------------ bad input


def test_what_cannot_be_evaluated_is_said(trained_run: Path, people: Path, built: Path, tmp_path: Path) -> None:
    train = Wanted("train")
    with pytest.raises(UserError, match="no checkpoint in"):
        evaluate(tmp_path, people, train)
    with pytest.raises(UserError, match="no dataset"):
        evaluate(trained_run, tmp_path / "nowhere", train)
    with pytest.raises(UserError, match="no questions: run `unif2ace-data qa-gen`"):
        evaluate(trained_run, built, train, quiet=True)
    with pytest.raises(UserError, match="no samples in 'test'"):
        evaluate(trained_run, people, Wanted("test"), quiet=True)
    with pytest.raises(UserError, match="no Inception weights in"):  # said before the questions are asked
        evaluate(trained_run, people, Wanted("train", ("qa", "generation"), fid="inception:none.pth"), quiet=True)
    other = tmp_path / "other"
    shutil.copytree(trained_run, other)
    state = other / "step-000008" / "state.json"
    known = json.loads(state.read_text())
    state.write_text(json.dumps(known | {"encoders": known["encoders"] | {"tokenizer": "0" * 64}}))
    with pytest.raises(UserError, match=r"learnt with other weights of images\.tokenizer \(000000000000\)"):
        evaluate(other, people, train, quiet=True)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "config.json").write_bytes((trained_run / "step-000008" / "config.json").read_bytes())
    with pytest.raises(UserError, match="of no run"):
        evaluate(alone, people, train)


def ask(**changes: Any) -> Wanted:
    usual: dict[str, Any] = {
        "split": "test", "only": None, "limit": 0, "sampler": "maskgit", "steps": 8, "guidance": 1.0, "fid": "face",
        "attributes": None, "judge_url": None, "judge_model": None,
    }  # fmt: skip
    return asked_for(**usual | changes)


def test_what_a_command_line_asks_for() -> None:
    assert ask(only="nelbo,qa").parts == ("qa", "nelbo")
    assert ask().sampling == Sampling("maskgit", 8, 1.0)
    judge = ask(judge_url="http://127.0.0.1:1/v1", judge_model="m").judge
    assert judge is not None and (judge.model, judge.temperature) == ("m", 0)
    for wrong, said in [
        ({"only": "answers"}, "--only answers: choose among qa"),
        ({"split": "training"}, "choose among train, validation, test"),
        ({"sampler": "ddim"}, "no sampler 'ddim'"),
        ({"judge_url": "http://127.0.0.1:1/v1"}, "go together"),
        ({"attributes": Path("a.onnx"), "only": "qa"}, "judges generated faces"),
        ({"judge_url": "localhost", "judge_model": "m"}, "is no URL"),
        ({"judge_url": "http://h/v1", "judge_model": "m", "only": "nelbo"}, "nothing to grade"),
    ]:
        with pytest.raises(UserError, match=said) as error:
            ask(**wrong)
        assert error.value.exit_code == 2


@pytest.mark.slow
def test_the_command_writes_the_report_and_prints_it(trained_run: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    done = subprocess.run(
        [Path(sys.executable).parent / "unif2ace-model", "eval", "--run", trained_run, "--shards", people,
         "--split", "train", "--only", "captions", "--limit", "2", "--out", out],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "captions" in done.stdout
    assert json.loads(out.read_text())["dataset"]["samples"] == 2
