"""The command line: parses, prints, and exits with a code that means something; never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [
    "build", "plan", "caption", "qa-gen", "verify", "stats", "report", "show", "doctor", "card", "annotations", "join", "audit", "diff",
    "review", "remove", "publish", "pull",
]  # fmt: skip


def cli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unif2ace_data.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.fixture(scope="module")
def home(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    done = cli("build", "--src", str(examples), "--out", "shards", "--subjects", "adults", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+ inputs: 5 kept, 2 dropped, 0 failed", done.stdout), done.stdout
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = cli(command, "--help")
    assert done.returncode == 0 and "Example:" in done.stdout


def test_an_interrupt_is_told_whatever_c_code_makes_of_it(tmp_path: Path) -> None:
    code = (
        "import signal, unif2ace_data.cli as cli, unif2ace_data.recipe as recipe\n"
        "def importing(*_):\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt: raise ImportError('initialization failed') from None\n"
        "recipe.load_recipe = importing\n"
        "cli.main()"
    )
    command = [sys.executable, "-c", code, "build", "--src", "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr == "unif2ace-data: interrupted; finished work is kept, run the same command to go on\n"


def test_help_is_one_screen_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, unif2ace_data.cli\n"
        "sys.argv = ['unif2ace-data', '--help']\n"
        "try: unif2ace_data.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'insightface', 'pandas', 'pyarrow', 'onnxruntime', 'numpy', 'pydantic', 'rich.markdown'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr
    commands = done.stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in commands] == COMMANDS and not any(line.endswith("...") for line in commands)


@pytest.mark.slow
def test_a_build_needs_no_torch(examples: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"  # importing it is an error now
        "from unif2ace_data.cli import main\n"
        f"sys.argv = ['x', 'build', '--src', {str(examples)!r}, '--out', {str(tmp_path / 's')!r}, '--subjects', 'adults']\n"
        "if __name__ == '__main__': main()"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch" not in (tmp_path / "s" / "recipe.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["build", "--src", "nowhere"], 2, "there is no such file or folder"),
        (["build"], 2, "give --src"),
        (["build", "--src", ".", "--set", "filters.nose=1"], 2, "filters.nose"),
        (["build", "--src", ".", "--pipeline", "no-such"], 2, "no recipe"),
        (["build", "--src", "raw", "--faces", "no-such-pack"], 2, "no face pack"),
        (["build", "--src", ".", "--subjects", "children"], 2, "subjects"),
        (["build", "--src", "no-such-manifest=.", "--out", "o"], 2, "no manifest"),
        (["verify", "raw"], 2, "holds neither index.json nor shards"),
        (["stats", "raw"], 2, "Give the folder that"),
        (["build", "--src", ".", "--set", "filters.yaw.max=.nan"], 2, "finite number"),
        (["build", "--src", ".", "--set", "filter.yaw=null"], 2, "did you mean filters?"),
        (["frobnicate"], 2, "No such command"),
        (["review", "raw"], 2, "either --export N or --import FILE"),
        (["review", "raw", "--export", "5", "--import", "x.json"], 2, "either --export N or --import FILE"),
        (["review", "raw", "--import", "x.json", "--out", "y"], 2, "--out goes with --export"),
        (["review", "raw", "--import", "x.json"], 2, "No such file"),
    ],
)
def test_wrong_use_is_one_clear_message(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "raw").mkdir()
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


ON_A_DATASET = [["verify"], ["stats"], ["report"], ["show", "abc"], ["caption"], ["qa-gen"], ["caption", "--dry-run"]]
ON_A_DATASET += [["review", "--export", "5"]]


@pytest.mark.parametrize("arguments", ON_A_DATASET, ids=" ".join)
def test_a_path_without_a_dataset_is_wrong_usage_in_every_command(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "raw").mkdir()
    for place in ("nowhere", "raw"):
        done = cli(*arguments, "--shards", place, cwd=tmp_path)
        assert done.returncode == 2 and f"no dataset at {place}" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and [p.name for p in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("caption", "filters.yaw=null"),
        ("caption", "qa.per_sample=4"),
        ("caption", "captions.complexion=true"),
        ("qa-gen", "captions.max_chars=200"),
        ("qa-gen", "subjects=adults"),
    ],
)
def test_a_setting_that_a_command_would_not_act_upon_is_refused(home: Path, command: str, setting: str) -> None:
    before = (home / "shards" / "recipe.yaml").read_bytes()
    done = cli(command, "--shards", "shards", "--set", setting, cwd=home)
    assert done.returncode == 2 and f"`{command}` acts upon" in done.stderr and "`unif2ace-data build`" in done.stderr
    assert (home / "shards" / "recipe.yaml").read_bytes() == before


def test_an_output_that_cannot_be_written_is_one_clear_message(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    done = cli("build", "--src", str(examples), "--out", "blocked/shards", cwd=tmp_path)
    assert done.returncode == 1 and "Finished work is kept" in done.stderr and "Traceback" not in done.stderr


def test_an_empty_folder_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    done = cli("build", "--src", "raw", "--out", "shards", cwd=tmp_path)
    assert done.returncode == 1 and "no inputs" in done.stderr


def test_the_summary_is_json_when_asked(home: Path, examples: Path) -> None:
    done = cli("build", "--src", str(examples), "--out", "shards", "--subjects", "adults", "--json", cwd=home)
    summary = json.loads(done.stdout)
    assert summary["counts"] == {"kept": 5, "dropped": 2} and summary["analysed"] == 0
    assert summary["reasons"] == {"border": 1, "no_face": 1}


@pytest.mark.slow
def test_clean_deletes_the_private_folder_and_says_what_is_gone(examples: Path, tmp_path: Path) -> None:
    done = cli("build", "--src", str(examples), "--subjects", "adults", "--clean", "--json", cwd=tmp_path)
    receipt = json.loads(done.stdout)["receipt"]
    assert receipt["face_embeddings"] == 6 and receipt["files"] >= 3 and receipt["model_answers"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["shards"]
    assert cli("verify", cwd=tmp_path).returncode == 0


def test_verify_and_stats_default_to_shards(home: Path) -> None:
    verdict = json.loads(cli("verify", "--json", cwd=home).stdout)
    assert verdict["holds"] and verdict["samples"] == 5
    assert json.loads(cli("stats", "--json", cwd=home).stdout)["kept"] == 5
    assert "5" in cli("stats", cwd=home).stdout


def test_stats_notice_a_shard_that_is_missing_or_cut(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "shards", tmp_path / "shards")
    shard = next((tmp_path / "shards").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-512])
    cut = cli("stats", cwd=tmp_path)
    shard.unlink()
    gone = cli("stats", "--json", cwd=tmp_path)
    assert cut.returncode == gone.returncode == 1 and gone.stdout == ""
    assert f"{shard.name} has" in cut.stderr and f"{shard.name} is missing" in gone.stderr


def test_an_unfinished_build_is_told_from_a_folder_that_is_no_dataset(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "shards", tmp_path / "shards")
    (tmp_path / "shards" / "index.json").unlink()
    assert "`unif2ace-data build`, again to finish" in cli("stats", cwd=tmp_path).stderr


def test_two_datasets_at_once_are_wrong_usage(home: Path) -> None:
    assert cli("verify", "shards", "--shards", "others", cwd=home).returncode == 2


def test_show_finds_a_sample_by_the_beginning_of_its_key(home: Path) -> None:
    import pyarrow.parquet as pq

    key = pq.read_table(next((home / "shards" / "ledger").glob("*.parquet"))).column("key")[0].as_py()
    done = cli("show", key[:8], "--shards", "shards", cwd=home)
    assert done.returncode == 0 and key[:24] in done.stdout
    assert json.loads(cli("show", key, "--shards", "shards", "--json", cwd=home).stdout)["uid"] == key
    assert cli("show", "zzz", "--shards", "shards", cwd=home).returncode == 1


@pytest.mark.slow
def test_report_writes_the_private_page_beside_the_work(home: Path) -> None:
    done = cli("report", "shards", cwd=home)
    page = home / done.stdout.strip()
    assert done.returncode == 0 and page.parent.name == "shards.work"
    text = page.read_text()
    assert len(text) < 20_000_000 and "no_face" in text
    public = (home / "shards" / "report.html").read_text()
    assert len(public) < len(text), "thumbnails of what was dropped stay private"
    for inside in ("shards/report.html", "shards/private.html", str(home / "shards" / "x" / "report.html")):
        refused = cli("report", "shards", "--out", inside, cwd=home)
        assert refused.returncode == 2 and "which travels" in refused.stderr
    assert (home / "shards" / "report.html").read_text() == public
    assert cli("verify", "shards", cwd=home).returncode == 0


def test_doctor_says_what_works(home: Path) -> None:
    done = cli("doctor", "--json", cwd=home)
    states = {check["name"]: check["state"] for check in json.loads(done.stdout)}
    assert done.returncode == 0
    assert states["embedded weights"] == states["faces: embedded"] == states["insightface"] == "ok"
    assert cli("doctor", "--faces", "no-such-pack", cwd=home).returncode == 1
