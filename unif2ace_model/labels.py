"""What people said of the faces in a dataset, and the frozen encoder's features of those faces.

Only labels of the source that count as validated are learnt from: a machine's labels would come back as if they had been
checked. Attributes that are stated on request only (the complexion) are not learnt at all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime

from unif2ace_data.attributes.measure import is_annotation
from unif2ace_data.attributes.predict import PIXELS, pixels_of
from unif2ace_data.errors import UserError
from unif2ace_data.faces.decode import decode
from unif2ace_data.faces.runtime import session_options
from unif2ace_data.run.local import usable_cores
from unif2ace_data.run.progress import Progress
from unif2ace_data.schema import SPLITS, Sample
from unif2ace_data.shards import dataset_shards, read_index, read_samples
from unif2ace_data.taxonomy import load_taxonomy
from unif2ace_model.encoders import FEATURES, Encoder


@dataclass(slots=True)
class Labelled:
    """The labelled samples of a dataset, in its order. `labels[i]`: attribute -> value; `turned` (N, 2): yaw, pitch."""

    keys: list[str]
    splits: np.ndarray  # (N,) str
    labels: list[dict[str, str]]
    turned: np.ndarray
    align: str
    root_sha256: str
    licences: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)

    def of(self, name: str) -> np.ndarray:
        """(N,) str: the label of one attribute, "" where there is none."""
        return np.array([labels.get(name, "") for labels in self.labels])


def labels_of(sample: Sample) -> dict[str, str]:
    """Attribute -> value from people's annotations; an attribute about which they disagree has none."""
    taxonomy = load_taxonomy()
    said: dict[str, set[str]] = {}
    for attribute in sample.attributes:
        if is_annotation(attribute) and attribute.validated and not taxonomy[attribute.name].on_request:
            said.setdefault(attribute.name, set()).add(attribute.value)
    return {name: values.pop() for name, values in said.items() if len(values) == 1}


def read_labelled(shards: Path) -> Labelled:
    """Raises UserError: no dataset, no labels in it, a split without labelled samples."""
    found = Labelled([], np.array([]), [], np.zeros((0, 2)), "", str(read_index(shards)["root_sha256"]))
    splits, turned, samples = [], [], 0
    for shard in dataset_shards(shards):
        for key, files in read_samples(shard):
            sample = Sample.model_validate_json(files["json"])
            samples += 1
            found.align = sample.image.align
            labels = labels_of(sample)
            if labels:
                found.keys.append(key)
                found.labels.append(labels)
                splits.append(sample.split)
                turned.append((sample.face.yaw, sample.face.pitch))
                found.licences[sample.source.licence or "not stated"] += 1
                found.sources[sample.source.dataset] += 1
    if not found.keys:
        raise UserError(
            f"none of the {samples} samples in {shards} carries a label that people gave: build it from a source with "
            "annotations (mm-celeba-hq, celebv-hq, or an x.json with `attributes` beside each photo)"
        )
    found.splits, found.turned = np.array(splits), np.array(turned)
    counts = Counter(splits)
    if empty := [split for split in SPLITS if not counts[split]]:
        raise UserError(
            f"{shards} has no labelled samples in {' and '.join(empty)}: build it with larger shares, "
            "for example --set splits.train=0.5 --set splits.validation=0.25 --set splits.test=0.25"
        )
    return found


def features_of(shards: Path, labelled: Labelled, encoder: Encoder, quiet: bool) -> np.ndarray:
    """(N, D) float32: the encoder's features of the labelled samples' crops, computed once, one sample at a time."""
    options = session_options()
    options.intra_op_num_threads = usable_cores()  # nothing else runs beside this
    session = onnxruntime.InferenceSession(
        encoder.graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    wanted, features = set(labelled.keys), []
    progress = Progress("encoding", len(wanted), quiet)
    for shard in dataset_shards(shards):
        for key, files in read_samples(shard):
            if key in wanted:
                landmarks = np.array(Sample.model_validate_json(files["json"]).face.landmarks)
                pixels = pixels_of(decode(files["jpg"]).rgb, landmarks, encoder.preprocessing)
                features.append(session.run([FEATURES], {PIXELS: pixels})[0][0])
                progress.advance(1, [])
    progress.close()
    return np.stack(features).astype(np.float32)
