"""A dataset of real crops with labels of its source, and a CLIP with random weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import torch

from unif2ace_data.faces.align import encode_jpeg
from unif2ace_data.faces.decode import decode
from unif2ace_data.schema import Attribute, Evidence, Sample
from unif2ace_data.shards import dataset_shards, read_samples, write_index, write_shard
from unif2ace_data.taxonomy import load_taxonomy

Labels = Callable[[int, str], dict[str, str]]  # number, whose photograph -> attribute -> value
COUNTS = {"train": 60, "validation": 72, "test": 32}
SIDE = 128
TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


def person_of(sample: Sample) -> str:
    return sample.source.id.rpartition("/")[2].rstrip(".jpng0123456789")


def annotation(name: str, value: str, **changes: Any) -> Attribute:
    record = {"name": name, "group": load_taxonomy()[name].group, "value": value, "confidence": 1.0, "validated": True}
    return Attribute.model_validate({**record, "evidence": Evidence(by="source:annotation"), **changes})


def base_samples(shards: Path) -> list[tuple[Sample, np.ndarray]]:
    found = [files for shard in dataset_shards(shards) for _, files in read_samples(shard)]
    pairs = [(Sample.model_validate_json(files["json"]), decode(files["jpg"]).rgb) for files in found]
    return sorted(pairs, key=lambda pair: pair[0].uid)


def write_labelled(
    built: Path, out: Path, labels: Labels, counts: dict[str, int] = COUNTS, extra: list[Attribute] | None = None
) -> Path:
    """Variations of the crops in `built` (light and grain; even numbers of the woman, odd ones of the men), labelled."""
    pairs = base_samples(built)
    women = [p for p in pairs if person_of(p[0]) == "astronaut"]
    men = [p for p in pairs if person_of(p[0]) != "astronaut"]
    out.mkdir()
    shards, number = [], 0
    for split, count in counts.items():
        made = []
        for _ in range(count):
            group = men if number % 2 else women
            base, crop = group[number // 2 % len(group)]
            rng = np.random.default_rng(number)
            small = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            picture = small * rng.uniform(0.8, 1.2) + rng.normal(0, 4, small.shape)
            given = labels(number, person_of(base))
            if "dark" in given.values():
                picture *= 0.3
            scale = SIDE / crop.shape[0]
            face = base.face.model_copy(update={"landmarks": [[x * scale, y * scale] for x, y in base.face.landmarks]})
            said = [annotation(name, value) for name, value in given.items()]
            uid = hashlib.sha256(f"{number}".encode()).hexdigest()[:32]
            changes = {"uid": uid, "split": split, "face": face, "attributes": [*(extra or []), *said]}
            made.append(
                (uid, encode_jpeg(np.clip(picture, 0, 255).astype(np.uint8), 90), base.model_copy(update=changes))
            )
            number += 1
        made.sort(key=lambda sample: sample[0])
        if made:
            name = f"{split}-000000.tar"
            info = write_shard(out / name, made)
            shards.append(
                {
                    "name": name,
                    "split": split,
                    "prefix": "",
                    **{k: getattr(info, k) for k in ("samples", "bytes", "sha256")},
                }
            )
    sums = dict.fromkeys(
        ("inputs", "inputs_kept", "inputs_dropped", "inputs_failed", "rows", "kept", "dropped", "failed"), 0
    )
    write_index(out, shards, {}, {**sums, "reasons": {}})
    return out


def write_clip(folder: Path) -> Path:
    """A tiny CLIP with random weights, in open_clip's own format."""
    folder.mkdir()
    torch.manual_seed(0)
    clip = open_clip.CLIP(**TINY)
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    how = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": how}))
    return folder
