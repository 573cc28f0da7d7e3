"""`diff` on datasets that the commands made: nothing from a dataset to itself, a threshold, a removal, new captions, each
face its own sample; and what it says of what is no dataset."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import yaml

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.run.diff import Diff, Setting, as_json, diff, differing, tidy
from unif2ace_data.run.private import recipe_at, working_store
from unif2ace_data.run.qa_gen import qa_gen
from unif2ace_data.run.remove import Selector, remove
from unif2ace_data.run.rewrite import present_shards, rewrite
from unif2ace_data.run.splice import whole
from unif2ace_data.schema import Sample
from unif2ace_data.shards import read_index


def copied(built: Path, folder: Path, private: bool = True) -> Path:
    """A copy to change, with its private folder beside it or without."""
    if private:
        shutil.copytree(built.with_name("shards.work"), folder / "shards.work")
    return Path(shutil.copytree(built, folder / "shards"))


def build_again(out: Path, examples: Path, *settings: str) -> None:
    recipe = load_recipe("embedded", ["subjects=adults", *settings])
    build(recipe.model_copy(update={"sources": [SourceSpec(path=str(examples))]}), out, quiet=True)


@pytest.fixture(scope="module")
def stricter(built: Path, examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples with a lower limit of yaw. Read only."""
    out = copied(built, tmp_path_factory.mktemp("stricter"))
    build_again(out, examples, "filters.yaw.max=6")
    return out


def rewritten(out: Path, change: Any) -> None:
    """Every sample through `change`, as the commands rewrite shards."""
    with working_store(out) as store:
        shards = present_shards(store, out)
        prints = {s.name: (f"changed-{s.name}", s.texts) for s in shards}
        rewrite(store, out, prints, shards, lambda shard: functools.partial(whole, change), {}, lambda count: None)


def keys(out: Path) -> list[str]:
    return sorted(k for p in (out / "ledger").iterdir() for k in pq.read_table(p, columns=["key"])["key"].to_pylist())


def test_a_dataset_does_not_differ_from_itself_nor_from_its_copy(built: Path, tmp_path: Path) -> None:
    for other in (built, copied(built, tmp_path, private=False)):
        found = diff(built, other)
        assert found.same and found.samples.common == found.a.samples == 5
        assert found.recipe == found.lost == found.confounders == found.notes == []
        assert all(m.a == m.b for m in found.measures) and not any(d.total_variation for d in found.distributions)
        assert not any(f.count for f in found.samples.aspects.values())


def test_a_threshold_shows_in_the_recipe_in_the_losses_and_in_the_reasons(built: Path, stricter: Path) -> None:
    found = diff(built, stricter)
    gone = sorted(set(keys(built)) - set(keys(stricter)))
    assert found.recipe == [Setting("filters.yaw.max", 45.0, 6.0)]
    assert [(lost.reason, lost.a, lost.b) for lost in found.lost] == [("yaw", 0, len(gone))] and len(gone) == 3
    assert found.samples.only_a.keys == gone and found.samples.only_b.count == 0
    assert {reason: f.keys for reason, f in found.samples.missing_in_b.items()} == {"yaw": gone}
    assert found.samples.common + found.samples.only_b.count == found.b.samples == 2
    assert not found.same and not found.notes
    told = {c.name for c in found.confounders}
    assert {"samples", "caption tokens"} <= told


def test_the_other_way_round_everything_changes_sides(built: Path, stricter: Path) -> None:
    there, back = diff(built, stricter), diff(stricter, built)
    assert (there.a, there.b) == (back.b, back.a)
    assert (there.samples.only_a, there.samples.missing_in_b) == (back.samples.only_b, back.samples.missing_in_a)
    assert [(s.key, s.a, s.b) for s in there.recipe] == [(s.key, s.b, s.a) for s in back.recipe]
    assert [(m.name, m.a, m.b) for m in there.measures] == [(m.name, m.b, m.a) for m in back.measures]
    assert [(lost.reason, lost.a, lost.b) for lost in there.lost] == [
        (lost.reason, lost.b, lost.a) for lost in back.lost
    ]
    for mine, yours in zip(there.distributions, back.distributions, strict=True):
        assert (mine.name, mine.total_variation, mine.mean_a) == (yours.name, yours.total_variation, yours.mean_b)
        assert {(v.value, v.points, v.low, v.high) for v in mine.values} == {
            (v.value, -v.points, -v.high, -v.low) for v in yours.values
        }
    assert {c.name for c in there.confounders} == {c.name for c in back.confounders}


def test_without_the_private_ledger_the_reasons_are_not_known(built: Path, stricter: Path, tmp_path: Path) -> None:
    found = diff(built, Path(shutil.copytree(stricter, tmp_path / "downloaded")))
    assert {reason: f.count for reason, f in found.samples.missing_in_b.items()} == {"not known": 3}
    assert len(found.notes) == 1 and "not at hand" in found.notes[0] and "in B" in found.notes[0]


def test_new_captions_and_questions_are_counted_and_a_removal_is_known(built: Path, tmp_path: Path) -> None:
    out = copied(built, tmp_path)
    chosen = keys(out)[:3]

    def change(sample: Sample) -> Sample:
        told = {
            "caption": sample.caption + " Seen anew.",
            "captioner": sample.captioner.model_copy(update={"engine": "openai"}),
        }
        return sample.model_copy(update=told) if sample.uid in chosen else sample

    rewritten(out, change)
    found = diff(built, out)
    assert {name: f.keys for name, f in found.samples.aspects.items() if f.count} == {
        "caption": chosen,
        "captioner": chosen,
    }
    assert found.samples.recaptioned.keys() == {"grounded -> openai"} and found.samples.changed.count == 3
    longer = next(d for d in found.distributions if d.name == "caption tokens")
    assert longer.mean_b == pytest.approx(
        (longer.mean_a or 0) + 3 * 3 / 5, abs=0.01
    )  # three more tokens in three of five
    assert found.recipe == found.lost == [] and not found.same

    asked = qa_gen(out, recipe_at(out), quiet=True)
    found = diff(built, out)
    assert found.samples.questions_added.count == asked.questions > 0 == found.samples.questions_removed.count
    assert found.samples.aspects["questions"].count == asked.samples == 5
    assert [s.key for s in found.recipe] == ["resolved.qa"]

    remove(out, Selector(key=chosen[0]), lambda found, notes: None, quiet=True)
    shutil.rmtree(out.with_name("shards.work"))
    found = diff(built, out)
    assert found.samples.missing_in_b == {"removed": found.samples.only_a} and found.samples.only_a.keys == chosen[:1]


def test_the_same_face_under_another_key_is_the_same_sample(built: Path, examples: Path, tmp_path: Path) -> None:
    out = copied(built, tmp_path)
    build_again(out, examples, "faces.per_photo=each", "faces.align.size=128")
    found = diff(built, out)
    assert found.samples.common == found.samples.rekeyed.count == 5
    assert sorted(found.samples.rekeyed.keys) == [f"{key} -> {key}-0" for key in keys(built)]
    assert found.samples.only_a.count == 0 and found.samples.only_b.count == found.b.samples - 5
    assert found.samples.aspects["crop"].count == found.samples.aspects["picture"].count > 0
    assert found.samples.aspects["attributes"].count == 0  # the caption's wording goes by the key
    assert found.samples.recaptioned["grounded -> grounded"].count == found.samples.aspects["caption"].count > 0
    assert "pictures" in {c.name for c in found.confounders}
    assert [s.key for s in found.recipe] == ["faces.align.size", "faces.per_photo"]


# ------------------------------------------------------------------ recipes


def test_a_recipe_differs_key_by_key() -> None:
    a: dict[str, Any] = {
        "filters": {"yaw": {"max": 45}, "nsfw": None},
        "sources": [{"path": "", "manifest": "ffhq"}],
        "x": 1,
    }
    b: dict[str, Any] = {
        "filters": {"yaw": None, "nsfw": {"max": 0.5}},
        "sources": [{"path": "", "manifest": "celeba"}],
        "x": 1,
    }
    assert sorted(differing("", tidy(a), tidy(b)), key=lambda s: s.key) == [
        Setting("filters.nsfw", None, {"max": 0.5}),
        Setting("filters.yaw", {"max": 45}, None),
        Setting("sources.celeba", None, {"path": "", "manifest": "celeba"}),
        Setting("sources.ffhq", {"path": "", "manifest": "ffhq"}, None),
    ]
    assert list(differing("", tidy(a), tidy(a))) == []


def test_manifests_are_compared_by_name() -> None:
    lists = [[{"name": "a", "licence": "x"}, {"name": "b"}], [{"name": "b"}, {"name": "a", "licence": "y"}]]
    first, second = (tidy({"resolved": {"manifests": found}}) for found in lists)
    assert list(differing("", first, second)) == [Setting("resolved.manifests.a.licence", "x", "y")]


# ------------------------------------------------------------------ what cannot be compared


def test_what_is_no_dataset_is_told(built: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for other, code, message in (
        (tmp_path / "nowhere", 2, "there is no such folder"),
        (tmp_path / "empty", 2, "holds neither index.json nor shards"),
    ):
        for pair in ((built, other), (other, built)):
            with pytest.raises(UserError, match=message) as error:
                diff(*pair)
            assert error.value.exit_code == code


def test_what_is_not_whole_is_told(built: Path, tmp_path: Path) -> None:
    out = copied(built, tmp_path, private=False)
    stats = orjson.loads((out / "stats.json").read_bytes())
    (out / "stats.json").write_bytes(orjson.dumps({k: v for k, v in stats.items() if k != "qa"}))
    with pytest.raises(UserError, match="not both of this schema"):
        diff(built, out)
    shard = next(out.glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(UserError, match="the index says"):
        diff(built, out)
    (out / "index.json").unlink()
    with pytest.raises(UserError, match=r"index\.json is missing"):
        diff(out, built)


# ------------------------------------------------------------------ the command


def test_the_command_tells_a_person_and_a_program_and_writes_nothing(built: Path, stricter: Path) -> None:
    before = {p: p.stat().st_mtime_ns for out in (built, stricter) for p in out.parent.rglob("*") if p.is_file()}
    command = [sys.executable, "-m", "unif2ace_data.cli", "diff", str(built), str(stricter)]
    run = functools.partial(subprocess.run, capture_output=True, text=True, env=None)
    told, answer = run(command), run([*command, "--json"])
    assert told.returncode == answer.returncode == 0 and answer.stderr == ""
    assert "not in B: yaw" in told.stdout and "filters.yaw.max" in told.stdout
    found = diff(built, stricter)
    assert json.loads(answer.stdout) == json.loads(orjson.dumps(as_json(found)))
    assert before == {
        p: p.stat().st_mtime_ns for out in (built, stricter) for p in out.parent.rglob("*") if p.is_file()
    }
    assert isinstance(found, Diff) and read_index(built)["root_sha256"] == found.a.root_sha256
    assert yaml.safe_load((built / "recipe.yaml").read_text())["name"] == found.a.recipe
