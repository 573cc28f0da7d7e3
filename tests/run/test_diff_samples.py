"""Samples of two datasets: matched by photograph and place, whatever key, shard or order; every change counted once."""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "release"))
from small_dataset import sample

from unif2ace_data.errors import UserError
from unif2ace_data.run.diff_samples import SHOWN, Samples, compare_samples
from unif2ace_data.schema import QA, SPLITS, Checks, Sample
from unif2ace_data.shards import write_shard

Content = dict[str, Any]  # what a generated sample holds besides its place
Faces = dict[tuple[int, int], Content]  # (photograph, face) -> content
CONTENT = st.fixed_dictionaries(
    {
        "split": st.sampled_from(SPLITS),
        "caption": st.integers(0, 2),
        "picture": st.integers(0, 1),
        "answer": st.integers(0, 2),
        "smile": st.sampled_from(["", "none", "broad"]),
    }
)
FACES = st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 2)), CONTENT, max_size=9)


@dataclass
class Layout:
    """How a dataset is laid out; nothing of it may show in a diff. `first`: number of a photograph's first face."""

    digits: int
    first: int
    seed: int
    jitter: float


LAYOUTS = st.builds(Layout, st.integers(0, 2), st.integers(-1, 9), st.integers(0, 3), st.floats(-4, 4))


def record(photo: int, face: int, key: str, content: Content, jitter: float) -> Sample:
    plain = sample(f"photo{photo}")
    corner = 300 * face
    quad = [[corner, 0], [corner + 96, 0], [corner + 96, 96], [corner, 96]]
    points = [[x + jitter, y] for x, y in plain.face.landmarks]
    smile = [a.model_copy(update={"value": content["smile"]}) for a in plain.attributes if a.name == "smile"]
    return plain.model_copy(
        update={
            "uid": key, "split": content["split"], "caption": f"Caption {content['caption']}.", "claims": [],
            "image": plain.image.model_copy(update={"quad": quad}), "face": plain.face.model_copy(update={"landmarks": points}),
            "attributes": smile if content["smile"] else [], "qa": [question("Smiling?", str(content["answer"]))],
        }
    )  # fmt: skip


def question(text: str, answer: str) -> QA:
    checks = Checks.model_validate(dict.fromkeys(list(Checks.model_fields), "pass"))
    return QA(
        question=text, answer=answer, kind="open", category="appearance", attribute="smile", value="", options=[], letter="",
        verdict="supported", checks=checks, source="templates",
    )  # fmt: skip


def keyed(faces: Faces, layout: Layout) -> dict[str, tuple[int, int]]:
    """Keys as sample_key makes them: bare where a photograph has one face and the layout says so, else numbered."""
    found = {}
    for photo in {p for p, _ in faces}:
        whose = sorted(face for p, face in faces if p == photo)
        prefix = sample(f"photo{photo}").uid
        if len(whose) == 1 and layout.first < 0:
            found[prefix] = (photo, whose[0])
        else:
            found |= {f"{prefix}-{n}": (photo, face) for n, face in enumerate(whose, max(0, layout.first))}
    return found


def write(out: Path, samples: list[tuple[str, bytes, Sample]], digits: int = 0) -> list[dict[str, Any]]:
    """Shards of the samples in the order given; their index entries."""
    out.mkdir(exist_ok=True)
    entries: list[dict[str, Any]] = []
    for split, prefix in sorted({(s.split, key[:digits]) for key, _, s in samples}):
        mine = [entry for entry in samples if entry[2].split == split and entry[0].startswith(prefix)]
        name = f"{split}-{len(entries):06d}.tar"
        info = write_shard(out / name, mine)
        entries.append({"name": name, "split": split, "prefix": prefix, "samples": info.samples, "sha256": info.sha256})
    return entries


def laid_out(out: Path, faces: Faces, layout: Layout) -> list[dict[str, Any]]:
    samples = [
        (key, bytes([faces[place]["picture"]]) * 9, record(*place, key, faces[place], layout.jitter))
        for key, place in sorted(keyed(faces, layout).items())
    ]
    random.Random(layout.seed).shuffle(samples)
    return write(out, samples, layout.digits)


def compared(a: list[tuple[Faces, Layout]]) -> Samples:
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / "a", Path(folder) / "b"]
        shards = [laid_out(out, *side) for out, side in zip(places, a, strict=True)]
        return compare_samples(places[0], places[1], shards[0], shards[1], why, why)


def why(key: str, record: Any, others: bool) -> str:
    return "others there" if others else "gone"


@settings(max_examples=60, deadline=None)
@given(FACES, FACES, LAYOUTS, LAYOUTS)
def test_what_is_counted_is_what_a_plain_comparison_counts(a: Faces, b: Faces, one: Layout, other: Layout) -> None:
    found, both = compared([(a, one), (b, other)]), a.keys() & b.keys()
    assert (found.a, found.b, found.common) == (len(a), len(b), len(both))
    assert (found.only_a.count, found.only_b.count) == (len(a.keys() - both), len(b.keys() - both))
    assert found.common + found.only_b.count == len(b)

    def differ(name: str) -> int:
        return sum(a[place][name] != b[place][name] for place in both)

    counts = {aspect: f.count for aspect, f in found.aspects.items()}
    assert counts["split"] == differ("split") == sum(f.count for f in found.moved.values())
    assert counts["caption"] == differ("caption") == sum(f.count for f in found.recaptioned.values())
    assert counts["picture"] == differ("picture") and counts["attributes"] == differ("smile")
    assert counts["questions"] == differ("answer") == found.answers_changed.count
    assert counts["claims"] == counts["source"] == counts["crop"] == counts["details"] == counts["captioner"] == 0
    if one.jitter == other.jitter:
        assert found.changed.count == sum(a[place] != b[place] for place in both)
    moves = Counter(f"{a[p]['split']} -> {b[p]['split']}" for p in both if a[p]["split"] != b[p]["split"])
    assert {name: f.count for name, f in found.moved.items()} == moves
    keys = [{place: key for key, place in keyed(faces, layout).items()} for faces, layout in ((a, one), (b, other))]
    assert found.rekeyed.count == sum(keys[0][place] != keys[1][place] for place in both)
    assert set(found.only_a.keys) <= {keys[0][place] for place in a.keys() - both}


@settings(max_examples=40, deadline=None)
@given(FACES, FACES, LAYOUTS)
def test_the_other_way_round_it_is_the_mirror_image(a: Faces, b: Faces, layout: Layout) -> None:
    there, back = compared([(a, layout), (b, layout)]), compared([(b, layout), (a, layout)])
    assert (there.a, there.b, there.common) == (back.b, back.a, back.common)
    assert (there.only_a, there.only_b) == (back.only_b, back.only_a)
    assert there.missing_in_a == back.missing_in_b and there.missing_in_b == back.missing_in_a
    for mine, yours in ((there.aspects, back.aspects), (there.moved, turned(back.moved))):
        assert {name: f.count for name, f in mine.items()} == {name: f.count for name, f in yours.items()}
    for name, change in there.attributes.items():
        mirrored = back.attributes[name]
        assert (change.added, change.removed, change.changed) == (mirrored.removed, mirrored.added, mirrored.changed)


def turned(moved: dict[str, Any]) -> dict[str, Any]:
    return {" -> ".join(reversed(name.split(" -> "))): f for name, f in moved.items()}


@settings(max_examples=30, deadline=None)
@given(FACES, LAYOUTS, LAYOUTS)
def test_shard_sizes_order_and_keys_are_no_difference(faces: Faces, one: Layout, other: Layout) -> None:
    other.jitter = one.jitter
    found = compared([(faces, one), (faces, other)])
    assert found.common == len(faces)
    assert not (found.only_a.count or found.only_b.count or found.changed.count)


def test_shards_of_the_same_bytes_are_not_opened(tmp_path: Path) -> None:
    samples = [(s.uid, b"picture", s) for s in sorted((sample(f"p{i}") for i in range(4)), key=lambda s: s.uid)]
    shards = write(tmp_path / "a", samples)
    (tmp_path / "b").mkdir()  # holds none of them
    found = compare_samples(tmp_path / "a", tmp_path / "b", shards, shards, why, why)
    assert (found.common, found.changed.count) == (4, 0)


def test_another_person_under_the_same_key_is_another_sample(tmp_path: Path) -> None:
    """A detector that sees one face more numbers them otherwise."""
    content = {"split": "train", "caption": 0, "picture": 0, "answer": 0, "smile": "none"}
    key = f"{sample('photo0').uid}-1"
    sides = [[(key, b"x", record(0, face, key, content, 0.0))] for face in (0, 1)]
    shards = [write(tmp_path / name, samples) for name, samples in zip("ab", sides, strict=True)]
    found = compare_samples(tmp_path / "a", tmp_path / "b", *shards, why, why)
    assert found.common == 0 and found.only_a.keys == found.only_b.keys == [key]
    assert found.missing_in_b == found.missing_in_a and list(found.missing_in_a) == ["others there"]


@pytest.mark.parametrize(
    ("changes", "aspect"),
    [
        ({"source": sample("p").source.model_copy(update={"licence": "CC-BY-4.0"})}, "source"),
        ({"captioner": sample("p").captioner.model_copy(update={"revision": "2"})}, "captioner"),
        ({"claims": sample("p").claims[:1]}, "claims"),
        ({"claims": [c.model_copy(update={"span": [0, 3]}) for c in sample("p").claims]}, "details"),
        ({"attributes": [a.model_copy(update={"confidence": 0.5}) for a in sample("p").attributes]}, "details"),
        ({"attributes": sample("p").attributes[::-1]}, "details"),
        ({"face": sample("p").face.model_copy(update={"yaw": 7.0})}, "face"),
        ({"image": sample("p").image.model_copy(update={"padded": 0.5})}, "crop"),
        ({"schema_version": "1.0"}, "schema_version"),
        ({"qa": [question("Smiling?", "no")]}, "questions"),
    ],
)
def test_no_field_changes_unseen(changes: dict[str, Any], aspect: str, tmp_path: Path) -> None:
    sides = [sample("p"), sample("p", **changes)]
    shards = [write(tmp_path / n, [(s.uid, b"x", s)]) for n, s in zip("ab", sides, strict=True)]
    found = compare_samples(tmp_path / "a", tmp_path / "b", *shards, why, why)
    assert {name for name, f in found.aspects.items() if f.count} == {aspect} and found.changed.count == 1


def test_attributes_and_claims_are_told_by_name(tmp_path: Path) -> None:
    plain = sample("p")
    smile, hair, gaze = plain.attributes
    after = [smile.model_copy(update={"value": "none"}), hair, gaze.model_copy(update={"name": "brows"})]
    said = [c.model_copy(update={"negated": True}) if c.attribute == "smile" else c for c in plain.claims]
    sides = [plain, sample("p", attributes=after, claims=said)]
    shards = [write(tmp_path / n, [(s.uid, b"x", s)]) for n, s in zip("ab", sides, strict=True)]
    found = compare_samples(tmp_path / "a", tmp_path / "b", *shards, why, why)
    told = {name: (n.added, n.removed, n.changed) for name, n in found.attributes.items()}
    assert told == {"brows": (1, 0, 0), "gaze": (0, 1, 0), "smile": (0, 0, 1)}
    assert {name: (n.added, n.removed, n.changed) for name, n in found.claims.items()} == {"smile": (0, 0, 1)}


def test_examples_are_few_and_in_the_order_of_keys(tmp_path: Path) -> None:
    keys = sorted(sample(f"p{i}").uid for i in range(9))
    shards = write(tmp_path / "a", [(s.uid, b"x", s) for s in (sample(f"p{i}") for i in range(9))], 1)
    found = compare_samples(tmp_path / "a", tmp_path, shards, [], why, why)
    assert (found.only_a.count, found.only_a.keys) == (9, keys[:SHOWN])
    assert found.missing_in_b["gone"] == found.only_a


def test_what_is_no_sound_dataset_is_told_where(tmp_path: Path) -> None:
    plain = sample("p")
    shards = write(tmp_path / "a", [(plain.uid, b"x", plain)])
    astray = [{**shards[0], "prefix": "0" if plain.uid[0] != "0" else "1"}]
    with pytest.raises(UserError, match="not in the shard of its prefix; run unif2ace-data verify"):
        compare_samples(tmp_path / "a", tmp_path / "a", astray, [], why, why)
    twice = [shards[0], {**shards[0], "name": shards[0]["name"], "prefix": plain.uid[0]}]
    with pytest.raises(UserError, match="verify"):
        compare_samples(tmp_path / "a", tmp_path / "a", twice, [], why, why)
    digest = hashlib.sha256((tmp_path / "a" / shards[0]["name"]).read_bytes()).hexdigest()
    assert digest == shards[0]["sha256"]
    (tmp_path / "a" / shards[0]["name"]).write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match="train-000000"):
        compare_samples(tmp_path / "a", tmp_path / "a", shards, [], why, why)
