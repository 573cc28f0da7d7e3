"""hf:// as a dataset to read: pinned to a commit, a shard at a time, through dropped lines; and whom it is not shown."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from publisher import Client, described_again
from test_pull import altered

from unif2ace_data.shards import read_index

URL = "hf://datasets/user/name"
READ = """
import hashlib
from unif2ace_data.errors import UserError
from unif2ace_data.release.stream import opened_shard, stand_in
from unif2ace_data.shards import read_index
try:
    folder = stand_in({url!r}, quiet=True)
    {between}
    answer = {{"root": read_index(folder)["root_sha256"], "origin": (folder / "origin.json").read_text(), "shards": {{}}}}
    for entry in read_index(folder)["shards"]:
        with opened_shard(folder, entry, quiet=True) as path:
            answer["shards"][entry["name"]] = hashlib.sha256(path.read_bytes()).hexdigest()
    answer["kept"] = sorted(str(p.relative_to(folder.parent)) for p in folder.parent.rglob("*") if p.is_file())
except UserError as error:
    answer = {{"error": error.message}}
"""


def read(client: Client, url: str = URL, between: str = "pass") -> dict[str, Any]:
    client.env["XDG_CACHE_HOME"] = str(client.folder / "cache")
    return dict(client.call(READ.format(url=url, between=between)))


def shards_of(out: Path) -> dict[str, str]:
    return {
        entry["name"]: hashlib.sha256((out / entry["name"]).read_bytes()).hexdigest()
        for entry in read_index(out)["shards"]
    }


@pytest.mark.parametrize("client", ["lfs", "xet"], indirect=True)
def test_the_shards_pass_and_do_not_stay(client: Client, dataset: Path) -> None:
    client.publish("--private")
    found = read(client)
    assert found["shards"] == shards_of(dataset) and found["root"] == read_index(dataset)["root_sha256"]
    assert {name.rpartition("/")[2] for name in found["kept"]} == {
        "index.json",
        "origin.json",
        "recipe.yaml",
        "stats.json",
    }
    head = client.remote()["branches"]["main"]
    assert orjson.loads(found["origin"]) == {"url": f"{URL}@{head}"}


def test_a_push_in_mid_run_changes_nothing(client: Client, dataset: Path) -> None:
    client.publish("--tag", "v1")
    first, before = client.remote()["branches"]["main"], shards_of(dataset)
    described_again(dataset, "Another release.")
    client.publish()
    moved = client.remote()
    tree = moved["commits"][moved["branches"]["main"]]["tree"]
    tree["train-000000.tar"] = client.hub.add_blob(b"another release")
    client.hub.save("datasets", "user/name", moved)
    for revision in ("v1", first):
        found = read(client, f"{URL}@{revision}")
        assert found["shards"] == before and first in found["origin"]


def test_a_line_that_drops_in_mid_shard_is_taken_up(client: Client, dataset: Path) -> None:
    client.publish()
    shard = client.tree()["train-000000.tar"]["lfs"]
    client.hub.fault(f"GET /_cdn/{shard}", cut=True)
    client.hub.fault(f"GET /_cdn/{shard}", 503, skip=1)
    client.hub.fault(r"GET /datasets/.*/resolve/.*/index\.json", 0)
    assert read(client)["shards"] == shards_of(dataset)
    assert client.hub.count(f"GET /_cdn/{shard}") >= 2


def test_other_bytes_than_the_index_names_are_refused(client: Client, dataset: Path) -> None:
    client.publish()
    good = (dataset / "train-000000.tar").read_bytes()
    altered(client, "train-000000.tar", good[:-1] + b"x")
    said = read(client)["error"]
    assert "train-000000.tar: its bytes are not the ones that were written" in said and f"{URL}@" in said


def test_who_cannot_read_is_told_why(client: Client, dataset: Path) -> None:
    assert "no dataset user/name" in read(client)["error"]
    client.publish("--private")
    assert "user/name has no such revision" in read(client, f"{URL}@v9")["error"]
    client.env["HF_TOKEN"] = ""
    assert "set HF_TOKEN or run `hf auth login`" in read(client)["error"]
    client.env["HF_TOKEN"] = "hf_local_read"
    assert "no dataset user/name" in read(client)["error"]
    assert "write hf://datasets/user/name" in read(client, "hf://user/name")["error"]


def test_annotations_are_no_dataset_to_train_on(client: Client, dataset: Path) -> None:
    client.publish("--annotations-only")
    assert "holds annotations without pictures" in read(client)["error"]


@pytest.mark.slow
def test_the_checkpoint_is_that_of_the_local_folder(client: Client, dataset: Path) -> None:
    """With a tokenizer of its own, as the presets have it."""
    client.run("qa-gen", "shards")
    client.publish("--private")
    done = client.python(
        "import sys\n"
        "from pathlib import Path\n"
        "from unif2ace_model.cli import app\n"
        "sets = ['images.tokenizer=train:2', 'images.size=32', 'images.views=2', 'model.image_tokens=16', 'model.dim=32',"
        " 'model.layers=1', 'model.ffn_dim=64', 'model.token_moe.expert_dim=16', 'text.tokenizer=train:400',"
        " 'optim.und_batch=2', 'optim.gen_batch=2', 'optim.accumulate=1', 'optim.steps=1', 'run.sample_every=0']\n"
        "for place, out in (('shards', 'local'), ('hf://datasets/user/name', 'streamed')):\n"
        "    given = [part for change in sets for part in ('--set', change)]\n"
        "    app(['train', '--shards', place, '--out', out, '--json', *given], standalone_mode=False)\n"
        "files = [(Path(out) / 'step-000001/model.safetensors').read_bytes() for out in ('local', 'streamed')]\n"
        "assert files[0] == files[1] and files[0]\n"
    )
    assert done.returncode == 0, done.stderr[-2000:]
