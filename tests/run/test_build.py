"""`build` on real photographs: what is kept, what it says of the rest, what a second run does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import helper
from photographs import REGIONS, write_photos
from PIL import Image

from unif2ace_data.errors import UserError
from unif2ace_data.faces.engine import EMBEDDED
from unif2ace_data.recipe import Recipe, SourceSpec, load_recipe
from unif2ace_data.run.build import Summary, build, dry_run
from unif2ace_data.run.private import recipe_at
from unif2ace_data.shards import read_index, read_samples
from unif2ace_data.verify import verify

NO_DUPLICATES = ["duplicates.near_identical=false", "duplicates.perceptual=null"]


def recipe_for(raw: Path, *settings: str, subjects: str = "adults") -> Recipe:
    recipe = load_recipe("embedded", [f"subjects={subjects}", *settings])
    return recipe.model_copy(update={"sources": [SourceSpec(path=str(raw))]})


def ledger(out: Path) -> dict[str, dict[str, object]]:
    rows = pq.read_table(out.with_name(out.name + ".work") / "ledger.parquet").to_pylist()
    return {row["source_id"].split("/", 1)[1]: row for row in rows}


@pytest.fixture(scope="module")
def built(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("examples") / "shards"
    return out, build(recipe_for(examples), out, quiet=True)


def test_every_file_of_the_examples_has_its_row(built: tuple[Path, Summary], examples: Path) -> None:
    out, summary = built
    rows = ledger(out)
    pictures = {p.name for p in examples.iterdir() if p.suffix in (".jpg", ".png")}
    assert pictures <= set(rows)
    assert {name for name, row in rows.items() if row["status"] == "kept"} == {
        "obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg", "astronaut.png",
    }  # fmt: skip
    assert rows["rocket.jpg"]["reason"] == "no_face"
    assert rows["obama_partial_face.jpg"]["status"] == "dropped"
    assert summary.inputs == len(rows)
    assert summary.counts["kept"] + summary.counts["dropped"] + summary.counts.get("failed", 0) == len(rows)


def test_it_verifies(built: tuple[Path, Summary]) -> None:
    assert verify(built[0]).problems == []


def test_people_do_not_cross_splits(built: tuple[Path, Summary]) -> None:
    out, _ = built
    rows = ledger(out)
    obama = {rows[f"{name}.jpg"]["split"] for name in ("obama", "obama2", "obama3")}
    assert len(obama) == 1
    assert {rows["biden.jpg"]["split"], rows["astronaut.png"]["split"]} | obama == {"train", "validation", "test"}


def test_samples_say_who_made_the_photograph(built: tuple[Path, Summary]) -> None:
    samples = all_samples(built[0])
    astronaut = next(s for s in samples if s["source"]["id"].endswith("astronaut.png"))
    assert astronaut["source"]["author"] == "NASA"
    assert "Public domain" in astronaut["source"]["licence"]
    assert len(astronaut["caption"]) > 100 and astronaut["claims"]


def all_samples(out: Path) -> list[dict]:
    shards = [out / s["name"] for s in read_index(out)["shards"]]
    return [json.loads(files["json"]) for shard in shards for _, files in read_samples(shard)]


@pytest.mark.slow
def test_ten_photos_added_are_ten_analysed(photos: Path, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "shards"
    shutil.copytree(photos, raw)
    assert build(recipe_for(raw, *NO_DUPLICATES), out, quiet=True).analysed == 20
    write_photos(raw, 10, start=20)
    second = build(recipe_for(raw, *NO_DUPLICATES), out, quiet=True)
    assert (second.analysed, second.inputs, second.counts["kept"]) == (10, 30, 30)
    # A threshold changed: none analysed, none cropped; loosened again: none analysed.
    third = build(recipe_for(raw, *NO_DUPLICATES, "filters.face_px.min=150"), out, quiet=True)
    assert third.analysed == 0 and third.cropped == 0 and 0 < third.counts["kept"] < 30
    fourth = build(recipe_for(raw, *NO_DUPLICATES), out, quiet=True)
    assert (fourth.analysed, fourth.counts["kept"], fourth.root_sha256) == (0, 30, second.root_sha256)
    # A photo taken away touches its shard only.
    (raw / "photo003.jpg").unlink()
    fifth = build(recipe_for(raw, *NO_DUPLICATES), out, quiet=True)
    assert (fifth.analysed, fifth.inputs, fifth.counts["kept"]) == (0, 29, 29)
    assert verify(out).holds


@pytest.mark.slow
def test_photos_that_moved_are_known_by_their_bytes(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    build(recipe_for(photos, *NO_DUPLICATES), out, quiet=True)
    for path in sorted(photos.iterdir()):
        target = tmp_path / "raw" / path.stem[-1] / f"renamed-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    moved = build(recipe_for(tmp_path / "raw", *NO_DUPLICATES), out, quiet=True)
    assert (moved.analysed, moved.inputs, moved.counts["kept"]) == (0, 20, 20)
    assert build(recipe_for(photos, *NO_DUPLICATES), out, quiet=True).analysed == 0


@pytest.mark.slow
def test_a_limit_never_shrinks_a_finished_dataset(photos: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "shards", recipe_for(photos, *NO_DUPLICATES)
    few = build(recipe, out, limit=5, quiet=True)
    assert few.inputs == 5
    again, more = (build(recipe, out, limit=n, quiet=True) for n in (5, 8))  # the same, then grown
    assert (again.root_sha256, again.analysed, more.inputs, more.analysed) == (few.root_sha256, 0, 8, 3)
    whole = build(recipe, out, quiet=True)
    shutil.rmtree(whole.work)  # also where nothing but the dataset is left
    with pytest.raises(UserError, match=r"--limit 5 would shrink .*from 20 inputs to 5: .* another --out") as caught:
        build(recipe, out, limit=5, quiet=True)
    assert caught.value.exit_code == 2 and not whole.work.exists()
    assert read_index(out)["root_sha256"] == whole.root_sha256 and verify(out).holds


def test_an_incomplete_copy_of_a_known_dataset_is_said(examples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images1024x1024" / "00000"
    folder.mkdir(parents=True)
    shutil.copy(examples / "astronaut.png", folder / "00000.png")
    recipe = load_recipe("embedded", ["subjects=adults"])
    recipe = recipe.model_copy(
        update={"sources": [SourceSpec(path=str(tmp_path / "images1024x1024"), manifest="ffhq")]}
    )
    notes = build(recipe, tmp_path / "shards", quiet=True).notes
    assert any("ffhq: 1 of the 70000 photos" in note for note in notes)


def test_one_photo_that_the_engine_cannot_take_does_not_block_later_runs(
    examples: Path, tmp_path: Path, monkeypatch
) -> None:
    from unif2ace_data.run.store import WorkStore

    raw, out = tmp_path / "raw", tmp_path / "shards"
    shutil.copytree(examples, raw)
    Image.new("RGB", (3000, 3)).save(raw / "strip.png")
    assert build(recipe_for(raw, "filters.resolution=null"), out, quiet=True).reasons["no_face"] == 2
    store = WorkStore(out.with_name("shards.work"))  # as if the engine had failed on it: it is tried again, alone
    store.db.execute("delete from analyses where cast(record as text) like '%3000%'")
    store.close()
    assert build(recipe_for(raw, "filters.resolution=null"), out, quiet=True).analysed == 1


def test_a_photo_is_judged_by_its_bytes_whatever_its_copies_are_called(examples: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(examples / "biden.jpg", raw / "a.jpg")
    shutil.copy(examples / "biden.jpg", raw / "b.mp4")
    assert build(recipe_for(raw), tmp_path / "shards", quiet=True).counts == {"kept": 1, "dropped": 1}


def test_what_any_copys_source_says_of_age_counts_for_all() -> None:
    from unif2ace_data.run.decide import gate_notes
    from unif2ace_data.schema import Annotations, InputRef

    plain = InputRef("a/x.jpg", "a", "file", "x.jpg", "1")
    child = InputRef("b/x.jpg", "b", "file", "x.jpg", "1")
    child.annotations.attributes = [{"name": "source_age", "value": "5"}, {"name": "smile", "value": "broad"}]
    sure = InputRef("c/x.jpg", "c", "file", "x.jpg", "1", annotations=Annotations(adults=True))
    notes = gate_notes([plain, child, sure])
    assert [a["value"] for a in notes.attributes] == ["5"] and notes.adults
    assert not gate_notes([plain]).adults


def test_nobody_whom_the_gate_refuses_stands_in_anothers_crop() -> None:
    from dataclasses import replace

    from unif2ace_data.run.decide import neighbour_drop
    from unif2ace_data.schema import Annotations, FaceRecord, PhotoRecord

    adult = {
        "expected": 50.0, "expected_mirrored": 50.0, "p_under_18": 0.0, "tells_distribution": 1.0, "child_proportion": 0.0,
    }  # fmt: skip
    big = FaceRecord(
        [100, 100, 300, 300], [[150, 150]] * 5, 0.9, True, [[0, 0], [400, 0], [400, 400], [0, 400]], age=adult
    )
    child = replace(big, box=[310, 310, 380, 380], landmarks=[[340, 340]] * 5, age=adult | {"expected": 8.0})
    away = replace(child, box=[810, 310, 880, 380], landmarks=[[840, 340]] * 5)
    recipe = load_recipe("embedded", ["faces.per_photo=each"])

    def judged(other: FaceRecord) -> bool:
        return neighbour_drop(0, PhotoRecord("0" * 64, 1, faces=[big, other]), Annotations(), recipe) is not None

    assert judged(child) and not judged(away) and not judged(replace(child, age=adult))


def test_a_damaged_index_is_written_anew(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    first = build(recipe_for(photos, *NO_DUPLICATES), out, quiet=True)
    whole = (out / "index.json").read_bytes()
    for damage in (whole[:200], whole.replace(b'"inputs": 20', b'"inputs": 21'), whole.replace(b'"files"', b'"filez"')):
        (out / "index.json").write_bytes(damage)
        assert not verify(out).holds
        assert build(recipe_for(photos, *NO_DUPLICATES), out, quiet=True).root_sha256 == first.root_sha256
        assert (out / "index.json").read_bytes() == whole


def test_a_run_that_changes_nothing_writes_nothing(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    build(recipe_for(photos, *NO_DUPLICATES), out, quiet=True)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    build(recipe_for(photos, *NO_DUPLICATES), out, quiet=True)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    (out / "DATASHEET.md").write_text(
        (out / "DATASHEET.md").read_text().replace("-->", "-->\nWritten by a person.\n", 1)
    )
    assert not verify(out).holds
    build(recipe_for(photos, *NO_DUPLICATES), out, quiet=True)
    assert verify(out).holds and "Written by a person." in (out / "DATASHEET.md").read_text()


def test_two_folders_with_the_same_names_do_not_collide(examples: Path, tmp_path: Path) -> None:
    for name, source in (("one", "biden.jpg"), ("two", "obama.jpg")):
        (tmp_path / name).mkdir()
        shutil.copy(examples / source, tmp_path / name / "face.jpg")
    recipe = load_recipe("embedded", ["subjects=adults"])
    recipe = recipe.model_copy(update={"sources": [SourceSpec(path=str(tmp_path / n)) for n in ("one", "two")]})
    assert build(recipe, tmp_path / "shards", quiet=True).counts == {"kept": 2}


@pytest.mark.slow
def test_a_loosened_threshold_cuts_only_the_missing_crops(photos: Path, tmp_path: Path) -> None:
    out, straight = tmp_path / "shards", tmp_path / "straight"
    first = build(recipe_for(photos, *NO_DUPLICATES, "filters.face_px.min=150"), out, quiet=True)
    second = build(recipe_for(photos, *NO_DUPLICATES), out, quiet=True)
    assert second.analysed == 0 and second.cropped == second.counts["kept"] - first.counts["kept"] > 0
    assert second.root_sha256 == build(recipe_for(photos, *NO_DUPLICATES), straight, quiet=True).root_sha256


def test_adding_a_sample_touches_one_shard(photos: Path, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "shards"
    shutil.copytree(photos, raw)
    settings = [*NO_DUPLICATES, "shards.prefix_digits=1", "splits.train=1", "splits.validation=0", "splits.test=0"]
    build(recipe_for(raw, *settings), out, quiet=True)
    before = {s["prefix"]: s["sha256"] for s in read_index(out)["shards"]}
    write_photos(raw, 1, start=40)
    build(recipe_for(raw, *settings), out, quiet=True)
    after = {s["prefix"]: s["sha256"] for s in read_index(out)["shards"]}
    assert sum(after[p] != before.get(p) for p in after) == 1
    names = [s["name"] for s in read_index(out)["shards"]]
    assert names == [f"train-{i:06d}.tar" for i in range(len(names))]
    assert verify(out).holds


def test_copies_are_one_sample_and_name_the_survivor(examples: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(examples / "biden.jpg", raw / "b.jpg")
    shutil.copy(examples / "biden.jpg", raw / "a.jpg")
    Image.open(examples / "biden.jpg").save(raw / "again.jpg", quality=70)
    build(recipe_for(raw), tmp_path / "shards", quiet=True)
    rows = ledger(tmp_path / "shards")
    kept = [name for name, row in rows.items() if row["status"] == "kept"]
    assert len(kept) == 1
    assert rows["b.jpg"]["reason"] == "exact_duplicate" and "folder/a.jpg" in rows["b.jpg"]["detail"]
    loser = "again.jpg" if kept == ["a.jpg"] else "a.jpg"
    assert rows[loser]["reason"] in ("perceptual_duplicate", "face_duplicate")
    assert rows[loser]["detail"] == f"survivor {rows[kept[0]]['key']}"


def test_each_face_its_own_sample(examples: Path, tmp_path: Path) -> None:
    import cv2

    raw = tmp_path / "raw"
    raw.mkdir()
    pair = np.hstack([cv2.resize(cv2.imread(str(examples / n))[:700], (500, 400)) for n in ("obama.jpg", "biden.jpg")])
    cv2.imwrite(str(raw / "pair.png"), pair)
    one, each = tmp_path / "one", tmp_path / "each"
    with pytest.raises(UserError, match=r"nothing was kept of 1 inputs .several_faces 1."):
        build(recipe_for(raw), one, quiet=True)
    summary = build(recipe_for(raw, "faces.per_photo=each"), each, quiet=True)
    keys = [row["uid"] for row in all_samples(each)]
    assert summary.inputs == 1 and summary.counts["kept"] == 2
    assert sorted(k[-2:] for k in keys) == ["-0", "-1"] and len({k[:32] for k in keys}) == 1
    assert verify(each).holds


def test_the_people_of_one_photo_stay_in_one_split(examples: Path, tmp_path: Path) -> None:
    import cv2

    raw = tmp_path / "raw"
    raw.mkdir()
    for left, right in (("obama.jpg", "biden.jpg"), ("obama2.jpg", "astronaut.png")):  # joined through the first
        halves = [cv2.resize(cut(cv2.imread(str(examples / n)), n), (400, 400)) for n in (left, right)]
        cv2.imwrite(str(raw / f"{left}-{right}.png"), np.hstack(halves))
    settings = ["faces.per_photo=each", "splits.train=0.34", "splits.validation=0.33", "splits.test=0.33"]
    summary = build(recipe_for(raw, *NO_DUPLICATES, *settings), tmp_path / "shards", quiet=True)
    assert summary.counts == {"kept": 4} and sorted(summary.splits.values()) == [0, 0, 4]
    assert any("3 identities form 1 groups" in note for note in summary.notes)


def cut(picture: np.ndarray, name: str) -> np.ndarray:
    left, top, right, bottom = REGIONS[name]
    return picture[top:bottom, left:right]


def test_a_run_that_keeps_nothing_fails_and_touches_nothing(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    first = build(recipe_for(photos, *NO_DUPLICATES), out, quiet=True)
    with pytest.raises(UserError, match=r"nothing was kept of 20 inputs .face_px 20."):
        build(recipe_for(photos, "filters.face_px.min=5000"), out, quiet=True)
    assert read_index(out)["root_sha256"] == first.root_sha256 and verify(out).problems == []


def test_the_adult_gate_is_on_unless_somebody_vouches(photos: Path, tmp_path: Path) -> None:
    strict = ["filters.adult.min_age=99"]
    with pytest.raises(UserError, match=r"adult 20.*--subjects adults"):
        build(recipe_for(photos, *NO_DUPLICATES, *strict, subjects="unknown"), tmp_path / "shards", quiet=True)
    vouched = build(recipe_for(photos, *NO_DUPLICATES, *strict), tmp_path / "shards", quiet=True)
    assert vouched.analysed == 0 and vouched.counts["kept"] == 20
    assert "adults" in (tmp_path / "shards" / "DATASHEET.md").read_text()
    assert all(row["vouched"] for row in ledger(tmp_path / "shards").values())


def test_a_gate_that_stands_open_is_said(photos: Path, tmp_path: Path) -> None:
    def notes(*settings: str, subjects: str = "unknown") -> str:
        recipe = recipe_for(photos, *NO_DUPLICATES, *settings, subjects=subjects)
        return "\n".join(build(recipe, tmp_path / "shards", quiet=True).notes)

    assert "nothing keeps photographs of minors out" in notes("filters.adult=null")
    assert "filters.adult.min_age=24 is low" in notes("filters.adult.min_age=24")
    assert " is low" not in notes("filters.adult.min_age=25") + notes("filters.adult.min_age=24", subjects="adults")
    assert "states an age under 18" in notes("filters.adult.min_source_age=10", subjects="adults")


def test_too_many_technical_failures_stop_the_run(photos: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(photos, raw)
    for path in sorted(raw.iterdir())[:6]:
        path.write_bytes(path.read_bytes()[:2000])
    drops = "filters.face_px.min=150"  # these lose rows too, and are no failures
    with pytest.raises(UserError, match=r"6 of 20 inputs failed technically .truncated 6., more than alarm.max_failed"):
        build(recipe_for(raw, *NO_DUPLICATES, drops), tmp_path / "shards", quiet=True)
    assert not (tmp_path / "shards" / "index.json").exists()
    accepted = build(recipe_for(raw, *NO_DUPLICATES, "alarm.max_failed=0.5"), tmp_path / "shards", quiet=True)
    assert accepted.counts == {"kept": 14, "failed": 6}


def broken_pack(folder: Path) -> Path:
    """A pack that loads, and whose detector fails on every picture (a reshape that cannot hold)."""
    shutil.copytree(EMBEDDED, folder)
    path = folder / "det_centerface.onnx"
    model = onnx.load(path)
    bad = helper.make_node("Reshape", ["input.1_n", "seven"], ["never"], name="bad")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 11, 13], np.int64), "seven"))
    last = model.graph.node[-1]
    model.graph.node.append(bad)
    model.graph.node.append(helper.make_node("Sum", [last.output[0], "zero_of_never"], ["unused"], name="use"))
    model.graph.node.insert(
        len(model.graph.node) - 1,
        helper.make_node("ReduceMax", ["never"], ["zero_of_never"], name="shrink", keepdims=0),
    )
    renamed = last.output[0]
    for output in model.graph.output:
        if output.name == renamed:
            last.output[0] = renamed + "_inner"
            model.graph.node[-1].input[0] = last.output[0]
            model.graph.node[-1].output[0] = renamed
    onnx.save(model, path)
    return folder


def test_an_engine_that_fails_on_every_image_is_one_clear_error(photos: Path, tmp_path: Path) -> None:
    pack = broken_pack(tmp_path / "pack")
    with pytest.raises(UserError, match=r"the face engine failed on all of the first 20 inputs.*nothing was written"):
        build(recipe_for(photos, f"faces.engine={pack}"), tmp_path / "shards", quiet=True)
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize(
    ("out", "src", "message"),
    [
        ("raw/shards", "raw", "lies inside --src"),
        ("full", "raw", "holds other files"),
        ("shards", "nowhere", "there is no such file or folder"),
        ("file", "raw", "is a file"),
    ],
)
def test_wrong_places_are_refused(tmp_path: Path, photos: Path, out: str, src: str, message: str) -> None:
    shutil.copytree(photos, tmp_path / "raw")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=message) as caught:
        build(recipe_for(tmp_path / src), tmp_path / out, quiet=True)
    assert caught.value.exit_code == 2
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_two_builds_on_one_folder_are_refused(photos: Path, tmp_path: Path) -> None:
    from unif2ace_data.run.store import WorkStore

    store = WorkStore(tmp_path / "shards.work")
    with pytest.raises(UserError, match=r"another command is running"):
        build(recipe_for(photos), tmp_path / "shards", quiet=True)
    store.close()


def test_the_work_folder_is_private(built: tuple[Path, Summary]) -> None:
    assert built[1].work.stat().st_mode & 0o777 == 0o700


def test_nothing_private_travels(built: tuple[Path, Summary]) -> None:
    out, _ = built
    text = b"".join(p.read_bytes() for p in out.rglob("*") if p.suffix in (".json", ".yaml", ".md", ".html"))
    text += b"".join(files["json"] for shard in out.glob("*.tar") for _, files in read_samples(shard))
    for word in (b"skin_ita", b'embedding":', str(Path.cwd()).encode()):
        assert word not in text


def test_dry_run_counts_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    assert dry_run(recipe_for(photos), None, 1)["inputs"] == 20
    assert dry_run(recipe_for(photos), 5, 1)["inputs"] == 5


def test_where_a_source_lies_changes_no_byte(examples: Path, tmp_path: Path) -> None:
    roots = []
    for name in ("one", "two"):
        shutil.copytree(examples, tmp_path / name / f"raw-{name}")
        out = tmp_path / name / "shards"
        roots.append(build(recipe_for(tmp_path / name / f"raw-{name}"), out, quiet=True).root_sha256)
        assert f"raw-{name}" not in (out / "recipe.yaml").read_text()
        assert recipe_at(out).sources == [SourceSpec(path="", manifest="folder")]
    assert roots[0] == roots[1]
    with pytest.raises(
        UserError, match="no such file or folder"
    ):  # a dataset's own recipe does not read what lies around
        build(recipe_at(out), tmp_path / "again", quiet=True)


def test_an_earlier_releases_test_people_stay_in_test(photos: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    build(recipe_for(photos, *NO_DUPLICATES), first, quiet=True)
    held = {s["source"]["id"] for s in all_samples(first) if s["split"] == "test"}
    second = tmp_path / "second"
    build(recipe_for(photos, *NO_DUPLICATES, "splits.salt=other"), second, splits_from=first, quiet=True)
    later = {s["source"]["id"]: s["split"] for s in all_samples(second)}
    assert held and {later[name] for name in held} == {"test"}
    rows = ledger(second)
    assert not any(name.startswith("@release") for name in rows)
