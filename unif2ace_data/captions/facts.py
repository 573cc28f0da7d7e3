"""Which attributes a caption may state: validated ones with a wording, one value each, none contradicting another."""

from __future__ import annotations

from collections.abc import Sequence

from unif2ace_data.captions.phrases import phrases
from unif2ace_data.schema import Attribute


def statable(attributes: Sequence[Attribute], *, complexion: bool = False) -> list[Attribute]:
    """The attributes that a grounded caption may state, in natural order; their order in the input does not matter.

    Left out: what is not validated, names and values without a wording, complexion unless asked for. An attribute given
    twice (measured and annotated) counts once if its records agree, with the higher confidence, and not at all if they
    do not. Of two attributes that contradict each other, or say the same thing, the more confident one stays.
    """
    wording = phrases()
    by_name: dict[str, list[Attribute]] = {}
    for attribute in attributes:
        if attribute.validated:
            by_name.setdefault(attribute.name, []).append(attribute)
    candidates = []
    for records in by_name.values():
        if len({record.value for record in records}) > 1:
            continue
        best = max(records, key=lambda r: (r.confidence, r.evidence.by, r.evidence.revision))
        phrase = wording.values.get((best.name, best.value))
        if phrase and (complexion or not phrase.private):
            candidates.append(best)
    stated: dict[tuple[str, str], Attribute] = {}
    for one in sorted(candidates, key=lambda a: (-a.confidence, a.name)):
        if stated.keys().isdisjoint(wording.never_beside[one.name, one.value]):
            stated[one.name, one.value] = one
    man = ("apparent_gender", "male") in stated
    kept = [a for pair, a in stated.items() if man or not wording.values[pair].men]
    return sorted(kept, key=lambda a: wording.values[a.name, a.value].order)
