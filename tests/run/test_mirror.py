"""`build --out URL`: the dataset stands there byte for byte, the index comes last, and nothing is sent twice."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from unif2ace_data import storage
from unif2ace_data.cli import app
from unif2ace_data.errors import UserError
from unif2ace_data.run.mirror import PROBE, UPLOADS, built_in, mirror
from unif2ace_data.shards import INDEX, read_index, write_index
from unif2ace_data.verify import verify

URL = "memory://bucket/faces"


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "faces")
    shutil.copytree(built.with_name("shards.work"), tmp_path / "faces.work")
    return tmp_path / "faces"


class Bucket:
    """Memory as storage: what was done to it, in order; and a fault at the next file of a name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, str]] = []
        self.faults: dict[str, list[Exception]] = {}
        MemoryFileSystem.store.clear()
        self.fs = MemoryFileSystem()
        put, remove = MemoryFileSystem.put_file, MemoryFileSystem.rm_file

        def putting(fs: MemoryFileSystem, source: str, path: str, **how: Any) -> None:
            name = path.removeprefix("/bucket/faces/")
            if self.faults.get(name):
                raise self.faults[name].pop()
            self.done.append(("send", name))
            put(fs, source, path, **how)

        def removing(fs: MemoryFileSystem, path: str) -> None:
            self.done.append(("delete", path.removeprefix("/bucket/faces/")))
            remove(fs, path)

        monkeypatch.setattr(MemoryFileSystem, "put_file", putting)
        monkeypatch.setattr(MemoryFileSystem, "rm_file", removing)
        monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))

    def contents(self) -> dict[str, bytes]:
        paths = self.fs.find("/bucket/faces")
        return {path.removeprefix("/bucket/faces/"): self.fs.cat_file(path) for path in paths}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return Bucket(monkeypatch)


def files_of(out: Path) -> dict[str, bytes]:
    index = read_index(out)
    names = [*(shard["name"] for shard in index["shards"]), *index["files"], INDEX]
    return {name: (out / name).read_bytes() for name in names}


def described_again(out: Path) -> None:
    """As a change of the card leaves it."""
    index, data = read_index(out), (out / "README.md").read_bytes() + b"\nMore.\n"
    (out / "README.md").write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_index(out, index["shards"], index["files"] | {"README.md": entry}, index["counts"])


def test_build_with_a_url_builds_here_and_there(
    examples: Path, dataset: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_index(dataset)["root_sha256"]
    command = ["build", "--src", str(examples), "--out", URL, "--work", str(dataset), "--subjects", "adults"]
    app([*command, "--workers", "1", "--json"], standalone_mode=False)
    answer = json.loads(capsys.readouterr().out)
    assert bucket.contents() == files_of(dataset) and answer["root_sha256"] == before
    sent = answer["mirror"]
    assert (sent["url"], sent["sent"], sent["same"], sent["gone"]) == (URL, len(files_of(dataset)), 0, 0)
    assert bucket.done[-1] == ("send", INDEX)


def test_file_urls_hold_a_dataset_as_any_folder_does(dataset: Path, tmp_path: Path) -> None:
    mirror(dataset, f"file://{tmp_path}/share/deep/faces", quiet=True)
    assert verify(tmp_path / "share" / "deep" / "faces").holds


def test_what_is_there_is_not_sent_again(dataset: Path, bucket: Bucket) -> None:
    mirror(dataset, URL, quiet=True)
    bucket.done.clear()
    assert mirror(dataset, URL, quiet=True)["sent"] == 0 and not bucket.done
    (dataset.with_name("faces.work") / UPLOADS).unlink()  # as --clean leaves it: the index there tells
    assert mirror(dataset, URL, quiet=True)["sent"] == 0 and not bucket.done
    described_again(dataset)
    assert mirror(dataset, URL, quiet=True)["sent"] == 2
    assert bucket.done == [("delete", INDEX), ("send", "README.md"), ("send", INDEX)]
    assert bucket.contents() == files_of(dataset)


@pytest.mark.parametrize("known_by", ["what was sent", "the index there"])
def test_an_interrupted_upload_goes_on(dataset: Path, bucket: Bucket, known_by: str) -> None:
    if known_by == "the index there":
        mirror(dataset, URL, quiet=True)
        (dataset.with_name("faces.work") / UPLOADS).unlink()
        described_again(dataset)
        bucket.done.clear()
        bucket.faults["README.md"] = [KeyboardInterrupt()]  # type: ignore[list-item]
    else:
        bucket.faults["train-000000.tar"] = [KeyboardInterrupt()]  # type: ignore[list-item]
    with pytest.raises(KeyboardInterrupt):
        mirror(dataset, URL, quiet=True)
    assert INDEX not in bucket.contents(), "half a dataset has no index"
    first = sum(kind == "send" for kind, _ in bucket.done)
    with (dataset.with_name("faces.work") / UPLOADS).open("ab") as kept:
        kept.write(b'\n{"url": "memory://bu')  # half a line, as a kill leaves it
    done = mirror(dataset, URL, quiet=True)
    assert bucket.contents() == files_of(dataset) and done["sent"] + done["same"] == len(files_of(dataset))
    sent = [name for kind, name in bucket.done if kind == "send"]
    assert len(sent) == len(set(sent)) == first + done["sent"], "nothing is sent twice"


def test_half_a_file_is_sent_again(dataset: Path, bucket: Bucket) -> None:
    mirror(dataset, URL, quiet=True)
    bucket.fs.pipe_file("/bucket/faces/train-000000.tar", b"half")
    assert mirror(dataset, URL, quiet=True)["sent"] == 2 and bucket.contents() == files_of(dataset)


def test_a_lost_line_is_waited_for_and_one_that_stays_lost_is_told(dataset: Path, bucket: Bucket) -> None:
    bucket.faults["train-000000.tar"] = [ConnectionResetError("by peer")]
    mirror(dataset, URL, quiet=True)
    bucket.faults["README.md"] = [ConnectionResetError("by peer") for _ in range(9)]
    described_again(dataset)
    with pytest.raises(UserError, match=r"faces/README\.md: ConnectionResetError: by peer\. What is done is kept; run"):
        mirror(dataset, URL, quiet=True)


def test_what_an_earlier_release_left_goes_and_other_files_stay(dataset: Path, bucket: Bucket) -> None:
    for name in ("train-000077.tar", "ledger/kept-train-000077.parquet", "LICENCE.txt"):
        bucket.fs.pipe_file(f"/bucket/faces/{name}", b"of before")
    assert mirror(dataset, URL, quiet=True)["gone"] == 2
    assert bucket.contents() == files_of(dataset) | {"LICENCE.txt": b"of before"}
    assert bucket.done[-1] == ("send", INDEX)
    bucket.fs.pipe_file("/bucket/faces/train-000077.tar", b"of before")
    assert mirror(dataset, URL, quiet=True)["gone"] == 1 and bucket.contents().keys() == {
        *files_of(dataset),
        "LICENCE.txt",
    }


def test_nothing_private_leaves(dataset: Path, bucket: Bucket) -> None:
    (dataset / "notes.txt").write_text("mine")
    mirror(dataset, URL, quiet=True)
    assert bucket.contents().keys() == files_of(dataset).keys()
    assert {path.partition("/faces")[0] for path in bucket.fs.find("/")} == {"/bucket"}


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_where_a_url_is_built(bucket: Bucket, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert built_in("shards", None, 3) == (Path("shards"), "")
    assert built_in(f"{URL}/", None, None) == (Path("faces"), f"{URL}/")
    assert "building in faces (private work in faces.work), which then goes to" in capsys.readouterr().err
    assert built_in(URL, Path("elsewhere"), None, quiet=True) == (Path("elsewhere"), URL)


def test_what_is_refused_before_anything_is_built(bucket: Bucket, in_folder: Path) -> None:
    with pytest.raises(UserError, match="--work goes with a URL"):
        built_in("shards", Path("elsewhere"), None)
    with pytest.raises(UserError, match="--work s3:/bucket/work: give a folder of this machine"):
        built_in(URL, Path("s3://bucket/work"), None)
    with pytest.raises(UserError, match="--limit is for trials"):
        built_in(URL, None, 5)
    for name in ("holiday.jpg", INDEX):
        bucket.fs.pipe_file(f"/bucket/faces/{name}", b"{}")
        with pytest.raises(UserError, match=f"{URL} holds other files and no dataset of this toolkit"):
            built_in(URL, None, None)
    assert set(bucket.contents()) == {"holiday.jpg", INDEX} and not bucket.done


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("s3:/b/c", "s3://b/c"),
        ("hf:/datasets/user/name", "hf://datasets/user/name"),
        ("gs:bucket/faces", "gs://bucket/faces"),
        ("file:/share/faces", "file:///share/faces"),
    ],
)
def test_what_is_almost_a_url_is_refused_before_a_folder_is_made_of_it(
    in_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str], given: str, meant: str
) -> None:
    for there in (False, True):  # a mistake of yesterday does not make it a folder
        with pytest.raises(UserError, match=f"--out {given} begins as a URL does.* did you mean {meant}") as told:
            app(["build", "--src", str(photos), "--out", given, "--subjects", "adults"], standalone_mode=False)
        assert told.value.exit_code == 2 and list(in_folder.iterdir()) == (
            [in_folder / given.split("/")[0]] if there else []
        )
        Path(given).mkdir(parents=True, exist_ok=True)
    assert built_in(str(in_folder / given), None, None) == (in_folder / given, "")
    for folder in ("shards", "my_faces:2/shards", "10:30/shards", "c:/faces", "../s3:/faces"):
        assert built_in(folder, None, None) == (Path(folder), "")


def test_a_place_that_takes_nothing_is_told_before_anything_is_built(bucket: Bucket, in_folder: Path) -> None:
    bucket.faults[PROBE] = [PermissionError("read only")]
    with pytest.raises(UserError, match="these credentials may not do that"):
        built_in(URL, None, None)
    built_in(URL, None, None, quiet=True)
    assert bucket.contents() == {}
