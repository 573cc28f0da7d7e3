"""Writes DATASHEET.md at the top of the repository: that of the demo dataset, built from examples/raw as `make demo` does.

What people wrote between its marks stays. `make datasheet` runs it; a test compares the file with a fresh build.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from unif2ace_data.curate.licences import manifests_in
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.release.datasheet import write_datasheet
from unif2ace_data.release.read import read_mapping
from unif2ace_data.run.build import build
from unif2ace_data.run.qa_gen import qa_gen

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ["splits.train=0.8", "splits.validation=0", "splits.test=0.2"]  # as in the Makefile


def write_from(shards: Path, target: Path) -> None:
    """The datasheet of the dataset at `shards`, with the people's blocks of `target`."""
    recipe = read_mapping(shards / "recipe.yaml")
    write_datasheet(target, read_mapping(shards / "stats.json"), recipe, manifests_in(recipe))


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "DATASHEET.md"
    recipe = load_recipe("embedded", ["subjects=adults", *SPLITS])
    recipe = recipe.model_copy(update={"sources": [SourceSpec(path=str(ROOT / "examples" / "raw"))]})
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        build(recipe, shards, quiet=True)
        qa_gen(shards, recipe, quiet=True)
        write_from(shards, target)
    print(target)


if __name__ == "__main__":
    main()
