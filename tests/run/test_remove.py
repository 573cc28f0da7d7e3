"""`remove`: by every selector; one shard changes; what is gone stays gone, also as a copy; killed anywhere it completes."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import signal
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unif2ace_data.curate.removal import TOMBSTONES, read_tombstones
from unif2ace_data.curate.review import unpacked_draw
from unif2ace_data.errors import UserError
from unif2ace_data.llm.engine import Answer
from unif2ace_data.llm.journal import JOURNAL, Journal
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.release.sample_sheet import SAMPLES, SIDE, sample_sheet
from unif2ace_data.run.audit import audit
from unif2ace_data.run.build import Summary, build
from unif2ace_data.run.find import Photograph, by_key
from unif2ace_data.run.private import recipe_at, working_store
from unif2ace_data.run.qa_gen import qa_gen
from unif2ace_data.run.recaption import recaption
from unif2ace_data.run.remove import Found, Selector, remove
from unif2ace_data.run.review import export
from unif2ace_data.schema import Sample
from unif2ace_data.shards import read_index, read_samples
from unif2ace_data.verify import verify

KILL_AT = Path(__file__).with_name("kill_at.py")
SETTINGS = ["subjects=adults", "shards.prefix_digits=1"]


def run_build(raw: Path, out: Path, *settings: str) -> Summary:
    recipe = load_recipe("embedded", [*SETTINGS, *settings])
    return build(recipe.model_copy(update={"sources": [SourceSpec(path=str(raw))]}), out, quiet=True)


@pytest.fixture(scope="module")
def built(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, five of which are kept, with questions, a shard for each first digit. Copy before changing."""
    folder = tmp_path_factory.mktemp("removal")
    shutil.copytree(examples, folder / "raw")
    run_build(folder / "raw", folder / "shards")
    qa_gen(folder / "shards", recipe_at(folder / "shards"), quiet=True)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return tmp_path


def samples(out: Path) -> dict[str, Sample]:
    found = (s for shard in read_index(out)["shards"] for s in read_samples(out / shard["name"]))
    return {key: Sample.model_validate_json(files["json"]) for key, files in found}


def key_of(out: Path, name: str) -> str:
    return next(key for key, sample in samples(out).items() if sample.source.id.endswith(f"/{name}"))


def shards_and_ledgers(out: Path) -> dict[str, str]:
    files = [*out.glob("*.tar"), *out.glob("ledger/*")]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def agreed(found: list[Found], notes: list[str]) -> None:
    """Yes to everything."""


def full_ledger(out: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(out.with_name(out.name + ".work") / "ledger.parquet").to_pylist()
    return {row["source_id"].split("/", 1)[1]: row for row in rows}


def sums_hold(out: Path) -> None:
    """Index, statistics, private ledger and shards tell the same story."""
    assert verify(out).problems == []
    counts, stats = read_index(out)["counts"], orjson.loads((out / "stats.json").read_bytes())
    assert counts["inputs"] == counts["inputs_kept"] + counts["inputs_dropped"] + counts["inputs_failed"]
    assert counts["kept"] == stats["kept"] == len(samples(out))
    assert (counts["dropped"], counts["failed"], counts["inputs"]) == (
        stats["dropped"],
        stats["failed"],
        stats["inputs"],
    )
    assert counts["reasons"] == {row["reason"]: row["rows"] for row in stats["reasons"]}
    assert sum(tally["kept"] for tally in stats["datasets"].values()) == counts["kept"]
    assert f"{counts['kept']:,}, out of {counts['inputs']:,} inputs" in (out / "DATASHEET.md").read_text()


# ------------------------------------------------------------------ what goes, and what stays


@pytest.mark.parametrize("selector", ["key", "beginning", "source_id", "sha256", "like"])
def test_each_selector_takes_one_photograph_and_changes_its_shard_alone(folder: Path, selector: str) -> None:
    out = folder / "shards"
    key = key_of(out, "biden.jpg")
    before, held, index = shards_and_ledgers(out), samples(out), read_index(out)
    chosen = {
        "key": Selector(key=key),
        "beginning": Selector(key=key[:6]),
        "source_id": Selector(source_id=held[key].source.id),
        "sha256": Selector(sha256=held[key].source.sha256.upper()),
        "like": Selector(like=folder / "raw" / "biden.jpg"),
    }[selector]
    asked: list[Found] = []
    receipt = remove(out, chosen, lambda found, notes: asked.extend(found), quiet=True)
    assert [(f.keys, f.source_ids, f.split) for f in asked] == [([key], [held[key].source.id], held[key].split)]
    assert held[key].caption.startswith(asked[0].caption.rstrip("…")) and asked[0].score == 1.0
    sums_hold(out)
    after = shards_and_ledgers(out)
    shard = next(s["name"] for s in index["shards"] if key[0] == s["prefix"] and held[key].split == s["split"])
    assert {n for n in before if before[n] != after.get(n)} == {shard, f"ledger/kept-{shard[:-4]}.parquet"}
    assert samples(out) == {
        k: s for k, s in held.items() if k != key
    }  # captions, claims and questions of the others too
    assert read_index(out)["counts"]["reasons"]["removed"] == 1
    row = full_ledger(out)["biden.jpg"]
    assert (row["status"], row["reason"], row["key"], row["sha256"]) == ("dropped", "removed", "", "")
    assert receipt["keys"] == [key] and receipt["selector"] == selector.replace("_", "-").replace("beginning", "key")
    assert (receipt["root_before"], receipt["root_after"]) == (index["root_sha256"], read_index(out)["root_sha256"])
    assert [(s["name"], s["before"]) for s in receipt["shards"]] == [(shard, before[shard])]
    assert orjson.loads(next((folder / "shards.work" / "removals").iterdir()).read_bytes()) == receipt


def test_a_removed_face_leaves_the_cards_picture(folder: Path) -> None:
    out = folder / "shards"
    run_build(folder / "raw", out, "splits.train=1", "splits.validation=0", "splits.test=0")
    train = [k for k, sample in sorted(samples(out).items()) if sample.split == "train"]
    old, gone = (out / SAMPLES).read_bytes(), samples(out)[train[0]]
    assert gone.caption in (out / "README.md").read_text()
    remove(out, Selector(key=train[0]), agreed, quiet=True)
    new, index = (out / SAMPLES).read_bytes(), read_index(out)
    assert new != old and new == sample_sheet(out, index["shards"])[0]
    assert index["files"][SAMPLES]["sha256"] == hashlib.sha256(new).hexdigest()
    assert gone.caption not in (out / "README.md").read_text()
    with Image.open(io.BytesIO(old)) as before, Image.open(io.BytesIO(new)) as after:
        assert SIDE < before.height - after.height < 2 * SIDE, "four of five are left: a row less"
    assert not [p for p in out.with_name("shards.work").rglob("*") if p.is_file() and p.read_bytes() == old]


def test_without_a_face_in_train_the_picture_goes(folder: Path) -> None:
    out = folder / "shards"
    train = [key for key, sample in samples(out).items() if sample.split == "train"]
    assert len(train) == 1 and (out / SAMPLES).is_file()
    remove(out, Selector(key=train[0]), agreed, quiet=True)
    assert not (out / SAMPLES).exists() and "![" not in (out / "README.md").read_text()
    sums_hold(out)


def test_nothing_of_it_is_left_in_the_private_folder(folder: Path) -> None:
    out, work = folder / "shards", folder / "shards.work"
    key = key_of(out, "biden.jpg")
    sample = samples(out)[key]
    journal = Journal(work / JOURNAL)
    for number, about in enumerate([key, key, "another", ""]):
        journal.put(str(number), "draft", "m", Answer(f"{about} is said to smile", "stop", 1, 1, 0.1), about)
    journal.close()
    for cached in read_index(out)["shards"]:  # codes and face features, as unif2ace-model leaves them
        (work / "model" / cached["sha256"][:24]).mkdir(parents=True)
    (work / "report.html").write_text("with a thumbnail")
    with working_store(out) as store:
        embedding = store.db.execute(
            "select embeddings from analyses where sha256=?", (sample.source.sha256,)
        ).fetchone()[0]
        crop = store.db.execute("select jpeg from crops where key=?", (key,)).fetchone()[0]
    receipt = remove(out, Selector(key=key), agreed, quiet=True)
    assert (
        receipt["forgotten"] | {"analyses": 1, "looks": 1, "crops": 1, "texts": 1, "qa": 1, "answers": 2}
        == (receipt["forgotten"])
    )
    assert receipt["forgotten"]["answers_of_unknown_samples"] == 1
    everything = b"".join(p.read_bytes() for p in work.rglob("*.sqlite*"))
    for trace in (embedding[:64], crop[1000:1064], sample.caption.encode(), sample.source.sha256.encode()):
        assert trace not in everything  # also not in pages that the database has freed
    left = {p.name for p in (work / "model").iterdir()}
    assert left == {s["sha256"][:24] for s in read_index(out)["shards"]} & left and len(left) == 4
    assert not (work / "report.html").exists()


def test_private_pages_and_draws_lose_it_too(folder: Path) -> None:
    """An audit's page and embeddings, a review's form and what was drawn for it: the others' items and the answers stay."""
    out, work = folder / "shards", folder / "shards.work"
    key, other = key_of(out, "biden.jpg"), key_of(out, "astronaut.png")
    root = export(out, 10_000).root_sha256
    audit(out, quiet=True)
    (work / "audit" / "of-another-pack.npz").write_bytes(b"")
    (work / "review" / "precision.json").write_text("{}")
    assert (work / "audit.html").is_file() and len(list((work / "review").iterdir())) > 1
    receipt = remove(out, Selector(key=key), agreed, quiet=True)
    assert not (work / "audit.html").exists() and not (work / "audit").exists()
    assert [path.name for path in (work / "review").iterdir()] == ["precision.json"]
    with working_store(out) as store:
        drawn = {item.key for item in unpacked_draw(root, store.draw(root) or b"").items}
    assert other in drawn and key not in drawn and receipt["forgotten"]["draws"] > 0
    assert key.encode() not in b"".join(path.read_bytes() for path in work.glob("work.sqlite*"))


def test_tombstones_hold_no_photo_no_embedding_and_no_plain_hash(folder: Path) -> None:
    out = folder / "shards"
    key = key_of(out, "biden.jpg")
    sample = samples(out)[key]
    remove(out, Selector(key=key), agreed, quiet=True)
    text = (out / TOMBSTONES).read_text()
    assert key not in text and sample.source.sha256[:16] not in text and sample.source.id not in text
    assert TOMBSTONES in read_index(out)["files"]
    stones = read_tombstones(out)
    assert stones is not None and stones.has_file(sample.source.sha256) and len(text) < 6000


def test_a_removal_without_the_private_folder(folder: Path) -> None:
    """A dataset that was downloaded: crops and index are all there is."""
    out = folder / "shards"
    shutil.rmtree(folder / "shards.work")
    key = key_of(out, "biden.jpg")
    counts = read_index(out)["counts"]
    assert remove(out, Selector(like=folder / "raw" / "biden.jpg"), agreed, quiet=True)["keys"] == [key]
    sums_hold(out)
    now = read_index(out)["counts"]
    assert (now["inputs"], now["kept"], now["dropped"]) == (counts["inputs"], counts["kept"] - 1, counts["dropped"] + 1)
    run_build(folder / "raw", out)  # with a new private folder
    assert key not in samples(out) and full_ledger(out)["biden.jpg"]["reason"] == "removed"


def test_a_photograph_of_the_same_person_is_found_by_its_face(folder: Path) -> None:
    out, asked = folder / "shards", list[Found]()
    (folder / "shards.work" / "work.sqlite").unlink()  # through the crops; the store would give the same
    remove(out, Selector(like=folder / "raw" / "obama2.jpg"), lambda found, notes: asked.extend(found), quiet=True)
    whys = {f.source_ids[0].split("/")[1]: f.why for f in asked}
    assert whys == {"obama2.jpg": "same bytes", "obama.jpg": "the same face", "obama3.jpg": "the same face"}
    assert asked[0].score == 1.0 and all(0.5 < f.score < 1 for f in asked[1:])
    sums_hold(out)


def test_faces_are_not_compared_through_another_pack(folder: Path) -> None:
    out = folder / "shards"
    recipe = out / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("engine: embedded\n", "engine: another\n", 1))
    asked, said = list[Found](), list[str]()
    with pytest.raises(UserError, match="nothing was removed"):
        remove(out, Selector(like=folder / "raw" / "obama2.jpg"), lambda f, n: declined(f, n, asked, said), quiet=True)
    assert [f.why for f in asked] == ["same bytes"] and "'another' of this dataset is not installed" in said[0]


def declined(found: list[Found], notes: list[str], asked: list[Found], said: list[str]) -> None:
    asked.extend(found)
    said.extend(notes)
    raise UserError("nothing was removed")


# ------------------------------------------------------------------ it does not come back


def test_building_again_changes_nothing_more(folder: Path) -> None:
    out = folder / "shards"
    remove(out, Selector(key=key_of(out, "obama2.jpg")), agreed, quiet=True)
    removed, index = shards_and_ledgers(out), (out / "index.json").read_bytes()
    ledger = (folder / "shards.work" / "ledger.parquet").read_bytes()
    summary = run_build(folder / "raw", out)
    assert summary.analysed == 0 and summary.reasons["removed"] == 1
    assert shards_and_ledgers(out) == removed and (out / "index.json").read_bytes() == index
    assert (folder / "shards.work" / "ledger.parquet").read_bytes() == ledger
    recaption(out, recipe_at(out, ["captions.complexion=false"]), quiet=True)
    qa_gen(out, recipe_at(out), quiet=True)
    sums_hold(out)


def test_people_and_shards_keep_their_places_when_one_is_gone(folder: Path) -> None:
    """Whoever is removed may have decided a person's split, and a shard that vanishes may have been the first."""
    out = folder / "shards"
    index = read_index(out)
    first = next(s for s, after in pairwise(index["shards"]) if s["split"] == after["split"])
    (key,) = [k for k, s in samples(out).items() if k[0] == first["prefix"] and s.split == first["split"]]
    assert first["name"] == f"{first['split']}-000000.tar"
    before = {k: s.split for k, s in samples(out).items() if k != key}
    receipt = remove(out, Selector(key=key), agreed, quiet=True)
    assert [(s["name"], s["after"]) for s in receipt["shards"]] == [(first["name"], None)]
    names = [s["name"] for s in index["shards"] if s["name"] != first["name"]]
    for _ in range(2):
        sums_hold(out)
        assert [s["name"] for s in read_index(out)["shards"]] == names
        assert {k: s.split for k, s in samples(out).items()} == before
        kept = shards_and_ledgers(out)
        run_build(folder / "raw", out)
    assert shards_and_ledgers(out) == kept


def test_a_whole_split_may_go(folder: Path) -> None:
    out = folder / "shards"
    for key in [k for k, s in samples(out).items() if s.split == "test"]:
        remove(out, Selector(key=key), agreed, quiet=True)
    sums_hold(out)
    assert not list(out.glob("test-*.tar")) and not list(out.glob("ledger/kept-test-*"))
    held = samples(out)
    run_build(folder / "raw", out)
    assert samples(out) == held and {s.split for s in held.values()} == {"train", "validation"}


def altered(path: Path, scale: float, quality: int, cut: float = 0.0) -> bytes:
    image = Image.open(path).convert("RGB")
    x, y = cut * image.width, cut * image.height
    image = image.crop((round(x), round(y), round(image.width - x), round(image.height - y)))
    buffer = io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_copies_do_not_get_in_later_and_nothing_is_kept_of_them(folder: Path) -> None:
    out, raw = folder / "shards", folder / "raw"
    key = key_of(out, "biden.jpg")
    remove(out, Selector(key=key), agreed, quiet=True)
    held, tars = samples(out), shards_and_ledgers(out)
    (raw / "copy.jpg").write_bytes((raw / "biden.jpg").read_bytes())
    (raw / "smaller.jpg").write_bytes(altered(raw / "biden.jpg", 0.5, 70))
    (raw / "cut.jpg").write_bytes(altered(raw / "biden.jpg", 1, 90, cut=0.02))
    first = run_build(raw, out)
    rows = full_ledger(out)
    for name in ("copy.jpg", "smaller.jpg", "cut.jpg", "biden.jpg"):
        assert (rows[name]["status"], rows[name]["reason"]) == ("dropped", "removed"), name
    assert first.reasons["removed"] == 4 and samples(out) == held and shards_and_ledgers(out) == tars
    sums_hold(out)
    with working_store(out) as store:
        assert store.db.execute("select count(*) from analyses").fetchone()[0] == len(held) + 2  # and the two dropped
    assert run_build(raw, out).analysed == 0  # recognised once, they are not read again
    strict = run_build(raw, out, "filters.face_px.min=150")  # another threshold, and back
    assert strict.counts["dropped"] >= 4 and run_build(raw, out).root_sha256 == first.root_sha256


def test_the_tombstones_outlive_the_dataset_that_they_lay_in(folder: Path) -> None:
    out = folder / "shards"
    remove(out, Selector(key=key_of(out, "biden.jpg")), agreed, quiet=True)
    shutil.rmtree(out)
    run_build(folder / "raw", out)
    assert full_ledger(out)["biden.jpg"]["reason"] == "removed" and verify(out).problems == []
    (out / TOMBSTONES).write_text("{}")
    with pytest.raises(UserError, match=r"removed\.json is broken"):
        run_build(folder / "raw", out)


def test_a_decided_removal_stays_decided_though_its_staged_shards_are_lost(folder: Path) -> None:
    out = folder / "shards"
    remove(out, Selector(key=key_of(out, "astronaut.png")), agreed, quiet=True)
    killed = cli("remove", str(out), "--key", key_of(out, "obama2.jpg"), "--yes", killed_at=("decided", 2))
    assert killed.returncode == -signal.SIGKILL
    shutil.rmtree(folder / "shards.work" / "staging")
    run_build(folder / "raw", out)
    sums_hold(out)
    rows = full_ledger(out)
    assert {name for name, row in rows.items() if row["reason"] == "removed"} == {"astronaut.png", "obama2.jpg"}


def test_tombstones_that_arrive_later_reach_what_was_measured_before(folder: Path) -> None:
    out, other = folder / "shards", folder / "other"
    shutil.copytree(out, other)
    shutil.copytree(folder / "shards.work", folder / "other.work")
    remove(out, Selector(key=key_of(out, "biden.jpg")), agreed, quiet=True)
    shutil.copy(out / TOMBSTONES, other)
    assert run_build(folder / "raw", other).analysed == 0  # it was measured before: that is deleted, and not made again
    assert full_ledger(other)["biden.jpg"]["reason"] == "removed" and verify(other).problems == []
    assert samples(other).keys() == samples(out).keys()
    with working_store(other) as store:
        assert store.db.execute("select count(*) from inputs where sha256 is null").fetchone()[0] == 1


def test_duplicates_of_the_removed_go_with_it(folder: Path) -> None:
    """One that was dropped in its favour would take its place."""
    out, raw = folder / "shards", folder / "raw"
    (raw / "mirror.jpg").write_bytes(altered(raw / "biden.jpg", 0.6, 80))
    run_build(raw, out)
    assert full_ledger(out)["mirror.jpg"]["reason"] in ("perceptual_duplicate", "face_duplicate")
    held = samples(out)
    key = key_of(out, "biden.jpg")
    asked: list[Found] = []
    remove(out, Selector(key=key), lambda found, notes: asked.extend(found), quiet=True)
    assert {f.why for f in asked} == {"key", "its duplicate"}
    run_build(raw, out)
    assert samples(out) == {k: s for k, s in held.items() if k != key}
    assert read_index(out)["counts"]["reasons"]["removed"] == 2


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (Selector(key="zz"), "no sample 'zz'"),
        (Selector(key=""), "no sample ''"),
        (Selector(source_id="folder/nobody.jpg"), "no photograph has the source id"),
        (Selector(sha256="12"), "64 hex digits"),
        (Selector(sha256="0" * 64), "no photograph here has"),
        (Selector(like=Path("nowhere.jpg")), "no such file"),
        (Selector(), "exactly one of"),
        (Selector(key="a", sha256="b"), "exactly one of"),
    ],
)
def test_what_means_nothing_is_refused(built: Path, selector: Selector, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        remove(built / "shards", selector, agreed, quiet=True)
    assert caught.value.exit_code == 2 and verify(built / "shards").holds


def test_an_ambiguous_beginning_is_refused() -> None:
    known = {h: Photograph(h, face_keys=keys) for h, keys in {"a": ["ab1", "ab1-1"], "b": ["ab2"]}.items()}
    assert set(by_key(known, "ab1")) == {"a"} == set(by_key(known, "ab1-"))  # of one photograph, and whole
    with pytest.raises(UserError, match="'ab' begins 3 keys: ab1, ab1-1, ab2") as caught:
        by_key(known, "ab")
    assert caught.value.exit_code == 2


def test_the_last_sample_is_not_removed(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    shutil.copy(examples / "biden.jpg", tmp_path / "raw")
    out = tmp_path / "shards"
    run_build(tmp_path / "raw", out)
    with pytest.raises(UserError, match=r"nothing would be left .*rm -r .*shards .*shards\.work") as caught:
        remove(out, Selector(key=next(iter(samples(out)))), agreed, quiet=True)
    assert caught.value.exit_code == 2 and verify(out).problems == [] and not (out / TOMBSTONES).exists()


def cli(*arguments: str, killed_at: tuple[str, int] | None = None) -> subprocess.CompletedProcess[str]:
    program = [str(KILL_AT), killed_at[0], str(killed_at[1]), "--"] if killed_at else ["-m", "unif2ace_data.cli"]
    return subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.slow
def test_the_command_shows_asks_and_prints_a_receipt(folder: Path) -> None:
    out = folder / "shards"
    key = key_of(out, "biden.jpg")
    root = read_index(out)["root_sha256"]
    unasked = cli("remove", str(out), "--key", key[:8])
    assert unasked.returncode == 2 and "--yes" in unasked.stderr and key in unasked.stderr
    assert read_index(out)["root_sha256"] == root and not (out / TOMBSTONES).exists()
    done = cli("remove", str(out), "--key", key[:8], "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["keys"] == [key] and key not in samples(out)
    unknown = cli("remove", str(out), "--key", key[:8], "--yes")
    assert unknown.returncode == 2 and "no sample" in unknown.stderr
    assert stat.S_IMODE((folder / "shards.work" / "removals").stat().st_mode) == 0o700


# ------------------------------------------------------------------ killed anywhere

POINTS = {
    "fsync": 9,
    "rename": 9,
    "unlink": 7,
    "decided": 2,
    "forget": 1,
    "erase": 1,
    "report": 1,
    "index": 1,
    "receipt": 1,
}


def kill_then_complete(folder: Path, point: str, count: int, completing: str) -> bool:
    """One kill; whatever it left is checked and completed. Returns whether the kill hit."""
    out = folder / "shards"
    key = key_of(out, "biden.jpg")
    old, held = read_index(out)["root_sha256"], samples(out)
    done = cli("remove", str(out), "--key", key, "--yes", killed_at=(point, count))
    assert done.returncode in (-signal.SIGKILL, 0), done.stderr
    new = {k: s for k, s in held.items() if k != key}
    seen = verify(out)
    if (out / "index.json").is_file():
        assert seen.problems == [], (point, count)
        assert samples(out) in (held, new)
    else:
        assert len(seen.problems) == 1 and "again to finish" in seen.problems[0]
    with working_store(out) as store:
        decided = store.db.execute("select 1 from crops where key=?", (key,)).fetchone() is None
    if completing == "remove":
        again = cli("remove", str(out), "--key", key, "--yes")
        assert again.returncode == (0 if done.returncode else 2), again.stderr
        decided = True
    elif completing == "build":
        run_build(folder / "raw", out)
    elif completing == "caption":
        recaption(out, recipe_at(out), quiet=True)
    else:
        qa_gen(out, recipe_at(out), quiet=True)
    sums_hold(out)
    assert samples(out).keys() == (new if decided else held).keys()
    assert decided or read_index(out)["root_sha256"] == old or completing == "caption"
    assert list((folder / "shards.work" / "staging").iterdir()) == []
    if decided:
        assert len(list((folder / "shards.work" / "removals").iterdir())) == 1
        assert not any(key in str(row) for row in pq.read_table(folder / "shards.work" / "ledger.parquet").to_pylist())
        stones = read_tombstones(out)
        assert stones is not None and len(stones.stones) == 1
    return done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("point", "count"), [("decided", 2), ("rename", 4)])
def test_a_kill_in_the_exchange_is_completed(folder: Path, point: str, count: int) -> None:
    assert kill_then_complete(folder, point, count, "remove")


@pytest.mark.slow
def test_twenty_kills_leave_the_old_or_the_new(built: Path, tmp_path: Path) -> None:
    rng = random.Random(5)
    moments = [(point, count) for point, most in POINTS.items() for count in range(1, most + 1)]
    hit = 0
    for number, (point, count) in enumerate(rng.sample(moments, 20)):
        folder = tmp_path / str(number)
        shutil.copytree(built, folder)
        hit += kill_then_complete(folder, point, count, rng.choice(["remove", "build", "caption", "qa-gen"]))
        shutil.rmtree(folder)
    assert hit >= 16, "the kills did not hit"
