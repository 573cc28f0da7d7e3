"""The real vLLM for the tests in this folder. `make vllm` makes its environment; without it they fail, never skip."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from recording_proxy import RecordingProxy
from vllm_server import TOOL, VENV, Server

MAKER = TOOL / "make_tiny_vlm.py"


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The python of the environment with vLLM and the base package in it."""
    python = VENV / "bin" / "python"
    if not python.exists() or not list(VENV.glob("base-*.stamp")):
        pytest.fail(f"no vLLM in {VENV}: run `make vllm` (or `make test`, which does)", pytrace=False)
    return python


@pytest.fixture(scope="session")
def tiny_vlm(vllm_python: Path) -> Path:
    """A folder with the tiny vision-language model; kept in the environment for as long as its maker is the same."""
    return make_tiny_vlm(vllm_python, seed=0)


@pytest.fixture(scope="session")
def other_tiny_vlm(vllm_python: Path) -> Path:
    """The same with other weights: another model, for tests of what a new model changes."""
    return make_tiny_vlm(vllm_python, seed=1)


def make_tiny_vlm(python: Path, seed: int) -> Path:
    revision = hashlib.sha256(MAKER.read_bytes()).hexdigest()[:12]
    folder = VENV / f"tiny-vlm-{revision}-{seed}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=VENV) as made:
            subprocess.run([python, MAKER, f"{made}/model", "--seed", str(seed)], check=True, capture_output=True)
            Path(made, "model").rename(folder)
    return folder


@pytest.fixture(scope="session")
def vllm_server(tiny_vlm: Path) -> Iterator[Server]:
    """One running server for the whole session: for tests that leave it alone. To kill one, start a `Server`."""
    with Server() as server:
        server.start(tiny_vlm)
        server.wait_ready()
        yield server


@pytest.fixture
def proxy(vllm_server: Server) -> Iterator[RecordingProxy]:
    """A recording proxy in front of the session's server, with an empty record."""
    with RecordingProxy(vllm_server.base_url) as standing:
        yield standing
