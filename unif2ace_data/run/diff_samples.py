"""What became of each sample from one dataset to another: a merge of two streams in the order of keys.

Nothing is held but the places of one prefix's samples: shards of equal bytes are not opened, samples of equal bytes not
parsed. A sample is a face of a photograph. Its key begins with the hash of the photograph's file, but may end in another
number, or none, in another dataset (faces.per_photo, another detector); so within a photograph faces are matched by
where in it they are.
"""

from __future__ import annotations

import itertools
import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unif2ace_data.errors import UserError
from unif2ace_data.release.read import mapped, parse_record, walk
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


@dataclass(frozen=True, slots=True)
class Face:
    """A sample with its record, the middle of its landmarks (x, y) and its size, in pixels of the photograph."""

    spot: Spot
    record: dict[str, Any]
    middle: tuple[float, float]
    size: float


def compare_photo(found: Samples, mine: Photo, yours: Photo, why_a: Why, why_b: Why) -> None:
    if len(mine) == len(yours) and all(
        s.key == t.key and s.json_bytes == t.json_bytes for s, t in zip(mine, yours, strict=True)
    ):
        for spot, other in zip(mine, yours, strict=True):
            note(found, spot.key, picture_aspect(spot, other))
        return
    pairs, only_a, only_b = matched([face_of(spot) for spot in mine], [face_of(spot) for spot in yours])
    for face in only_a:
        found.only_a.add(face.spot.key)
        found.missing_in_b.setdefault(why_b(face.spot.key, face.record, bool(yours)), Found()).add(face.spot.key)
    for face in only_b:
        found.only_b.add(face.spot.key)
        found.missing_in_a.setdefault(why_a(face.spot.key, face.record, bool(mine)), Found()).add(face.spot.key)
    for one, other_face in pairs:
        key, other_key = one.spot.key, other_face.spot.key
        if key != other_key:
            found.rekeyed.add(f"{key} -> {other_key}")
        try:
            aspects = compare_records(found, key, one.record, other_face.record)
        except (KeyError, TypeError, AttributeError) as error:
            raise broken(one.spot, error) from None
        note(found, key, aspects | picture_aspect(one.spot, other_face.spot))


def note(found: Samples, key: str, aspects: set[str]) -> None:
    """One sample in both, and in what it changed."""
    found.common += 1
    for aspect in aspects:
        found.aspects[aspect].add(key)
    if aspects:
        found.changed.add(key)


def picture_aspect(mine: Spot, yours: Spot) -> set[str]:
    return {"picture"} if mine.picture != yours.picture else set()


def face_of(spot: Spot) -> Face:
    record = spot.record()
    try:
        image, face = record["image"], record["face"]
        (left, top), (right_x, right_y), _, (down_x, down_y) = image["quad"]
        across, down = (sum(p[axis] for p in face["landmarks"]) / len(face["landmarks"]) for axis in (0, 1))
        across, down = across / image["width"], down / image["height"]
        x = left + across * (right_x - left) + down * (down_x - left)
        y = top + across * (right_y - top) + down * (down_y - top)
        return Face(spot, record, (x, y), float(face["face_px"]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise broken(spot, error) from None


def matched(mine: list[Face], yours: list[Face]) -> tuple[list[tuple[Face, Face]], list[Face], list[Face]]:
    """(pairs that show one face, nearest first come first served; the others of mine; of yours), each in the order given."""
    apart = sorted(
        (math.dist(one.middle, other.middle) / max(one.size, other.size, 1e-9), i, j)
        for (i, one), (j, other) in itertools.product(enumerate(mine), enumerate(yours))
    )
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for distance, i, j in apart:
        if distance <= NEAR and i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    return (
        [(mine[i], yours[partner[i]]) for i in sorted(partner)],
        [face for i, face in enumerate(mine) if i not in partner],
        [face for j, face in enumerate(yours) if j not in taken],
    )


def broken(spot: Spot, error: Exception) -> UserError:
    return UserError(f"{spot.shard}: {spot.key} does not hold ({error!r}); run unif2ace-data verify")


# ------------------------------------------------------------------ one sample in both


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
        if mine[name] != yours[name] and count_names(counts, values(mine[name]), values(yours[name])):
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
