"""`build --out hf://…`: built here, and sent by `publish` with all that it checks; a new repo stays private."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from publisher import Client, named

from unif2ace_data.shards import read_index

URL = "hf://datasets/user/name"


@pytest.fixture
def command(examples: Path) -> list[str]:
    return ["build", "--src", str(examples), "--work", "shards", "--subjects", "adults", "--workers", "1", "--out"]


def build(client: Client, command: list[str], *more: str) -> dict[str, Any]:
    return dict(json.loads(client.run(*command, URL, *more, "--json").out))


def test_a_new_repo_is_private_and_one_that_is_there_keeps_its_visibility(
    client: Client, dataset: Path, command: list[str]
) -> None:
    answer = build(client, command)
    assert set(client.tree()) - {".gitattributes"} == named(dataset)
    assert client.remote()["private"] and answer["mirror"]["visibility"] == "private"
    assert answer["mirror"]["root_sha256"] == read_index(dataset)["root_sha256"] == answer["root_sha256"]
    again = build(client, command)["mirror"]
    assert again["sent"] == 0 and again["commit"] == answer["mirror"]["commit"]
    client.publish("--gated", "manual")
    assert build(client, command)["mirror"]["visibility"] == "public" and client.remote()["gated"] == "manual"


def test_what_publish_refuses_is_refused_in_its_words(client: Client, dataset: Path, command: list[str]) -> None:
    licence = ("--set", 'release.licence="made-up-1.0"')
    said = client.run(*command, URL, *licence, "--json", code=1).err
    assert said == client.run("publish", "shards", "--repo", "user/name", "--json", code=1).err
    assert "may not be released under 'made-up-1.0'" in said
    assert not client.hub.repo_file("datasets", "user/name").exists()


def test_what_cannot_be_sent_is_said_before_anything_is_built(
    client: Client, dataset: Path, command: list[str]
) -> None:
    before = (dataset.with_name("shards.work") / "log.jsonl").read_bytes()
    assert "leave @v1 out" in client.refused(*command, f"{URL}@v1", code=2)
    assert "write hf://datasets/user/name" in client.refused(*command, "hf://user/name", code=2)
    assert "cannot make one there" in client.refused(*command, "hf://datasets/somebody/name")
    client.env["HF_TOKEN"] = ""
    assert "no token for the Hub" in client.refused(*command, URL)
    client.env.clear()
    client.publish("--annotations-only")
    assert "holds annotations without pictures" in client.refused(*command, URL)
    assert (dataset.with_name("shards.work") / "log.jsonl").read_bytes() == before
