"""Removal from a published dataset: no ref, commit or stored object leads to the removed files any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from publisher import REPO, Client, described_again, named, without_shard

from unif2ace_data.release.sample_sheet import SAMPLES
from unif2ace_data.shards import read_samples

GONE = ("validation-000000.tar", "ledger/kept-validation-000000.parquet")
REMOVE = (
    "from pathlib import Path\nfrom unif2ace_data.release.hub import republish_without\n"
    f"answer = republish_without(Path('shards'), '{REPO}', 'v1.1', quiet=True)"
)


@pytest.fixture
def released(client: Client, dataset: Path) -> dict[str, Any]:
    """Two tagged releases and a branch that hold what is to be removed; then the dataset without it."""
    first = client.publish("--tag", "v1.0", "--gated", "auto")
    described_again(dataset, "Better described")
    client.publish("--tag", "v1.0.1")
    client.call(
        f"from huggingface_hub import HfApi\nHfApi().create_branch('{REPO}', branch='draft', repo_type='dataset')\nanswer = 0"
    )
    old = {name: client.tree()[name]["lfs"] for name in GONE}
    without_shard(dataset, GONE[0])
    return {"commit": first["commit"], "objects": old}


def assert_gone(client: Client, dataset: Path, released: dict[str, Any]) -> None:
    repo = client.remote()
    assert list(repo["branches"]) == ["main"] and list(repo["tags"]) == ["v1.1"]
    assert repo["tags"]["v1.1"] == repo["branches"]["main"]
    assert repo["commits"][repo["branches"]["main"]]["parents"] == []
    assert set(client.tree()) == named(dataset) | {".gitattributes"}
    for sha in released["objects"].values():
        assert not client.hub.lfs(sha).exists()
    for revision in ("v1.0", "v1.0.1", "draft", released["commit"]):
        assert "no such revision" in client.refused("pull", REPO, "--out", "copy", "--revision", revision)
    assert not repo["private"] and repo["gated"] == "auto", "visibility and gating are as they were"


def test_no_ref_leads_to_a_removed_file(client: Client, dataset: Path, released: dict[str, Any]) -> None:
    answer = client.call(REMOVE)
    assert_gone(client, dataset, released)
    receipt = answer["purged"]
    assert set(receipt["tags_deleted"]) == {"v1.0", "v1.0.1"} and set(receipt["branches_deleted"]) == {"draft"}
    assert released["commit"] in receipt["commits_dropped"]
    deleted = {o["sha256"] for o in receipt["objects_deleted"]}
    assert deleted == set(released["objects"].values()) and receipt["objects_left"] == []
    assert any("copies that others downloaded" in line for line in receipt["cannot_be_undone"])
    client.pull("copy", "--tag", "v1.1")
    assert not (client.folder / "copy" / GONE[0]).exists()


@pytest.mark.slow
def test_a_purge_that_was_interrupted_is_completed(client: Client, dataset: Path, released: dict[str, Any]) -> None:
    for request in ("DELETE .*/tag/v1.0.1", "DELETE .*/branch/", "/super-squash/", "/lfs-files/batch", "/lfs-files$"):
        client.hub.faults.clear()
        client.hub.fault(request, 403, times=20)
        failing = REMOVE.replace("answer =", "answer = None\ntry: answer =", 1) + (
            "\nexcept Exception as error: answer = error.message"
        )
        assert "403" in client.call(failing)
    client.hub.faults.clear()
    client.call(REMOVE)
    assert_gone(client, dataset, released)


def test_remove_takes_a_photograph_off_the_hub_as_well(client: Client, dataset: Path) -> None:
    """By the command: here first, then there; what failed there is done by the same command without a selector."""
    client.publish("--tag", "v1.0")
    shard = sorted(dataset.glob("train-*.tar"))[0]
    key, _ = next(read_samples(shard))
    old, picture = (client.tree()[name]["lfs"] for name in (shard.name, SAMPLES))
    seen = (dataset / SAMPLES).read_bytes()
    client.hub.fault("/super-squash/", 403, times=20)
    assert "403" in client.refused("remove", "shards", "--key", key, "--yes", "--published", REPO)
    assert key not in {k for path in dataset.glob("*.tar") for k, _ in read_samples(path)}
    client.hub.faults.clear()
    done = client.run("remove", "shards", "--published", REPO)
    assert "beyond reach: copies that others downloaded" in done.out
    repo = client.remote()
    assert repo["tags"] == {} and repo["commits"][repo["branches"]["main"]]["parents"] == []
    assert set(client.tree()) == named(dataset) | {".gitattributes"}
    assert not client.hub.lfs(old).exists()
    assert not client.hub.lfs(picture).exists(), "the card's picture of it is on no ref, and nowhere stored"
    assert SAMPLES not in client.tree() and not (dataset / SAMPLES).exists(), "it was the only face of train"
    assert not [p for p in client.hub.root.rglob("*") if p.is_file() and p.read_bytes() == seen]
    client.pull("copy")
    assert (client.folder / "copy" / "removed.json").is_file()


def test_what_passes_does_not_stop_a_purge(client: Client, dataset: Path, released: dict[str, Any]) -> None:
    for request in (
        "DELETE .*/tag/",
        "DELETE .*/branch/",
        "/super-squash/",
        "/lfs-files/batch",
        "/lfs-files$",
        "/refs",
    ):
        client.hub.fault(request, 503, retry_after=0)
        client.hub.fault(request, 0, after=True)
    client.call(REMOVE)
    assert_gone(client, dataset, released)


def test_a_second_purge_finds_nothing(client: Client, dataset: Path, released: dict[str, Any]) -> None:
    client.call(REMOVE)
    head = client.remote()["branches"]["main"]
    again = client.call(REMOVE)
    assert again["published"]["commits"] == 0 and again["purged"]["objects_deleted"] == []
    assert client.remote()["branches"]["main"] == head
    assert_gone(client, dataset, released)


def test_there_must_be_something_to_remove_from(client: Client, dataset: Path) -> None:
    failing = (
        REMOVE.replace("answer =", "answer = None\ntry: answer =", 1)
        + "\nexcept Exception as error: answer = error.message"
    )
    assert "nothing to remove there" in client.call(failing)
    assert not client.hub.repo_file("datasets", REPO).exists()
