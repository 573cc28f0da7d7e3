"""Known datasets in exactly their original layout: their own annotations become evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from test_video import clip

from unif2ace_data.recipe import SourceSpec
from unif2ace_data.schema import Annotations, Attribute, UserError
from unif2ace_data.sources.listing import list_inputs, notes
from unif2ace_data.sources.manifest import load_manifest

# The 40 names in the order of CelebA's and CelebAMask-HQ's annotation files.
CELEBA = [
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
]

FFHQ_FACE = {
    "faceRectangle": {"top": 40, "left": 25, "width": 76, "height": 76},
    "faceAttributes": {
        "smile": 1.0, "headPose": {"pitch": -7.3, "roll": -0.8, "yaw": -12.3}, "gender": "female", "age": 26.0,
        "facialHair": {"moustache": 0.0, "beard": 0.0, "sideburns": 0.0}, "glasses": "ReadingGlasses",
        "emotion": {"anger": 0.0, "contempt": 0.0, "disgust": 0.0, "fear": 0.0, "happiness": 1.0, "neutral": 0.0, "sadness": 0.0, "surprise": 0.0},
        "blur": {"blurLevel": "low", "value": 0.0}, "exposure": {"exposureLevel": "goodExposure", "value": 0.62},
        "noise": {"noiseLevel": "low", "value": 0.0}, "makeup": {"eyeMakeup": True, "lipMakeup": False}, "accessories": [],
        "occlusion": {"foreheadOccluded": False, "eyeOccluded": False, "mouthOccluded": False},
        "hair": {"bald": 0.11, "invisible": False, "hairColor": [{"color": "blond", "confidence": 0.97}, {"color": "brown", "confidence": 0.95}]},
    },
}  # fmt: skip


def values(found: Annotations) -> dict[str, str]:
    for attribute in found.attributes:
        Attribute.model_validate(attribute)
    return {a["name"]: a["value"] for a in found.attributes}


def refs(root: Path, name: str) -> dict[str, Annotations]:
    found = list_inputs(SourceSpec(path=str(root), manifest=name), load_manifest(name))
    return {ref.source_id: ref.annotations for ref in found}


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(path)


def test_ffhq(tmp_path: Path) -> None:
    for number in (0, 1, 1000):
        photo(tmp_path / f"images1024x1024/{number // 1000 * 1000:05d}/{number:05d}.png")
    entry = {
        "category": "training",
        "metadata": {
            "photo_url": "https://www.flickr.com/photos/x/1/", "photo_title": "t", "author": "Some Body", "country": "",
            "license": "Attribution License", "license_url": "https://creativecommons.org/licenses/by/2.0/",
            "date_uploaded": "2010-01-01", "date_crawled": "2018-10-10",
        },
        "image": {"file_path": "images1024x1024/00000/00000.png", "pixel_size": [1024, 1024]},
    }  # fmt: skip
    (tmp_path / "ffhq-dataset-v2.json").write_text(json.dumps({"0": entry}))
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "00000.json").write_text(json.dumps([FFHQ_FACE]))
    (tmp_path / "json" / "00001.json").write_text(json.dumps([FFHQ_FACE, FFHQ_FACE]))
    found = refs(tmp_path, "ffhq")
    assert list(found) == [f"ffhq/images1024x1024/{f}.png" for f in ("00000/00000", "00000/00001", "01000/01000")]
    first = found["ffhq/images1024x1024/00000/00000.png"]
    assert (first.author, first.licence, first.url) == (
        "Some Body",
        "Attribution License",
        "https://www.flickr.com/photos/x/1/",
    )
    assert values(first) == {
        "source_age": "26", "apparent_gender": "female", "smile": "broad", "head_turn": "left", "glasses": "eyeglasses",
        "facial_hair": "none", "hair_color": "blond", "emotion": "happy", "makeup": "eyes",
    }  # fmt: skip
    assert not any(a["validated"] for a in first.attributes), (
        "a face API's answers rest on no labelled photographs of ours"
    )
    assert values(found["ffhq/images1024x1024/00000/00001.png"]) == {}, "two faces: nobody knows which one is meant"
    assert notes(SourceSpec(path=str(tmp_path)), load_manifest("ffhq")) == []


def test_mm_celeba_hq(tmp_path: Path) -> None:
    labels = {"Male": 1, "Gray_Hair": 1, "Eyeglasses": 1, "Smiling": 1, "Attractive": 1, "Wearing_Necktie": 1}
    row = " ".join(str(labels.get(name, -1)) for name in CELEBA)
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").write_text(f"30000\n{' '.join(CELEBA)}\n0.jpg  {row}\n")
    photo(tmp_path / "images" / "0.jpg")
    photo(tmp_path / "images" / "1.jpg")
    (tmp_path / "text" / "celeba-caption").mkdir(parents=True)
    (tmp_path / "text" / "celeba-caption" / "0.txt").write_text("He has gray hair.\nThis man smiles.\n")
    found = refs(tmp_path, "mm-celeba-hq")
    assert list(found) == ["mm-celeba-hq/images/0.jpg", "mm-celeba-hq/images/1.jpg"]
    first = found["mm-celeba-hq/images/0.jpg"]
    assert first.captions == ["He has gray hair.", "This man smiles."]
    said = values(first)
    assert {k: said[k] for k in ("apparent_gender", "hair_color", "glasses", "smile", "wearing_necktie", "wavy_hair")} == {
        "apparent_gender": "male", "hair_color": "gray", "glasses": "eyeglasses", "smile": "broad", "wearing_necktie": "yes", "wavy_hair": "no",
    }  # fmt: skip
    assert "attractive" not in said and all(a["validated"] for a in first.attributes)
    assert values(found["mm-celeba-hq/images/1.jpg"]) == {}


def test_celebv_hq(tmp_path: Path) -> None:
    appearance = ["blurry", "male", "young", "chubby", "pale_skin"]
    action = ["blow", "smile", "talk"]
    info = {
        "meta_info": {"appearance_mapping": appearance, "action_mapping": action},
        "clips": {
            "_-xyz_0": {
                "ytb_id": "_-xyz", "duration": {"start_sec": 0.0, "end_sec": 4.0}, "bbox": {"top": 0, "bottom": 1, "left": 0, "right": 1},
                "attributes": {"appearance": [0, 0, 1, 0, 1], "action": [0, 1, 1], "emotion": {"sep_flag": False, "labels": "happy"}},
            }
        },
    }  # fmt: skip
    (tmp_path / "celebvhq_info.json").write_text(json.dumps(info))
    (tmp_path / "35666").mkdir()
    (tmp_path / "35666" / "_-xyz_0.mp4").write_bytes(clip(3))
    found = refs(tmp_path, "celebv-hq")
    (only,) = found.values()
    assert only.url == "https://www.youtube.com/watch?v=_-xyz"
    assert values(only) == {
        "apparent_gender": "female", "chubby": "no", "pale_skin": "yes", "smile": "broad", "talk": "yes", "emotion": "happy",
    }  # fmt: skip
    of_frame = {a["name"]: a["validated"] for a in only.attributes}
    assert not of_frame["smile"], "somebody smiles in the clip: not necessarily in the frame"


@pytest.mark.parametrize(("name", "count"), [("ffhq", 2), ("mm-celeba-hq", 2), ("celebv-hq", 1)])
def test_missing_annotations_are_said_and_cost_no_photo(tmp_path: Path, name: str, count: int) -> None:
    photo(tmp_path / "00000.png")
    assert len(notes(SourceSpec(path=str(tmp_path)), load_manifest(name))) == count
    assert len(refs(tmp_path, name)) == 1


@pytest.mark.parametrize(("name", "file"), [("ffhq", "ffhq-dataset-v2.json"), ("celebv-hq", "celebvhq_info.json")])
def test_broken_annotation_files_are_named(tmp_path: Path, name: str, file: str) -> None:
    (tmp_path / file).write_text("{broken")
    with pytest.raises(UserError, match=file):
        refs(tmp_path, name)


def test_manifests_are_strict(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nlicense: CC0\n")
    with pytest.raises(UserError, match="license"):
        load_manifest(str(path))
    with pytest.raises(UserError, match="celebv-hq, ffhq, folder, mm-celeba-hq"):
        load_manifest("no-such")
