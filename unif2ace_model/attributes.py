"""The paper's attribute model: a head per attribute on a frozen image encoder, learnt from what the sources' people said.

paper: a classifier trained on CelebV-HQ's annotations corrects what the vision-language model says of a face.
Trained on `train`, thresholds chosen on `validation`, counted once more on `test`: nobody is in two of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unif2ace_data.attributes.predict import FORMAT, METADATA, Head, Metadata
from unif2ace_data.errors import UserError
from unif2ace_data.schema import SPLITS
from unif2ace_data.shards import write_bytes
from unif2ace_data.taxonomy import MIN_CASES, MIN_PRECISION, MIN_WILSON, Entry, ValueClaim, load_taxonomy
from unif2ace_model.card import card_of
from unif2ace_model.encoders import Encoder, add_heads, load_encoder
from unif2ace_model.heads import (
    Counted,
    Fitted,
    best_claim,
    calibration_error,
    choose_claim,
    count,
    fit_head,
    likeliest,
)
from unif2ace_model.labels import Labelled, features_of, read_labelled

MIN_TRAIN = 20  # our choice: training labels that a value needs to be learnt
MIN_TEST = 10  # our choice: faces in `test` of which a value must have been said, and rightly, to be shipped
# What the aligned crop of a face network does not show. It could only guess it from who usually has it (neckties and short
# hair from the apparent gender), and such a guess is precise on average and wrong about everybody it matters to.
UNSEEN = frozenset({
    "head_tilt", "double_chin", "hair_color", "baldness", "hair_length", "straight_hair", "wavy_hair", "bangs",
    "wearing_earrings", "wearing_necklace", "wearing_necktie", "headwear", "clothing_tone", "background_tone",
    "background_hue", "image_contrast", "face_framing", "head_wagging", "listen_to_music", "nod", "play_instrument", "read",
    "shake_head", "turn",
})  # fmt: skip
SEEN = 99  # percentile of the training faces' yaw and pitch up to which the model speaks


@dataclass(slots=True)
class Value:
    """One value: its claim as counted on `validation` at its threshold, the same counted on `test`, and `why` not."""

    name: str
    claim: ValueClaim
    test: Counted
    why: str = ""


@dataclass(slots=True)
class Finding:
    """One attribute: labels by split, the fitted head, calibration error on `test`, and its values."""

    name: str
    labels: dict[str, int]
    fitted: Fitted
    calibration_error: float
    values: list[Value]

    @property
    def stated(self) -> dict[str, ValueClaim]:
        return {value.name: value.claim for value in self.values if not value.why}


@dataclass(slots=True)
class Report:
    """What was trained. `left_out`: attributes that state nothing, with the reason."""

    out: Path
    card: Path
    metadata: Metadata
    labelled: Labelled
    findings: list[Finding]
    left_out: dict[str, str] = field(default_factory=dict)


def train(
    shards: Path, out: Path, encoder_name: str = "face", precision: float = MIN_PRECISION, quiet: bool = False
) -> Report:
    """Train on the dataset in `shards`; write the model to `out` and its card beside it (.md).

    Raises UserError: no dataset, no labels or too few, an empty split, no such encoder, an `out` that cannot be
    written, and where no value of any attribute reaches `precision`.
    """
    if not MIN_PRECISION <= precision < 1:
        raise UserError(f"--precision {precision}: from {MIN_PRECISION} (what a claim needs) to under 1", 2)
    if out.suffix != ".onnx" or out.is_dir() or not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: name an .onnx file in a folder that exists", 2)
    labelled = read_labelled(shards)
    encoder = load_encoder(encoder_name, labelled.align)
    learnable, left_out = learnable_attributes(
        labelled, UNSEEN if encoder.preprocessing.kind == "face" else frozenset()
    )
    if not learnable:
        raise UserError(f"{shards} has too few labels to learn from: " + reasons(left_out))
    features = features_of(shards, labelled, encoder, quiet)
    findings = []
    for entry, values in learnable:
        finding = examine(entry, values, features, labelled, precision)
        findings.append(finding)
        if not finding.stated:
            left_out[entry.name] = "; ".join(f"{value.name}: {value.why}" for value in finding.values)
    stating = [finding for finding in findings if finding.stated]
    if not stating:
        raise UserError(
            f"no value of any attribute reaches precision {precision} with {MIN_CASES} cases on `validation`, so there "
            f"is nothing to write: {reasons(left_out)}. More labels help, or another encoder"
        )
    metadata = metadata_of(encoder, stating, labelled, precision)
    report = Report(out, out.with_suffix(".md"), metadata, labelled, findings, left_out)
    write_model(out, encoder, stating, metadata)
    write_bytes(report.card, card_of(report).encode())
    return report


def reasons(left_out: dict[str, str]) -> str:
    shown = [f"{name} ({why})" for name, why in list(left_out.items())[:4]]
    return ", ".join(shown) + (f" and {len(left_out) - 4} more" if len(left_out) > 4 else "")


def learnable_attributes(
    labelled: Labelled, unseen: frozenset[str]
) -> tuple[list[tuple[Entry, list[str]]], dict[str, str]]:
    """(attribute, its classes) of those with enough labels in `train`, and why the others are left out.

    Values with fewer than MIN_TRAIN labels together make one class "", if there are enough of them.
    """
    learnable, left_out = [], {}
    splits = labelled.splits
    for entry in load_taxonomy().attributes.values():
        labels = labelled.of(entry.name)
        by_split = {split: int(((splits == split) & (labels != "")).sum()) for split in SPLITS}
        if not sum(by_split.values()):
            continue  # nobody said anything of it
        counts = Counter(labels[(splits == "train") & (labels != "")].tolist())
        values = [value for value in entry.values if counts[value] >= MIN_TRAIN]
        if sum(counts.values()) - sum(counts[value] for value in values) >= MIN_TRAIN:
            values.append("")
        if entry.name in unseen:
            left_out[entry.name] = "the crop that a face network sees does not show it"
        elif len(values) < 2:
            seen = ", ".join(f"{value} {counts[value]}" for value in entry.values if counts[value]) or "none"
            left_out[entry.name] = f"fewer than two values with {MIN_TRAIN} labels in train: {seen}"
        elif by_split["validation"] < MIN_CASES:
            left_out[entry.name] = f"{by_split['validation']} labels in validation, {MIN_CASES} are needed"
        elif not by_split["test"]:
            left_out[entry.name] = "no labels in test"
        else:
            learnable.append((entry, values))
    return learnable, left_out


def examine(entry: Entry, values: list[str], features: np.ndarray, labelled: Labelled, precision: float) -> Finding:
    """Fit one attribute's head, choose its values' thresholds, and count them on people who took no part in either."""
    labels = labelled.of(entry.name)
    train, validation, test = ((labelled.splits == split) & (labels != "") for split in SPLITS)
    known = np.array([label if label in values else "" for label in labels.tolist()])
    if "" not in values:
        train &= known != ""  # a rare value that no class stands for
    keys = [key for key, one in zip(labelled.keys, train.tolist(), strict=True) if one]
    held_labels = known[validation].tolist() if "" in values else labels[validation].tolist()
    fitted = fit_head(features[train], known[train].tolist(), keys, values, features[validation], held_labels)
    chosen, counted = likeliest(fitted, features[validation]), likeliest(fitted, features[test])
    findings = []
    for value in (value for value in values if value):
        claim = choose_claim(value, *chosen, labels[validation], precision, entry.least)
        shown = claim or best_claim(value, *chosen, labels[validation], entry.least)
        on_test = count(value, *counted, labels[test], shown.threshold)
        findings.append(Value(value, shown, on_test, why_not(claim, shown, on_test, precision)))
    by_split: dict[str, int] = {split: int(((labelled.splits == split) & (labels != "")).sum()) for split in SPLITS}
    return Finding(entry.name, by_split, fitted, calibration_error(*counted, known[test]), findings)


def why_not(claim: ValueClaim | None, best: ValueClaim, test: Counted, precision: float) -> str:
    """Why a value is not stated; "" where it is."""
    if claim is None and best.cases < MIN_CASES:
        return f"said of {best.cases} faces in validation, {MIN_CASES} are needed"
    if claim is None and best.precision >= precision and best.wilson_low < MIN_WILSON:
        return (
            f"precision {best.precision:.2f} in validation, which may be {best.wilson_low:.2f} with {best.cases} cases"
        )
    if claim is None and best.precision >= precision and not best.holds:
        return f"said of {best.mistaken} of the {best.others} faces in validation that are labelled otherwise"
    if claim is None:
        return f"precision {best.precision:.2f} in validation at best"
    if test.cases < MIN_TEST:
        return f"said of {test.cases} faces in test, {MIN_TEST} are needed"
    if test.precision < precision:  # no second choice of threshold: what does not hold on new people is not shipped
        return f"precision {test.precision:.2f} in test ({test.right} of {test.cases})"
    return ""


def metadata_of(encoder: Encoder, stating: list[Finding], labelled: Labelled, precision: float) -> Metadata:
    yaw, pitch = np.percentile(np.abs(labelled.turned[labelled.splits == "train"]), SEEN, axis=0).round(1).tolist()
    return Metadata(
        format=FORMAT,
        encoder=encoder.facts,
        preprocessing=encoder.preprocessing,
        heads=[Head(name=f.name, values=f.fitted.values, stated=f.stated) for f in stating],
        precision=precision,
        yaw=yaw,
        pitch=pitch,
        trained_on=labelled.root_sha256,
    )


def write_model(out: Path, encoder: Encoder, stating: list[Finding], metadata: Metadata) -> None:
    model = add_heads(encoder, [(finding.fitted.weights_DK, finding.fitted.bias_K) for finding in stating])
    model.metadata_props.add(key=METADATA, value=metadata.model_dump_json())
    write_bytes(out, model.SerializeToString(deterministic=True))
