"""What is compared between the machines of a run, and what a network that differs is told as."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.faces.analyse import models_of
from unif2ace_data.faces.engine import EMBEDDED, find_pack
from unif2ace_data.recipe import load_recipe
from unif2ace_data.run import environment as compared
from unif2ace_data.run import work
from unif2ace_data.run.environment import LIBRARIES, OWN_FILES, differences, environment, own_files, version


def test_the_environment_names_every_library_that_a_recipe_tells_and_the_own_files() -> None:
    found = environment()
    assert {name: found[name] for name in LIBRARIES} == {name: importlib.metadata.version(name) for name in LIBRARIES}
    assert own_files()[:12] in found[OWN_FILES]
    assert version("no-such-distribution") == "missing"


def test_a_checkout_and_what_is_installed_from_it_have_the_same_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = own_files()
    installed = tmp_path / "unif2ace_data"
    shutil.copytree(compared.PACKAGE, installed, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    for folder in ("manifests", "pipelines"):
        if not (installed / folder).is_dir():
            shutil.copytree(compared.resource(folder), installed / folder)
    monkeypatch.setattr(compared, "PACKAGE", installed)
    monkeypatch.setattr(compared, "resource", lambda folder: installed / folder)
    assert own_files() == here
    for changed in ("captions/phrases.yaml", "run/work.py", "manifests/attributes.yaml"):
        before, file = own_files(), installed / changed
        file.write_bytes(file.read_bytes() + b"\n# more\n")
        assert own_files() != before, changed


def test_differences_are_named_with_both_values() -> None:
    assert differences({"numpy": "2.0", "av": "18"}, {"numpy": "2.0", "av": "18"}) == ""
    said = differences(
        {"numpy": "2.0", "av": "18", "nudenet": "a"}, {"numpy": "2.1", "av": "18", "onnxruntime": "1.18"}
    )
    assert (
        said == "nudenet (a there, missing here), numpy (2.0 there, 2.1 here), onnxruntime (missing there, 1.18 here)"
    )


def test_a_pack_that_is_not_the_drivers_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_analysers", {})
    shutil.copytree(EMBEDDED, tmp_path / "pack")
    recipe = load_recipe("embedded", [f"faces.engine={tmp_path / 'pack'}"])
    models = models_of(find_pack(str(tmp_path / "pack")))
    assert work.analyse_chunk(recipe, tmp_path, models, []) == []
    monkeypatch.setattr(work, "_analysers", {})
    other = models | {"genderage.onnx": "f" * 64}
    with pytest.raises(
        UserError, match=rf"is not the driver's: genderage.onnx \({models['genderage.onnx'][:12]} there"
    ):
        work.analyse_chunk(recipe, tmp_path, other, [])
