"""What questions rest on: when it changes they are asked anew, and only then."""

from __future__ import annotations

import hashlib

import orjson

from unif2ace_data.schema import Sample

FROM_EVIDENCE, FROM_CAPTION = "evidence", "caption"


def basis_of(sample: Sample, kind: str) -> str:
    """`evidence:HASH` of the attributes, or `caption:HASH` of attributes, caption and claims."""
    record = sample.model_dump(include={"attributes"} | ({"caption", "claims"} if kind == FROM_CAPTION else set()))
    return f"{kind}:{hashlib.sha256(orjson.dumps(record)).hexdigest()[:32]}"


def basis_like(basis: str, sample: Sample) -> str:
    """The basis of the same kind as `basis` that `sample` gives now."""
    return basis_of(sample, basis.partition(":")[0])
