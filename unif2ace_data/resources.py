"""Where the data files that travel with the package lie: manifests/, pipelines/, the embedded weights."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def resource(folder: str, name: str = "") -> Path:
    """Path of `folder/name`, inside the wheel or, in a source checkout, beside the package."""
    inside = PACKAGE / folder
    root = inside if inside.is_dir() else PACKAGE.parent / folder
    return root / name if name else root
