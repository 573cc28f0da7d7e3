"""What the Ray executor says and does where Ray fails: a scripted Ray, since real losses take their time to be had."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectFetchTimedOutError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    OwnerDiedError,
    RayError,
    RaySystemError,
    RayTaskError,
    ReferenceCountingAssertionError,
    WorkerCrashedError,
)

from unif2ace_data.errors import UserError
from unif2ace_data.run import on_ray
from unif2ace_data.run.environment import environment
from unif2ace_data.run.local import DIED_TWICE
from unif2ace_data.run.on_ray import Work, cluster, ending_with_raylet, map_chunks, reach, run_chunk

REFERENCE = "00" * 28


@dataclass(eq=False)
class Task:
    """A run of `function(work, chunk)` to come: of this chunk the `number`-th."""

    function: Callable[..., Any]
    work: Work
    chunk: list[int]
    number: int


class ScriptedRay:
    """Runs tasks in this process, in order. `fails(chunk, number)`: what the number-th run of a chunk ends with, or None."""

    def __init__(self, fails: Callable[[list[int], int], RayError | None]) -> None:
        self.fails = fails
        self.runs: list[list[int]] = []
        self.util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.7")

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Callable[..., Any]:
        def begun(function: Any, work: Work, chunk: list[int]) -> Task:
            self.runs.append(chunk)
            return Task(function, work, chunk, self.runs.count(chunk))

        return lambda function: SimpleNamespace(remote=partial(begun, function))

    def wait(self, tasks: list[Task], num_returns: int) -> tuple[list[Task], list[Task]]:
        return tasks[:1], tasks[1:]

    def get(self, task: Task) -> Any:
        if error := self.fails(task.chunk, task.number):
            raise error
        return task.function(task.work, task.chunk)

    def cancel(self, task: Task, force: bool) -> None: ...


def double(chunk: list[int]) -> list[int]:
    return [2 * i for i in chunk]


def lost(item: int, why: str) -> int:
    assert why == DIED_TWICE
    return -item


def scripted(monkeypatch: pytest.MonkeyPatch, fails: Callable[[list[int], int], RayError | None]) -> ScriptedRay:
    found = ScriptedRay(fails)
    monkeypatch.setattr(on_ray, "ray", found)
    return found


@pytest.mark.parametrize(
    "error",
    [
        NodeDiedError("gone"),
        LocalRayletDiedError(),
        ObjectLostError(REFERENCE, None, ""),
        ObjectFetchTimedOutError(REFERENCE, None, ""),
        ObjectReconstructionFailedError(REFERENCE),
        OwnerDiedError(REFERENCE, None, ""),
        ReferenceCountingAssertionError(REFERENCE, None, ""),
        RayTaskError("run_chunk", "", ObjectLostError(REFERENCE, None, "")).as_instanceof_cause(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_lay_on_a_lost_node_is_run_again_as_it_was_and_is_no_death(
    monkeypatch: pytest.MonkeyPatch, error: RayError
) -> None:
    ray = scripted(monkeypatch, lambda chunk, number: error if 7 in chunk and number < 4 else None)
    for size in (1, 4):
        ray.runs.clear()
        results = [r for chunk in map_chunks(double, range(10), 2, lost, size) for r in chunk]
        assert sorted(results) == [2 * i for i in range(10)]
        assert ray.runs.count([7] if size == 1 else [4, 5, 6, 7]) == 4


def test_a_worker_that_dies_twice_on_an_input_is_that_inputs_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, lambda chunk, number: WorkerCrashedError() if 7 in chunk else None)
    results = [r for chunk in map_chunks(double, range(10), 2, lost) for r in chunk]
    assert sorted(results) == sorted([2 * i for i in range(10) if i != 7] + [-7])


# ------------------------------------------------------------------ a node that is not as the driver


@pytest.mark.parametrize("name", ["onnxruntime", "opencv-python", "numpy", "pillow", "this package's own files"])
def test_a_node_with_other_software_is_refused_by_name_with_what_differs(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    scripted(monkeypatch, lambda chunk, number: None)
    drivers = environment() | {name: "0.0.1"}
    with pytest.raises(UserError, match=r"10\.0\.0\.7 has other software") as told:
        run_chunk(Work(b"not loaded", ".", drivers), [1])
    assert f"{name} ({environment()[name]} there, 0.0.1 here)" in told.value.message
    assert told.value.message.count(" there, ") == 1


def test_what_a_node_cannot_load_or_lacks_is_told_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, lambda chunk, number: None)

    def no_weights(chunk: list[int]) -> list[int]:
        raise UserError("no face pack 'buffalo_l'", 2)

    with pytest.raises(UserError, match=r"10.0.0.7: no face pack 'buffalo_l'") as told:
        run_chunk(Work(cloudpickle.dumps(no_weights), ".", environment()), [1])
    assert told.value.exit_code == 2
    gone = cloudpickle.dumps(double).replace(b"double", b"triple")
    with pytest.raises(UserError, match=r"10.0.0.7 cannot load its work .*triple.*every node needs this package"):
        run_chunk(Work(gone, ".", environment()), [1])
    cause = RaySystemError("System error: Can't get attribute 'Work' on <module 'unif2ace_data.run.on_ray'>")
    assert "a Ray worker cannot load its work (Can't get attribute 'Work')" in str(on_ray.understood(cause))


# ------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    "address",
    [
        "foo",
        "127.0.0.1:",
        ":6379",
        "127.0.0.1:http",
        "127.0.0.1:70000",
        "127.0.0.1:0",
        "h:²",
        f"{'h' * 70}:6379",
        "a..b:6379",
    ],
)
def test_what_is_no_address_is_wrong_usage(address: str) -> None:
    with pytest.raises(UserError, match="write auto, or HOST:PORT") as told:
        reach(address)
    assert told.value.exit_code == 2 and f"--address {address}" in told.value.message


def test_ray_client_is_not_taken_and_what_to_give_is_said() -> None:
    with pytest.raises(UserError, match=r"no Ray Client: on a node, give auto or head.example:6379") as told:
        reach("ray://head.example:10001")
    assert told.value.exit_code == 2


def test_an_address_where_somebody_listens_is_taken() -> None:
    reach("auto")
    with socket.create_server(("127.0.0.1", 0)) as server:
        reach(f"127.0.0.1:{server.getsockname()[1]}")
        port = server.getsockname()[1]
    with pytest.raises(UserError, match="no Ray cluster answers") as told:
        reach(f"127.0.0.1:{port}")
    assert told.value.exit_code == 1


MISMATCH = (
    "Version mismatch: The cluster was started with:\n    Ray: 2.48.0\n    Python: 3.11.9\n"
    "This process on node 10.0.0.1 was started with:\n    Ray: 2.55.1\n    Python: 3.11.7\n"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError(MISMATCH),
            "Ray: 2.48.0 Python: 3.11.9 This process on node 10.0.0.1 was started with: Ray: 2.55.1",
        ),
        (
            ConnectionError("Could not find any running Ray instance.\nStart one"),
            "no Ray cluster answers (Could not find",
        ),
        (RuntimeError(), "no Ray cluster answers (it does not say why)"),
        (RayError("not allowed"), "no Ray cluster answers (not allowed)"),
    ],
)
def test_why_a_cluster_was_not_joined(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def init(**options: Any) -> None:
        raise error

    monkeypatch.setattr(on_ray, "ray", SimpleNamespace(init=init))
    with pytest.raises(UserError) as told, cluster("auto"):
        pass
    assert said in told.value.message and "\n" not in told.value.message
    assert ("no Ray cluster answers" in told.value.message) == ("Version" not in str(error))


def test_what_ray_prints_does_not_stand_in_the_commands_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cores = {"CPU": 3.0}
    ray = SimpleNamespace(init=lambda **options: None, cluster_resources=lambda: cores, shutdown=lambda: None)
    monkeypatch.setattr(on_ray, "ray", ray)
    monkeypatch.setattr(on_ray, "ending_with_raylet", nullcontext)
    with cluster("auto") as found:
        print("(raylet) a node has been marked dead")
    print("{}")
    said = capsys.readouterr()
    assert found == 3 and said.out == "{}\n" and said.err == "(raylet) a node has been marked dead\n"


def test_the_run_ends_with_the_raylet_and_not_with_a_line_that_was_cut(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, ended, left = str(tmp_path / "raylet"), threading.Event(), threading.Event()

    def end(code: int) -> None:
        assert code == 1
        ended.set()
        left.wait(10)

    node = SimpleNamespace(raylet_socket_name=path)
    worker = SimpleNamespace(_global_node=node)
    monkeypatch.setattr(on_ray, "ray", SimpleNamespace(_private=SimpleNamespace(worker=worker)))
    monkeypatch.setattr(os, "_exit", end)
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind(path)
        raylet.listen()
        with ending_with_raylet():
            raylet.accept()[0].close()
            again, _ = raylet.accept()
            assert not ended.wait(0.2)
        again.close()
        assert not ended.wait(0.2) and capfd.readouterr().err == ""
        with ending_with_raylet():
            line, _ = raylet.accept()
            raylet.close()
            line.close()
            assert ended.wait(10)
    left.set()
    said = capfd.readouterr().err
    assert said.strip().count("\n") == 0 and "raylet" in said and "run the same command to go on" in said
