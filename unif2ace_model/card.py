"""The attribute model's card: what it states, how often that was right, what was left out, and what it is for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unif2ace_model.attributes import Finding, Report

HEADER = (
    "| attribute | value | stated | threshold | validation: cases | precision | Wilson low | test: cases | precision | recall |"
    " calibration error |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def card_of(report: Report) -> str:
    """Markdown."""
    facts, how, labelled = report.metadata.encoder, report.metadata.preprocessing, report.labelled
    values = sum(len(finding.stated) for finding in report.findings)
    stating = sum(bool(finding.stated) for finding in report.findings)
    sees = "the aligned face" if how.kind == "face" else f"the whole crop ({how.align} alignment)"
    terms = (
        " **Non-commercial: so is this model, and so are its predictions in a dataset.**"
        if facts.non_commercial
        else ""
    )
    splits = Counter(labelled.splits.tolist())
    counts = ", ".join(f"{splits[s]} in {s}" for s in ("train", "validation", "test"))
    return f"""# Attribute model: {report.out.name}

{values} values of {stating} attributes, from a head (softmax) per attribute on a frozen encoder.

- **Encoder**: {facts.name}, weights {facts.sha256[:16]}…, licence: {facts.licence}.{terms}
- **Sees**: {sees}, {how.size} x {how.size} pixels.
- **Learnt from**: {len(labelled.keys)} faces with labels that people gave ({counts}); nobody is in two splits.
  Sources: {listed(labelled.sources)}. Licences of the photographs: {listed(labelled.licences)}.
  Dataset {report.metadata.trained_on[:16]}….
- **Speaks of** faces turned by at most {report.metadata.yaw:g} and raised or lowered by at most {report.metadata.pitch:g}
  degrees: 99 of 100 of those that it learnt from are within.

## Intended use

Evidence for attributes in captions and questions, beside the measurements of `unif2ace-data build --attributes`. A value
is stated only from its threshold on; below it nothing is said. Not for deciding anything about a person, not for
finding or recognising people, not for anyone's ethnicity, religion, orientation, health or true gender: "apparent
gender" is what annotators saw.

## Figures

Wanted: precision {report.metadata.precision:g}. *Cases*: faces of which the value was said. The threshold was chosen on
`validation`, whose figures therefore flatter; those on `test` were counted once, at that threshold, and a value that
falls short there was dropped. *Recall*: share of the faces labelled so of which it was said. *Calibration error*: mean
difference between probability and share of right answers on `test`, in five bins, before any threshold.

{HEADER}
{chr(10).join(line for finding in report.findings for line in lines_of(finding))}

## Left out

{left_out(report)}

## Limits

- The figures hold for faces like those of the dataset above. Elsewhere expect less; train it on labels from there.
- Labels are what annotators saw; where they are wrong as a rule, so is the model.
- With few test cases a precision is rough: 29 of 30 right means anything from 0.83 to 0.99.
- A frozen encoder knows what it was trained for: a face network was taught to tell people apart, not to see what they
  look like today.
"""


def lines_of(finding: Finding) -> list[str]:
    error = f"{finding.calibration_error:.2f}"
    lines = []
    for value in finding.values:
        claim, test, stated = value.claim, value.test, "no" if value.why else "**yes**"
        lines.append(
            f"| {finding.name} | {value.name} | {stated} | {claim.threshold:g} | {claim.cases} | {claim.precision:.3f} | "
            f"{claim.wilson_low:.3f} | {test.cases} | {test.precision:.3f} | {test.recall:.2f} | {error} |"
        )
        error = ""
    return lines


def left_out(report: Report) -> str:
    lines = [f"- {name}: {why}." for name, why in report.left_out.items()]
    lines += [
        f"- {finding.name} = {value.name}: {value.why}."
        for finding in report.findings
        for value in finding.values
        if value.why and finding.stated
    ]
    return "\n".join(lines) or "Nothing that carried labels."


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
