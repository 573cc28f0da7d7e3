"""The judge behind a server: what it is asked, what its marks come to, and what it spoils."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))
from scripted_server import Reply, ScriptedServer, completion

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Llm
from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.evaluate import Wanted, evaluate
from unif2ace_model.generation import Sampling
from unif2ace_model.judge import VQA_CONTROL, conv_cases, desc_cases, judge, mark_of, vqa_cases, yes_of

Start = Callable[[Callable[[dict[str, Any], int], Reply]], ScriptedServer]
BOOTSTRAP = Bootstrap([0, 1, 2])


@pytest.fixture
def serve() -> Iterator[Start]:
    servers: list[ScriptedServer] = []

    def start(reply: Callable[[dict[str, Any], int], Reply]) -> ScriptedServer:
        servers.append(ScriptedServer(reply, "judge").start())
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def llm(server: ScriptedServer) -> Llm:
    return Llm(model="judge", base_url=server.base_url, temperature=0, attempts=2, wait_s=5)


def words(body: dict[str, Any]) -> str:
    return str(body["messages"][1]["content"][-1]["text"])


def sensible(body: dict[str, Any], number: int) -> Reply:
    """10 for a candidate that is the reference, 2 for any other; yes to what is asked about eyeglasses."""
    said = words(body)
    if "answers" in body["response_format"]["json_schema"]["schema"]["properties"]:
        answers = ["yes" if "eyeglasses" in line else "no" for line in said.splitlines()]
        return completion(orjson.dumps({"answers": answers}).decode())
    same = all(right == given for right, given in re.findall(r"(?:Reference|Right): (.*)\n+Candidate: (.*)", said))
    return completion(orjson.dumps({"score": "10" if same else "2"}).decode())


def test_marks_are_means_over_samples(serve: Start, tmp_path: Path) -> None:
    stored = ["A man with a beard.", "A woman with a hat.", "A man who smiles."]
    turns = [
        (0, "Hat?", "yes", "yes"),
        (0, "Beard?", "no", "yes"),
        (1, "How is the mouth?", "It is open.", "It is open."),
    ]
    cases = desc_cases([stored[0], stored[1], "A dog."], stored) + conv_cases(turns)
    server = serve(sensible)
    report = judge(cases, llm(server), tmp_path / "journal.sqlite", BOOTSTRAP, quiet=True)
    assert report["model"] == "judge"
    assert report["desc"]["cases"] == 3
    assert report["desc"]["score"]["value"] == pytest.approx(22 / 3, abs=1e-5)
    assert report["conv"]["cases"] == 2  # one request a sample
    assert report["conv"]["score"]["value"] == 6
    assert report["failed"] == {}
    assert all("image_url" not in str(body) for body in server.bodies)


def test_pictures_are_asked_about_claim_by_claim(serve: Start, tmp_path: Path) -> None:
    claims = [
        [("glasses", "eyeglasses", False), ("mouth", "closed", False), ("hair_color", "black", True)],
        [("facial_hair", "none", False)],
        [("glasses", "eyeglasses", False)],
    ]
    cases = vqa_cases([b"jpeg"] * 3, claims)
    assert [(case.sample, case.questions) for case in cases] == [(0, 2), (2, 1)]
    cases += vqa_cases([b"jpeg"], [[("mouth", "open", False)]], VQA_CONTROL)
    server = serve(sensible)
    report = judge(cases, llm(server), tmp_path / "journal.sqlite", BOOTSTRAP, quiet=True)
    assert report["vqa"]["score"]["value"] == pytest.approx(2 / 3, abs=1e-5)
    assert report["vqa_exchanged"]["score"]["value"] == 0
    assert all("image_url" in str(body) for body in server.bodies)


def test_nothing_is_asked_twice(serve: Start, tmp_path: Path) -> None:
    server = serve(sensible)
    cases = desc_cases(["a", "b"], ["a", "c"])
    first = judge(cases, llm(server), tmp_path / "journal.sqlite", BOOTSTRAP, quiet=True)
    assert judge(cases, llm(server), tmp_path / "journal.sqlite", BOOTSTRAP, quiet=True) == first
    assert len(server.bodies) == 2


def test_what_gets_no_usable_answer_is_counted_and_left_out(serve: Start, tmp_path: Path) -> None:
    def odd(body: dict[str, Any], number: int) -> Reply:
        return completion('{"score": "11"}') if "bad" in words(body) else sensible(body, number)

    report = judge(
        desc_cases(["a", "bad"], ["a", "c"]), llm(serve(odd)), tmp_path / "journal.sqlite", BOOTSTRAP, quiet=True
    )
    assert report["failed"] == {"desc": 1}
    assert report["desc"] == {"cases": 1, "score": {"value": 10.0, "low": None, "high": None}}
    with pytest.raises(UserError, match=r"no usable answer to any of 1 requests.*no mark from 1 to 10 but '11'"):
        judge(desc_cases(["bad"], ["c"]), llm(serve(odd)), tmp_path / "other.sqlite", BOOTSTRAP, quiet=True)


def test_a_server_that_does_not_know_the_model_is_an_error(serve: Start, tmp_path: Path) -> None:
    settings = llm(serve(sensible)).model_copy(update={"model": "other"})
    with pytest.raises(UserError, match="does not serve 'other'"):
        judge(desc_cases(["a"], ["a"]), settings, tmp_path / "journal.sqlite", BOOTSTRAP, quiet=True)


def test_an_evaluation_is_judged_in_all_its_parts(serve: Start, people: Path, trained_run: Path) -> None:
    server = serve(sensible)
    wanted = Wanted("train", ("qa", "captions", "generation"), 3, Sampling("maskgit", 2), judge=llm(server))
    report = evaluate(trained_run, people, wanted, quiet=True)
    judged = report["judge"]
    assert judged["desc"]["cases"] == judged["conv"]["cases"] == judged["vqa"]["cases"] == 3
    assert all(1 <= judged[stage]["score"]["value"] <= 10 for stage in ("desc", "conv"))
    stored = report["captions"]["examples"][0]["stored"]
    assert any(stored in words(body) for body in server.bodies)
    assert len(server.bodies) == 3 * 4 - (0 if "vqa_exchanged" in judged else 3)


@pytest.mark.parametrize("text", ["", "7", '{"score": 0}', '{"score": "11"}', '{"score": "seven"}', '{"mark": 7}'])
def test_what_is_no_mark(text: str) -> None:
    with pytest.raises(ValueError):
        mark_of(text)


def test_marks_and_answers_are_read() -> None:
    assert mark_of('{"score": "7"}') == mark_of('```json\n{"score": 7}\n```') == 7
    assert yes_of('{"answers": ["yes", "No", "YES"]}', 3) == 2
    with pytest.raises(ValueError):
        yes_of('{"answers": ["yes"]}', 2)
