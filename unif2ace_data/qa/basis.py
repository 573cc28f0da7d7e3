"""What a question rests on: when that changes the question goes, and only then.

A question from evidence rests on the sample's attributes, one that a model wrote also on caption and claims. Both may stand
in one sample; each goes or stays by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from unif2ace_data.schema import QA, Sample

FROM_EVIDENCE, FROM_CAPTION = "evidence", "caption"
RESTS_ON = {FROM_EVIDENCE: ("attributes",), FROM_CAPTION: ("attributes", "caption", "claims")}  # as a record has them


def basis_of(sample: Sample, kind: str) -> str:
    """`evidence:HASH` of the attributes; for FROM_CAPTION also `caption:HASH` of attributes, caption and claims."""
    kinds = (FROM_EVIDENCE,) if kind == FROM_EVIDENCE else (FROM_EVIDENCE, FROM_CAPTION)
    return " ".join(hashed(sample, one) for one in kinds)


def hashed(sample: Sample, kind: str) -> str:
    record = orjson.dumps({name: getattr(sample, name) for name in RESTS_ON[kind]}, default=fields_of)
    return f"{kind}:{hashlib.sha256(record).hexdigest()[:32]}"


def fields_of(part: Any) -> dict[str, Any]:
    """Of a part of a Sample, or of a record as records.read_record gives it."""
    return msgspec.structs.asdict(part) if isinstance(part, msgspec.Struct) else vars(part)


def rests_unchanged(fields: Mapping[str, bytes], basis: str) -> bool:
    """Whether all of `basis` is the same in a sample given as the fields of its record, each as JSON."""
    return all(hashed_fields(fields, known.partition(":")[0]) == known for known in basis.split())


def hashed_fields(fields: Mapping[str, bytes], kind: str) -> str:
    """`hashed`, of bytes that are never read."""
    digest = hashlib.sha256()
    for name, mark in zip(RESTS_ON[kind], (b"{", b",", b","), strict=False):
        digest.update(mark + orjson.dumps(name) + b":")
        digest.update(fields[name])
    digest.update(b"}")
    return f"{kind}:{digest.hexdigest()[:32]}"


def basis_of_all(sample: Sample, questions: Iterable[QA]) -> str:
    """The basis of questions of whatever engines, asked about the sample as it is."""
    return basis_of(sample, FROM_CAPTION if any(rests_on(qa) == FROM_CAPTION for qa in questions) else FROM_EVIDENCE)


def rests_on(qa: QA) -> str:
    """FROM_EVIDENCE for what the templates asked, FROM_CAPTION for what a model wrote."""
    return FROM_EVIDENCE if qa.source.startswith("templates:") else FROM_CAPTION


def still_resting(questions: Iterable[QA], basis: str, sample: Sample) -> list[QA]:
    """Those of `questions`, asked on `basis`, of which what they rest on is the same in `sample`."""
    known = basis.split()
    now = {kind: hashed(sample, kind) in known for kind in RESTS_ON}
    now[FROM_EVIDENCE] |= now[FROM_CAPTION]  # the same caption, claims and attributes: the same attributes
    return [qa for qa in questions if now[rests_on(qa)]]
