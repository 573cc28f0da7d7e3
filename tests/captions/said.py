"""What tests of captions share."""

from __future__ import annotations

from unif2ace_data.schema import Attribute, Evidence
from unif2ace_data.taxonomy import load_taxonomy


def evidence(name: str, value: str, validated: bool = True) -> Attribute:
    """A record that says so, with full confidence."""
    by = Evidence(by="measured", revision="1")
    group = load_taxonomy()[name].group
    return Attribute(name=name, group=group, value=value, confidence=0.99, validated=validated, evidence=by)
