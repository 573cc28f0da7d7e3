"""The soak, cut to minutes: the same script, the same attacks, a few hundred inputs (`make soak`: 50,000)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[2] / "benchmarks" / "soak_faults.py"


@pytest.mark.slow
def test_a_build_under_attack_ends_as_if_nobody_had_touched_it() -> None:
    """One input in twenty is broken, so that every kind of broken input is there; all bytes are compared."""
    inputs = 260
    done = subprocess.run(
        [
            sys.executable, str(SOAK), "--inputs", str(inputs), "--reference", str(inputs), "--broken-every", "20",
            "--worker-kills", "6", "--driver-kills", "2",
        ],
        capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["problems"] == [] and done.returncode == 0, done.stdout + done.stderr
    allowed = answer["mounted"] or os.geteuid() != 0  # root without the right to mount may write everywhere
    assert answer["left_out"] == ([] if allowed else ["a read-only disk", "a read-only output"])
    assert answer["inputs"] == inputs and answer["killed"]["driver"] == 4 and answer["killed"]["worker"] >= 4
