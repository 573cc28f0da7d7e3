"""The journal keeps every answer by what decided it, through kills."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.llm import journal as journal_module
from unif2ace_data.llm.engine import Answer, Request, folder_revision, keyed_model
from unif2ace_data.llm.journal import Journal

REQUEST = Request("draft", "system", "user", 64, 0.2, 0, image=b"jpeg", schema={"type": "object"})
ANSWER = Answer("text", "stop", 10, 5, 0.5)


def test_an_answer_is_found_by_what_decided_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    key = REQUEST.key("model", "r1")
    assert journal.get(key) is None
    journal.put(key, "draft", "model", ANSWER)
    assert journal.get(key) == ANSWER


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, image=b"other"), replace(REQUEST, image=None), replace(REQUEST, system="s"),
        replace(REQUEST, user="u"), replace(REQUEST, schema=None), replace(REQUEST, max_tokens=65),
        replace(REQUEST, temperature=0.3), replace(REQUEST, seed=1),
    ],
)  # fmt: skip
def test_whatever_decides_an_answer_changes_the_key(other: Request) -> None:
    assert other.key("model", "r1") != REQUEST.key("model", "r1")


def test_model_and_revision_change_the_key_and_the_stage_does_not() -> None:
    keys = {REQUEST.key(model, revision) for model in ("a", "b") for revision in ("1", "2")}
    assert len(keys) == 4
    assert replace(REQUEST, stage="refine").key("a", "1") == REQUEST.key("a", "1")


def test_the_first_answer_to_a_request_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.put("k", "draft", "model", ANSWER)
    journal.put("k", "draft", "model", replace(ANSWER, text="later"))
    found = journal.get("k")
    assert found is not None and found.text == "text"


def test_answers_survive_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom unif2ace_data.llm.engine import Answer\n"
        "from unif2ace_data.llm.journal import Journal\njournal = Journal(Path(sys.argv[1]))\n"
        "for i in range(500):\n    journal.put(str(i), 'draft', 'm', Answer(str(i), 'stop', 1, 1, 0.0))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -9
    journal = Journal(path)
    assert all((found := journal.get(str(i))) is not None and found.text == str(i) for i in range(500))


def test_another_file_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UserError, match=r"journal\.sqlite is damaged \(file is not a database\): move it away and run"):
        Journal(tmp_path / "journal.sqlite")


@pytest.fixture
def journal_of_60(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    for number in range(60):
        text = f"sentence {number} of an answer that takes more than one page. " * 100
        journal.put(f"{number:064d}", "draft", "model", replace(ANSWER, text=text), f"sample{number}")
    journal.close()
    return path


@pytest.mark.parametrize(
    "use",
    [
        lambda journal: [journal.get(f"{number:064d}") for number in range(60)],
        lambda journal: [journal.put(f"{n:064d}", "draft", "model", ANSWER, f"new{n}") for n in range(100, 400)],
        lambda journal: journal.forget([f"sample{number}" for number in range(60)]),
        lambda journal: journal.means("model"),
        lambda journal: journal.of_nobody(),
    ],
    ids=["get", "put", "forget", "means", "of_nobody"],
)
def test_damaged_pages_are_told_whatever_is_done_with_the_journal(
    journal_of_60: Path, use: Callable[[Journal], object]
) -> None:
    whole = journal_of_60.read_bytes()
    journal_of_60.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))  # the first page: which tables there are
    journal = Journal(journal_of_60)
    with pytest.raises(UserError, match=rf"{journal_of_60} is damaged \(.*malformed\): move it away and run again"):
        use(journal)
    journal.close()


def test_a_damaged_text_is_told_and_not_repeated(journal_of_60: Path) -> None:
    whole = journal_of_60.read_bytes()
    assert b"sentence 7 of" in whole
    journal_of_60.write_bytes(whole.replace(b"sentence 7 of", b"sentence \xff of"))
    journal = Journal(journal_of_60)
    assert journal.get(f"{6:064d}") is not None
    with pytest.raises(UserError, match=r"journal\.sqlite is damaged \(a text in it is not UTF-8\): move it"):
        journal.get(f"{7:064d}")
    journal.close()


def test_a_journal_that_another_run_holds_is_not_taken_for_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("pragma locking_mode=exclusive")
    other.execute("begin exclusive")
    monkeypatch.setattr(journal_module, "BUSY_S", 0.1)
    with pytest.raises(UserError, match=r"journal\.sqlite: database is locked: end other runs"):
        Journal(path)
    other.close()


def test_a_model_folder_is_known_by_its_name_and_content_wherever_it_lies(tmp_path: Path) -> None:
    keys = []
    for place in ("here", "there"):
        folder = tmp_path / place / "tiny-vlm"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        keys.append((keyed_model(str(folder)), folder_revision(str(folder))))
    assert keys[0] == keys[1] and keys[0][0] == "tiny-vlm" and keys[0][1]
    assert keyed_model("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_means_tell_what_a_stage_costs(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.put("a", "draft", "model", Answer("", "stop", 100, 10, 1.0))
    journal.put("b", "draft", "model", Answer("", "stop", 200, 30, 3.0))
    journal.put("c", "draft", "another", Answer("", "stop", 900, 900, 9.0))
    assert journal.means("model") == {"draft": (2, 150, 20, 2.0)}


def test_answers_about_a_sample_are_forgotten_and_older_journals_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    old = sqlite3.connect(path)
    old.execute(
        "create table answers (key text primary key, stage text not null, model text not null, text text not null, finish "
        "text not null, prompt_tokens integer not null, completion_tokens integer not null, seconds real not null)"
    )
    old.execute("insert into answers values ('old', 'draft', 'm', 'said before', 'stop', 1, 1, 0.0)")
    old.commit()
    old.close()
    journal = Journal(path)
    journal.put("a", "draft", "m", ANSWER, "sample")
    journal.put("b", "refine", "m", ANSWER, "sample")
    journal.put("c", "draft", "m", ANSWER, "another")
    assert (journal.forget(["sample", "nobody"]), journal.of_nobody()) == (2, 1)
    assert journal.get("a") is None and journal.get("c") == ANSWER
    known = journal.get("old")
    assert known is not None and known.text == "said before"
