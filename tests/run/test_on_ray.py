"""The Ray executor: the same bytes as the local one, and a node that is lost costs what it had in flight, nothing else.

The clusters are real: raylets of their own on the loopback, as `ray start` would run them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from photographs import write_photos
from ray.cluster_utils import Cluster
from test_resume import SETTINGS, tree

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "llm"))
from fluent_model import fluent
from scripted_server import ScriptedServer

from unif2ace_data.errors import UserError
from unif2ace_data.resources import PACKAGE, resource
from unif2ace_data.run import captioning
from unif2ace_data.run import qa_gen as questions
from unif2ace_data.run.environment import OWN_FILES, environment
from unif2ace_data.run.executor import Executor
from unif2ace_data.run.on_ray import cluster, map_chunks
from unif2ace_data.run.private import recipe_at
from unif2ace_data.run.recaption import recaption
from unif2ace_data.verify import verify

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Any]]:
    """A head and a second node, of a core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, sys.path))
    )  # the nodes find the functions of this file
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = found.add_node(num_cpus=1)
    found.wait_for_nodes()
    yield found, second
    found.shutdown()


def build(raw: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unif2ace_data.cli", "build", "--src", str(raw), "--out", str(out), *SETTINGS]
    return subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    log = out.with_name(f"{out.name}.work") / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_node_killed_in_mid_run_costs_what_it_had_in_flight(tmp_path: Path, nodes: tuple[Cluster, Any]) -> None:
    many = write_photos(tmp_path / "raw", 80)
    local = build(many, tmp_path / "local")
    assert local.wait() == 0, local.stderr
    out = tmp_path / "shards"
    running = build(many, out, "--executor", "ray", "--address", nodes[0].address)
    while not events(out, "analysed") and running.poll() is None:
        time.sleep(0.05)
    nodes[0].remove_node(nodes[1], allow_graceful=False)
    done_before = len(events(out, "analysed"))
    said = running.communicate()[1]
    assert running.returncode == 0, said
    assert tree(out) == tree(tmp_path / "local")
    done = [source for event in events(out, "analysed") for source in event["sources"]]
    assert 0 < done_before < len(events(out, "analysed")), "the node was not lost in mid-run"
    assert len(done) == len(set(done)) == 80, "a stored result was made again"


def test_an_input_that_kills_its_worker_is_given_up_alone(nodes: tuple[Cluster, Any]) -> None:
    with cluster(nodes[0].address) as cores:
        assert cores == 2
        results = [pair for chunk in map_chunks(dying_at_seven, range(20), cores, gave_up) for pair in chunk]
        assert sorted(results) == [(i, "died" if i == 7 else "done") for i in range(20)]
        with pytest.raises(UserError, match="no weights") as told:
            list(map_chunks(without_weights, range(20), cores, gave_up))
        assert told.value.exit_code == 2


def test_a_node_that_cannot_load_the_work_is_told(nodes: tuple[Cluster, Any]) -> None:
    module = ModuleType("only_here")
    exec("def work(chunk):\n    return chunk", module.__dict__)
    sys.modules["only_here"] = module
    try:
        with (
            cluster(nodes[0].address),
            pytest.raises(UserError, match=r"No module named 'only_here'.*every node needs"),
        ):
            list(map_chunks(module.work, range(4), 1, gave_up))
    finally:
        del sys.modules["only_here"]


def test_a_node_with_another_copy_of_this_package_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    for folder in (PACKAGE, resource("manifests"), resource("pipelines")):
        shutil.copytree(folder, other / folder.name, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    with (other / "unif2ace_data" / "captions" / "phrases.yaml").open("a") as file:
        file.write("# another\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.chdir(tmp_path)  # workers find modules in the driver's folder first
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        found.add_node(num_cpus=1, env_vars={"PYTHONPATH": os.pathsep.join([str(other), os.environ["PYTHONPATH"]])})
        found.wait_for_nodes()
        with cluster(found.address), pytest.raises(UserError) as told:
            list(map_chunks(without_weights, range(4), 1, gave_up))
    finally:
        found.shutdown()
    assert re.search(r"the Ray node [0-9.]+ has other software than the driver", told.value.message)
    here, there = (re.search(rf"([0-9a-f]{{12}}) {where}", told.value.message) for where in ("here", "there"))
    assert here and there and here[1] == environment()[OWN_FILES].split()[-1] != there[1]


def dying_at_seven(chunk: list[int]) -> list[tuple[int, str]]:
    if 7 in chunk:
        os.abort()
    return [(i, "done") for i in chunk]


def without_weights(chunk: list[int]) -> list[tuple[int, str]]:
    raise UserError("no weights", 2)


def gave_up(item: int, why: str) -> tuple[int, str]:
    return item, "died"


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, photos: Path) -> None:
    refused = build(photos, tmp_path / "shards", "--executor", "ray", "--address", "127.0.0.1:1")
    said = refused.communicate(timeout=180)[1]
    assert refused.returncode == 1 and "Traceback" not in said
    assert "--address 127.0.0.1:1: no Ray cluster answers" in said


def test_the_end_of_the_drivers_own_raylet_is_told_and_the_run_goes_on_with_the_same_command(tmp_path: Path) -> None:
    many = write_photos(tmp_path / "raw", 40)
    local = build(many, tmp_path / "local")
    assert local.wait() == 0, local.stderr
    out = tmp_path / "shards"
    running = build(many, out, "--executor", "ray")
    while not events(out, "analysed") and running.poll() is None:
        time.sleep(0.05)
    mine = psutil.Process(running.pid).children(recursive=True)
    os.kill(next(process.pid for process in mine if process.name().startswith("raylet")), signal.SIGKILL)
    said = running.communicate(timeout=60)[1]
    for left in mine:  # what Ray started here goes by itself, within a minute
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    assert running.returncode == 1
    lines = [line for line in said.splitlines() if "raylet" in line]
    assert len(lines) == 1 and "has died" in lines[0] and "run the same command to go on" in lines[0], said
    assert "state-dump" not in said
    again = build(many, out, "--executor", "ray")
    assert again.wait() == 0, again.stderr
    assert tree(out) == tree(tmp_path / "local")


class Killing:
    """Ray's map_chunks that kills the second node when `after` chunks have come. `chunks`: how many came in all."""

    def __init__(self, nodes: tuple[Cluster, Any], after: int) -> None:
        self.nodes, self.after, self.chunks = nodes, after, 0

    def __call__(
        self, function: Any, items: Any, workers: int, gave_up: Any, size: int
    ) -> Generator[list[Any], None, None]:
        with closing(map_chunks(function, items, workers, gave_up, size)) as results:
            for chunk in results:
                self.chunks += 1
                if self.chunks == self.after:
                    self.nodes[0].remove_node(self.nodes[1], allow_graceful=False)
                yield chunk


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path]:
    """A dataset of many small shards, twice."""
    raw = write_photos(tmp_path / "raw", 40)
    assert build(raw, tmp_path / "one" / "shards", "--set", "shards.prefix_digits=1").wait() == 0
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    return tmp_path / "one" / "shards", tmp_path / "two" / "shards"


def test_questions_are_the_same_where_a_node_is_killed_in_mid_run(
    twins: tuple[Path, Path], nodes: tuple[Cluster, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "SAMPLES", 1)
    here, there = twins
    questions.qa_gen(here, recipe_at(here), quiet=True)
    killing = Killing(nodes, 12)
    with cluster(nodes[0].address) as cores:
        done = questions.qa_gen(there, recipe_at(there), quiet=True, on=Executor(cores, killing, "ray"))
    assert done.samples < killing.chunks, "the shards were not written on the cluster"
    assert tree(there) == tree(here) and verify(there).problems == []


def test_captions_are_the_same_where_a_node_is_killed_in_mid_run(
    twins: tuple[Path, Path], nodes: tuple[Cluster, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioning, "CROPS", 1)
    here, there = twins
    servers = [ScriptedServer(fluent).start() for _ in range(3)]
    model = ["captions.engine=openai", "captions.max_chars=400", "llm.model=tiny-vlm", "llm.image_side=100"]

    def asking(out: Path, *fleet: ScriptedServer) -> Any:
        return recipe_at(out, [*model, f"llm.base_url={json.dumps([server.base_url for server in fleet])}"])

    try:
        recaption(here, asking(here, servers[0]), quiet=True)
        killing = Killing(nodes, 12)
        with cluster(nodes[0].address) as cores:
            report, _ = recaption(there, asking(there, *servers[1:]), True, Executor(cores, killing, "ray"))
        assert report.failed == {} and report.rows < killing.chunks
        assert all(server.bodies for server in servers)
    finally:
        for server in servers:
            server.close()
    assert tree(there) == tree(here) and verify(there).problems == []


@pytest.mark.parametrize("command", [["qa-gen"], ["caption", "--captioner", "grounded"]])
def test_the_commands_take_the_cluster(
    twins: tuple[Path, Path], nodes: tuple[Cluster, Any], command: list[str]
) -> None:
    program = [sys.executable, "-m", "unif2ace_data.cli", *command, "--shards"]
    here, there = twins
    assert subprocess.run([*program, str(here), "--workers", "1"], timeout=600).returncode == 0
    on_ray = ["--executor", "ray", "--address", nodes[0].address]
    assert subprocess.run([*program, str(there), *on_ray], timeout=600).returncode == 0
    assert tree(there) == tree(here)
