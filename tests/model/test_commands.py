"""The commands that train a model and use it, through the console script: what they write, print and refuse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

PROGRAMS = Path(sys.executable).parent
SPLITS = ["--set", "splits.train=0.7", "--set", "splits.validation=0.1", "--set", "splits.test=0.2"]
TINY = [
    "images.tokenizer=train:20", "images.size=32", "images.views=2", "model.image_tokens=16", "model.dim=32",
    "model.layers=2", "model.ffn_dim=64", "model.token_moe.expert_dim=16", "text.tokenizer=train:400",
    "optim.und_batch=4", "optim.gen_batch=2", "run.sample_every=0",
]  # fmt: skip


def program(*arguments: str, cwd: Path, name: str = "unif2ace-model") -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def changes(*more: str) -> list[str]:
    return [part for setting in (*TINY, *more) for part in ("--set", setting)]


@pytest.fixture(scope="module")
def home(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw/, shards/ with questions and a run of thirty steps. Read only: copy before changing anything."""
    folder = tmp_path_factory.mktemp("commands")
    shutil.copytree(examples, folder / "raw")
    built = program("build", "--src", "raw", "--subjects", "adults", *SPLITS, cwd=folder, name="unif2ace-data")
    assert built.returncode == 0, built.stderr
    assert program("qa-gen", cwd=folder, name="unif2ace-data").returncode == 0
    done = program("train", *changes("optim.steps=30", "optim.warmup=5"), cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "train.txt").write_text(done.stdout)
    return folder


@pytest.mark.parametrize("command", ["train", "generate", "answer", "info"])
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    done = program(command, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Example:" in done.stdout


# ------------------------------------------------------------------ train


def test_train_alone_makes_all_that_it_needs_and_says_what_comes_next(home: Path) -> None:
    """Neither --shards nor --preset nor --out nor a tokenizer: the run's own is trained first, and its crops are known."""
    names = {path.name for path in (home / "run").iterdir()}
    assert {"image_tokenizer", "tokenizer.json", "faces.yaml", "preset.yaml", "metrics.jsonl", "step-000030"} <= names
    metrics = json.loads((home / "run" / "image_tokenizer" / "metrics.json").read_text())
    assert metrics["settings"]["steps"] == 20 and metrics["settings"]["fsq"]["downscale"] == 8
    said = (home / "train.txt").read_text()
    assert "30 of 30" in said and "tokens/s" in said and "run/step-000030" in said and "unif2ace-model eval" in said


def test_a_finished_run_is_told_again_and_not_trained_again(home: Path) -> None:
    before = (home / "run" / "step-000030" / "model.safetensors").stat().st_mtime_ns
    done = program("train", *changes("optim.steps=30", "optim.warmup=5"), "--json", cwd=home)
    answer = json.loads(done.stdout)
    assert (answer["step"], answer["steps"], answer["stopped"]) == (30, 30, False) and answer["last"]["step"] == 30
    assert answer["checkpoint"] == "run/step-000030" and done.stderr == ""
    assert (home / "run" / "step-000030" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    tokenizer = f"images.tokenizer=fsq:{home / 'run' / 'image_tokenizer'}"
    command = ["train", "--shards", str(home / "shards"), *changes("optim.steps=100000", "run.log_every=1", tokenizer)]
    steps = []
    for _ in range(2):
        process = subprocess.Popen(
            [str(PROGRAMS / "unif2ace-model"), *command], cwd=tmp_path, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 60
        done = steps[-1] if steps else 0
        while not metrics.is_file() or len(metrics.read_text().splitlines()) <= done:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "saved; run the same command to go on" in said.splitlines()[-1]
        steps.append(int(said.splitlines()[-1].split("step ")[1].split(",")[0]))
    assert 0 < steps[0] < steps[1]


@pytest.mark.slow
def test_killed_in_every_phase_a_run_ends_in_the_bytes_of_one_that_was_not(home: Path, tmp_path: Path) -> None:
    shards, run = shutil.copytree(home / "shards", tmp_path / "shards"), tmp_path / "run"
    command = ["train", *changes("optim.steps=30", "optim.warmup=5")]
    for reached in ("preset.yaml", "image_tokenizer", "tokenizer.json", "metrics.jsonl"):
        process = subprocess.Popen(
            [str(PROGRAMS / "unif2ace-model"), *command], cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL
        )
        while not (run / reached).exists():
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()
    done = program(*command, "--shards", str(shards), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("image_tokenizer/model.safetensors", "tokenizer.json", "step-000030/model.safetensors"):
        assert (run / name).read_bytes() == (home / "run" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--preset", "train-huge"], 2, "no preset 'train-huge': give a file, or one of train-1p8b"),
        (["--set", "optim.speed=3"], 2, "optim.speed"),
        (["--set", "optim.lr=fast"], 2, "optim.lr"),
        (["--shards", "nowhere"], 2, "no dataset at nowhere"),
        (["--set", "images.tokenizer=train:many"], 2, "write train, or train:STEPS"),
        (["--set", "model.image_tokens=60"], 2, "no tokenizer makes model.image_tokens=60 codes of images.size=64"),
        (["--set", "images.size=72", "--set", "model.image_tokens=36"], 2, "downscale 12 is not a power of 2"),
        (["--set", "images.tokenizer=fsq:nowhere"], 2, "nowhere"),
        (["--out", "raw"], 2, "raw is not empty and no run of this trainer"),
        (["--set", "optim.steps=31"], 2, "run is a run with other settings"),
    ],
)  # fmt: skip
def test_what_train_refuses(home: Path, arguments: list[str], code: int, words: str) -> None:
    before = sorted(home.iterdir())
    done = program("train", *arguments, cwd=home)
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr
    assert sorted(home.iterdir()) == before


def test_questions_are_missed_before_a_tokenizer_is_trained(built: Path, tmp_path: Path) -> None:
    done = program("train", "--shards", str(built), cwd=tmp_path)
    assert done.returncode == 1 and "run `unif2ace-data qa-gen` on it first" in done.stderr
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------ generate


def picture(path: Path) -> bytes:
    return Image.open(path).convert("RGB").tobytes()


def test_generate_draws_a_row_for_each_prompt_and_the_same_for_the_same_seed(home: Path, tmp_path: Path) -> None:
    asked = [
        "generate",
        "--run",
        str(home / "run"),
        "--prompt",
        "A smiling woman.",
        "--prompt",
        "A man.",
        "--count",
        "3",
    ]
    done = program(*asked, "--out", "new/a.png", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "new/a.png: 6 pictures of 32 pixels\n"
    assert Image.open(tmp_path / "new" / "a.png").size == (3 * 32, 2 * 32)
    program(*asked, "--out", "b.png", cwd=tmp_path)
    program(*asked, "--out", "c.png", "--seed", "1", cwd=tmp_path)
    assert picture(tmp_path / "new" / "a.png") == picture(tmp_path / "b.png") != picture(tmp_path / "c.png")


@pytest.mark.parametrize(
    "options",
    [
        ["--sampler", "maskgit", "--steps", "4", "--temperature", "2.5", "--guidance", "0"],
        ["--sampler", "ancestral", "--steps", "5"],
        ["--sampler", "first-hitting"],
    ],
)
def test_generate_knows_three_samplers(home: Path, tmp_path: Path, options: list[str]) -> None:
    done = program(
        "generate", "--run", str(home / "run"), "--prompt", "A man.", "--count", "5", *options, "--json", cwd=tmp_path
    )
    answer = json.loads(done.stdout)
    assert answer["sampler"] == options[1] and answer["pictures"] == 5 and answer["cut"] == []
    assert Image.open(tmp_path / "grid.png").size == (4 * 32, 2 * 32)


def test_generate_says_when_a_prompt_is_longer_than_the_captions_were(home: Path, tmp_path: Path) -> None:
    done = program("generate", "--run", str(home / "run"), "--prompt", "A man. " * 200, "--count", "1", cwd=tmp_path)
    assert done.returncode == 0 and "its end is cut" in done.stderr


# ------------------------------------------------------------------ answer


@pytest.mark.slow
def test_answer_sees_a_photograph_and_answers_each_question(home: Path) -> None:
    questions = ["--question", "Is the person smiling?", "--question", "Describe the person in this picture."]
    asked = ["answer", "--run", "run/step-000030", "--image", "raw/astronaut.png", *questions]
    found = json.loads(program(*asked, "--json", cwd=home).stdout)
    assert [each["question"] for each in found["answers"]] == questions[1::2] and found["faces"] == 1
    shown = program(*asked, cwd=home)
    assert shown.returncode == 0 and shown.stderr == ""
    assert shown.stdout.splitlines()[0] == questions[1]
    assert shown.stdout.splitlines()[1].strip() == found["answers"][0]["answer"]


def test_of_several_faces_the_largest_is_asked_about_and_that_is_said(home: Path, tmp_path: Path) -> None:
    large, small = Image.open(home / "raw" / "astronaut.png").convert("RGB"), Image.open(home / "raw" / "biden.jpg")
    both = Image.new("RGB", (large.width + 300, large.height))
    both.paste(large)
    both.paste(small.convert("RGB").resize((300, 300 * small.height // small.width)), (large.width, 0))
    both.save(tmp_path / "both.png")
    done = program("answer", "--run", str(home / "run"), "--image", "both.png", "--question", "Who?", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "unif2ace-model: both.png shows 2 faces; the largest is asked about\n"


# ------------------------------------------------------------------ info


def test_info_counts_the_papers_size_in_seconds_and_in_little_memory(tmp_path: Path) -> None:
    limited = ["bash", "-c", 'ulimit -v 6000000; exec "$0" "$@"', str(PROGRAMS / "unif2ace-model")]
    done = subprocess.run([*limited, "info", "train-1p8b", "--json"], capture_output=True, text=True, cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert 1.8e9 < facts["parameters"]["total"] < 1.95e9 and facts["parameters"]["active"] < 1.6e9
    assert facts["bytes"]["training"] == 16 * facts["parameters"]["total"], "7.6 GB of weights would not have fitted"
    notes = {setting["key"]: setting for setting in facts["settings"]}
    assert notes["objective.alpha"]["note"].startswith("paper: 0.01") and notes["objective.alpha"]["default"]


@pytest.mark.slow
def test_info_is_of_the_model_that_is_trained(home: Path) -> None:
    shown = program("info", "run/preset.yaml", cwd=home)
    assert shown.returncode == 0 and "paper: 8 routed experts a group" in shown.stdout
    vocabulary = len(json.loads((home / "run" / "tokenizer.json").read_text())["model"]["vocab"])
    facts = json.loads(
        program("info", "run/preset.yaml", "--set", f"model.text_vocab={vocabulary}", "--json", cwd=home).stdout
    )
    weights = home / "run" / "step-000030" / "model.safetensors"
    routers = 2 * 2 * 8 * 4  # biases of the selection: two layers, two groups, eight experts; they are no parameters
    header = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
    assert facts["bytes"]["inference"] == weights.stat().st_size - header - routers


# ------------------------------------------------------------------ wrong usage


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["generate", "--run", "nowhere", "--prompt", "A man."], 2, "no checkpoint in nowhere"),
        (["generate", "--run", "raw", "--prompt", "A man."], 2, "no checkpoint in raw"),
        (["generate", "--run", "run", "--prompt", " "], 2, "an empty prompt"),
        (["generate", "--run", "run"], 2, "--prompt"),
        (["generate", "--run", "run", "--prompt", "A man.", "--sampler", "euler"], 2, "no sampler 'euler'"),
        (["generate", "--run", "run", "--prompt", "A man.", "--sampler", "ancestral", "--temperature", "1"], 2, "no temperature"),
        (["generate", "--run", "run", "--prompt", "A man.", "--out", "grid.pdf"], 2, "name a picture"),
        (["generate", "--run", "run", "--prompt", "A man.", "--out", "raw/rocket.jpg/grid.png"], 1, "cannot be written"),
        (["answer", "--run", "run", "--image", "raw/nobody.jpg", "--question", "Who?"], 2, "nobody.jpg cannot be read"),
        (["answer", "--run", "run", "--image", "raw/rocket.json", "--question", "Who?"], 1, "cannot be read as a picture"),
        (["answer", "--run", "run", "--image", "raw/rocket.jpg", "--question", "Who?"], 1, "no face found"),
        (["answer", "--run", "run", "--image", "raw/biden.jpg", "--question", ""], 2, "an empty question"),
        (["answer", "--run", "shards", "--image", "raw/biden.jpg", "--question", "Who?"], 2, "no checkpoint in shards"),
        (["info", "train-huge"], 2, "no preset 'train-huge'"),
        (["info", "train-tiny", "--set", "model.heads=7"], 2, "dim 128 is not a multiple of heads 7"),
        (["info", "train-tiny", "--set", "text.tokenizer=nobody/nothing"], 2, "no text tokenizer 'nobody/nothing'"),
    ],
)  # fmt: skip
def test_what_the_commands_refuse(home: Path, arguments: list[str], code: int, words: str) -> None:
    done = program(*arguments, cwd=home)
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr and done.stdout == ""
