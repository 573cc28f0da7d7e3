"""`audit`: a build leaks nobody; leaks that are planted are found; another set is looked at; the page stays private."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from photographs import REGIONS
from PIL import Image
from planted import WAYS, copy_of, move, people_of

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.audit import Audit, audit
from unif2ace_data.run.build import build
from unif2ace_data.run.private import clean, work_folder
from unif2ace_data.verify import verify

PERSON = {"obama": "obama", "obama2": "obama", "obama3": "obama", "biden": "biden", "astronaut": "astronaut"}


@pytest.fixture(scope="module")
def built(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each example and four copies of it, under names that tell nothing to a build; no duplicate is dropped."""
    folder = tmp_path_factory.mktemp("planted")
    raw = folder / "raw"
    raw.mkdir()
    for name, region in REGIONS.items():
        image = Image.open(examples / name).convert("RGB").crop(region)
        image.thumbnail((420, 420))
        image.save(raw / f"{Path(name).stem}_original.png")
        for way in WAYS:
            (raw / f"{Path(name).stem}_{way}.jpg").write_bytes(copy_of(image, way))
    recipe = load_recipe(
        "embedded", ["subjects=adults", "duplicates.near_identical=false", "duplicates.perceptual=null"]
    )
    recipe = recipe.model_copy(update={"sources": [SourceSpec(path=str(raw))]})
    summary = build(recipe, folder / "shards", quiet=True)
    assert summary.counts == {"kept": 25}
    return folder / "shards"


def person_of(source_id: str) -> str:
    return PERSON[Path(source_id).stem.split("_")[0]]


@pytest.fixture(scope="module")
def leaky(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same samples, every second one of a person in another split than the rest of him or her."""
    names = sorted(people_of(built))
    to = {name: ("train", "test")[i % 2] for i, name in enumerate(names)}
    target = move(built, tmp_path_factory.mktemp("leaky") / "shards", to)
    assert verify(target).holds
    return target


def found_pairs(found: Audit, names: dict[str, str]) -> set[frozenset[str]]:
    return {
        frozenset((names[pair.a], names[pair.b]))
        for side in found.splits
        for pair in side.pairs
        if pair.cosine >= found.threshold
    }


def test_a_build_keeps_every_copy_of_a_person_in_one_split(built: Path) -> None:
    splits: dict[str, set[str]] = {}
    for name, (_, split) in people_of(built).items():
        splits.setdefault(person_of(name), set()).add(split)
    assert all(len(found) == 1 for found in splits.values()) and len(set.union(*splits.values())) == 3
    found = audit(built, quiet=True)
    assert found.holds and found.measured == 0
    assert [(s.a, s.b, s.over) for s in found.splits] == [
        ("train", "validation", 0), ("train", "test", 0), ("validation", "test", 0),
    ]  # fmt: skip
    assert all(s.pairs for s in found.splits)  # the nearest are shown all the same
    assert not any(s.over for s in found.copies)


def test_planted_leaks_are_found_and_nothing_else(leaky: Path) -> None:
    people = people_of(leaky)
    names = {key: name for name, (key, _) in people.items()}
    planted = {
        frozenset((a, b))
        for a, (_, split_a) in people.items()
        for b, (_, split_b) in people.items()
        if split_a != split_b and person_of(a) == person_of(b)
    }
    found = audit(leaky, quiet=True)
    reported = found_pairs(found, names)
    assert not found.holds and found.measured == 25
    assert len(reported & planted) >= 0.95 * len(planted)
    assert reported - planted == set()  # no false alarm
    copies = {frozenset((names[p.a], names[p.b])) for s in found.copies for p in s.pairs}
    assert any("mirrored" in name for pair in copies for name in pair)
    same_photo = {p for p in planted if len({Path(name).stem.split("_")[0] for name in p}) == 1}
    assert copies <= same_photo and len(copies) >= 0.5 * len(same_photo)


def test_crops_give_what_the_store_gave(built: Path, tmp_path: Path) -> None:
    from unif2ace_data.faces.analyse import analysis_config, config_hash
    from unif2ace_data.faces.engine import find_pack
    from unif2ace_data.run.embeddings import Measurer, dataset_faces
    from unif2ace_data.run.private import recipe_at
    from unif2ace_data.run.store import WorkStore

    recipe, pack = recipe_at(built), find_pack("embedded")
    measurer, config = Measurer(pack, recipe.faces.detector), config_hash(analysis_config(recipe.faces, pack, False))
    store = WorkStore(work_folder(built))
    stored = dataset_faces(built, tmp_path / "a", measurer, store, config, True)
    store.close()
    anew = dataset_faces(built, tmp_path / "b", measurer, None, "", True)
    assert stored.measured == 0 and anew.measured == len(anew.ids) == 25 and stored.ids == anew.ids
    assert np.einsum("nd,nd->n", stored.vectors, anew.vectors).min() > 0.97
    assert (stored.hashes == anew.hashes).all()
    # What decides, whether two faces are one person, is the same for every pair.
    limit = pack.identity_cosine
    assert ((stored.vectors @ stored.vectors.T >= limit) == (anew.vectors @ anew.vectors.T >= limit)).all()


def test_measured_once_and_again_only_what_changed(leaky: Path, tmp_path: Path) -> None:
    out = shutil.copytree(leaky, tmp_path / "shards")
    first = audit(out, quiet=True)
    folder = work_folder(out) / "audit"
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")}
    assert len(before) == 2 and work_folder(out).stat().st_mode & 0o077 == 0
    assert audit(out, quiet=True) == first
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")} == before
    shutil.rmtree(out)
    first_of_train = next(name for name, (_, split) in people_of(leaky).items() if split == "train")
    move(leaky, out, {first_of_train: "validation"})
    audit(out, quiet=True)
    after = {p.name for p in folder.glob("*.npz")}
    assert len(after) == 3 and len(after & set(before)) == 1  # what is no longer in the dataset is forgotten
    (folder / sorted(after)[0]).write_bytes(b"broken")
    assert audit(out, quiet=True).measured == 25


def test_nothing_of_it_lands_in_the_dataset(leaky: Path, tmp_path: Path) -> None:
    out = shutil.copytree(leaky, tmp_path / "shards")
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.rglob("*") if p.is_file()}
    found = audit(out, quiet=True)
    assert Path(found.page) == work_folder(out) / "audit.html"
    for inside in (out / "audit.html", out / "new" / "page.html", tmp_path / "x" / ".." / "shards" / "a.html"):
        with pytest.raises(UserError, match="lies inside") as caught:
            audit(out, page=inside, quiet=True)
        assert caught.value.exit_code == 2
    assert {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.rglob("*") if p.is_file()} == before
    assert verify(out).holds
    receipt = clean(out)
    assert receipt["face_embeddings"] == 25 and not work_folder(out).exists()


def test_the_page_is_whole_in_itself_and_says_that_it_is_private(leaky: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    found = audit(leaky, page=page, quiet=True)
    text = page.read_text()
    assert "Private page" in text and "default-src 'none'" in text and "<script" not in text
    assert all(source.startswith("data:image/jpeg") for source in re.findall(r'\ssrc="([^"]*)"', text))
    assert len(re.findall("<img ", text)) >= 40 and text.count('class="pair bad"') >= 20
    audit(leaky, page=tmp_path / "again.html", quiet=True)
    assert (tmp_path / "again.html").read_text() == text and found.page == str(page)


def test_another_threshold_decides(built: Path, leaky: Path) -> None:
    assert not audit(built, threshold=-0.5, quiet=True).holds
    assert audit(leaky, threshold=1.0, quiet=True).holds


# ------------------------------------------------------------------ against another set


def test_against_another_dataset_and_the_same_people(built: Path, leaky: Path) -> None:
    found = audit(built, against=leaky, quiet=True)
    assert found.against and not found.holds
    assert len({p.a for p in found.against.pairs if p.a == p.b}) == 25  # each with itself
    assert all(p.cosine > 0.97 and p.hash_distance == 0 for p in found.against.pairs if p.a == p.b)


def test_against_a_folder_of_pictures(built: Path, examples: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("biden.jpg", "rocket.jpg"):
        shutil.copy(examples / name, pictures / name)
    found = audit(built, against=pictures, quiet=True)
    assert found.against and not found.holds
    assert {p.b for p in found.against.pairs if p.cosine >= found.threshold} == {"folder/biden.jpg#0"}
    people = {key: person_of(name) for name, (key, _) in people_of(built).items()}
    assert {people[p.a] for p in found.against.pairs if p.cosine >= found.threshold} == {"biden"}
    assert found.against.over == 5 and "1 of 2 inputs" in " ".join(found.notes)
    assert audit(built, against=pictures, quiet=True) == found  # from the cache


def test_against_embeddings_in_a_file(built: Path, tmp_path: Path) -> None:
    from unif2ace_data.run.store import WorkStore

    store = WorkStore(work_folder(built))
    blob, width = store.db.execute("select embeddings, width from analyses order by sha256").fetchone()
    store.close()
    one = np.frombuffer(blob, np.float32).reshape(-1, width)[:1]
    both = np.concatenate([one * 7, np.zeros_like(one), -one])
    np.save(tmp_path / "e.npy", both)
    np.savez(tmp_path / "e.npz", embeddings=both, ids=np.array(["me", "nobody", "other"]))
    table = pa.table({"id": ["me", "nobody", "other"], "embedding": pa.array(both.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "e.parquet")
    for name, mine in (("e.npy", "0"), ("e.npz", "me"), ("e.parquet", "me")):
        found = audit(built, against=tmp_path / name, quiet=True)
        assert found.against and not found.holds
        assert {p.b for p in found.against.pairs if p.cosine >= found.threshold} == {mine}
        assert found.against.pairs[0].cosine > 0.999 and found.against.pairs[0].hash_distance == -1
        assert "1 rows" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.npy", None),
        ("text.npy", b"hello"),
        ("narrow.npy", np.ones((3, 7))),
        ("flat.npy", np.ones(128)),
        ("pickled.npy", np.array([{}], object)),
        ("other.parquet", pa.table({"x": [1]})),
        ("ragged.parquet", pa.table({"id": [1, 2], "embedding": [[1.0, 2.0], [3.0]]})),
        ("empty", "folder"),
    ],
)
def test_what_cannot_be_audited_against_is_said(built: Path, tmp_path: Path, name: str, content: object) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    elif isinstance(content, pa.Table):
        pq.write_table(content, path)
    with pytest.raises(UserError, match=f"--against .*{name}") as caught:
        audit(built, against=path, quiet=True)
    assert caught.value.exit_code == 2


@pytest.mark.slow
def test_the_command_exits_with_what_it_found(built: Path, leaky: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "unif2ace_data.cli", "audit", *words], capture_output=True, text=True
        )

    good, bad, wrong = run(str(built)), run(str(leaky), "--json"), run(str(built / "nowhere"))
    assert good.returncode == 0 and "no person in two places" in good.stdout, good.stderr
    assert bad.returncode == 1 and json.loads(bad.stdout)["holds"] is False
    assert wrong.returncode == 2 and "no dataset" in wrong.stderr and "Traceback" not in wrong.stderr
    inside = run(str(built), "--out", str(built / "audit.html"))
    assert inside.returncode == 2 and not (built / "audit.html").exists()
