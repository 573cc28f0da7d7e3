"""Encoders as graphs: the same numbers as the network they came from, and never a download."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import open_clip
import pytest
import torch
from labelled import TINY, base_samples
from PIL import Image

from unif2ace_data.attributes.predict import PIXELS, pixels_of
from unif2ace_data.errors import UserError
from unif2ace_data.faces.engine import FaceEngine, find_pack
from unif2ace_data.recipe import Detector
from unif2ace_model.encoders import FEATURES, Encoder, load_encoder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a test went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def features(encoder: Encoder, crop: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(encoder.graph)
    session = onnxruntime.InferenceSession(encoder.graph.SerializeToString())
    found = session.run([FEATURES], {PIXELS: pixels_of(crop, landmarks, encoder.preprocessing)})[0]
    return np.asarray(found[0])


def test_the_face_encoder_gives_the_face_engines_embedding(built: Path) -> None:
    encoder = load_encoder("face", "ffhq")
    engine = FaceEngine(find_pack("embedded"), Detector())
    for sample, crop in base_samples(built):
        landmarks = np.array(sample.face.landmarks)
        ours = features(encoder, crop, landmarks)
        theirs = engine.embed(np.ascontiguousarray(crop[:, :, ::-1]), landmarks)
        np.testing.assert_allclose(ours / np.linalg.norm(ours), theirs, atol=1e-4)
    assert (encoder.facts.name, encoder.facts.non_commercial) == ("face-embedded", False)
    assert encoder.facts.sha256 == find_pack("embedded").files["rec_dlib_r29.onnx"]
    assert encoder.preprocessing.kind == "face"


def test_a_pack_that_says_nothing_of_its_licence_is_non_commercial(tmp_path: Path) -> None:
    folder = tmp_path / "buffalo_x"
    folder.mkdir()
    shutil.copy(find_pack("embedded").folder / "rec_dlib_r29.onnx", folder)
    facts = load_encoder(str(folder), "ffhq").facts
    assert facts.name == "face-buffalo_x" and facts.non_commercial and "non-commercial" in facts.licence


def test_the_clip_graph_equals_torch_and_open_clips_own_preprocessing(clip: Path, built: Path) -> None:
    encoder = load_encoder(str(clip), "ffhq")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    model.eval()
    for sample, crop in base_samples(built):
        with torch.no_grad():
            theirs = model.encode_image(preprocess(Image.fromarray(crop))[None], normalize=True)[0].numpy()
        ours = features(encoder, crop, np.array(sample.face.landmarks))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert encoder.facts.name == "clip-tiny-clip" and encoder.preprocessing.align == "ffhq"


def test_the_same_weights_are_the_same_encoder_wherever_they_lie(clip: Path, tmp_path: Path) -> None:
    """A folder, a checkpoint of a known architecture, and the Hub's cache: one hash, one graph, no name of a machine."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "Tiny-8.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "configs")
    shutil.copy(clip / "open_clip_pytorch_model.bin", tmp_path / "weights.pt")
    folder = load_encoder(str(clip), "ffhq")
    file = load_encoder(f"Tiny-8={tmp_path / 'weights.pt'}", "box")
    assert file.facts.name == "clip-Tiny-8=weights.pt"
    assert file.facts.sha256 == folder.facts.sha256
    for encoder in (folder, file):
        text = encoder.graph.SerializeToString()
        assert str(tmp_path).encode() not in text and b"site-packages" not in text
    assert load_encoder(str(clip), "ffhq").graph.SerializeToString() == folder.graph.SerializeToString()


def test_weights_on_the_hub_are_used_from_the_cache(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "models--somebody--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(clip, repository / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cached = load_encoder("hf-hub:somebody/tiny", "ffhq")
    assert cached.facts.name == "clip-somebody-tiny"
    assert cached.facts.sha256 == load_encoder(str(clip), "ffhq").facts.sha256
    assert not constants.HF_HUB_OFFLINE


def test_a_licence_is_read_off_the_folders_readme(clip: Path, tmp_path: Path) -> None:
    shutil.copytree(clip, tmp_path / "named")
    (tmp_path / "named" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A CLIP\n")
    facts = load_encoder(str(tmp_path / "named"), "ffhq").facts
    assert (facts.licence, facts.non_commercial) == ("cc-by-nc-4.0", True)
    assert load_encoder(str(clip), "ffhq").facts.licence == "not stated by the weights"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-thing", "no encoder 'no-such-thing'"),
        ("ViT-B-32=laion2b_s34b_b79k", "cannot load .* without a download"),
        ("RN50=yfcc15m", "not in .*cache|without a download"),
        ("ViT-B-32=no_such_tag", "no such checkpoint file, and no tag of ViT-B-32"),
        ("Vit-Z=no_such_tag", "open_clip knows no model"),
        ("hf-hub:nobody/nothing", "without a download"),
    ],
)
def test_what_is_not_here_is_one_clear_error(name: str, message: str, monkeypatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("unif2ace_model.encoders.URL_CACHE", tmp_path)
    with pytest.raises(UserError, match=message):
        load_encoder(name, "ffhq")


def test_a_folder_without_weights_is_not_taken_with_random_ones(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copy(clip / "open_clip_config.json", tmp_path / "empty")
    with pytest.raises(UserError, match="open_clip cannot load empty"):
        load_encoder(str(tmp_path / "empty"), "ffhq")
