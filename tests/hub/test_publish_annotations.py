"""`publish --annotations-only`: no pixel leaves; and what is pulled makes the dataset again."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from publisher import REPO, Client, stored

from unif2ace_data.release.annotations import write_annotations
from unif2ace_data.run.card import write_card
from unif2ace_data.shards import INDEX, dataset_shards, read_samples
from unif2ace_data.verify import verify

ALONE = "--annotations-only"
PUBLISH = ("publish", "shards", "--repo", REPO)


def files_in(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def not_to_be_passed_on(dataset: Path) -> None:
    """The dataset, as if its source had let nobody pass the photographs on."""
    recipe = yaml.safe_load((dataset / "recipe.yaml").read_text())
    recipe["resolved"]["manifests"][0]["redistribution"] = False
    (dataset / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    write_card(dataset, [])


@pytest.mark.parametrize("client", ["lfs", "xet"], indirect=True)
def test_they_are_published_whole_and_a_second_run_sends_nothing(client: Client, dataset: Path) -> None:
    done = client.publish(ALONE, "--tag", "v1.0", "--gated", "auto")
    folder = dataset.with_name("shards.work") / "annotations"
    mine = files_in(folder)
    assert (done["kind"], done["visibility"], done["gated"], done["left_here"]) == ("annotations", "public", "auto", 0)
    assert set(client.tree()) == set(mine) | {".gitattributes"} and set(done["new"]) == set(mine)
    assert done["bytes_to_send"] == sum(map(len, mine.values()))
    repo, sent, requests = client.remote(), stored(client.hub), len(client.hub.log)
    again = client.publish(ALONE, "--tag", "v1.0", "--gated", "auto")
    assert (again["commits"], again["bytes_to_send"]) == (0, 0) and set(again["same"]) == set(mine)
    assert stored(client.hub) == sent and client.remote() == repo and files_in(folder) == mine
    assert {method for method, _, _ in client.hub.log[requests:]} == {"GET"}


def test_no_pixel_leaves(client: Client, dataset: Path) -> None:
    """Neither as a file nor inside one: every stored byte is a text without a picture, or a table of such texts."""
    client.publish(ALONE)
    assert not [name for name in client.tree() if name.endswith((".tar", ".jpg", ".png", ".html"))]
    pictures = [files["jpg"] for shard in dataset_shards(dataset) for _, files in read_samples(shard)]
    objects = [*(client.hub.root / "lfs").iterdir(), *(client.hub.root / "blobs").iterdir()]
    assert len(objects) >= 10
    assert b"samples.jpg" not in (client.hub.root / "blobs" / client.tree()["README.md"]["oid"]).read_bytes()
    for path in objects:
        data = path.read_bytes()
        if data[:4] == b"PAR1":  # compressed
            data = repr(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
        assert b"\xff\xd8\xff" not in data and b"data:image" not in data and b"JFIF" not in data
        assert not any(picture[200:264] in data for picture in pictures)
        with pytest.raises(OSError, match="cannot identify"):
            Image.open(path)


def test_what_is_pulled_makes_the_same_dataset_again(
    client: Client, dataset: Path, examples: Path, tmp_path: Path
) -> None:
    client.publish(ALONE, "--tag", "v1.0")
    done = client.pull("notes", "--tag", "v1.0")
    notes = client.folder / "notes"
    assert files_in(notes) == files_in(dataset.with_name("shards.work") / "annotations")
    index = orjson.loads((notes / INDEX).read_bytes())
    assert (done["kind"], done["samples"], done["root_sha256"]) == ("annotations", 5, index["root_sha256"])
    assert "5 samples" in client.run("verify", "notes").out
    client.run("join", "notes", "--src", str(examples), "--out", "joined")
    assert files_in(client.folder / "joined") == files_in(dataset)


def test_pictures_that_may_not_be_passed_on_stay_and_the_annotations_go(client: Client, dataset: Path) -> None:
    not_to_be_passed_on(dataset)
    said = client.run(*PUBLISH, code=1).err
    assert "not to be passed on" in said and ALONE in said and not client.hub.log
    assert client.publish(ALONE)["visibility"] == "public"


def test_a_broken_dataset_or_a_licence_that_may_not_be_stated_sends_nothing(client: Client, dataset: Path) -> None:
    write_card(dataset, ["release.licence=cc0-1.0"])
    recipe = yaml.safe_load((dataset / "recipe.yaml").read_text())
    recipe["resolved"]["manifests"][0]["licence"]["text"] = "CC-BY-NC-4.0"
    (dataset / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    write_card(dataset, [])
    assert "may not be released under 'cc0-1.0'" in client.run(*PUBLISH, ALONE, code=1).err
    with (dataset / "train-000000.tar").open("r+b") as file:
        file.seek(600)
        file.write(b"?")
    assert "does not hold" in client.refused(*PUBLISH, ALONE) and not client.hub.log


def test_a_dry_run_sends_nothing(client: Client, dataset: Path) -> None:
    plan = client.publish(ALONE, "--dry-run")
    assert plan["dry_run"] and {"README.md", "data/train-000000.parquet", "dataset/index.json", INDEX} <= set(
        plan["new"]
    )
    assert not client.hub.repo_file("datasets", REPO).exists()


def test_an_interruption_keeps_what_arrived_and_the_repo_private(client: Client, dataset: Path) -> None:
    small = "import unif2ace_data.release.hub as h; h.BATCH_FILES = 3"
    client.hub.fault("POST .*/commit/", 403, skip=2)
    client.refused(*PUBLISH, ALONE, before=small)
    held = set(client.tree()) - {".gitattributes"}
    assert len(held) == 6 and INDEX not in held and client.remote()["private"]
    client.hub.faults.clear()
    done = client.publish(ALONE, before=small)
    assert set(done["same"]) == held and done["visibility"] == "public"


def test_a_repo_holds_pictures_or_annotations_and_never_one_after_the_other(client: Client, dataset: Path) -> None:
    client.publish()
    before = client.remote()
    assert "to a repo of their own" in client.refused(*PUBLISH, ALONE)
    assert client.remote() == before
    other = ("publish", "shards", "--repo", "user/notes")
    client.run(*other, ALONE)
    assert f"give {ALONE}" in client.refused(*other)


@pytest.mark.parametrize("name", ["samples.jpg", "dataset/report.html", "data/train-000000.tar", "../outside.json"])
def test_an_index_of_annotations_that_names_anything_else_fetches_nothing(
    client: Client, dataset: Path, name: str
) -> None:
    client.publish(ALONE)
    repo = client.remote()
    tree = repo["commits"][repo["branches"]["main"]]["tree"]
    index = orjson.loads((dataset.with_name("shards.work") / "annotations" / INDEX).read_bytes())
    index["files"][name] = {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    listed = sorted((n, entry["sha256"]) for n, entry in index["files"].items())
    index["root_sha256"] = hashlib.sha256("".join(f"{n} {h}\n" for n, h in listed).encode()).hexdigest()
    tree[INDEX] = client.hub.add_blob(orjson.dumps(index))
    client.hub.save("datasets", REPO, repo)
    assert f"names {name!r}" in client.refused("pull", REPO, "--out", "copy")
    assert not (client.folder / "copy").exists() and not (client.folder / "outside.json").exists()


def test_a_removal_reaches_published_annotations_and_their_history(client: Client, dataset: Path) -> None:
    client.publish(ALONE, "--tag", "v1.0")
    work = dataset.with_name("shards.work")
    shard = sorted(dataset.glob("train-*.tar"))[0]
    (key, _), *_ = read_samples(shard)
    old = client.tree()[f"data/{shard.stem}.parquet"]["lfs"]
    assert (work / "annotations").is_dir()
    client.hub.fault("/super-squash/", 403, times=20)
    client.refused("remove", "shards", "--key", key, "--yes", "--published", REPO)
    client.hub.faults.clear()
    client.run("remove", "shards", "--published", REPO)
    repo = client.remote()
    assert repo["tags"] == {} and repo["commits"][repo["branches"]["main"]]["parents"] == []
    assert not client.hub.lfs(old).exists()
    assert set(client.tree()) == set(files_in(work / "annotations")) | {".gitattributes"}
    assert not [name for name in client.tree() if name.endswith(".tar")], "a removal publishes no pictures"
    client.pull("notes")
    rows = [uid for path in (client.folder / "notes").glob("data/*") for uid in pq.read_table(path)["uid"].to_pylist()]
    assert len(rows) == 4 and key not in rows


def test_a_removal_here_takes_the_written_annotations_along(client: Client, dataset: Path) -> None:
    client.publish(ALONE, "--dry-run")
    key, _ = next(read_samples(sorted(dataset.glob("*.tar"))[0]))
    client.run("remove", "shards", "--key", key, "--yes")
    assert not (dataset.with_name("shards.work") / "annotations").exists()


def test_a_repo_that_holds_neither_is_left_alone_by_a_removal(client: Client, dataset: Path) -> None:
    client.call(f"from huggingface_hub import HfApi\nHfApi().create_repo('{REPO}', repo_type='dataset')\nanswer = 0")
    assert "neither a dataset nor annotations" in client.refused("remove", "shards", "--published", REPO)
    assert set(client.tree()) <= {".gitattributes"}


def test_they_are_the_same_bytes_each_time_and_name_every_file(built: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_annotations(built, tmp_path / name)
    a, b = files_in(tmp_path / "a"), files_in(tmp_path / "b")
    assert a == b
    index = orjson.loads(a[INDEX])
    assert index["files"] == {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in a.items()
        if name != INDEX
    }
    assert verify(tmp_path / "a").holds
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with (tmp_path / "b" / "data" / "train-000000.parquet").open("ab") as file:
        file.write(b"\0")
    assert [p.split(":")[0] for p in verify(tmp_path / "b").problems][:2] == ["data/train-000000.parquet", "notes.txt"]
