"""A loopback Hub, a built dataset to publish, and the real command line with an environment that leads there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_hub import LocalHub
from publisher import Client, Machine


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "shards")
    shutil.copytree(built.with_name("shards.work"), tmp_path / "shards.work")
    return tmp_path / "shards"


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Machine]]:
    """One Hub, and one machine that knows it, for each way of transfer."""
    there: dict[str, Machine] = {}
    for way in ("lfs", "xet"):
        hub = LocalHub(tmp_path_factory.mktemp(way), xet=way == "xet").start()
        there[way] = Machine(hub, tmp_path_factory.mktemp(f"{way}-home"))
    yield there
    for machine in there.values():
        machine.stop()
        machine.hub.stop()


@pytest.fixture
def client(request: pytest.FixtureRequest, machines: dict[str, Machine], tmp_path: Path) -> Iterator[Client]:
    """At a machine whose Hub is empty. `indirect` parameters: "lfs" (default) or "xet"."""
    machine = machines[getattr(request, "param", "lfs")]
    machine.hub.wipe()
    shutil.rmtree(machine.home)
    machine.home.mkdir()
    yield Client(machine, tmp_path)
    assert machine.hub.auth_leaks == 0, "a token was sent to another origin"
