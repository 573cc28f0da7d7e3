"""What known datasets say of their own photographs, in the taxonomy's words: FFHQ, MM-CelebA-HQ, CelebV-HQ.

Attributes that people annotated (CelebA, CelebV-HQ) count as validated; what an earlier machine annotated (FFHQ's
features come from a face API) is evidence, but no caption rests on it alone.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Literal

import orjson

from unif2ace_data.schema import Annotations, Attribute, Evidence, UserError
from unif2ace_data.sources.manifest import Manifest

Group = Literal["appearance", "action", "emotion"]

# CelebA's and CelebV-HQ's yes/no labels that are values of one attribute of the taxonomy: label -> (attribute, value).
VALUES = {
    "male": ("apparent_gender", "male"), "bald": ("baldness", "bald"), "receding_hairline": ("baldness", "receding"),
    "black_hair": ("hair_color", "black"), "blond_hair": ("hair_color", "blond"), "blonde_hair": ("hair_color", "blond"),
    "brown_hair": ("hair_color", "brown"), "gray_hair": ("hair_color", "gray"), "eyeglasses": ("glasses", "eyeglasses"),
    "sunglasses": ("glasses", "sunglasses"), "mustache": ("facial_hair", "moustache"), "goatee": ("facial_hair", "goatee"),
    "5_o_clock_shadow": ("facial_hair", "stubble"), "no_beard": ("facial_hair", "none"),
    "bushy_eyebrows": ("brow_thickness", "thick"), "oval_face": ("face_shape", "oval"), "big_lips": ("lips", "full"),
    "chubby": ("face_fullness", "full"), "long_hair": ("hair_length", "long"), "bags_under_eyes": ("eye_bags", "visible"),
    "narrow_eyes": ("eye_openness", "narrowed"), "big_nose": ("nose_width", "wide"),
    "wearing_hat": ("headwear", "hat"), "heavy_makeup": ("makeup", "heavy"),
}  # fmt: skip
OPPOSITES = {"male": ("apparent_gender", "female")}  # the one label whose "no" names a value
# Judgements of attractiveness, and age as CelebA words it, are not read: the first is forbidden, the second relative.
UNREAD = {"attractive", "young", "blurry"}
ACTIONS = {
    "smile": ("smile", "broad"), "smiling": ("smile", "broad"), "laugh": ("laugh", "yes"), "wink": ("wink", "yes"),
    "frown": ("frown", "frowning"), "close_eyes": ("eye_openness", "closed"),
}  # fmt: skip
EMOTIONS = {
    "neutral": "neutral", "happy": "happy", "happiness": "happy", "sadness": "sad", "sad": "sad",
    "anger": "angry", "angry": "angry", "surprise": "surprised", "fear": "fearful", "disgust": "disgusted",
    "contempt": "contemptuous",
}  # fmt: skip


class Layout:
    """A plain folder: nothing of its own. `notes` are for the user."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def annotations(self, relative: str) -> Annotations | None:
        """What the dataset says of the picture at this path below the root; None: nothing, look for sidecars."""
        return None

    def is_annotation(self, relative: str) -> bool:
        """Whether a file or folder (trailing slash) holds annotations and so is no input."""
        return False


def open_layout(root: Path, manifest: Manifest) -> Layout:
    """Raises UserError where an annotation file is there and cannot be understood."""
    if manifest.layout == "ffhq":
        return Ffhq(root)
    if manifest.layout == "mm-celeba-hq":
        return MmCelebaHq(root)
    if manifest.layout == "celebv-hq":
        return CelebvHq(root)
    return Layout()


def attribute(
    name: str, group: Group, value: str, by: str, validated: bool, confidence: float, measured: str = ""
) -> dict[str, Any]:
    evidence = Evidence(by=f"source:{by}", measured=measured)
    return Attribute(
        name=name, group=group, value=value, confidence=round(confidence, 3), validated=validated, evidence=evidence
    ).model_dump()  # fmt: skip


def binary_label(label: str, yes: bool, by: str) -> dict[str, Any] | None:
    """One yes/no label of CelebA or CelebV-HQ as an attribute; None where it is not read."""
    name = label.lower().strip()
    if name in UNREAD:
        return None
    known = VALUES.get(name) if yes else OPPOSITES.get(name)
    if known:
        return attribute(*known[:1], "appearance", known[1], by, True, 1.0, f"{name}={'yes' if yes else 'no'}")
    if name in ACTIONS and name in ("smiling",):
        return attribute(
            "smile", "action", "broad" if yes else "none", by, True, 1.0, f"{name}={'yes' if yes else 'no'}"
        )
    return attribute(name, "appearance", "yes" if yes else "no", by, True, 1.0)


def load_json(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", 2) from None


# ------------------------------------------------------------------ FFHQ


class Ffhq(Layout):
    """images1024x1024/00000/00000.png (or flat, or thumbnails), ffhq-dataset-v2.json, json/00000.json (features)."""

    METADATA = "ffhq-dataset-v2.json"

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.folder = root if root.is_dir() else root.parent
        self.metadata: dict[str, dict[str, str]] = {}
        path = self.folder / self.METADATA
        if path.is_file():
            fields = ("author", "license", "license_url", "photo_url")
            for number, entry in load_json(path).items():
                found = entry.get("metadata", {})
                self.metadata[f"{int(number):05d}"] = {f: str(found.get(f, "")) for f in fields}
        else:
            self.notes.append(f"{self.METADATA} is missing: authors and licences of the photographs are not known")
        if not (self.folder / "json").is_dir():
            self.notes.append("json/ (ffhq-features-dataset) is missing: no age, pose or glasses annotations")

    def is_annotation(self, relative: str) -> bool:
        return relative in (self.METADATA, "json/") or (
            relative.count("/") == 0 and relative.startswith("ffhq-dataset")
        )

    def annotations(self, relative: str) -> Annotations | None:
        number = PurePosixPath(relative).stem
        facts = self.metadata.get(number, {})
        notes = Annotations(
            author=facts.get("author", ""), licence=facts.get("license", ""), url=facts.get("photo_url", "")
        )
        features = self.folder / "json" / f"{number}.json"
        faces = load_json(features) if features.is_file() else []
        if len(faces) == 1:  # with several faces the record does not say which one the picture is cropped to
            notes.attributes = feature_attributes(faces[0].get("faceAttributes", {}))
        return notes


def feature_attributes(features: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes from one face of FFHQ's features JSON (a face API's answer: not validated)."""
    found: list[dict[str, Any]] = []

    def say(name: str, group: Group, value: str, confidence: float, measured: str) -> None:
        found.append(attribute(name, group, value, "ffhq", False, min(1.0, max(0.0, confidence)), measured))

    if "age" in features:
        say("source_age", "appearance", f"{features['age']:g}", 0.5, f"age={features['age']:g}")
    if features.get("gender") in ("male", "female"):
        say("apparent_gender", "appearance", features["gender"], 0.9, f"gender={features['gender']}")
    if "smile" in features:
        smile = float(features["smile"])
        value = "broad" if smile > 0.8 else "none" if smile < 0.1 else "slight"
        say("smile", "action", value, max(smile, 1 - smile), f"smile={smile:g}")
    pose = features.get("headPose") or {}
    if "yaw" in pose:
        # The API's yaw grows as the face turns to its own left, which is the image's right.
        yaw = float(pose["yaw"])
        say("head_turn", "action", "frontal" if abs(yaw) < 8 else "right" if yaw > 0 else "left", 0.8, f"yaw={yaw:g}")
    glasses = {"NoGlasses": "none", "ReadingGlasses": "eyeglasses", "Sunglasses": "sunglasses"}.get(
        features.get("glasses", "")
    )
    if glasses:
        say("glasses", "appearance", glasses, 0.9, f"glasses={features['glasses']}")
    beard = features.get("facialHair") or {}
    if beard:
        name = max(("moustache", "beard", "sideburns"), key=lambda k: beard.get(k, 0.0))
        score = float(beard.get(name, 0.0))
        say("facial_hair", "appearance", name if score >= 0.5 else "none", max(score, 1 - score), f"{name}={score:g}")
    hair = features.get("hair") or {}
    if hair.get("bald", 0.0) >= 0.8:
        say("baldness", "appearance", "bald", float(hair["bald"]), f"bald={hair['bald']:g}")
    colours = {"black": "black", "brown": "brown", "blond": "blond", "red": "red", "gray": "gray", "white": "gray"}
    best = max(hair.get("hairColor") or [{}], key=lambda c: c.get("confidence", 0.0))
    if best.get("color") in colours:
        say(
            "hair_color",
            "appearance",
            colours[best["color"]],
            float(best["confidence"]),
            f"{best['color']}={best['confidence']:g}",
        )
    emotions = features.get("emotion") or {}
    if emotions:
        name = max(emotions, key=lambda k: emotions[k])
        if name in EMOTIONS:
            say("emotion", "emotion", EMOTIONS[name], float(emotions[name]), f"{name}={emotions[name]:g}")
    makeup = features.get("makeup") or {}
    for part, value in (("lipMakeup", "lips"), ("eyeMakeup", "eyes")):
        if makeup.get(part):
            say("makeup", "appearance", value, 0.8, f"{part}=true")
    return found


# ------------------------------------------------------------------ MM-CelebA-HQ


class MmCelebaHq(Layout):
    """images/0.jpg …, text/celeba-caption/0.txt (ten captions), CelebAMask-HQ-attribute-anno.txt (40 labels)."""

    LABELS = "CelebAMask-HQ-attribute-anno.txt"
    CAPTIONS = "text/celeba-caption"

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.folder = root if root.is_dir() else root.parent
        self.labels: dict[str, str] = {}
        self.names: list[str] = []
        path = self.folder / self.LABELS
        if path.is_file():
            lines = path.read_text("utf-8", "replace").splitlines()
            self.names = lines[1].split() if len(lines) > 1 else []
            if len(self.names) != 40:
                raise UserError(f"{path}: its second line names {len(self.names)} attributes instead of CelebA's 40", 2)
            for line in lines[2:]:
                name, _, values = line.partition(" ")
                self.labels[name] = values
        else:
            self.notes.append(f"{self.LABELS} is missing: no CelebA attributes")
        if not (self.folder / self.CAPTIONS).is_dir():
            self.notes.append(f"{self.CAPTIONS}/ is missing: no captions")

    def is_annotation(self, relative: str) -> bool:
        return relative in (self.LABELS, "text/") or relative.endswith((".pickle", ".pkl"))

    def annotations(self, relative: str) -> Annotations | None:
        name = PurePosixPath(relative).name
        notes = Annotations()
        captions = self.folder / self.CAPTIONS / f"{PurePosixPath(relative).stem}.txt"
        if captions.is_file():
            notes.captions = [
                line.strip() for line in captions.read_text("utf-8", "replace").splitlines() if line.strip()
            ]
        values = self.labels.get(name, "").split()
        if len(values) == len(self.names):
            found = (
                binary_label(label, value == "1", "celeba") for label, value in zip(self.names, values, strict=True)
            )
            notes.attributes = [a for a in found if a]
        return notes


# ------------------------------------------------------------------ CelebV-HQ


class CelebvHq(Layout):
    """{id}.mp4 clips anywhere below the root, celebvhq_info.json."""

    INFO = "celebvhq_info.json"

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.folder = root if root.is_dir() else root.parent
        self.clips: dict[str, Any] = {}
        self.appearance: list[str] = []
        self.action: list[str] = []
        path = self.folder / self.INFO
        if path.is_file():
            info = load_json(path)
            try:
                self.appearance = list(info["meta_info"]["appearance_mapping"])
                self.action = list(info["meta_info"]["action_mapping"])
                self.clips = dict(info["clips"])
            except (KeyError, TypeError) as error:
                raise UserError(f"{path}: no {error} in it: not CelebV-HQ's annotation file", 2) from None
        else:
            self.notes.append(f"{self.INFO} is missing: no attributes, actions or emotions")

    def is_annotation(self, relative: str) -> bool:
        return relative == self.INFO

    def annotations(self, relative: str) -> Annotations | None:
        clip = self.clips.get(PurePosixPath(relative).stem)
        if clip is None:
            return Annotations()
        notes = Annotations(url=f"https://www.youtube.com/watch?v={clip['ytb_id']}" if clip.get("ytb_id") else "")
        labels = clip.get("attributes") or {}
        found = [
            binary_label(n, bool(v), "celebv-hq")
            for n, v in zip(self.appearance, labels.get("appearance", []), strict=False)
        ]
        for name, value in zip(self.action, labels.get("action", []), strict=False):
            if value:
                known = ACTIONS.get(name, (name, "yes"))
                # Of a clip it is known that somebody smiles in it, not in which frame: no caption of a frame rests on it.
                found.append(attribute(known[0], "action", known[1], "celebv-hq", False, 0.5, f"{name} in the clip"))
        emotion = labels.get("emotion") or {}
        if not emotion.get("sep_flag") and isinstance(emotion.get("labels"), str) and emotion["labels"] in EMOTIONS:
            found.append(
                attribute(
                    "emotion", "emotion", EMOTIONS[emotion["labels"]], "celebv-hq", True, 0.8, "of the whole clip"
                )
            )
        notes.attributes = [a for a in found if a]
        return notes
