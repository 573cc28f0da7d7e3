"""The whole road with the real vLLM on real photographs: build, caption, qa-gen, through the server and in one process."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from recording_proxy import Fault, RecordingProxy
from vllm_server import MODEL, Server, cpu_environment

from unif2ace_data.captions.vlm import prose_of
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Request
from unif2ace_data.llm.journal import Journal, answers_in
from unif2ace_data.llm.openai_server import OpenAIServer
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.llm.structured import object_of, prose
from unif2ace_data.recipe import Llm
from unif2ace_data.schema import Sample
from unif2ace_data.shards import read_index, read_samples
from unif2ace_data.verify import verify

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).parent / "unif2ace-data"
KILL_AT = Path(__file__).resolve().parent.parent / "run" / "kill_at.py"
DISTINCT = ["--subjects", "adults", "--set", "duplicates.perceptual=null", "--set", "duplicates.near_identical=false"]
# A random model never ends a text of its own accord, so texts are short. It writes words of the taxonomy at random: now and
# then nothing is left of a caption when what the evidence contradicts is cut. That row fails, as it should.
SAMPLED = ["--set", "llm.temperature=1.0", "--set", "llm.image_side=224", "--set", "alarm.max_failed=1"]
SHORT = [*SAMPLED, "--set", "captions.max_chars=100"]
NOTHING_LEFT = "nothing is left of it"


@pytest.fixture(scope="module")
def raw(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("road") / "raw"
    folder.mkdir()
    for path in sorted(photos.iterdir())[:8]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def grounded(raw: Path) -> Iterator[Path]:
    """A dataset with grounded captions. Copy before changing."""
    out = raw.parent / "grounded" / "shards"
    run("build", "--src", raw, "--out", out, *DISTINCT)
    yield out.parent


def run(*arguments: str | Path, program: Path = PROGRAM, env: dict[str, str] | None = None, code: int = 0) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env=os.environ | (env or {}))
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def through(url: str, settings: list[str] = SHORT) -> list[str]:
    return ["--model", MODEL, "--base-url", url, "--set", "llm.wait_s=120", "--set", "llm.timeout_s=60", *settings]


def samples(out: Path) -> list[Sample]:
    return [
        Sample.model_validate_json(files["json"])
        for shard in read_index(out)["shards"]
        for _, files in read_samples(out / shard["name"])
    ]


def assert_complete(out: Path, count: int, engine: str) -> None:
    """Every record whole, every caption the model's, every question checked."""
    assert verify(out).problems == []
    found = samples(out)
    assert len(found) == count >= 4
    for sample in found:
        assert sample.captioner.engine == engine and len(sample.caption) >= 20
        assert all(claim.verdict != "contradicted" for claim in sample.claims)
        assert len(sample.qa) == 8
        assert all("fail" not in qa.checks.model_dump().values() for qa in sample.qa)


def tree(out: Path) -> dict[str, str]:
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in out.rglob("*") if p.is_file()}


def test_the_road_through_the_server(raw: Path, proxy: RecordingProxy, tmp_path: Path) -> None:
    out, url = tmp_path / "shards", proxy.base_url
    summary = orjson.loads(
        run("build", "--src", raw, "--out", out, *DISTINCT, "--captioner", "openai", *through(url), "--json")
    )
    kept, failed = summary["counts"]["kept"], summary["asked"]["failed"]
    assert kept + len(failed) == 8 and all(NOTHING_LEFT in why for why in failed.values())
    run(
        "caption",
        out,
        "--captioner",
        "openai",
        *through(url),
        "--set",
        "llm.seed=100",
        "--set",
        "captions.recheck=true",
    )
    run("qa-gen", out, "--engine", "openai", *through(url, SAMPLED), "--jsonl", tmp_path / "questions.jsonl")
    assert_complete(out, kept, "openai")
    assert len((tmp_path / "questions.jsonl").read_text().splitlines()) == 8 * kept
    assert proxy.repeated() == [] and {r.status for r in proxy.posts} == {200}
    stages = Counter(r.json()["response_format"]["json_schema"]["name"] for r in proxy.posts)
    assert stages["draft"] >= 2 * kept and stages["refine"] >= 2 * kept and stages["qa"] >= kept
    before, root = len(proxy.posts), read_index(out)["root_sha256"]
    run("qa-gen", out, "--engine", "openai", *through(url, SAMPLED))
    assert len(proxy.posts) == before and read_index(out)["root_sha256"] == root


def test_the_road_in_one_process(raw: Path, vllm_python: Path, tiny_vlm: Path, tmp_path: Path) -> None:
    program = vllm_python.parent / "unif2ace-data"
    out = tmp_path / "shards"
    sizes = {"enforce_eager": True, "max_model_len": 16384, "max_num_seqs": 16, "kv_cache_memory_bytes": 64 << 20}
    model = ["--model", tiny_vlm, "--set", f"llm.engine_args={orjson.dumps(sizes | {'dtype': 'bfloat16'}).decode()}"]
    engine = [*model, *SHORT]
    env = cpu_environment()
    built = run(
        "build",
        "--src",
        raw,
        "--out",
        out,
        *DISTINCT,
        "--captioner",
        "vllm",
        *engine,
        "--json",
        program=program,
        env=env,
    )
    kept = orjson.loads(built[built.index("{\n") :])["counts"]["kept"]
    run("caption", out, "--captioner", "vllm", *engine, "--set", "llm.seed=100", program=program, env=env)
    run("qa-gen", out, "--engine", "vllm", *model, *SAMPLED, program=program, env=env)
    assert_complete(out, kept, "vllm")
    assert {s.captioner.model for s in samples(out)} == {tiny_vlm.name}  # no path of this machine
    again = run(
        "qa-gen", out, "--engine", "vllm", *model, *SAMPLED, "--json", program=program, env=env
    )  # all journalled: no engine is loaded
    accounts = orjson.loads(again[again.index("{\n") :])["work"]["accounts"]
    assert sum(a["asked"] for a in accounts.values()) == 0


def test_an_engine_that_dies_in_this_process_ends_the_run_and_keeps_what_arrived(
    grounded: Path, vllm_python: Path, tiny_vlm: Path, tmp_path: Path
) -> None:
    shutil.copytree(grounded, tmp_path, dirs_exist_ok=True)
    out, before = tmp_path / "shards", tree(tmp_path / "shards")
    sizes = {"enforce_eager": True, "max_model_len": 16384, "max_num_seqs": 2, "kv_cache_memory_bytes": 64 << 20}
    engine = f"llm.engine_args={orjson.dumps(sizes | {'dtype': 'bfloat16'}).decode()}"
    command = [vllm_python.parent / "unif2ace-data", "caption", out, "--captioner", "vllm", "--model", tiny_vlm, *SHORT]
    running = subprocess.Popen(
        [*command, "--set", engine, "--set", "llm.in_flight=2"],
        stderr=subprocess.PIPE,
        env=os.environ | cpu_environment() | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
    )
    journal = tmp_path / "shards.work" / "journal.sqlite"
    deadline = time.monotonic() + 180
    while not (journal.is_file() and answers_in(journal) >= 2) and time.monotonic() < deadline:
        assert running.poll() is None, running.communicate()[1][-3000:]
        time.sleep(0.02)
    arrived = answers_in(journal)
    engines = [p for p in psutil.Process(running.pid).children(recursive=True) if "EngineCore" in " ".join(p.cmdline())]
    for process in engines or [running]:
        process.kill()
    try:
        said = running.communicate(timeout=120)[1].decode()
    finally:
        running.kill()  # one that waits for ever is to fail this test, not to outlive it
    assert running.returncode == 1, said[-3000:]
    ours = [line for line in said.splitlines() if line.startswith("unif2ace-data:")]
    assert len(ours) == 1 and "the vLLM engine in this process died" in ours[0] and "run the same command" in ours[0]
    assert answers_in(journal) >= arrived >= 2 and tree(out) == before


def test_a_server_killed_in_mid_run_and_started_again(grounded: Path, tiny_vlm: Path, tmp_path: Path) -> None:
    shutil.copytree(grounded, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "shards"
    with Server() as server, RecordingProxy("") as proxy:
        server.start(tiny_vlm)
        server.wait_ready()
        proxy.target, port = server.base_url, server.port
        running = subprocess.Popen(
            [
                PROGRAM,
                "caption",
                out,
                "--captioner",
                "openai",
                *through(proxy.base_url),
                "--set",
                "llm.in_flight=4",
                "--json",
            ],
            stdout=subprocess.PIPE,
        )
        for count in (6, 14):
            deadline = time.monotonic() + 60
            while sum(r.answered for r in proxy.posts) < count and time.monotonic() < deadline:
                time.sleep(0.02)
            server.kill()
            server.start(tiny_vlm, port)
            server.wait_ready()
        report = orjson.loads(running.communicate(timeout=120)[0])
    assert running.returncode == 0
    assert report["rows"] == len(samples(out)) and all(
        NOTHING_LEFT in why for why in report["failed"].values()
    )  # zero lost
    engines = Counter(s.captioner.engine for s in samples(out))
    assert engines["openai"] == report["rows"] - len(report["failed"]) >= 4
    assert proxy.repeated() == []  # zero repeated
    assert any(not r.answered for r in proxy.posts)


def test_refused_hung_and_broken_answers_cost_one_row_each(
    grounded: Path, proxy: RecordingProxy, tmp_path: Path
) -> None:
    shutil.copytree(grounded, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "shards"
    drafts: list[str] = []

    def rule(body: dict[str, Any]) -> Fault | None:
        if body["response_format"]["json_schema"]["name"] != "draft":
            return None
        image = body["messages"][1]["content"][0]["image_url"]["url"]
        if image not in drafts:
            drafts.append(image)
        return {0: Fault("refuse", status=400), 1: Fault("hang", seconds=60)}.get(drafts.index(image))

    proxy.rule = rule
    proxy.inject(
        Fault("refuse", status=429, headers={"Retry-After": "0.1"}),
        Fault("garble"),
        Fault("lose"),
        Fault("refuse", status=500),
    )
    report = orjson.loads(
        run(
            "caption", out, "--captioner", "openai", *through(proxy.base_url), "--json",
            "--set", "llm.timeout_s=15", "--set", "llm.attempts=2",
        )
    )  # fmt: skip
    reasons = sorted(why for why in report["failed"].values() if NOTHING_LEFT not in why)
    assert len(reasons) == 2 and "no answer within 15 s" in reasons[0] and "400" in reasons[1], reasons
    engines = Counter(s.captioner.engine for s in samples(out))
    assert engines["grounded"] == len(report["failed"]) and verify(out).problems == []


def test_an_answer_that_is_cut_off_is_asked_for_with_other_seeds_then_given_up(
    proxy: RecordingProxy, tmp_path: Path
) -> None:
    settings = Llm(model=MODEL, base_url=proxy.base_url, attempts=3)
    request = Request("draft", "You describe.", "Describe it.", 4, 1.0, 0, schema=object_of(caption=prose(200)))
    results: list[Any] = []
    journal = Journal(tmp_path / "journal.sqlite")

    async def work(room: EngineRoom, item: Request) -> str:
        return await room.ask(item, prose_of)

    for _ in range(2):
        run_rows(
            EngineRoom(OpenAIServer(settings), journal, settings),
            [request],
            work,
            lambda i, r: results.append(r),
        )
    assert all(isinstance(r, AnswerFailed) and "cut off at 4 tokens" in str(r) for r in results)
    assert [r.json()["seed"] for r in proxy.posts] == [0, 1, 2]  # the second run asks for nothing again


def test_qa_gen_killed_ten_times_gives_the_bytes_of_an_uninterrupted_run(
    grounded: Path, proxy: RecordingProxy, tmp_path: Path
) -> None:
    proxy.alike = True
    arguments = ["qa-gen", "--engine", "openai", *through(proxy.base_url, SAMPLED), "--set", "llm.in_flight=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        shutil.copytree(grounded, folder)
    run(arguments[0], whole / "shards", *arguments[1:])
    first = {r.sha256 for r in proxy.posts}
    old = {n: h for n, h in tree(killed / "shards").items() if n.endswith(".tar")}
    proxy.forget()
    places = [("answer", count) for count in (1, 2, 1, 1, 1, 1)]
    places += [("shard", 2), ("decided", 1), ("rename", 3), ("index", 1)]
    journalled: set[str] = set()
    for point, count in places:
        command = [sys.executable, KILL_AT, point, str(count), "--", arguments[0], killed / "shards", *arguments[1:]]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, (point, ended.stdout[-500:], ended.stderr[-500:])
        if point in ("answer", "shard", "decided"):  # nothing is exchanged yet: the old shards are whole
            assert {n: h for n, h in tree(killed / "shards").items() if n.endswith(".tar")} == old
        journalled = {r.sha256 for r in proxy.posts if r.answered}
    run(arguments[0], killed / "shards", *arguments[1:])
    assert tree(killed / "shards") == tree(whole / "shards")
    assert verify(killed / "shards").problems == []
    answers = Counter(r.sha256 for r in proxy.posts if r.answered)
    assert answers.keys() == first == journalled
    # An answer may be on the wire when the process dies, with two in flight at most one a kill; what was journalled is never
    # asked for again.
    assert sum(answers.values()) - len(answers) <= 6


def test_with_one_request_in_flight_nothing_at_all_is_repeated(
    grounded: Path, proxy: RecordingProxy, tmp_path: Path
) -> None:
    shutil.copytree(grounded, tmp_path, dirs_exist_ok=True)
    arguments = [
        "qa-gen",
        tmp_path / "shards",
        "--engine",
        "openai",
        *through(proxy.base_url, SAMPLED),
        "--set",
        "llm.in_flight=1",
    ]
    for count in (1, 1, 2, 1, 1):
        command = [sys.executable, KILL_AT, "answer", str(count), "--", *arguments]
        assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    run(*arguments)
    assert proxy.repeated() == [] and all(r.answered for r in proxy.posts)
