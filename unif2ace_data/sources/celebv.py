"""CelebV-HQ: clips {id}.mp4 and celebvhq_info.json (40 appearance labels, 35 actions, 8 emotions of each clip).

People annotated the clips. An appearance, and an emotion of the whole clip, hold in every frame and are validated. An
action happens somewhere in the clip, and one of several emotions only in its stretch: the frame that becomes the sample
need not show it, so these are recorded as not validated, with an even chance or the emotion's share of the time.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

from unif2ace_data.errors import InputError, UserError
from unif2ace_data.schema import Annotations
from unif2ace_data.sources.annotations import Layout, attribute, find, people_said, wrong_size
from unif2ace_data.sources.manifest import Manifest
from unif2ace_data.taxonomy import load_taxonomy

INFO = "celebvhq_info.json"
EVEN = 0.5


def open_celebv(root: Path, manifest: Manifest) -> Layout:
    notes: list[str] = []
    clips: dict[str, dict[str, Any]] = {}
    appearance: list[str] = []
    action: list[str] = []
    revision = ""
    path = find(root, INFO)
    if path is None:
        notes.append(f"celebv-hq: no {INFO} at the source: no labels, actions or emotions of its own")
    else:
        notes += wrong_size(path, manifest)
        try:
            data = path.read_bytes()
            revision = hashlib.sha256(data).hexdigest()[:12]
            info = orjson.loads(data)
            appearance, action = (list(info["meta_info"][f"{part}_mapping"]) for part in ("appearance", "action"))
            clips = dict(info["clips"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is not CelebV-HQ's annotation file, or damaged: {error}", 2) from None

    def said_of(stem: str) -> Annotations:
        clip = clips.get(stem)
        try:
            return said_of_clip(clip, appearance, action, revision) if clip else Annotations()
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise InputError("broken_annotation", f"{INFO}: the entry {stem} cannot be read ({error})") from None

    return Layout(said_of, lambda inside: inside.rpartition("/")[2] == INFO, frozenset(), notes)


def said_of_clip(clip: dict[str, Any], appearance: list[str], action: list[str], revision: str) -> Annotations:
    said = Annotations(url=f"https://www.youtube.com/watch?v={clip['ytb_id']}" if clip.get("ytb_id") else "")
    labels = clip.get("attributes") or {}
    looks = dict(zip(appearance, map(bool, labels.get("appearance") or []), strict=False))
    deeds = dict(zip(action, map(bool, labels.get("action") or []), strict=False))
    said.attributes = people_said(looks, "celebv-hq", revision)
    said.attributes += somewhere({name: EVEN for name, seen in deeds.items() if seen}, revision)
    said.attributes += emotions_of(labels.get("emotion") or {}, revision)
    return said


def somewhere(labels: dict[str, float], revision: str) -> list[dict[str, Any]]:
    """Attributes that hold in part of the clip: label -> chance that a frame shows it."""
    return [
        attribute(name, value, "celebv-hq", confidence=chance, validated=False, revision=revision, measured=label)
        for label, chance in labels.items()
        for name, value in load_taxonomy().from_labels({label: True})
    ]  # fmt: skip


def emotions_of(emotion: dict[str, Any], revision: str) -> list[dict[str, Any]]:
    labels = emotion.get("labels")
    if isinstance(labels, str):
        return people_said({labels: True}, "celebv-hq", revision)
    seconds: dict[str, float] = {}
    for part in labels if isinstance(labels, list) else []:
        length = float(part.get("end_sec", 0)) - float(part.get("start_sec", 0))
        seconds[part["emotion"]] = seconds.get(part["emotion"], 0.0) + max(length, 0.0)
    total = sum(seconds.values())
    return somewhere({name: length / total for name, length in seconds.items()}, revision) if total > 0 else []
