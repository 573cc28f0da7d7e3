"""Known datasets in exactly their original layouts: their own annotations become evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_sources import listed, picture, put, put_tar, reasons
from test_video import clip

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import SourceSpec
from unif2ace_data.schema import Annotations, Attribute
from unif2ace_data.sources.ffhq import members
from unif2ace_data.sources.listing import notes
from unif2ace_data.sources.manifest import load_manifest
from unif2ace_data.taxonomy import load_taxonomy

BESIDE_THE_TAXONOMY = {"source_age", "face_occlusion"}  # for filters

# The 40 names in the order of CelebA's and CelebAMask-HQ's annotation files.
HEADER = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry "
    "Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
CELEBA = HEADER.split()


def face(**changed: Any) -> dict[str, Any]:
    """One face as ffhq-features-dataset has it: the service's answer."""
    emotions = dict.fromkeys(("anger", "contempt", "disgust", "fear", "neutral", "sadness", "surprise"), 0.0)
    attributes = {
        "smile": 1.0, "headPose": {"pitch": -2.3, "roll": -0.8, "yaw": -21.3}, "gender": "female", "age": 26.0,
        "facialHair": {"moustache": 0.0, "beard": 0.0, "sideburns": 0.0}, "glasses": "ReadingGlasses",
        "emotion": emotions | {"happiness": 1.0}, "blur": {"blurLevel": "low", "value": 0.0},
        "exposure": {"exposureLevel": "goodExposure", "value": 0.62}, "noise": {"noiseLevel": "low", "value": 0.0},
        "makeup": {"eyeMakeup": True, "lipMakeup": False}, "accessories": [{"type": "glasses", "confidence": 1.0}],
        "occlusion": {"foreheadOccluded": False, "eyeOccluded": False, "mouthOccluded": False},
        "hair": {"bald": 0.05, "invisible": False, "hairColor": [
            {"color": "blond", "confidence": 0.97}, {"color": "brown", "confidence": 0.95}, {"color": "other", "confidence": 0.1}]},
    }  # fmt: skip
    size = changed.pop("size", 76)
    rectangle = {"top": 40, "left": 25, "width": size, "height": size}
    return {"faceId": "0-0", "faceRectangle": rectangle, "faceAttributes": attributes | changed}


def photo_entry(number: int, **metadata: str) -> dict[str, Any]:
    place = f"{number // 1000 * 1000:05d}/{number:05d}.png"
    return {
        "category": "training",
        "metadata": {
            "photo_url": "https://www.flickr.com/photos/x/1/", "photo_title": "DSCF0899.JPG", "author": "Jérôme \"J\" {B}",
            "country": "", "license": "Attribution License", "license_url": "https://creativecommons.org/licenses/by/2.0/",
            "date_uploaded": "2007-08-16", "date_crawled": "2018-10-10",
        } | metadata,
        "image": {"file_path": f"images1024x1024/{place}", "pixel_size": [1024, 1024], "face_landmarks": [[1.5, 2.5]] * 68},
        "thumbnail": {"file_path": f"thumbnails128x128/{place}"},
        "in_the_wild": {"file_path": f"in-the-wild-images/{place}", "face_quad": [[0.0, 0.0]] * 4},
    }  # fmt: skip


def values(said: Annotations) -> dict[str, str]:
    """Name -> value; every record is a valid attribute, and one that the taxonomy knows (or that filters ask for)."""
    taxonomy = load_taxonomy()
    for record in said.attributes:
        attribute = Attribute.model_validate(record)
        assert attribute.name in BESIDE_THE_TAXONOMY or attribute.value in taxonomy[attribute.name].values
        assert attribute.evidence.by.startswith("source:")
    return {record["name"]: record["value"] for record in said.attributes}


def told(root: Path, name: str) -> list[str]:
    return notes(SourceSpec(path=str(root)), load_manifest(name))


def ffhq(root: Path) -> Path:
    for number in (0, 1, 1000):
        put(root / f"images1024x1024/{number // 1000 * 1000:05d}/{number:05d}.png", picture(number % 255, "PNG"))
    put(root / "images1024x1024/LICENSE.txt", "terms")
    entries = {
        "0": photo_entry(0),
        "1000": photo_entry(1000, license_url="https://creativecommons.org/licenses/by-nc/2.0/"),
    }
    put(root / "ffhq-dataset-v2.json", json.dumps(entries))
    put(root / "json/00000.json", json.dumps([face()]))
    put(root / "json/01000.json", "[]")  # no face was found
    return root


def test_ffhq_as_it_is_published(tmp_path: Path) -> None:
    found = listed(ffhq(tmp_path), "ffhq")
    photos = [f"images1024x1024/{n}.png" for n in ("00000/00000", "00000/00001", "01000/01000")]
    assert reasons(found) == {**dict.fromkeys(photos, ""), "images1024x1024/LICENSE.txt": "not_media"}
    first, second, third = (found[name].annotations for name in photos)
    assert (first.author, first.licence) == ('Jérôme "J" {B}', "CC-BY-2.0")
    assert first.url == "https://www.flickr.com/photos/x/1/" and third.licence == "CC-BY-NC-2.0"
    assert values(first) == {
        "source_age": "26", "age_band": "young_adult", "apparent_gender": "female", "head_turn": "left", "head_tilt": "level",
        "head_pitch": "level", "smiling": "yes", "emotion": "happy", "baldness": "none", "hair_color": "blond",
        "facial_hair": "none", "glasses": "eyeglasses", "makeup": "eyes", "headwear": "none", "wearing_mask": "no",
        "face_occlusion": "none", "blurry": "no",
    }  # fmt: skip
    assert not any(a["validated"] for a in first.attributes), "a machine's answers were not checked here"
    assert (second.author, second.attributes, third.attributes) == ("", [], [])
    assert told(tmp_path, "ffhq") == [
        f"ffhq: ffhq-dataset-v2.json has {(tmp_path / 'ffhq-dataset-v2.json').stat().st_size} bytes, the published one 267793842"
    ]


@pytest.mark.parametrize(
    "name", ["00000.png", "thumbnails128x128/00000/00000.png", "in-the-wild-images/00000/00000.png"]
)
def test_ffhq_flat_or_by_another_folder(tmp_path: Path, name: str) -> None:
    put(ffhq(tmp_path) / name, picture(3, "PNG"))
    assert listed(tmp_path, "ffhq")[name].annotations.licence == "CC-BY-2.0"


def test_the_folder_of_photos_alone_finds_what_lies_beside_it(tmp_path: Path) -> None:
    ffhq(tmp_path)
    said = listed(tmp_path / "images1024x1024", "ffhq")["00000/00000.png"].annotations
    assert said.author and said.attributes


def test_ffhq_in_a_tar(tmp_path: Path) -> None:
    root = ffhq(tmp_path / "set")
    put_tar(root / "photos.tar", [("00000.png", picture(0, "PNG"))])
    assert listed(root, "ffhq")["photos.tar#00000.png"].annotations.licence == "CC-BY-2.0"


def features(root: Path, faces: list[dict[str, Any]]) -> dict[str, str]:
    put(ffhq(root) / "json/00000.json", json.dumps(faces))
    return values(listed(root, "ffhq")["images1024x1024/00000/00000.png"].annotations)


def test_of_two_faces_the_larger_is_described_and_the_younger_counts_for_the_gate(tmp_path: Path) -> None:
    said = features(tmp_path, [face(age=4.0, size=20), face(age=48.0, gender="male")])
    assert (said["source_age"], said["age_band"], said["apparent_gender"]) == ("4", "middle_aged", "male")


@pytest.mark.parametrize(
    ("changed", "name", "value"),
    [
        ({"headPose": {"yaw": 15.3, "roll": 0.0, "pitch": 0.0}}, "head_turn", "right"),
        ({"headPose": {"yaw": 11.0, "roll": 0.0, "pitch": 0.0}}, "head_turn", None),
        ({"headPose": {"yaw": 0.0, "roll": -12.0, "pitch": -20.0}}, "head_tilt", "left"),
        ({"headPose": {"yaw": 0.0, "roll": 0.0, "pitch": -20.0}}, "head_pitch", None),
        ({"smile": 0.003}, "smile", "none"),
        ({"smile": 0.5}, "smiling", None),
        ({"age": 38.0}, "age_band", None),
        ({"age": 0.0}, "age_band", None),
        ({"glasses": "SwimmingGoggles"}, "glasses", None),
        ({"glasses": "Sunglasses"}, "glasses", "sunglasses"),
        ({"facialHair": {"moustache": 0.9, "beard": 0.6, "sideburns": 0.4}}, "facial_hair", "beard"),
        ({"facialHair": {"moustache": 0.3, "beard": 0.3, "sideburns": 0.0}}, "facial_hair", None),
        ({"hair": {"bald": 0.99, "invisible": False, "hairColor": []}}, "baldness", "bald"),
        ({"hair": {"bald": 0.0, "invisible": True, "hairColor": []}}, "baldness", None),
        ({"makeup": {"eyeMakeup": True, "lipMakeup": True}}, "makeup", None),
        ({"accessories": [{"type": "headwear", "confidence": 0.9}]}, "headwear", None),
        (
            {"occlusion": {"foreheadOccluded": True, "eyeOccluded": False, "mouthOccluded": True}},
            "face_occlusion",
            "several",
        ),
        ({"gender": None, "age": None}, "source_age", None),
    ],
)
def test_features_are_taken_over_where_they_are_clear(
    tmp_path: Path, changed: dict[str, Any], name: str, value: str | None
) -> None:
    assert features(tmp_path, [face(**changed)]).get(name) == value


@pytest.mark.parametrize("broken", ["{", '{"a": 1}', '[{"faceAttributes": {"age": "old"}}]', "[3]"])
def test_a_features_file_that_cannot_be_read_keeps_its_photo_out(tmp_path: Path, broken: str) -> None:
    """Otherwise an age that the source states would be lost, and the gate would open."""
    put(ffhq(tmp_path) / "json/00000.json", broken)
    codes = reasons(listed(tmp_path, "ffhq"))
    assert codes["images1024x1024/00000/00000.png"] == "broken_annotation"
    assert codes["images1024x1024/00000/00001.png"] == ""


def test_metadata_is_read_entry_by_entry(tmp_path: Path) -> None:
    """FFHQ's file has 255 MB: it is read in pieces that end anywhere."""
    entries = {str(i): photo_entry(i, author="é" * (i % 7) + '\\" }{') for i in range(900)}
    put(tmp_path / "m.json", json.dumps(entries, indent=1, ensure_ascii=False))
    assert (tmp_path / "m.json").stat().st_size > 2 << 20
    assert dict(members(tmp_path / "m.json")) == entries
    put(tmp_path / "empty.json", " { } ")
    assert dict(members(tmp_path / "empty.json")) == {}
    for text in ('{"0": {"a": 1}, "1": {"b"', '{"0": {}', "[]", "", '{"0" 5}'):
        put(tmp_path / "bad.json", text)
        with pytest.raises(ValueError):
            dict(members(tmp_path / "bad.json"))


def celeba(root: Path, *present: str) -> Path:
    row = " ".join("1" if name in present else "-1" for name in CELEBA)
    put(root / "CelebAMask-HQ-attribute-anno.txt", f"30000\n{HEADER}\n0.jpg  {row}\n7.jpg  1 -1\n")
    put(root / "images/0.jpg", picture())
    put(root / "images/1.jpg", picture(1))
    captions = ["The man has gray hair.", "He is smiling."] * 5
    put(root / "text/celeba-caption/0.txt", "\n".join(captions))
    put(root / "train/filenames.pickle", b"\x80\x04]")
    put(root / "label/0_hair.png", picture(2, "PNG"))
    return root


def test_mm_celeba_hq_as_it_is_published(tmp_path: Path) -> None:
    root = celeba(
        tmp_path, "Male", "Gray_Hair", "Smiling", "Attractive", "Wearing_Necktie", "No_Beard", "Receding_Hairline"
    )
    found = listed(root, "mm-celeba-hq")
    assert reasons(found) == {"images/0.jpg": "", "images/1.jpg": "", "label/0_hair.png": "not_a_photo"}
    first = found["images/0.jpg"].annotations
    assert len(first.captions) == 10 and first.captions[1] == "He is smiling."
    said = values(first)
    expected = {
        "apparent_gender": "male", "hair_color": "gray", "smiling": "yes", "wearing_necktie": "yes", "facial_hair": "none",
        "baldness": "receding", "glasses": "none", "young": "no", "wavy_hair": "no",
    }  # fmt: skip
    assert {name: said.get(name) for name in expected} == expected
    assert "smile" not in said, "that somebody smiles does not say how broadly"
    assert "attractive" not in said and all(a["validated"] for a in first.attributes)
    assert found["images/1.jpg"].annotations == Annotations()
    assert told(root, "mm-celeba-hq") == ["mm-celeba-hq: 1 rows of CelebAMask-HQ-attribute-anno.txt cannot be read"]


@pytest.mark.parametrize(
    ("present", "name", "value"),
    [
        (("Brown_Hair", "Black_Hair"), "hair_color", None),  # which one?
        (("Brown_Hair",), "hair_color", "brown"),
        (("Eyeglasses",), "glasses", None),  # CelebA counts sunglasses among them
        (("Goatee", "Mustache"), "facial_hair", None),
        (("Goatee",), "facial_hair", "goatee"),
        (("5_o_Clock_Shadow",), "facial_hair", "stubble"),
        (("Sideburns",), "facial_hair", None),  # "not no beard" may mean just them
        ((), "facial_hair", "beard"),
        (("Heavy_Makeup", "No_Beard"), "makeup", "heavy"),
        (("No_Beard",), "apparent_gender", "female"),
    ],
)
def test_labels_state_a_value_only_where_they_are_clear(
    tmp_path: Path, present: tuple[str, ...], name: str, value: str | None
) -> None:
    said = values(listed(celeba(tmp_path, *present), "mm-celeba-hq")["images/0.jpg"].annotations)
    assert said.get(name) == value


def test_celeba_mask_hq_as_it_is_published(tmp_path: Path) -> None:
    """The same photos under their own name: CelebA-HQ-img/, with the masks beside."""
    celeba(tmp_path, "Male")
    put(tmp_path / "CelebA-HQ-img/0.jpg", picture(3))
    put(tmp_path / "CelebAMask-HQ-mask-anno/0/00000_hair.png", picture(4, "PNG"))
    found = listed(tmp_path, "mm-celeba-hq")
    assert found["CelebA-HQ-img/0.jpg"].annotations.captions
    assert reasons(found)["CelebAMask-HQ-mask-anno/0/00000_hair.png"] == "not_a_photo"


def celebv(root: Path, emotion: dict[str, Any]) -> Path:
    clips = {
        "_-xyz_0": {
            "ytb_id": "_-xyz", "duration": {"start_sec": 0.0, "end_sec": 4.0},
            "bbox": {"top": 0.0, "bottom": 0.8815, "left": 0.1964, "right": 0.6922},
            "attributes": {"appearance": [0, 0, 1, 0, 1, 1], "action": [0, 1, 1], "emotion": emotion}, "version": "v0.1",
        },
        "broken_1": {"ytb_id": "b", "attributes": {"appearance": 3}},
    }  # fmt: skip
    mappings = {
        "appearance_mapping": ["Blurry", "Male", "Young", "Chubby", "Pale_Skin", "Eyeglasses"],
        "action_mapping": ["blow", "smile", "talk"],
    }
    put(root / "celebvhq_info.json", json.dumps({"meta_info": mappings, "clips": clips}))
    put(root / "35666/_-xyz_0.mp4", clip(3))
    return root


def test_celebv_hq_as_it_is_published(tmp_path: Path) -> None:
    found = listed(celebv(tmp_path, {"sep_flag": False, "labels": "happy"}), "celebv-hq")
    assert [ref.kind for ref in found.values()] == ["video"]
    said = found["35666/_-xyz_0.mp4"].annotations
    assert said.url == "https://www.youtube.com/watch?v=_-xyz"
    assert {k: v for k, v in values(said).items() if k not in ("blurry", "pale_skin", "glasses")} == {
        "apparent_gender": "female", "young": "yes", "smiling": "yes", "talk": "yes", "emotion": "happy",
    }  # fmt: skip
    shown = {a["name"]: a["validated"] for a in said.attributes}
    assert shown["apparent_gender"] and shown["emotion"], "both hold in every frame"
    assert not shown["smiling"] and not shown["talk"], "somewhere in the clip: not necessarily in the frame"
    assert told(tmp_path, "celebv-hq") == []


def test_emotions_that_change_are_shares_of_the_clip(tmp_path: Path) -> None:
    labels = [
        {"emotion": "neutral", "start_sec": 0, "end_sec": 1},
        {"emotion": "happy", "start_sec": 1, "end_sec": 3},
        {"emotion": "neutral", "start_sec": 3, "end_sec": 4},
    ]
    (ref,) = listed(celebv(tmp_path, {"sep_flag": True, "labels": labels}), "celebv-hq").values()
    emotions = [a for a in ref.annotations.attributes if a["name"] == "emotion"]
    assert {(a["value"], a["confidence"], a["validated"]) for a in emotions} == {
        ("neutral", 0.5, False),
        ("happy", 0.5, False),
    }


def test_a_clip_whose_entry_is_broken_says_so(tmp_path: Path) -> None:
    put(celebv(tmp_path, {}) / "35666/broken_1.mp4", clip(2))
    assert reasons(listed(tmp_path, "celebv-hq")) == {
        "35666/_-xyz_0.mp4": "",
        "35666/broken_1.mp4": "broken_annotation",
    }


@pytest.mark.parametrize(("name", "count"), [("ffhq", 2), ("mm-celeba-hq", 2), ("celebv-hq", 1), ("folder", 0)])
def test_missing_annotations_are_said_and_cost_no_photo(tmp_path: Path, name: str, count: int) -> None:
    put(tmp_path / "00000.png", picture(0, "PNG"))
    assert len(told(tmp_path, name)) == count
    assert reasons(listed(tmp_path, name)) == {"00000.png": ""}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ffhq", "ffhq-dataset-v2.json"),
        ("celebv-hq", "celebvhq_info.json"),
        ("mm-celeba-hq", "CelebAMask-HQ-attribute-anno.txt"),
    ],
)
@pytest.mark.parametrize("text", ["{broken", "", "[]", '{"a": 1}'])
def test_annotation_files_that_are_none_end_the_run_before_it_starts(
    tmp_path: Path, name: str, file: str, text: str
) -> None:
    put(tmp_path / file, text)
    with pytest.raises(UserError, match=file):
        listed(tmp_path, name)
