"""An attribute model at work: what it states, what it keeps to itself, and a build that uses it without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_attribute_model import facts, write_model

from unif2ace_data.attributes.predict import (
    AttributeModel,
    Preprocessing,
    load_model,
    pixels_of,
)  # fmt: skip
from unif2ace_data.errors import UserError
from unif2ace_data.faces.engine import TEMPLATE_112
from unif2ace_data.recipe import Recipe, SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.shards import dataset_shards, read_samples

MIDDLE = TEMPLATE_112 * 64 / 112


def grey(level: int, side: int = 100) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AttributeModel:
    return AttributeModel(write_model(tmp_path_factory.mktemp("m") / "attributes.onnx"))


def test_a_prediction_is_an_attribute_with_its_evidence(model: AttributeModel) -> None:
    found = model.predict(grey(0), MIDDLE)
    assert [(a.name, a.value, a.group, a.validated) for a in found] == [
        ("wearing_earrings", "yes", "appearance", True),
        ("clothing_tone", "dark", "appearance", True),
    ]
    assert found[0].confidence == 0.982 and found[0].evidence.measured == "p=0.98"
    assert found[0].evidence.by == "attributes:mean" and found[0].evidence.revision == model.sha256[:8]


@settings(max_examples=40, deadline=None)
@given(level=st.integers(0, 255))
def test_only_the_likeliest_value_is_stated_and_only_from_its_threshold_on(model: AttributeModel, level: int) -> None:
    shares = model.probabilities(grey(level), MIDDLE)
    assert shares.shape == (5,) and shares[2:].sum() == pytest.approx(1, abs=1e-6)
    said = [a.value for a in model.predict(grey(level), MIDDLE) if a.name == "clothing_tone"]
    best = int(shares[2:].argmax())
    assert said == ([["dark", "light"][best]] if best < 2 and round(float(shares[2 + best]), 3) >= 0.9 else [])


def test_a_value_without_a_claim_is_not_stated_however_likely(tmp_path: Path) -> None:
    model = AttributeModel(write_model(tmp_path / "m.onnx", earrings=-4.0))
    assert [a.name for a in model.predict(grey(0), MIDDLE)] == ["clothing_tone"]


def test_it_speaks_only_of_faces_turned_like_those_it_has_seen(model: AttributeModel) -> None:
    assert model.resembles(-30, 20) and not model.resembles(31, 0) and not model.resembles(0, -21)


def test_what_the_graph_gets() -> None:
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 255, (120, 120, 3), dtype=np.uint8)
    whole = pixels_of(crop, MIDDLE, Preprocessing(kind="crop", size=64))
    assert whole.shape == (1, 3, 64, 64) and whole.dtype == np.float32 and 100 < whole.mean() < 150
    face = pixels_of(crop[:112, :112], TEMPLATE_112, Preprocessing(kind="face", size=112))
    np.testing.assert_array_equal(face[0].transpose(1, 2, 0), crop[:112, :112])


def test_a_file_that_changed_is_loaded_again(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    first = load_model(str(path))
    assert load_model(str(path)) is first
    write_model(path, facts(trained_on="another dataset"))
    assert load_model(str(path)).metadata.trained_on == "another dataset"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no attribute model at .*No such file"),
        (b"not onnx at all", "no ONNX file|no attribute model"),
        (b"", "is no attribute model: use a file that"),
        ({}, "does not fit this version .*format"),
        (facts(surprise=1), "surprise"),
        (facts(heads=[{"name": "aura", "values": ["red", "blue"], "stated": {}}]), "aura = .* is not in the taxonomy"),
        (facts(heads=[{"name": "glasses", "values": ["none", "monocle"], "stated": {}}]), "monocle"),
    ],
)
def test_what_is_no_attribute_model_is_one_clear_error(tmp_path: Path, data: Any, message: str) -> None:
    path = tmp_path / "m.onnx"
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif data is not None:
        write_model(path)
        model = onnx.load(path)
        model.metadata_props[0].value = json.dumps(data)
        onnx.save(model, path)
    with pytest.raises(UserError, match=message) as caught:
        AttributeModel(path)
    assert "\n" not in caught.value.message


def test_a_graph_that_cannot_run_is_one_clear_error(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[2].op_type = "NoSuchThing"
    onnx.save(model, path)
    with pytest.raises(UserError, match="onnxruntime cannot run this attribute model"):
        AttributeModel(path)


# ------------------------------------------------------------------ in a build


def recipe_for(raw: Path, attributes: Path | None, *settings: str) -> Recipe:
    recipe = load_recipe("embedded", ["subjects=adults", *settings])
    changes = {"sources": [SourceSpec(path=str(raw))], "attributes": str(attributes) if attributes else None}
    return recipe.model_copy(update=changes)


def samples(out: Path) -> list[dict[str, Any]]:
    return [json.loads(files["json"]) for shard in dataset_shards(out) for _, files in read_samples(shard)]


def test_a_build_needs_no_torch_and_its_captions_use_what_the_model_says(examples: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "earrings.onnx")
    code = (
        "import sys; sys.modules['torch'] = None\n"  # importing it is an error now, in the workers too
        "from unif2ace_data.cli import main\n"
        f"sys.argv = ['x', 'build', '--src', {str(examples)!r}, '--out', {str(tmp_path / 's')!r}, '--subjects', 'adults',"
        f" '--attributes', {str(model)!r}]\n"
        "if __name__ == '__main__': main()"
    )
    (tmp_path / "run.py").write_text(code)
    done = subprocess.run([sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for sample in samples(tmp_path / "s"):
        said = next(a for a in sample["attributes"] if a["name"] == "wearing_earrings")
        assert said["evidence"]["by"] == "attributes:mean" and said["validated"]
        assert "earrings" in sample["caption"]
        assert any(c["attribute"] == "wearing_earrings" and c["verdict"] == "supported" for c in sample["claims"])
    recipe = (tmp_path / "s" / "recipe.yaml").read_text()
    assert "attributes: earrings.onnx" in recipe and str(tmp_path) not in recipe
    assert AttributeModel(model).sha256 in recipe


def test_over_a_dataset_that_exists_only_the_texts_are_made_anew(examples: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "shards", write_model(tmp_path / "m.onnx")
    plain = build(recipe_for(examples, None), out, quiet=True)
    with_model = build(recipe_for(examples, model), out, quiet=True)
    assert (with_model.analysed, with_model.cropped) == (0, 0)
    assert all(any(a["name"] == "wearing_earrings" for a in s["attributes"]) for s in samples(out))
    log = [json.loads(line) for line in (with_model.work / "log.jsonl").read_text().splitlines()]
    last = max(i for i, line in enumerate(log) if line["event"] == "build")
    described = [name for line in log[last:] if line["event"] == "describing" for name in line["sources"]]
    assert len(described) == with_model.counts["kept"] == 5
    at_once = build(recipe_for(examples, model), tmp_path / "fresh", quiet=True)
    assert at_once.root_sha256 == with_model.root_sha256, "measured and described in one go, or one after the other"
    assert build(recipe_for(examples, None), out, quiet=True).root_sha256 == plain.root_sha256


def test_a_model_that_cannot_serve_stops_the_build_before_it_starts(examples: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "m.onnx")
    for attributes, settings_, message in (
        (tmp_path / "nowhere.onnx", [], "no attribute model at"),
        (examples / "biden.jpg", [], "no ONNX file|no attribute model"),
        (other, ["faces.align.mode=box"], "learnt from crops with faces.align.mode=ffhq, this recipe makes box ones"),
    ):
        with pytest.raises(UserError, match=message):
            build(recipe_for(examples, attributes, *settings_), tmp_path / "shards", quiet=True)
    assert not (tmp_path / "shards").exists()
