"""The environment that `make vllm` makes: vLLM for the CPU and the base package, which fit each other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
KNOWN = [
    *[f"requires {name}," for name in ("triton", "torchaudio", "torchcodec")],  # left out: requirements-vllm.lock
    "you have torch 2.13.0.",  # the index's build, where its CPU build cannot be had: install.sh
]


def output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_nothing_is_missing_but_what_is_left_out_on_purpose(vllm_python):
    said = output(vllm_python, "-m", "pip", "check", "--disable-pip-version-check").splitlines()
    problems = [line for line in said if not any(words in line for words in KNOWN)]
    assert problems in ([], ["No broken requirements found."])


def test_the_doctor_finds_the_base_package_whole_there(vllm_python):
    done = subprocess.run([vllm_python.parent / "unif2ace-data", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    states = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines() if len(line.split()) > 1}
    assert states["vllm"] == "ok"
    assert "broken" not in states.values()


def test_vllm_runs_on_the_cpu(vllm_python):
    said = output(vllm_python, "-c", "from vllm.platforms import current_platform as p; print('device', p.device_type)")
    assert said.splitlines()[-1] == "device cpu"
