"""FFHQ: images1024x1024/00000/00000.png (or flat, or thumbnails128x128), ffhq-dataset-v2.json, and json/00000.json.

The metadata (ffhq-dataset-v2.json) names author, licence and page of every photograph. The features
(ffhq-features-dataset, one file a photo) are the answers of a commercial face service: machine-made, so not validated
here. Its yaw is positive where the nose points to the image's right, its roll where the head leans clockwise, as answers
that carry landmarks show; the sign of its pitch could not be established, so only a level head is taken over.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.errors import InputError, UserError
from unif2ace_data.schema import Annotations
from unif2ace_data.sources.annotations import Layout, attribute, find, wrong_size
from unif2ace_data.sources.manifest import Manifest

METADATA = "ffhq-dataset-v2.json"
FEATURES = re.compile(r"(^|/)json/\d{5}\.json$")
LICENCES = {  # by what license_url says
    "/by/2.0": "CC-BY-2.0", "/by-nc/2.0": "CC-BY-NC-2.0", "/mark/1.0": "Public Domain Mark 1.0",
    "/zero/1.0": "CC0-1.0", "usa.gov/copyright": "United States Government Work",
}  # fmt: skip
UNSCORED = 0.5  # our choice: a machine's statement that comes without a score
YEARS = {
    "young_adult": (20, 35),
    "middle_aged": (43, 56),
    "older_adult": (63, 120),
}  # our choice: far from the bands' edges
GLASSES = {"NoGlasses": "none", "ReadingGlasses": "eyeglasses", "Sunglasses": "sunglasses"}
EMOTIONS = {
    "anger": "angry", "contempt": "contemptuous", "disgust": "disgusted", "fear": "fearful", "happiness": "happy",
    "neutral": "neutral", "sadness": "sad", "surprise": "surprised",
}  # fmt: skip


def open_ffhq(root: Path, manifest: Manifest) -> Layout:
    notes: list[str] = []
    metadata: dict[str, tuple[str, str, str]] = {}
    path = find(root, METADATA)
    if path is None:
        notes.append(f"ffhq: no {METADATA} at the source: author, licence and page of each photo are not known")
    else:
        notes += wrong_size(path, manifest)
        try:
            metadata = {f"{int(number):05d}": origin(entry) for number, entry in members(path)}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not FFHQ's metadata, or damaged: {error}", 2) from None
    features = find(root, "json", "ffhq-features-dataset/json")
    if features is None:
        notes.append("ffhq: no json/ folder of features at the source: no age, pose, glasses … of its own")

    def said_of(stem: str) -> Annotations:
        author, licence, url = metadata.get(stem, ("", "", ""))
        said = Annotations(author=author, licence=licence, url=url)
        if features is not None and re.fullmatch(r"\d{5}", stem):
            said.attributes = features_of(features / f"{stem}.json")
        return said

    return Layout(
        said_of, lambda inside: inside.endswith(METADATA) or bool(FEATURES.search(inside)), frozenset(), notes
    )


def members(path: Path) -> Iterator[tuple[str, Any]]:
    """(key, value) of a JSON object too large to hold (FFHQ's: 255 MB, some gigabytes in memory). Raises ValueError."""
    decoder, chunk = json.JSONDecoder(), 1 << 20
    key = re.compile(r'[\s,{]*("(?:[^"\\]|\\.)*")\s*:\s*')
    with path.open(encoding="utf-8") as file:
        text = file.read(chunk)
        if not text.lstrip().startswith("{"):
            raise ValueError("not a JSON object")
        place, ended = 0, False
        while True:
            match = key.match(text, place)
            try:
                if match is None:
                    raise ValueError("no key" if text[place:].strip(" \t\r\n,{") != "}" else "end")
                value, place = decoder.raw_decode(text, match.end())
            except ValueError as error:
                more = "" if ended else file.read(chunk)
                ended = not more
                if ended:
                    if str(error) == "end":
                        return
                    raise ValueError(f"it breaks off or is no JSON ({error})") from None
                if len(text) - place > 64 * chunk:
                    raise ValueError("an entry of more than 64 MB") from None
                text, place = text[place:] + more, 0
                continue
            yield json.loads(match[1]), value


def origin(entry: dict[str, Any]) -> tuple[str, str, str]:
    """(author, licence, page) of one entry of the metadata."""
    photo = entry.get("metadata") or {}
    link = str(photo.get("license_url") or "")
    licence = next((name for part, name in LICENCES.items() if part in link), str(photo.get("license") or ""))
    return well_formed(photo.get("author")), well_formed(licence), well_formed(photo.get("photo_url"))


def well_formed(text: Any) -> str:
    """JSON may escape half a character; a ledger is UTF-8."""
    return str(text or "").encode("utf-8", "replace").decode()


def features_of(path: Path) -> list[dict[str, Any]]:
    """Attributes from one features file; none where there is none, or no face was found.

    Raises InputError broken_annotation: an age that cannot be read must not open the gate.
    """
    try:
        data = path.read_bytes()
        faces = [f for f in orjson.loads(data) if f.get("faceAttributes")]
        return from_faces(faces, hashlib.sha256(data).hexdigest()[:12])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError("broken_annotation", f"{path.name} of the features cannot be read ({error})") from None


def from_faces(faces: list[dict[str, Any]], revision: str = "") -> list[dict[str, Any]]:
    """Attributes of the largest face. `source_age`, in years, is the lowest of all faces: a gate must fail closed."""
    if not faces:
        return []
    largest = max(faces, key=lambda f: f["faceRectangle"]["width"] * f["faceRectangle"]["height"])
    features = largest["faceAttributes"]
    said: list[dict[str, Any]] = []

    def say(name: str, value: str, confidence: float, measured: str) -> None:
        said.append(
            attribute(name, value, "ffhq", confidence=confidence, validated=False, revision=revision, measured=measured)
        )

    ages = [float(f["faceAttributes"]["age"]) for f in faces if f["faceAttributes"].get("age") is not None]
    if ages:
        say("source_age", f"{min(ages):g}", UNSCORED, "age in years")
    for band, (low, high) in YEARS.items():
        if features.get("age") is not None and low <= features["age"] <= high:
            say("age_band", band, UNSCORED, f"age {features['age']:g}")
    if features.get("gender") in ("female", "male"):
        say("apparent_gender", features["gender"], UNSCORED, "gender")
    say_pose(features.get("headPose") or {}, say)
    say_expression(features, say)
    say_hair(features.get("hair") or {}, features.get("facialHair") or {}, say)
    say_worn(features, say)
    blur = (features.get("blur") or {}).get("blurLevel")
    if blur in ("low", "high"):
        say("blurry", "yes" if blur == "high" else "no", UNSCORED, f"blur {blur}")
    return said


def say_pose(pose: dict[str, float], say: Any) -> None:
    """Our choice of angles: straight within 8 (tilt 4) degrees, turned from 15 (tilt 8) on, nothing said between."""
    for angle, name, middle, straight, turned in (
        ("yaw", "head_turn", "frontal", 8, 15),
        ("roll", "head_tilt", "level", 4, 8),
    ):
        degrees = pose.get(angle)
        if degrees is not None and (abs(degrees) <= straight or abs(degrees) >= turned):
            side = "right" if degrees > 0 else "left"
            say(name, middle if abs(degrees) <= straight else side, UNSCORED, f"{angle} {degrees:g}")
    if pose.get("pitch") is not None and abs(pose["pitch"]) <= 4:
        say("head_pitch", "level", UNSCORED, f"pitch {pose['pitch']:g}")


def say_expression(features: dict[str, Any], say: Any) -> None:
    smile = features.get("smile")
    if smile is not None and (smile <= 0.1 or smile >= 0.9):
        say("smiling", "yes" if smile >= 0.9 else "no", max(smile, 1 - smile), f"smile {smile:g}")
        if smile <= 0.1:
            say("smile", "none", 1 - smile, f"smile {smile:g}")
    scores = features.get("emotion") or {}
    emotion = max(scores, key=lambda name: (scores[name], name), default="")
    if emotion in EMOTIONS and scores[emotion] >= 0.5:
        say("emotion", EMOTIONS[emotion], scores[emotion], f"{emotion} {scores[emotion]:g}")


def say_hair(hair: dict[str, Any], facial: dict[str, float], say: Any) -> None:
    if not hair.get("invisible", True):
        bald = hair.get("bald", 0.5)
        if bald <= 0.1 or bald >= 0.9:
            say("baldness", "bald" if bald >= 0.9 else "none", max(bald, 1 - bald), f"bald {bald:g}")
        colours = sorted(hair.get("hairColor") or [], key=lambda c: (-c["confidence"], c["color"]))
        if colours and colours[0]["color"] in ("black", "brown", "blond", "red", "gray"):
            best = colours[0]
            say("hair_color", best["color"], best["confidence"], f"{best['color']} {best['confidence']:g}")
    if facial and max(facial.values()) <= 0.1:
        say("facial_hair", "none", 1 - max(facial.values()), "moustache, beard, sideburns")
    for name in ("beard", "moustache"):  # a beard goes with a moustache more often than not, so it is asked first
        if facial.get(name, 0) >= 0.6:
            say("facial_hair", name, facial[name], f"{name} {facial[name]:g}")
            break


def say_worn(features: dict[str, Any], say: Any) -> None:
    if features.get("glasses") in GLASSES:
        say("glasses", GLASSES[features["glasses"]], UNSCORED, features["glasses"])
    makeup = features.get("makeup") or {}
    if makeup:
        eyes, lips = bool(makeup.get("eyeMakeup")), bool(makeup.get("lipMakeup"))
        if not (eyes and lips):  # both: the taxonomy's one value cannot say it
            say("makeup", "eyes" if eyes else "lips" if lips else "none", UNSCORED, "makeup")
    if "accessories" in features:
        worn = {a["type"]: float(a.get("confidence", UNSCORED)) for a in features["accessories"]}
        if "headwear" not in worn:
            say("headwear", "none", UNSCORED, "accessories")
        say("wearing_mask", "yes" if "mask" in worn else "no", worn.get("mask", UNSCORED), "accessories")
    occlusion = features.get("occlusion") or {}
    if occlusion:
        covered = [part for part in ("forehead", "eye", "mouth") if occlusion.get(f"{part}Occluded")]
        say(
            "face_occlusion",
            covered[0] if len(covered) == 1 else "several" if covered else "none",
            UNSCORED,
            "occlusion",
        )
