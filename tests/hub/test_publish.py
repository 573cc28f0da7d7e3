"""`publish`: only what the index names, nothing sent twice, opened only when it is whole."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from publisher import REPO, Client, described_again, indexed_again, named, stored, without_shard

from unif2ace_data.shards import INDEX, read_index, write_index

BOTH = pytest.mark.parametrize("client", ["lfs", "xet"], indirect=True)
SMALL = "import unif2ace_data.release.hub as h; h.BATCH_FILES = 3"  # several commits for eleven files


@BOTH
def test_a_dataset_is_published_whole_and_a_second_run_sends_nothing(client: Client, dataset: Path) -> None:
    (dataset / "notes.txt").write_text("mine")
    done = client.publish("--tag", "v1.0", "--gated", "manual")
    assert (done["visibility"], done["gated"], done["left_here"]) == ("public", "manual", 1)
    assert set(done["new"]) == named(dataset) and set(client.tree()) == named(dataset) | {".gitattributes"}
    repo, sent, requests = client.remote(), stored(client.hub), len(client.hub.log)
    assert repo["tags"] == {"v1.0": done["commit"]} and not repo["private"]
    again = client.publish("--tag", "v1.0", "--gated", "manual")
    assert (again["commits"], again["bytes_to_send"], again["new"], again["changed"]) == (0, 0, [], [])
    assert set(again["same"]) == named(dataset) and stored(client.hub) == sent and client.remote() == repo
    assert {method for method, _, _ in client.hub.log[requests:]} == {"GET"}


def test_nothing_but_what_the_index_names_lies_on_the_server(client: Client, dataset: Path) -> None:
    client.publish()
    ours = {hashlib.sha256((dataset / name).read_bytes()).hexdigest() for name in named(dataset)}
    stored_files = [*(client.hub.root / "lfs").iterdir(), *(client.hub.root / "blobs").iterdir()]
    attributes = client.tree()[".gitattributes"]["oid"]  # which the Hub makes itself
    theirs = {hashlib.sha256(path.read_bytes()).hexdigest() for path in stored_files if path.name != attributes}
    assert theirs == ours


@BOTH
def test_what_was_committed_before_an_interruption_is_not_sent_again(client: Client, dataset: Path) -> None:
    client.hub.fault("POST .*/commit/", 403, skip=2)
    said = client.refused("publish", "shards", "--repo", REPO, before=SMALL)
    assert "403" in said
    held = set(client.tree()) - {".gitattributes"}
    assert len(held) == 6 and INDEX not in held and client.remote()["private"]
    sent, already = stored(client.hub), sum(e["size"] for e in client.tree().values() if e.get("lfs"))
    done = client.publish(before=SMALL)
    assert set(done["same"]) == held and set(done["new"]) == named(dataset) - held
    assert not client.remote()["private"] and set(client.tree()) == named(dataset) | {".gitattributes"}
    if not client.hub.xet:  # Xet stores blocks of several files, compressed
        large = sum(e["size"] for e in client.tree().values() if e.get("lfs"))
        assert sent >= already and client.hub.lfs_bytes_in == large


def test_a_large_file_that_arrived_is_not_sent_again_though_its_commit_never_came(
    client: Client, dataset: Path
) -> None:
    last = hashlib.sha256((dataset / "validation-000000.tar").read_bytes()).hexdigest()
    client.hub.fault(f"PUT /_lfs/{last}", 403)
    client.refused("publish", "shards", "--repo", REPO)
    client.publish()
    large = sum(entry["size"] for entry in client.tree().values() if entry.get("lfs"))
    assert client.hub.lfs_bytes_in == large
    assert client.hub.count("PUT /_lfs/") == 1 + sum(1 for entry in client.tree().values() if entry.get("lfs"))


def test_a_commit_whose_answer_is_lost_is_not_made_twice(client: Client, dataset: Path) -> None:
    client.hub.fault("POST .*/commit/", 0, after=True)
    client.hub.fault("POST .*/repos/create", 0, after=True)
    client.hub.fault("POST .*/tag/", 0, after=True)
    client.hub.fault("PUT .*/settings", 0, after=True)
    done = client.publish("--tag", "v1.0")
    repo = client.remote()
    assert len(repo["commits"]) == 2 and repo["tags"] == {"v1.0": done["commit"]} and not repo["private"]
    assert set(client.tree()) == named(dataset) | {".gitattributes"}


@pytest.mark.parametrize("fault", [(503, {}), (429, {"ratelimit": '"api";r=0;t=0'}), (0, {})])
def test_what_passes_is_tried_again(client: Client, dataset: Path, fault: tuple[int, dict[str, str]]) -> None:
    status, headers = fault
    for request in ("whoami", "repos/create", "/tree/", "/commit/", "/settings", "/tag/", "/refs", "preupload", "_lfs"):
        client.hub.fault(request, status, retry_after=0, **headers)
    done = client.run("publish", "shards", "--repo", REPO, "--tag", "v1.0")
    assert "trying again" in done.err and "public" in done.out
    assert not client.remote()["private"] and client.remote()["tags"]
    assert all(fault["times"] == 0 for fault in client.hub.faults), "a fault was never met"


def test_a_repo_is_private_until_its_checksums_are_ours(client: Client, dataset: Path) -> None:
    client.hub.ignored = ("stats.json",)
    said = client.refused("publish", "shards", "--repo", REPO, "--tag", "v1.0")
    assert "does not take stats.json" in said
    assert client.remote()["private"] and not client.remote()["tags"]
    client.hub.ignored = ()
    client.hub.fault("/settings", 403)
    client.refused("publish", "shards", "--repo", REPO, "--tag", "v1.0")
    assert client.remote()["private"] and not client.remote()["tags"]
    done = client.publish("--tag", "v1.0")
    assert done["commits"] == 0 and done["visibility"] == "public" and client.remote()["tags"]


def test_private_stays_private_and_a_public_one_is_closed_before_anything_is_sent(
    client: Client, dataset: Path
) -> None:
    assert client.publish("--private")["visibility"] == "private"
    assert client.publish()["visibility"] == "public"
    described_again(dataset, "Changed.")
    client.hub.fault("POST .*/commit/", 403)
    client.refused("publish", "shards", "--repo", REPO, "--private")
    assert client.remote()["private"]


def test_a_public_repo_never_shows_half_a_release(client: Client, dataset: Path) -> None:
    first = client.publish("--tag", "v1.0")
    described_again(dataset, "Fewer.")
    without_shard(dataset, "validation-000000.tar")
    said = client.refused("publish", "shards", "--repo", REPO, "--tag", "v1.0")
    assert "tag v1.0 already" in said and len(client.remote()["commits"]) == 2
    done = client.publish("--tag", "v1.1", before=SMALL.replace("3", "1"))
    assert done["gone"] == ["ledger/kept-validation-000000.parquet", "validation-000000.tar"]
    assert set(done["changed"]) == {"README.md", INDEX} and done["commits"] == 1
    assert client.remote()["tags"] == {"v1.0": first["commit"], "v1.1": done["commit"]}
    assert set(client.tree()) == named(dataset) | {".gitattributes"}


def test_files_that_others_put_there_stay(client: Client, dataset: Path) -> None:
    client.publish("--private")
    repo = client.remote()
    head = repo["commits"][repo["branches"]["main"]]
    head["tree"]["LICENSE"] = client.hub.add_blob(b"CC0")
    client.hub.save("datasets", REPO, repo)
    assert client.publish("--private")["kept"] == ["LICENSE"] and "LICENSE" in client.tree()


def test_a_dry_run_sends_nothing(client: Client, dataset: Path) -> None:
    plan = client.publish("--dry-run", "--tag", "v1.0")
    assert plan["dry_run"] and set(plan["new"]) == named(dataset)
    assert plan["bytes_to_send"] == sum((dataset / name).stat().st_size for name in named(dataset))
    assert not client.hub.repo_file("datasets", REPO).exists()
    client.publish()
    described_again(dataset, "Changed.")
    before, requests = client.remote(), len(client.hub.log)
    plan = client.publish("--dry-run", "--private")
    assert plan["changed"] == ["README.md", INDEX] and plan["visibility"] == "private"
    assert client.remote() == before and {method for method, _, _ in client.hub.log[requests:]} == {"GET"}


def test_a_broken_dataset_is_refused_before_the_hub_hears_of_it(client: Client, dataset: Path) -> None:
    with (dataset / "train-000000.tar").open("r+b") as file:
        file.seek(600)
        file.write(b"?")
    said = client.refused("publish", "shards", "--repo", REPO)
    assert "train-000000.tar" in said and "does not hold" in said and not client.hub.log


@pytest.mark.parametrize("name", ["../shards.work/ledger.parquet", "embeddings.npy", "ledger/full.parquet", ".env"])
def test_an_index_that_names_what_is_no_part_of_a_dataset_sends_nothing(
    client: Client, dataset: Path, name: str
) -> None:
    if not (dataset / name).exists():
        (dataset / name).write_bytes(b"private")
    indexed_again(dataset, name)
    assert name in client.refused("publish", "shards", "--repo", REPO) and not client.hub.log


@pytest.mark.parametrize(
    ("request_", "status", "answer", "expected"),
    [
        ("whoami", 401, "Invalid credentials in Authorization header", "hf auth login"),
        ("/commit/", 403, "You have reached your private storage limit", "private storage: free some"),
        ("/commit/", 403, "no", "needs write access to user/name"),
        ("/commit/", 409, "busy", "run the command again"),
        ("/commit/", 412, "A commit has happened since", "somebody else changes user/name"),
        ("/commit/", 413, "Payload too large", "smaller shards"),
        ("/commit/", 429, "Too many requests", "rate limit"),
        ("/commit/", 507, "Insufficient storage", "no room"),
        ("/commit/", 503, "Over capacity", "the Hub has trouble (Over capacity)"),
        ("/commit/", 400, "Bad file", "the Hub refuses this: Bad file"),
        ("/settings", 0, "", "lost the connection to the Hub"),
    ],
)
def test_every_error_is_one_line_that_says_what_to_do(
    client: Client, dataset: Path, request_: str, status: int, answer: str, expected: str
) -> None:
    client.hub.fault(request_, status, times=20, says=answer)
    said = client.refused("publish", "shards", "--repo", REPO)
    assert expected in said and (not status or f"{status}: " in said)
    client.hub.faults.clear()
    assert client.publish()["visibility"] == "public", "nothing is lost"


def test_a_hub_that_is_not_there(client: Client, dataset: Path) -> None:
    client.hub.fault("", 0, times=100)
    assert "lost the connection" in client.refused("publish", "shards", "--repo", REPO)
    assert client.hub.count("") <= 10, "patience ends"


def test_tokens_that_will_not_do(client: Client, dataset: Path) -> None:
    client.env["HF_TOKEN"] = ""
    assert "no token for the Hub: set HF_TOKEN" in client.refused("publish", "shards", "--repo", REPO)
    client.env["HF_TOKEN"] = "hf_unknown"
    assert "wrong, expired or revoked" in client.refused("publish", "shards", "--repo", REPO)
    client.env["HF_TOKEN"] = "hf_local_read"
    assert "cannot make one there" in client.refused("publish", "shards", "--repo", REPO)
    client.env.clear()
    client.publish()
    client.env["HF_TOKEN"] = "hf_local_read"
    assert "needs write access to user/name" in client.refused("publish", "shards", "--repo", REPO)


def test_wrong_usage(client: Client, dataset: Path) -> None:
    assert "--repo user/name" in client.refused("publish", "shards", code=2)
    assert "user/name" in client.refused("publish", "shards", "--repo", "name", code=2)
    assert "manual or auto" in client.refused("publish", "shards", "--repo", REPO, "--gated", "no", code=2)
    assert "--tag" in client.refused("publish", "shards", "--repo", REPO, "--tag", "a b", code=2)
    assert "no dataset at nowhere" in client.refused("publish", "nowhere", "--repo", REPO, code=2)
    without = "import sys; sys.modules['huggingface_hub'] = None"
    assert "pip install 'unif2ace[hub]'" in client.refused("publish", "shards", "--repo", REPO, before=without)


def test_a_card_that_the_hub_refuses_is_told_before_anything_is_sent(client: Client, dataset: Path) -> None:
    (dataset / "README.md").write_text("---\nconfigs: 3\n---\n")
    indexed_again(dataset, "README.md")
    assert "configs" in client.refused("publish", "shards", "--repo", REPO) and client.hub.lfs_bytes_in == 0


@pytest.mark.slow
@BOTH
def test_datasets_streams_what_was_published(client: Client, dataset: Path) -> None:
    client.publish()
    done = client.python(
        "import datasets, json\n"
        f"data = datasets.load_dataset({REPO!r}, streaming=True)\n"
        "print(json.dumps({split: [row['json']['uid'] for row in data[split]] for split in data}))"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read = json.loads(done.stdout.splitlines()[-1])
    assert {s: len(keys) for s, keys in read.items()} == {
        s["split"]: s["samples"] for s in read_index(dataset)["shards"]
    }


def test_an_index_of_another_root_does_not_leave(client: Client, dataset: Path) -> None:
    index = read_index(dataset)
    write_index(dataset, index["shards"], index["files"], index["counts"])
    text = (dataset / INDEX).read_text().replace(index["root_sha256"], "0" * 64)
    (dataset / INDEX).write_text(text)
    assert "root_sha256" in client.refused("publish", "shards", "--repo", REPO) and not client.hub.log


def test_the_commands_of_the_page_run_as_written(client: Client, dataset: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "publish.md").read_text()
    lines = re.findall(r"^unif2ace-data (.*)$", page, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["publish"] * 4 + ["pull", "verify"]
    for line in lines:
        client.run(*line.split())
    assert {p.relative_to(client.folder / "copy").as_posix() for p in (client.folder / "copy").rglob("*.*")} == named(
        dataset
    )
