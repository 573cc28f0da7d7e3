"""`review` on real photographs: what people say is evidence, and every later command keeps to it."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "llm"))
from fluent_model import fluent
from scripted_server import ScriptedServer

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import Summary, build
from unif2ace_data.run.private import recipe_at
from unif2ace_data.run.qa_gen import qa_gen
from unif2ace_data.run.recaption import recaption
from unif2ace_data.run.review import Taken, export, take_in
from unif2ace_data.schema import Attribute, Sample
from unif2ace_data.shards import read_index, read_samples
from unif2ace_data.taxonomy import load_taxonomy
from unif2ace_data.verify import verify

DISTINCT = ["subjects=adults", "duplicates.perceptual=null", "duplicates.near_identical=false"]
PREFIX = ["shards.prefix_digits=1", "splits.train=1", "splits.validation=0", "splits.test=0"]
KILL = Path(__file__).with_name("kill_at.py")


@pytest.fixture(scope="module")
def grounded(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs with grounded captions, in several shards. Copy before changing."""
    folder = tmp_path_factory.mktemp("grounded")
    (folder / "raw").mkdir()
    for path in sorted(photos.iterdir())[:6]:
        shutil.copy(path, folder / "raw")
    run_build(folder / "shards")
    return folder


@pytest.fixture
def dataset(grounded: Path, tmp_path: Path) -> Path:
    shutil.copytree(grounded, tmp_path, dirs_exist_ok=True)
    return tmp_path / "shards"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer(fluent).start()
    yield server
    server.close()


def run_build(out: Path, *settings: str) -> Summary:
    recipe = load_recipe("embedded", [*DISTINCT, *PREFIX, *settings])
    return build(recipe.model_copy(update={"sources": [SourceSpec(path=str(out.parent / "raw"))]}), out, quiet=True)


def by_model(server: ScriptedServer) -> list[str]:
    return [
        "captions.engine=openai", "llm.model=tiny-vlm", f"llm.base_url={server.base_url}", "llm.wait_s=5",
        "captions.max_chars=400",
    ]  # fmt: skip


def samples(out: Path) -> dict[str, Sample]:
    return {
        key: Sample.model_validate_json(files["json"])
        for shard in read_index(out)["shards"]
        for key, files in read_samples(out / shard["name"])
    }


def tree(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def shards(out: Path) -> dict[str, str]:
    return {s["name"]: s["sha256"] for s in read_index(out)["shards"]}


def root_of(out: Path) -> str:
    return str(read_index(out)["root_sha256"])


def stated(out: Path) -> tuple[Sample, Attribute, str]:
    """A record of several possible values that a caption claims; and another value for it."""
    for one in samples(out).values():
        claimed = {(c.attribute, c.value) for c in one.claims}
        for record in one.attributes:
            entry = load_taxonomy()[record.name]
            if (record.name, record.value) in claimed and record.name in ("hair_color", "age_band", "smile", "mouth"):
                return one, record, next(v for v in entry.values if v != record.value)
    raise AssertionError("nothing is claimed")


def answer(sample: Sample, record: Attribute, said: str, right: str = "") -> dict[str, str]:
    return {"key": sample.uid, "attribute": record.name, "value": record.value, "answer": said, "right": right}


def put(path: Path, out: Path, *answers: dict[str, str], reviewer: str = "ab", root: str = "") -> Path:
    form = {
        "kind": "unif2ace-review",
        "root_sha256": root or root_of(out),
        "reviewer": reviewer,
        "answers": list(answers),
    }
    path.write_bytes(orjson.dumps(form))
    return path


def imported(out: Path, *answers: dict[str, str], reviewer: str = "ab", root: str = "") -> Taken:
    return take_in(out, put(out.parent / "answers.json", out, *answers, reviewer=reviewer, root=root), quiet=True)


def records(sample: Sample, name: str) -> list[tuple[str, str]]:
    return [(a.value, a.evidence.by) for a in sample.attributes if a.name == name]


def counts(out: Path, name: str) -> Counter[str]:
    """Samples by value of an attribute, as stats.json has them."""
    (entry,) = [a for a in orjson.loads((out / "stats.json").read_bytes())["attributes"] if a["name"] == name]
    return Counter({value["value"]: value["samples"] for value in entry["values"]})


# ------------------------------------------------------------------ a correction and what follows


def test_a_corrected_attribute_is_followed_by_claim_caption_ledger_and_stats(dataset: Path) -> None:
    one, record, right = stated(dataset)
    before, counted = shards(dataset), counts(dataset, record.name)
    done = imported(dataset, answer(one, record, "no", right))
    assert (done.answers, done.new, done.samples_changed, done.disputed) == (1, 1, 1, 0)
    assert verify(dataset).problems == [] and done.root_sha256 == root_of(dataset)
    after = samples(dataset)[one.uid]
    assert records(after, record.name) == [(right, "people:ab")]
    assert not any((c.attribute, c.value) == (record.name, record.value) for c in after.claims)
    assert any((c.attribute, c.value, c.verdict) == (record.name, right, "supported") for c in after.claims)
    assert after.caption != one.caption
    assert counts(dataset, record.name)[record.value] == counted[record.value] - 1
    assert counts(dataset, record.name)[right] == counted[right] + 1
    touched = {name for name, sha in shards(dataset).items() if before[name] != sha}
    assert len(touched) == 1 < len(before)  # only the shard of that sample
    rows = pq.read_table(dataset / "ledger" / f"kept-{next(iter(touched))[:-4]}.parquet").to_pylist()
    assert next(r for r in rows if r["key"] == one.uid)["claims"] == len(after.claims)


@pytest.mark.slow
def test_a_later_build_keeps_the_review_and_so_do_a_new_photo_and_another_threshold(
    dataset: Path, photos: Path
) -> None:
    one, record, right = stated(dataset)
    root = imported(dataset, answer(one, record, "no", right)).root_sha256
    assert run_build(dataset).root_sha256 == root
    shutil.copy(sorted(photos.iterdir())[7], dataset.parent / "raw")
    more = run_build(dataset)
    assert more.counts["kept"] == 7 and verify(dataset).problems == []
    assert records(samples(dataset)[one.uid], record.name) == [(right, "people:ab")]
    run_build(dataset, "filters.yaw.max=44")
    assert records(samples(dataset)[one.uid], record.name) == [(right, "people:ab")]


@pytest.mark.slow
def test_a_build_from_nothing_gives_the_same_bytes_when_the_answers_are_taken_in(dataset: Path, tmp_path: Path) -> None:
    one, record, right = stated(dataset)
    root = imported(dataset, answer(one, record, "no", right)).root_sha256
    shutil.rmtree(dataset.with_name("shards.work"))
    assert run_build(dataset).root_sha256 == root  # what travels in the samples is taken over


def test_yes_confirms_and_no_without_a_value_takes_away(dataset: Path) -> None:
    one, record, _ = stated(dataset)
    imported(dataset, answer(one, record, "yes"))
    assert records(samples(dataset)[one.uid], record.name) == [(record.value, "people:ab")]
    root = root_of(dataset)
    assert run_build(dataset).root_sha256 == root
    done = imported(dataset, answer(one, record, "no"), root=str(done_root(dataset)))  # the same person thinks again
    assert (done.new, done.samples_changed) == (1, 1)
    after = samples(dataset)[one.uid]
    assert records(after, record.name) == [] and not any(c.attribute == record.name for c in after.claims)
    again = imported(dataset, answer(one, record, "cannot_tell"), root=str(done_root(dataset)))
    assert again.samples_changed == 1 and samples(dataset)[one.uid] == one  # taken back: as if nobody had looked
    assert verify(dataset).problems == [] and run_build(dataset).root_sha256 == root_of(dataset)


def done_root(out: Path) -> Any:
    """The root hash of the dataset that the last imported file was about."""
    return orjson.loads((out.parent / "answers.json").read_bytes())["root_sha256"]


def test_the_same_file_twice_is_one_and_touches_nothing(dataset: Path) -> None:
    one, record, right = stated(dataset)
    first = imported(dataset, answer(one, record, "no", right))
    before = tree(dataset)
    again = take_in(dataset, dataset.parent / "answers.json", quiet=True)
    assert (again.new, again.samples_changed, again.root_sha256) == (0, 0, first.root_sha256)
    assert tree(dataset) == before and again.precision == first.precision


def test_two_who_disagree_leave_the_attribute_unstated_and_are_counted(dataset: Path) -> None:
    one, record, right = stated(dataset)
    root = root_of(dataset)
    imported(dataset, answer(one, record, "yes"))
    done = imported(dataset, answer(one, record, "no", right), reviewer="cd", root=root)
    assert done.disputed == 1 and done.precision["overall"]["disputed"] == 1
    assert done.precision["agreement"] == [{"reviewers": ["ab", "cd"], "items": 1, "agreed": 0, "kappa": 0.0}]
    after = samples(dataset)[one.uid]
    assert records(after, record.name) == [] and not any(c.attribute == record.name for c in after.claims)
    assert verify(dataset).problems == [] and run_build(dataset).root_sha256 == done.root_sha256


def test_questions_that_rested_on_it_go_and_the_summary_says_so(dataset: Path) -> None:
    qa_gen(dataset, recipe_at(dataset), quiet=True)
    one, record, right = stated(dataset)
    done = imported(dataset, answer(one, record, "no", right))
    after = samples(dataset)
    assert after[one.uid].qa == [] and all(s.qa for key, s in after.items() if key != one.uid)
    assert any("run unif2ace-data qa-gen again" in note for note in done.notes)
    qa_gen(dataset, recipe_at(dataset), quiet=True)
    assert samples(dataset)[one.uid].qa and verify(dataset).problems == []
    assert records(samples(dataset)[one.uid], record.name) == [(right, "people:ab")]


# ------------------------------------------------------------------ captions of a model


def test_a_models_caption_keeps_its_text_but_for_what_people_contradict(dataset: Path, server: ScriptedServer) -> None:
    recaption(dataset, recipe_at(dataset, by_model(server)), quiet=True)
    asked = len(server.bodies)
    one, record, right = stated(dataset)
    span = next(c.span for c in one.claims if (c.attribute, c.value) == (record.name, record.value))
    done = imported(dataset, answer(one, record, "no", right))
    after = samples(dataset)[one.uid]
    assert after.captioner.engine == "openai" and f"{record.name}={record.value}" in after.captioner.removed
    assert one.caption[span[0] : span[1]] not in after.caption
    kept = [c for c in one.claims if c.attribute != record.name and c.verdict == "supported"]
    assert kept and all(one.caption[c.span[0] : c.span[1]] in after.caption for c in kept[:1])
    assert verify(dataset).problems == []
    assert run_build(dataset).root_sha256 == done.root_sha256 and len(server.bodies) == asked  # nobody is asked again
    report, root = recaption(dataset, recipe_at(dataset, by_model(server)), quiet=True)
    assert root == done.root_sha256 and report.rows == 0


def test_a_caption_written_later_does_not_state_what_people_denied(dataset: Path, server: ScriptedServer) -> None:
    recaption(dataset, recipe_at(dataset, by_model(server)), quiet=True)
    one, record, _ = stated(dataset)
    imported(dataset, answer(one, record, "no"))
    recaption(dataset, recipe_at(dataset, [*by_model(server), "llm.seed=7"]), quiet=True)
    after = samples(dataset)[one.uid]
    assert records(after, record.name) == []
    assert not any((c.attribute, c.value, c.negated) == (record.name, record.value, False) for c in after.claims)
    assert f"{record.name}={record.value}" in after.captioner.removed and verify(dataset).problems == []
    assert run_build(dataset).root_sha256 == root_of(dataset)


# ------------------------------------------------------------------ out and back


def test_the_export_lies_in_the_private_folder_and_changes_nothing_else(dataset: Path, tmp_path: Path) -> None:
    before = tree(dataset)
    drawn = export(dataset, 20)
    assert drawn.items == 20 and drawn.strata_drawn == min(20, drawn.strata) and drawn.samples <= 6
    assert {Path(f).parent for f in drawn.files} == {dataset.with_name("shards.work") / "review"}
    assert tree(dataset) == before
    first = tree(dataset.with_name("shards.work") / "review")
    assert export(dataset, 20) == drawn and tree(dataset.with_name("shards.work") / "review") == first
    everything = export(dataset, 10_000, tmp_path / "beside")
    assert everything.items == everything.statements and (tmp_path / "beside" / "review.html").is_file()
    with pytest.raises(UserError, match="which travels") as caught:
        export(dataset, 5, dataset / "review")
    assert caught.value.exit_code == 2 and tree(dataset) == before


def test_all_answers_of_a_form_measure_the_precision(dataset: Path) -> None:
    export(dataset, 30)
    tasks = orjson.loads((dataset.with_name("shards.work") / "review" / "review.labelstudio.json").read_bytes())
    for task in tasks:
        result = [{"from_name": "answer", "to_name": "image", "type": "choices", "value": {"choices": ["yes"]}}]
        task["annotations"] = [{"completed_by": 7, "result": result}]
    path = dataset.parent / "ls.json"
    path.write_bytes(orjson.dumps(tasks))
    done = take_in(dataset, path, quiet=True)
    assert done.new == done.precision["overall"]["answered"] == 30 and done.precision["reviewers"] == ["ls7"]
    assert orjson.loads(Path(done.precision_file).read_bytes()) == done.precision
    assert Path(done.precision_file).parent == dataset.with_name("shards.work") / "review"
    assert verify(dataset).problems == [] and run_build(dataset).root_sha256 == done.root_sha256
    said = {(t["data"]["key"], t["data"]["attribute"]) for t in tasks}
    assert all(
        any(a.name == name and a.evidence.by == "people:ls7" for a in samples(dataset)[key].attributes)
        for key, name in said
    )


def test_a_copy_without_its_private_folder_can_be_reviewed(dataset: Path) -> None:
    qa_gen(dataset, recipe_at(dataset), quiet=True)
    shutil.rmtree(dataset.with_name("shards.work"))
    one, record, right = stated(dataset)
    done = imported(dataset, answer(one, record, "no", right))
    after = samples(dataset)
    assert records(after[one.uid], record.name) == [(right, "people:ab")] and verify(dataset).problems == []
    assert all(s.qa for key, s in after.items() if key != one.uid)
    shutil.rmtree(dataset.with_name("shards.work"))  # and again, by somebody else
    other = next(a for a in after[one.uid].attributes if a.name != record.name and a.validated)
    imported(dataset, answer(one, other, "yes"), reviewer="cd")
    final = samples(dataset)[one.uid]
    assert records(final, record.name) == [(right, "people:ab")]
    assert records(final, other.name) == [(other.value, "people:cd")]
    assert done.root_sha256 != root_of(dataset) and verify(dataset).problems == []


def test_what_is_wrong_with_a_file_is_said_and_changes_nothing(dataset: Path) -> None:
    one, record, right = stated(dataset)
    before = tree(dataset.parent)
    wrong = dataset.parent / "answers.json"
    cases = [
        (answer(one, record, "no", right), "f" * 64, "which no such review was drawn|is about dataset"),
        ({**answer(one, record, "yes"), "key": "f" * 32}, "", "was not asked about"),
        ({**answer(one, record, "yes"), "value": right}, "", "was not asked about"),
        ({**answer(one, record, "yes"), "attribute": "soul"}, "", "no such attribute"),
    ]
    for said, root, says in cases:
        put(wrong, dataset, said, root=root)
        with pytest.raises(UserError, match=says) as caught:
            take_in(dataset, wrong, quiet=True)
        assert caught.value.exit_code == 2
        after = {n: h for n, h in tree(dataset.parent).items() if n != "answers.json" and "work.sqlite" not in n}
        assert after == {n: h for n, h in before.items() if "work.sqlite" not in n}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "count", "then"),
    [
        ("shard", 1, "review"), ("decided", 2, "review"), ("decided", 2, "build"), ("rename", 4, "review"), ("index", 1, "build"),
    ],
)  # fmt: skip
def test_killed_anywhere_the_next_command_completes_it(
    dataset: Path, tmp_path: Path, point: str, count: int, then: str
) -> None:
    straight = tmp_path / "straight"
    shutil.copytree(dataset.parent / "raw", straight / "raw")
    for name in ("shards", "shards.work"):
        shutil.copytree(dataset.parent / name, straight / name)
    one, record, right = stated(dataset)
    path = put(tmp_path / "answers.json", dataset, answer(one, record, "no", right))
    wanted = take_in(straight / "shards", path, quiet=True).root_sha256
    command = [sys.executable, str(KILL), point, str(count), "--", "review", str(dataset), "--import", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    if then == "build":
        run_build(dataset)
    else:
        take_in(dataset, path, quiet=True)
    assert root_of(dataset) == wanted and verify(dataset).problems == []
