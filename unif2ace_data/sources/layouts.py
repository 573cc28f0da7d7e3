"""The layouts that manifests name, and what opens each: a dataset's own annotations, joined to listing by file name."""

from __future__ import annotations

from pathlib import Path

from unif2ace_data.sources.annotations import Layout
from unif2ace_data.sources.celeba import open_celeba
from unif2ace_data.sources.celebv import open_celebv
from unif2ace_data.sources.ffhq import open_ffhq
from unif2ace_data.sources.manifest import Manifest

OPENERS = {
    "folder": lambda root, manifest: Layout(),
    "ffhq": open_ffhq,
    "mm-celeba-hq": open_celeba,
    "celebv-hq": open_celebv,
}


def open_layout(root: Path, manifest: Manifest) -> Layout:
    """The manifest's layout, its annotation files below the folder `root` (or beside it) read.

    Where files are missing the photographs are inputs all the same, and `notes` say what is not known. Raises UserError
    where one is there and cannot be understood: better now than after a night's run.
    """
    return OPENERS[manifest.layout](root, manifest)
