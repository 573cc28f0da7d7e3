"""A sample's record made anew: from the sample, or, where its questions alone are new, from the bytes as they stand."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from unif2ace_data.qa.basis import rests_unchanged
from unif2ace_data.run.pack import with_these
from unif2ace_data.run.store import text_facts
from unif2ace_data.schema import Sample
from unif2ace_data.shards import sample_json

FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The new `{key}.json` and `{key}.txt`, and what the ledger tells of the caption (store.text_facts)."""

    record: bytes
    caption: bytes
    facts: dict[str, Any]


Change = Callable[[bytes], Rewritten]


def whole(change: Callable[[Sample], Sample], record: bytes) -> Rewritten:
    """A record changed as a sample, whatever changes in it. Raises pydantic.ValidationError."""
    sample = change(Sample.model_validate_json(record))
    return Rewritten(sample_json(sample), sample.caption.encode(), text_facts(sample.model_dump()))


def asked_anew(questions: Mapping[str, tuple[str, bytes]], record: bytes) -> Rewritten:
    """The record with those of the questions asked about it that rest on what is still the same (pack.with_these).

    `questions`: by sample what the store has (WorkStore.qa). Where all of a sample's rest on the same, its bytes take the
    place of the old ones and nothing else is read.
    """
    fields = FIELDS.decode(record)
    asked = questions.get(msgspec.json.decode(fields["uid"]))
    if asked is None or not rests_unchanged(fields, asked[0]):
        return whole(functools.partial(with_these, asked), record)
    fields["qa"] = msgspec.Raw(asked[1])
    captioner, claims, caption = (msgspec.json.decode(fields[name]) for name in ("captioner", "claims", "caption"))
    facts = text_facts({"captioner": captioner, "claims": claims})
    return Rewritten(msgspec.json.encode(fields), caption.encode(), facts)
