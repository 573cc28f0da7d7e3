"""Fixtures that every folder of tests shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from photographs import EXAMPLES, write_photos


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photographs of three people. Read only: copy before changing anything."""
    return write_photos(tmp_path_factory.mktemp("photos") / "raw", 20)
