"""Every ```sh block of README.md and docs/ runs as written, beside a folder raw/ of real photographs."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if "```sh\n" in p.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_examples_of_a_page_run(page: Path, examples: Path, tmp_path: Path) -> None:
    shutil.copytree(examples, tmp_path / "raw")
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    script = "set -euo pipefail\n" + "\n".join(blocks)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("program", ["unif2ace-data", "unif2ace-model"])
def test_every_command_has_a_page_and_an_example(program: str) -> None:
    app = importlib.import_module(f"{program.replace('-', '_')}.cli").app
    text = "\n".join(p.read_text() for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        assert f"Example: `{program} " in (command.callback.__doc__ or ""), name
        assert re.search(rf"^{program} {name}\b", text, re.MULTILINE), f"no page shows {name}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
