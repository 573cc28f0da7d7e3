"""`pull`: byte for byte what was published, or no folder at all."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from publisher import REPO, Client, indexed_again, named

from unif2ace_data.shards import INDEX, read_index, root_hash
from unif2ace_data.verify import verify

BOTH = pytest.mark.parametrize("client", ["lfs", "xet"], indirect=True)


def contents(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def altered(client: Client, name: str, data: bytes) -> None:
    """Somebody else's bytes under a name of the published dataset."""
    repo = client.remote()
    tree = repo["commits"][repo["branches"]["main"]]["tree"]
    tree[name] = client.hub.add_blob(data)
    client.hub.save("datasets", REPO, repo)


@BOTH
def test_a_release_comes_back_byte_for_byte(client: Client, dataset: Path) -> None:
    client.publish("--tag", "v1.0")
    published = {name: (dataset / name).read_bytes() for name in named(dataset)}
    (dataset / "README.md").write_text("# The next release\n")
    indexed_again(dataset, "README.md")
    client.publish()
    client.env["HF_TOKEN"] = ""  # it is public
    done = client.pull("deep/copy", "--tag", "v1.0")
    copy = client.folder / "deep" / "copy"
    assert contents(copy) == published and verify(copy).holds
    assert done["bytes"] == sum(map(len, published.values())) and done["files"] == len(published)
    assert [p.name for p in copy.parent.iterdir()] == ["copy"], "the folder that files arrived in is gone"
    client.pull("latest", "--revision", "main")
    assert contents(client.folder / "latest") == {name: (dataset / name).read_bytes() for name in named(dataset)}


def test_finished_files_are_not_fetched_again(client: Client, dataset: Path) -> None:
    client.publish()
    client.hub.bytes_out = 0
    lost = client.tree()["train-000000.tar"]["lfs"]
    client.hub.fault(f"GET /_cdn/{lost}", 403, times=20)
    client.refused("pull", REPO, "--out", "copy")
    assert not (client.folder / "copy").exists()
    client.hub.faults.clear()
    client.pull("copy")
    assert contents(client.folder / "copy") == {name: (dataset / name).read_bytes() for name in named(dataset)}
    assert client.hub.bytes_out == sum((dataset / name).stat().st_size for name in named(dataset))


def test_what_passes_is_waited_for(client: Client, dataset: Path) -> None:
    client.publish()
    for request in (
        "GET .*/revision/|GET /api/datasets/user/name$",
        "/tree/",
        "GET /_cdn/",
        "GET /datasets/.*/resolve",
    ):
        client.hub.fault(request, 503, retry_after=0)
        client.hub.fault(request, 0)
    done = client.run("pull", REPO, "--out", "copy")
    assert "as published" in done.out and verify(client.folder / "copy").holds


def test_what_differs_is_named_and_fetched_anew(client: Client, dataset: Path) -> None:
    client.publish()
    good = client.tree()["stats.json"]
    altered(client, "stats.json", b"x" * good["size"])
    said = client.refused("pull", REPO, "--out", "copy")
    assert "stats.json: its bytes are not the ones that were written" in said and not (client.folder / "copy").exists()
    altered(client, "stats.json", (dataset / "stats.json").read_bytes())
    client.pull("copy")
    assert verify(client.folder / "copy").holds


def test_a_file_that_rots_in_the_waiting_folder_is_found(client: Client, dataset: Path) -> None:
    client.publish()
    lost = client.tree()["train-000000.tar"]["lfs"]
    client.hub.fault(f"GET /_cdn/{lost}", 403, times=20)
    client.refused("pull", REPO, "--out", "copy")
    client.hub.faults.clear()
    staged = client.folder / ".copy.partial" / "stats.json"
    (client.folder / ".copy.partial" / "old.tar").write_bytes(b"of another pull")
    times = staged.stat()
    staged.write_bytes(b"x" * times.st_size)
    os.utime(staged, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "stats.json" in client.refused("pull", REPO, "--out", "copy")
    client.pull("copy")
    assert set(contents(client.folder / "copy")) == named(dataset) and verify(client.folder / "copy").holds


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda index: index["files"].update({"../outside.json": index["files"]["stats.json"]}), "no part of a dataset"),
        (lambda index: index.update(root_sha256="0" * 64), "root_sha256 is not the hash"),
        (lambda index: index.pop("counts"), "is broken"),
        (lambda index: index["files"].update({"more.json": {"bytes": 1, "sha256": "0" * 64}}), "root_sha256"),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_trusted(client: Client, dataset: Path, change: object, expected: str) -> None:
    client.publish()
    index = read_index(dataset)
    change(index)  # type: ignore[operator]
    if "outside" in str(index["files"]):
        every = [(s["name"], s["sha256"]) for s in index["shards"]] + [
            (n, f["sha256"]) for n, f in index["files"].items()
        ]
        index["root_sha256"] = root_hash(every)
    altered(client, INDEX, orjson.dumps(index))
    assert expected in client.refused("pull", REPO, "--out", "copy")
    assert not (client.folder / "copy").exists() and not (client.folder / "outside.json").exists()


def test_who_may_not_read_is_told_how_to(client: Client, dataset: Path) -> None:
    client.publish("--private")
    client.env["HF_TOKEN"] = ""
    assert "set HF_TOKEN or run `hf auth login`" in client.refused("pull", REPO, "--out", "copy")
    client.env["HF_TOKEN"] = "hf_local_read"
    assert "no dataset user/name" in client.refused("pull", REPO, "--out", "copy")
    client.env.clear()
    client.publish("--gated", "manual")
    client.env["HF_TOKEN"] = "hf_local_read"
    assert "user/name is gated: ask for access" in client.refused("pull", REPO, "--out", "copy")
    assert client.hub.bytes_out == 0


def test_what_is_not_there(client: Client, dataset: Path) -> None:
    assert "no dataset user/name" in client.refused("pull", REPO, "--out", "copy")
    client.publish()
    assert "no such revision" in client.refused("pull", REPO, "--out", "copy", "--tag", "v9")
    repo = client.remote()
    first = next(oid for oid, commit in repo["commits"].items() if not commit["parents"])
    assert f"has no {INDEX}" in client.refused("pull", REPO, "--out", "copy", "--revision", first)


def test_a_folder_in_use_is_left_alone(client: Client, dataset: Path) -> None:
    client.publish()
    before = contents(dataset)
    requests = len(client.hub.log)
    assert "is not empty" in client.refused("pull", REPO, code=2)  # --out shards is the default
    assert contents(dataset) == before and len(client.hub.log) == requests
    (client.folder / "empty").mkdir()
    client.pull("empty")
    assert set(contents(client.folder / "empty")) == named(dataset)
    assert "give one" in client.refused("pull", REPO, "--out", "x", "--tag", "a", "--revision", "b", code=2)
