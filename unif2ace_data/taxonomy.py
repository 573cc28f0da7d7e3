"""The attributes as data: manifests/attributes.yaml, read into strict, typed models.

Beside names, values and questions it holds how each attribute is measured and, per value, the claim that measurements
on labelled photographs allow (docs/attributes.md). A key that is not known is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from unif2ace_data.errors import UserError
from unif2ace_data.resources import resource
from unif2ace_data.schema import Group, Model

MIN_CASES, MIN_PRECISION, MIN_WILSON = 30, 0.9, 0.8  # what a value needs to be claimed
MIN_OTHERS, MAX_MISTAKEN = 10, 0.5  # our addition: it must not be said of most of those that are labelled otherwise


class ValueClaim(Model):
    """What was measured on labelled photographs at `threshold` (the least confidence at which the value is stated).

    `labels` photographs carry a label of the attribute; in `cases` of them the value was asserted, and `others` carry
    another value; of these it was asserted, wrongly, in `mistaken`. `coverage`: share of the photographs that carry the
    value in which it was asserted. `wilson_low`: lower end of the precision's 95 % Wilson interval.
    """

    threshold: float = Field(ge=0, le=1)
    labels: int = Field(ge=0)
    cases: int = Field(ge=0)
    others: int = Field(ge=0)
    mistaken: int = Field(ge=0)
    precision: float = Field(ge=0, le=1)
    coverage: float = Field(ge=0, le=1)
    wilson_low: float = Field(ge=0, le=1)

    @functools.cached_property
    def holds(self) -> bool:
        """Whether the value may be claimed."""
        enough = min(self.labels, self.cases) >= MIN_CASES
        telling = self.others < MIN_OTHERS or self.mistaken <= MAX_MISTAKEN * self.others
        return enough and telling and self.precision >= MIN_PRECISION and self.wilson_low >= MIN_WILSON


class Label(Model):
    """The value that a positive label of a source gives, and the one that a negative label gives ("": neither)."""

    present: str = ""
    absent: str = ""


class Bands(Model):
    """One quantity cut at `edges`, in the order of the values; `width`: scale of the logistic error around each edge."""

    quantity: str
    edges: list[float]
    width: float = Field(gt=0)


class Fit(Model):
    """A logistic model on these quantities; `penalty`: strength of its L2 penalty (on standardised quantities)."""

    quantities: list[str] = Field(min_length=1)
    penalty: float = Field(5.0, gt=0)


class Weights(Model):
    """A fitted model: softmax over `values` of bias + weights · (quantity - mean) / scale.

    A value "" stands for "none of the attribute's values" (the hair of a bald head has no colour) and is never stated.
    """

    quantities: list[str]  # as Fit has them when the model was fitted
    values: list[str] = Field(min_length=2)
    mean: list[float]
    scale: list[float]
    bias: list[float]
    weights: list[list[float]]  # one row per value


class Entry(Model):
    """One attribute. `weights` and `claims` are written by the benchmark and merged in by `load_taxonomy`."""

    name: str
    group: Group
    values: list[str] = Field(min_length=2)
    which: str
    yes_no: str
    words: dict[str, str] = {}
    hidden_by: dict[str, list[str]] = {}
    labels: dict[str, Label] = {}
    bands: Bands | None = None
    fit: Fit | None = None
    on_request: bool = False
    least: float = (
        0.0  # confidence from which a value is claimed at all, where a wrong claim weighs more than a missing one
    )
    weights: Weights | None = None
    claims: dict[str, ValueClaim] = {}

    @property
    def measured(self) -> bool:
        """Whether the embedded mode measures it."""
        return self.bands is not None or self.weights is not None

    @functools.cached_property
    def used(self) -> str:
        """The quantities that it is measured by, separated by blanks."""
        return " ".join(self.fit.quantities) if self.fit else self.bands.quantity if self.bands else ""

    def said(self, value: str) -> str:
        """How `value` is said in a question or an answer."""
        return self.words.get(value, value.replace("_", " "))

    def asks(self, value: str) -> str:
        """The closed question whether the attribute has `value` (of yes/no attributes: the attribute itself)."""
        return self.yes_no.replace("{value}", self.said(value))

    @model_validator(mode="after")
    def agrees_with_itself(self) -> Entry:
        known = set(self.values)
        if len(known) < len(self.values):
            raise ValueError(f"{self.name}: a value is listed twice")
        used = {*self.words, *self.claims, *(self.weights.values if self.weights else ())} - {""}
        used |= {value for label in self.labels.values() for value in (label.present, label.absent) if value}
        if used - known:
            raise ValueError(f"{self.name}: {sorted(used - known)} not among its values {self.values}")
        if set(self.values) != {"no", "yes"} and "{value}" not in self.yes_no and len(self.values) > 2:
            raise ValueError(f"{self.name}: yes_no must ask about {{value}}")
        if self.bands and self.fit:
            raise ValueError(f"{self.name}: bands or fit, not both")
        if self.bands and len(self.bands.edges) != len(self.values) - 1:
            raise ValueError(f"{self.name}: {len(self.values)} values need {len(self.values) - 1} edges")
        if self.bands and sorted(self.bands.edges) != self.bands.edges:
            raise ValueError(f"{self.name}: edges must rise")
        if self.weights:
            w, wanted = self.weights, self.fit.quantities if self.fit else []
            lengths = {len(wanted), len(w.mean), len(w.scale), *(len(row) for row in w.weights)}
            rows = {len(w.values), len(w.bias), len(w.weights)}
            if w.quantities != wanted or len(lengths) > 1 or len(rows) > 1:
                raise ValueError(f"{self.name}: weights do not fit its quantities; run the benchmark again")
        return self


class Taxonomy(Model):
    attributes: dict[str, Entry]

    @model_validator(mode="after")
    def hidden_by_what_is_known(self) -> Taxonomy:
        for entry in self.attributes.values():
            for name, values in entry.hidden_by.items():
                if name not in self.attributes or set(values) - set(self.attributes[name].values):
                    raise ValueError(f"{entry.name}: hidden_by names {name} {values}, which the taxonomy does not have")
        return self

    @functools.cached_property
    def measured(self) -> list[Entry]:
        """Those that the embedded mode measures."""
        return [entry for entry in self.attributes.values() if entry.measured]

    def __getitem__(self, name: str) -> Entry:
        return self.attributes[name]

    def __contains__(self, name: str) -> bool:
        return name in self.attributes

    def from_labels(self, labels: Mapping[str, bool]) -> list[tuple[str, str]]:
        """(attribute, value) pairs that a source's yes/no labels state, in the taxonomy's order.

        Labels go by their CelebA or CelebV-HQ names in any case; what the taxonomy does not know (CelebA's
        "Attractive") says nothing. Where several labels speak of one attribute, the first in the taxonomy decides.
        """
        given = {name.strip().lower().replace(" ", "_"): positive for name, positive in labels.items()}
        stated = []
        for entry in self.attributes.values():
            for name, label in entry.labels.items():
                value = (label.present if given[name] else label.absent) if name in given else ""
                if value:
                    stated.append((entry.name, value))
                    break
        return stated


@functools.cache
def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """The taxonomy that travels with the package, or the one in `path`. Raises UserError that names the offending key."""
    file = path or resource("manifests", "attributes.yaml")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: the attribute taxonomy cannot be read: {error}") from None
    return parse_taxonomy(text, str(file))


def parse_taxonomy(text: str, where: str) -> Taxonomy:
    """The taxonomy in this YAML text; `where` names it in errors."""
    try:
        data = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not YAML: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("attributes"), dict):
        raise UserError(f"{where}: a taxonomy is a mapping with `attributes`")
    unknown = set(data) - {"attributes", "weights", "claims"}
    if unknown:
        raise UserError(f"{where}: unknown {sorted(unknown)}; a taxonomy has attributes, weights and claims")
    entries: dict[str, Any] = {name: {"name": name, **(body or {})} for name, body in data["attributes"].items()}
    for part in ("weights", "claims"):
        for name, body in (data.get(part) or {}).items():
            if name not in entries:
                raise UserError(f"{where}: {part} of {name!r}, which is no attribute")
            entries[name][part] = body
    try:
        return Taxonomy.model_validate({"attributes": entries})
    except ValidationError as error:
        lines = [f"  {'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise UserError(f"{where} does not hold:\n" + "\n".join(lines)) from None
