"""`build --captioner`, `caption` and `qa-gen` with a model on the other side of a real HTTP connection."""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "llm"))
from fluent_model import fluent
from scripted_server import Reply, ScriptedServer, completion

from unif2ace_data.errors import UserError
from unif2ace_data.llm.engine import Answer, keyed_model
from unif2ace_data.llm.journal import JOURNAL, Journal
from unif2ace_data.llm.prompts import FOLDER
from unif2ace_data.recipe import Recipe, SourceSpec, load_recipe
from unif2ace_data.run.build import Summary, build
from unif2ace_data.run.private import recipe_at, working_store
from unif2ace_data.run.qa_gen import estimated as qa_estimated
from unif2ace_data.run.qa_gen import qa_gen
from unif2ace_data.run.recaption import estimated, recaption
from unif2ace_data.run.rewrite import UNDERWAY
from unif2ace_data.schema import Sample
from unif2ace_data.shards import read_index, read_samples
from unif2ace_data.verify import verify

DISTINCT = ["subjects=adults", "duplicates.perceptual=null", "duplicates.near_identical=false"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer(fluent).start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def grounded(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs with grounded captions. Copy before changing."""
    folder = tmp_path_factory.mktemp("grounded")
    few = folder / "raw"
    few.mkdir()
    for path in sorted(photos.iterdir())[:12]:
        shutil.copy(path, few)
    run_build(few, folder / "shards")
    return folder


def run_build(raw: Path, out: Path, *settings: str) -> Summary:
    recipe = load_recipe("embedded", [*DISTINCT, *settings])
    return build(recipe.model_copy(update={"sources": [SourceSpec(path=str(raw))]}), out, quiet=True)


@pytest.fixture
def dataset(grounded: Path, tmp_path: Path) -> Path:
    shutil.copytree(grounded, tmp_path, dirs_exist_ok=True)
    return tmp_path / "shards"


def by_model(server: ScriptedServer) -> list[str]:
    return [
        "captions.engine=openai", "llm.model=tiny-vlm", f"llm.base_url={server.base_url}", "llm.wait_s=5",
        "captions.max_chars=400",
    ]  # fmt: skip


def with_model(out: Path, server: ScriptedServer, *settings: str) -> Recipe:
    return recipe_at(out, [*by_model(server), *settings])


def samples(out: Path) -> dict[str, tuple[Sample, bytes]]:
    found = {}
    for shard in read_index(out)["shards"]:
        for key, files in read_samples(out / shard["name"]):
            found[key] = (Sample.model_validate_json(files["json"]), files["jpg"])
    return found


def tree(out: Path) -> dict[str, str]:
    files = (p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def stages(server: ScriptedServer) -> Counter[str]:
    return Counter(b["response_format"]["json_schema"]["name"] for b in server.bodies)


def test_build_captions_every_kept_face_through_the_model(
    grounded: Path, server: ScriptedServer, tmp_path: Path
) -> None:
    summary = run_build(grounded / "raw", tmp_path / "shards", *by_model(server))
    assert verify(tmp_path / "shards").problems == []
    assert summary.counts["kept"] == summary.asked.rows == 12
    assert stages(server)["draft"] == stages(server)["refine"] == 12
    for sample, _ in samples(tmp_path / "shards").values():
        assert sample.captioner.engine == "openai" and sample.captioner.model == "tiny-vlm"
        assert all(claim.verdict != "contradicted" for claim in sample.claims)
        for claim in sample.claims:
            assert sample.caption[claim.span[0] : claim.span[1]]
    kept = pq.read_table(tmp_path / "shards" / "ledger" / "kept-train-000000.parquet").to_pylist()
    assert {row["captioner"] for row in kept} == {"openai tiny-vlm"} and all(row["claims"] for row in kept)


def test_images_are_sent_with_the_draft_alone_and_scaled(dataset: Path, server: ScriptedServer) -> None:
    recaption(dataset, with_model(dataset, server, "llm.image_side=100"), quiet=True)
    import base64

    with_image = [b for b in server.bodies if len(b["messages"][1]["content"]) == 2]
    assert len(with_image) == 12 == stages(server)["draft"]
    url = with_image[0]["messages"][1]["content"][0]["image_url"]["url"]
    assert max(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size) == 100


def test_recaptioning_changes_captions_and_what_rests_on_them_alone(dataset: Path, server: ScriptedServer) -> None:
    before = samples(dataset)
    recaption(dataset, with_model(dataset, server), quiet=True)
    assert verify(dataset).problems == []
    after = samples(dataset)
    assert after.keys() == before.keys()
    for key, (sample, jpeg) in after.items():
        old, old_jpeg = before[key]
        assert jpeg == old_jpeg
        fields = {"caption", "claims", "captioner"}
        assert sample.model_dump(exclude=fields) == old.model_dump(exclude=fields)
        assert sample.caption != old.caption
    asked = len(server.bodies)
    root = read_index(dataset)["root_sha256"]
    report, again = recaption(dataset, with_model(dataset, server), quiet=True)
    assert again == root and len(server.bodies) == asked and report.rows == 0


def test_settings_that_give_the_same_bytes_under_another_name_lose_nothing(
    dataset: Path, server: ScriptedServer
) -> None:
    for side in (600, 700, 600):  # crops are 512 at most: the same images, the same answers
        recaption(dataset, with_model(dataset, server, f"llm.image_side={side}"), quiet=True)
        assert verify(dataset).problems == [] and len(samples(dataset)) == 12
    assert run_build(dataset.parent / "raw", dataset).counts == {"kept": 12}
    assert verify(dataset).problems == [] and len(samples(dataset)) == 12


def test_another_prompt_asks_again_only_from_that_prompt_on(
    dataset: Path, server: ScriptedServer, tmp_path: Path
) -> None:
    recaption(dataset, with_model(dataset, server), quiet=True)
    first = stages(server)
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    text = (FOLDER / "refine.jinja").read_text().replace("You correct and complete", "You complete and correct")
    (prompts / "refine.jinja").write_text(text)
    recaption(dataset, with_model(dataset, server, f"captions.prompts={prompts}"), quiet=True)
    second = stages(server)
    assert second["draft"] == first["draft"] and second["refine"] == 2 * first["refine"]
    hashes = {s.captioner.prompt_sha256 for s, _ in samples(dataset).values()}
    assert len(hashes) == 1 and str(tmp_path) not in (dataset / "recipe.yaml").read_text()


def test_build_after_caption_keeps_the_captions_and_captions_new_photographs(
    dataset: Path, server: ScriptedServer, photos: Path
) -> None:
    recaption(dataset, with_model(dataset, server), quiet=True)
    root, asked = read_index(dataset)["root_sha256"], len(server.bodies)
    assert run_build(dataset.parent / "raw", dataset).root_sha256 == root and len(server.bodies) == asked
    shutil.copy(sorted(photos.iterdir())[12], dataset.parent / "raw")
    drafts = stages(server)["draft"]
    summary = run_build(dataset.parent / "raw", dataset)
    assert summary.counts["kept"] == 13 and stages(server)["draft"] == drafts + 1
    assert {s.captioner.engine for s, _ in samples(dataset).values()} == {"openai"}


def test_build_keeps_to_the_captioner_that_an_earlier_build_was_told(
    grounded: Path, server: ScriptedServer, tmp_path: Path
) -> None:
    first = run_build(grounded / "raw", tmp_path / "shards", *by_model(server))
    asked = len(server.bodies)
    again = run_build(grounded / "raw", tmp_path / "shards")
    assert again.root_sha256 == first.root_sha256 and len(server.bodies) == asked
    assert any("--captioner grounded goes back" in note for note in again.notes)


def test_back_to_grounded_captions(dataset: Path, server: ScriptedServer) -> None:
    before = tree(dataset)
    recaption(dataset, with_model(dataset, server), quiet=True)
    recaption(dataset, recipe_at(dataset, ["captions.engine=grounded"]), quiet=True)
    after = tree(dataset)
    assert {n: h for n, h in after.items() if n.endswith((".tar", ".parquet"))} == {
        n: h for n, h in before.items() if n.endswith((".tar", ".parquet"))
    }


def test_a_dataset_without_its_private_folder_can_be_captioned(dataset: Path, server: ScriptedServer) -> None:
    qa_gen(dataset, recipe_at(dataset), quiet=True)
    questions = {key: sample.qa for key, (sample, _) in samples(dataset).items()}
    shutil.rmtree(dataset.with_name("shards.work"))
    recaption(dataset, with_model(dataset, server), quiet=True)
    assert verify(dataset).problems == []
    after = samples(dataset)
    assert {s.captioner.engine for s, _ in after.values()} == {"openai"}
    assert {key: sample.qa for key, (sample, _) in after.items()} == questions  # they rest on the evidence


def test_a_sample_that_fails_keeps_its_caption_and_too_many_change_nothing(
    dataset: Path, server: ScriptedServer
) -> None:
    broken = {"left": 1}

    def reply(body: dict[str, Any], number: int) -> Reply:
        if body["response_format"]["json_schema"]["name"] == "draft" and (broken["all"] or broken["left"] > 0):
            broken["left"] -= 1
            return 400, {"error": {"message": "bad image"}}, {}
        return fluent(body)

    broken["all"] = 0
    server.reply = reply
    report, _ = recaption(dataset, with_model(dataset, server), quiet=True)
    assert len(report.failed) == 1 and "bad image" in next(iter(report.failed.values()))
    engines = Counter(s.captioner.engine for s, _ in samples(dataset).values())
    assert engines == {"openai": 11, "grounded": 1} and verify(dataset).problems == []
    root, asked = read_index(dataset)["root_sha256"], len(server.bodies)
    again = run_build(dataset.parent / "raw", dataset)  # a build neither asks for it nor loses the sample
    assert again.counts == {"kept": 12} and again.root_sha256 == root and len(server.bodies) == asked
    report, _ = recaption(dataset, with_model(dataset, server), quiet=True)  # the next caption asks for it again
    assert report.failed == {} and {s.captioner.engine for s, _ in samples(dataset).values()} == {"openai"}

    broken["all"] = 1
    before = tree(dataset)
    with pytest.raises(UserError, match=r"12 of 12 captions failed, more than alarm.max_failed"):
        recaption(dataset, with_model(dataset, server, "llm.seed=5"), quiet=True)
    assert tree(dataset) == before


def test_a_caption_that_fails_in_build_is_a_failed_row(grounded: Path, server: ScriptedServer, tmp_path: Path) -> None:
    refused: list[str] = []

    def reply(body: dict[str, Any], number: int) -> Reply:
        if body["response_format"]["json_schema"]["name"] == "draft" and (number == 0 or number in refused):
            return 422, {"error": "no"}, {}
        return fluent(body)

    server.reply = reply
    summary = run_build(grounded / "raw", tmp_path / "shards", *by_model(server))
    assert summary.counts == {"kept": 11, "failed": 1} and summary.reasons == {"caption_failed": 1}
    assert verify(tmp_path / "shards").problems == []
    server.reply = fluent
    assert run_build(grounded / "raw", tmp_path / "shards", *by_model(server)).counts == {"kept": 12}


def test_a_model_that_writes_prose_only_still_gets_its_captions_read(dataset: Path, server: ScriptedServer) -> None:
    def prose(body: dict[str, Any], number: int) -> Reply:
        answer = orjson.loads(fluent(body)[1]["choices"][0]["message"]["content"])
        return completion(answer.get("caption", "I would rather write prose."))

    server.reply = prose
    report, _ = recaption(dataset, with_model(dataset, server), quiet=True)
    assert report.failed == {} and report.accounts["claims"].failed >= 12
    assert all(sample.claims for sample, _ in samples(dataset).values())


def test_dry_run_counts_what_is_still_to_be_asked(dataset: Path, server: ScriptedServer) -> None:
    recipe = with_model(dataset, server)
    plan = estimated(dataset, recipe, rate=3.6)
    assert {stage: row["requests"] for stage, row in plan["stages"].items()} == {
        "draft": 12,
        "refine": 12,
        "claims": 12,
    }
    assert plan["not_foreseen"] == ["repair", "recheck", "repeated attempts"]
    assert plan["requests"] == 36 and plan["hours"] == round(36 / 3.6 / 3600, 2) and plan["prompt_tokens"] > 36 * 100
    assert not server.bodies
    recaption(dataset, recipe, quiet=True)
    assert estimated(dataset, recipe, rate=3.6)["requests"] == 0
    assert qa_estimated(dataset, recipe_at(dataset, [*by_model(server), "qa.engine=openai"]), 1)["requests"] == 36


def test_dry_run_foresees_repairs_as_often_as_the_journal_has_them(dataset: Path, server: ScriptedServer) -> None:
    journal = Journal(dataset.with_name("shards.work") / JOURNAL)
    for stage, count in (("draft", 20), ("refine", 20), ("claims", 30), ("repair", 10), ("recheck", 15)):
        for number in range(count):  # of 20 captions 10 were repaired; every second list of claims was re-checked
            journal.put(f"{stage}{number}", stage, keyed_model("tiny-vlm"), Answer("{}", "stop", 100, 10, 0.1))
    journal.close()
    plan = estimated(dataset, with_model(dataset, server), rate=1)
    assert {stage: row["requests"] for stage, row in plan["stages"].items()} == {
        "draft": 12, "refine": 12, "claims": 18, "repair": 6, "recheck": 9,
    }  # fmt: skip
    assert plan["prompt_tokens"] == 57 * 100 and plan["not_foreseen"] == ["repeated attempts"]


def test_an_engine_that_is_not_there_leaves_no_private_folder_behind(dataset: Path, tmp_path: Path) -> None:
    work = dataset.with_name("shards.work")
    shutil.rmtree(work)
    dead = ["llm.model=tiny-vlm", "llm.base_url=http://127.0.0.1:9/v1", "llm.wait_s=0.2"]
    with pytest.raises(UserError):
        recaption(dataset, recipe_at(dataset, [*dead, "captions.engine=openai"]), quiet=True)
    assert not work.exists()
    with pytest.raises(UserError):
        qa_gen(dataset, recipe_at(dataset, [*dead, "qa.engine=openai"]), quiet=True)
    assert not work.exists()


def test_answers_and_a_decided_rewrite_outlive_whatever_ends_a_run_in_a_new_private_folder(dataset: Path) -> None:
    work = dataset.with_name("shards.work")
    for error, answered, underway in (
        (KeyboardInterrupt(), False, False),
        (OSError("no space left"), False, False),
        (UserError("the server is gone"), True, False),
        (UserError("a shard is missing"), False, True),
    ):
        shutil.rmtree(work)
        with pytest.raises(type(error)), working_store(dataset) as store:
            journal = Journal(work / JOURNAL)
            if answered:
                journal.put("key", "draft", "m", Answer("{}", "stop", 1, 1, 0.1))
            journal.close()
            store.set_fact(UNDERWAY, "a plan" if underway else "")
            raise error
        assert (work / JOURNAL).is_file(), error


def test_what_a_killed_rewrite_staged_goes_with_the_next_one(dataset: Path, server: ScriptedServer) -> None:
    staging = dataset.with_name("shards.work") / "staging"
    for name in ("0123456789abcdef.tar", "0123456789abcdef.parquet"):
        (staging / name).write_bytes(b"of a run that was killed and not taken up again")
    recaption(dataset, with_model(dataset, server), quiet=True)
    assert list(staging.iterdir()) == [] and verify(dataset).problems == []


def test_questions_of_a_model_are_checked_and_completed(dataset: Path, server: ScriptedServer, tmp_path: Path) -> None:
    recipe = recipe_at(dataset, [*by_model(server), "qa.engine=openai", "captions.engine=grounded"])
    done = qa_gen(dataset, recipe, tmp_path / "questions.jsonl", quiet=True)
    assert verify(dataset).problems == []
    assert done.samples == 12 and done.from_model > 0
    assert done.dropped["distinct"] > 0 and done.dropped["allowed"] == 12
    for sample, _ in samples(dataset).values():
        assert len(sample.qa) == 8
        asked = [qa for qa in sample.qa if qa.source == "openai:tiny-vlm"]
        for qa in asked:
            assert qa.checks.derivable == qa.checks.blind == qa.checks.one_correct == "pass"
            assert not qa.options or qa.options["ABCD".index(qa.letter)] == qa.answer
        assert "fail" not in {verdict for qa in sample.qa for verdict in qa.checks.model_dump().values()}
    lines = (tmp_path / "questions.jsonl").read_text().splitlines()
    assert len(lines) == done.questions == 96
    asked_before, root = len(server.bodies), done.root_sha256
    assert qa_gen(dataset, recipe, quiet=True).root_sha256 == root and len(server.bodies) == asked_before


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["captions.engine=openai"], "needs --model"),
        (["captions.engine=openai", "llm.model=m", "captions.prompts=/nowhere"], "no such folder"),
    ],
)
def test_what_cannot_work_is_said_before_anything_happens(dataset: Path, settings: list[str], says: str) -> None:
    before = tree(dataset)
    with pytest.raises(UserError, match=says) as caught:
        recaption(dataset, recipe_at(dataset, settings), quiet=True)
    assert caught.value.exit_code == 2 and tree(dataset) == before
