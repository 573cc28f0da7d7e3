"""The export in FaceBench's layout."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from evidence_of import portraits

from unif2ace_data.errors import UserError
from unif2ace_data.qa.generate import plan_of
from unif2ace_data.qa.jsonl import write_jsonl
from unif2ace_data.recipe import Qa
from unif2ace_data.shards import write_shard


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    some = sorted(portraits()[:120], key=lambda s: s.uid)
    plan = plan_of((s.model_dump() for s in some), Qa())
    write_shard(
        folder / "train-000000.tar", [(s.uid, b"", s.model_copy(update={"qa": plan.questions(s)})) for s in some]
    )
    return folder


def test_one_line_a_question_that_reads_like_facebench(shards: Path, tmp_path: Path) -> None:
    count = write_jsonl(shards, tmp_path / "qa.jsonl")
    lines = [orjson.loads(line) for line in (tmp_path / "qa.jsonl").read_bytes().splitlines()]
    assert len(lines) == count == 120 * 8
    assert len({line["question_id"] for line in lines}) == count
    assert {line["question_type"] for line in lines} == {"TFQ", "SCQ", "OEQ"}
    for line in lines:
        assert line["gt_answer"] in line["options"] or (line["question_type"] == "OEQ" and not line["options"])
        assert line["question_id"].startswith(line["image_id"].removesuffix(".jpg"))
        assert line["metadata"].keys() == {"image_source", "view", "attribute", "split"}
        if line["question_type"] == "TFQ":
            assert line["options"] == ["Yes", "No"]
    assert any("Information not visible" in line["options"] for line in lines)
    assert any(line["gt_answer"] == "Information not visible" for line in lines)


def test_a_target_that_cannot_be_written_is_an_error_of_one_line(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        write_jsonl(shards, tmp_path / "nowhere" / "qa.jsonl")
