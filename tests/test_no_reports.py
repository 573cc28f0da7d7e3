"""Libraries that report to their makers do not, whatever is imported first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def stores_of_events(module: str, home: Path) -> list[Path]:
    """What importing it leaves in the home folder. Where it sees a CI, ONNX Runtime reports nothing: a bare environment."""
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True, capture_output=True)
    return sorted(home.rglob("*onnxruntime*"))


@pytest.mark.parametrize(
    "module", ["unif2ace_data.faces.engine", "unif2ace_data.attributes.predict", "unif2ace_model.features"]
)
def test_onnx_runtime_opens_no_store_of_events(module: str, tmp_path: Path) -> None:
    assert stores_of_events(module, tmp_path) == []


def test_by_itself_it_does(tmp_path: Path) -> None:
    """Or the test above shows nothing."""
    assert stores_of_events("onnxruntime", tmp_path)
