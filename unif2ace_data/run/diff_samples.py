"""What became of each sample from one dataset to another: a merge of two streams in the order of keys.

Nothing is held but the places of one prefix's samples: shards of equal bytes are not opened, samples of equal bytes not
parsed. A sample is a face of a photograph. Its key begins with the hash of the photograph's file, but may end in another
number, or none, in another dataset (faces.per_photo, another detector); so within a photograph faces are matched by
where in it they are.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unif2ace_data.release.read import mapped, parse_record, walk
from unif2ace_data.schema import UserError
from unif2ace_data.verify import key_order

SHOWN = 5  # our choice: example keys of everything that is counted
NEAR = 0.5  # our choice: faces this share of a face's size apart, or less, are one; two people's lie further apart
ASPECTS = (
    "split", "picture", "crop", "face", "source", "caption", "captioner", "attributes", "claims", "questions", "details",
    "schema_version",
)  # fmt: skip


@dataclass(slots=True)
class Found:
    """A count, and the first few keys in their order."""

    count: int = 0
    keys: list[str] = field(default_factory=list)

    def add(self, key: str, count: int = 1) -> None:
        if count and len(self.keys) < SHOWN:
            self.keys.append(key)
        self.count += count


@dataclass(slots=True)
class Names:
    """Samples in both that gained an attribute, lost it, or have it with other values."""

    added: int = 0
    removed: int = 0
    changed: int = 0


@dataclass(slots=True)
class Samples:
    """Samples in `a`, in `b`, in both; of those in both what changed (keys are those of A).

    `rekeyed`: same face under another key, as "KEY in A -> KEY in B". `aspects`: samples in which something changed, by
    what (docs/diff.md). `moved`, `recaptioned`: by "from -> to", splits and captioners. `missing_in_a`, `missing_in_b`:
    samples of the other dataset only, by the reason why they are not in this one (run/diff_reasons.py).
    """

    a: int = 0
    b: int = 0
    common: int = 0
    only_a: Found = field(default_factory=Found)
    only_b: Found = field(default_factory=Found)
    rekeyed: Found = field(default_factory=Found)
    changed: Found = field(default_factory=Found)
    aspects: dict[str, Found] = field(default_factory=lambda: {aspect: Found() for aspect in ASPECTS})
    moved: dict[str, Found] = field(default_factory=dict)
    recaptioned: dict[str, Found] = field(default_factory=dict)
    attributes: dict[str, Names] = field(default_factory=dict)
    claims: dict[str, Names] = field(default_factory=dict)
    questions_added: Found = field(default_factory=Found)
    questions_removed: Found = field(default_factory=Found)
    answers_changed: Found = field(default_factory=Found)
    missing_in_a: dict[str, Found] = field(default_factory=dict)
    missing_in_b: dict[str, Found] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a sample lies: its shard's bytes, and in them the record and the picture (start, end)."""

    key: str
    shard: Path
    data: mmap.mmap
    json: tuple[int, int]
    jpg: tuple[int, int]

    @property
    def json_bytes(self) -> bytes:
        return self.data[slice(*self.json)]

    @property
    def picture(self) -> bytes:
        return self.data[slice(*self.jpg)]

    def record(self) -> dict[str, Any]:
        return parse_record(self.shard, f"{self.key}.json", self.json_bytes)


Photo = list[Spot]  # the samples of one photograph
Why = Callable[[str, Mapping[str, Any], bool], str]  # key, record, whether other faces of the photo are there -> reason


def compare_samples(
    a: Path, b: Path, shards_a: list[dict[str, Any]], shards_b: list[dict[str, Any]], why_a: Why, why_b: Why,
    tick: Callable[[int], None] = lambda count: None,
) -> Samples:  # fmt: skip
    """Compare the samples of two datasets, given the shards of their indexes.

    why_a, why_b: why a sample is not in a, not in b; asked in the order of keys. Raises UserError where a shard is broken
    or its keys are not where they belong.
    """
    found = Samples(sum(s["samples"] for s in shards_a), sum(s["samples"] for s in shards_b))
    same = {s["sha256"] for s in shards_a} & {s["sha256"] for s in shards_b}
    found.common = sum(s["samples"] for s in shards_a if s["sha256"] in same)
    tick(2 * found.common)
    streams = (
        photos(where, [s for s in shards if s["sha256"] not in same])
        for where, shards in ((a, shards_a), (b, shards_b))
    )
    for mine, yours in merged(*streams):
        compare_photo(found, mine, yours, why_a, why_b)
        tick(len(mine) + len(yours))
    for counts in (
        found.moved,
        found.recaptioned,
        found.attributes,
        found.claims,
        found.missing_in_a,
        found.missing_in_b,
    ):
        in_order = sorted(counts.items())
        counts.clear()
        counts.update(in_order)  # type: ignore[arg-type]
    return found


def photos(out: Path, shards: list[dict[str, Any]]) -> Iterator[tuple[str, Photo]]:
    """(first 32 digits of the keys, samples) of each photograph, in the order of the digits; one prefix's shards open."""
    last = ""
    for prefix, group in itertools.groupby(
        sorted(shards, key=lambda s: (s["prefix"], s["name"])), key=lambda s: s["prefix"]
    ):
        with ExitStack() as stack:
            spots = [
                spot
                for s in group
                if s["samples"]
                for spot in spots_in(out / s["name"], stack.enter_context(mapped(out / s["name"])))
            ]
            spots.sort(key=lambda spot: key_order(spot.key))
            for photo, faces in itertools.groupby(spots, key=lambda spot: spot.key[:32]):
                if photo <= last or not photo.startswith(prefix):
                    raise UserError(
                        f"{out}: sample {photo} is not in the shard of its prefix; run unif2ace-data verify"
                    )
                last = photo
                yield photo, list(faces)


def spots_in(shard: Path, data: mmap.mmap) -> Iterator[Spot]:
    files: dict[str, dict[str, tuple[int, int]]] = {}
    for name, start, end in walk(shard, data):
        key, _, extension = name.partition(".")
        files.setdefault(key, {})[extension] = (start, end)
    for key, parts in files.items():
        if not {"json", "jpg"} <= parts.keys():
            raise UserError(f"{shard} lacks the picture or the record of {key}; run unif2ace-data verify")
        yield Spot(key, shard, data, parts["json"], parts["jpg"])


def merged(a: Iterator[tuple[str, Photo]], b: Iterator[tuple[str, Photo]]) -> Iterator[tuple[Photo, Photo]]:
    """The samples of every photograph in either dataset; [] where it has none."""
    mine, yours = next(a, None), next(b, None)
    while mine or yours:
        if yours is None or (mine is not None and mine[0] < yours[0]):
            assert mine is not None
            yield mine[1], []
            mine = next(a, None)
        elif mine is None or yours[0] < mine[0]:
            yield [], yours[1]
            yours = next(b, None)
        else:
            yield mine[1], yours[1]
            mine, yours = next(a, None), next(b, None)


# ------------------------------------------------------------------ one photograph


def compare_photo(found: Samples, mine: Photo, yours: Photo, why_a: Why, why_b: Why) -> None:
    pairs, only_a, only_b = matched(mine, yours)
    found.common += len(pairs)
    for spot in only_a:
        found.only_a.add(spot.key)
        found.missing_in_b.setdefault(why_b(spot.key, spot.record(), bool(yours)), Found()).add(spot.key)
    for spot in only_b:
        found.only_b.add(spot.key)
        found.missing_in_a.setdefault(why_a(spot.key, spot.record(), bool(mine)), Found()).add(spot.key)
    for one, other in pairs:
        if one.key != other.key:
            found.rekeyed.add(f"{one.key} -> {other.key}")
        compare_pair(found, one, other)


def matched(mine: Photo, yours: Photo) -> tuple[list[tuple[Spot, Spot]], Photo, Photo]:
    """(pairs that show one face, the others of mine, the others of yours), in the order of keys."""
    if [s.key for s in mine] == [s.key for s in yours] and all(
        s.json_bytes == t.json_bytes for s, t in zip(mine, yours, strict=True)
    ):
        return list(zip(mine, yours, strict=True)), [], []
    if not mine or not yours:
        return [], mine, yours
    places = [[place_of(spot) for spot in photo] for photo in (mine, yours)]
    apart = sorted(
        (float(np.linalg.norm(p - q)) / max(size, other, 1e-9), i, j)
        for (i, (p, size)), (j, (q, other)) in itertools.product(enumerate(places[0]), enumerate(places[1]))
    )
    partner: dict[int, int] = {}
    for distance, i, j in apart:
        if distance <= NEAR and i not in partner and j not in partner.values():
            partner[i] = j
    left = set(partner.values())
    return (
        [(mine[i], yours[partner[i]]) for i in sorted(partner)],
        [spot for i, spot in enumerate(mine) if i not in partner],
        [spot for j, spot in enumerate(yours) if j not in left],
    )


def place_of(spot: Spot) -> tuple[np.ndarray, float]:
    """(middle of the landmarks (2,), size of the face), in pixels of the photograph."""
    record = spot.record()
    try:
        image, face = record["image"], record["face"]
        corner, right, _, down = np.array(image["quad"], np.float64)
        x, y = np.mean(face["landmarks"], axis=0) / (image["width"], image["height"])
        return corner + x * (right - corner) + y * (down - corner), float(face["face_px"])
    except (KeyError, TypeError, ValueError) as error:
        raise broken(spot, error) from None


def broken(spot: Spot, error: Exception) -> UserError:
    return UserError(f"{spot.shard}: {spot.key} does not hold ({error!r}); run unif2ace-data verify")


# ------------------------------------------------------------------ one sample in both


def compare_pair(found: Samples, mine: Spot, yours: Spot) -> None:
    aspects = {"picture"} if mine.picture != yours.picture else set()
    if mine.json_bytes != yours.json_bytes:
        try:
            aspects |= compare_records(found, mine.key, mine.record(), yours.record())
        except (KeyError, TypeError, AttributeError) as error:
            raise broken(mine, error) from None
    for aspect in aspects:
        found.aspects[aspect].add(mine.key)
    if aspects:
        found.changed.add(mine.key)


def compare_records(found: Samples, key: str, mine: dict[str, Any], yours: dict[str, Any]) -> set[str]:
    """The aspects in which two records differ; their particulars are counted in `found`."""
    aspects = {
        aspect
        for aspect in ("split", "face", "source", "caption", "captioner", "schema_version")
        if mine[aspect] != yours[aspect]
    }
    if mine["image"] != yours["image"]:
        aspects.add("crop")
    if "split" in aspects:
        found.moved.setdefault(f"{mine['split']} -> {yours['split']}", Found()).add(key)
    if "caption" in aspects:
        found.recaptioned.setdefault(f"{captioner_of(mine)} -> {captioner_of(yours)}", Found()).add(key)
    for name, counts, values in (
        ("attributes", found.attributes, attribute_values),
        ("claims", found.claims, claim_values),
    ):
        if count_names(counts, values(mine[name]), values(yours[name])):
            aspects.add(name)
    if mine["qa"] != yours["qa"] and compare_questions(found, key, mine["qa"], yours["qa"]):
        aspects.add("questions")
    details = {"attributes": "attributes", "claims": "claims", "qa": "questions"}
    if any(mine[name] != yours[name] and aspect not in aspects for name, aspect in details.items()):
        aspects.add("details")
    return aspects


def captioner_of(record: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (record["captioner"]["engine"], record["captioner"]["model"])))


def attribute_values(attributes: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    return by_name((a["name"], a["value"]) for a in attributes)


def claim_values(claims: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """By attribute what is claimed of it, with the verdicts."""
    return by_name((c["attribute"], f"{'not ' if c['negated'] else ''}{c['value']}: {c['verdict']}") for c in claims)


def by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: sorted(values) for name, values in found.items()}


def count_names(counts: dict[str, Names], mine: dict[str, list[str]], yours: dict[str, list[str]]) -> bool:
    different = [name for name in {**mine, **yours} if mine.get(name) != yours.get(name)]
    for name in different:
        entry = counts.setdefault(name, Names())
        entry.added += name not in mine
        entry.removed += name not in yours
        entry.changed += name in mine and name in yours
    return bool(different)


def compare_questions(
    found: Samples, key: str, mine: Sequence[Mapping[str, Any]], yours: Sequence[Mapping[str, Any]]
) -> bool:
    """A question is the same in the same words and of the same kind; whether anything but details differs."""
    asked, answers = ({(q["question"], q["kind"]): q["answer"] for q in questions} for questions in (mine, yours))
    counts = (
        (found.questions_added, len(answers.keys() - asked.keys())),
        (found.questions_removed, len(asked.keys() - answers.keys())),
        (found.answers_changed, sum(asked[q] != answers[q] for q in asked.keys() & answers.keys())),
    )
    for counted, count in counts:
        counted.add(key, count)
    return any(count for _, count in counts)
