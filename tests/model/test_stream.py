"""Training on a dataset at a URL: the checkpoint of the local folder, each shard fetched once, and nothing of it kept."""

from __future__ import annotations

import io
import json
import socket
from collections import Counter
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from unif2ace_data import storage
from unif2ace_data.errors import UserError
from unif2ace_data.release.stream import ORIGIN, stand_in
from unif2ace_data.shards import INDEX, dataset_shards, read_index
from unif2ace_model import data as encoding
from unif2ace_model.cli import app
from unif2ace_model.config import Preset
from unif2ace_model.data import open_dataset
from unif2ace_model.run_folder import checkpoints
from unif2ace_model.train import train

URL = "memory://bucket/faces"


class Dropping(io.BytesIO):
    """A file whose line drops in the middle."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= len(self.getvalue()) // 2:
            raise ConnectionResetError("by peer")
        return super().read(size)


class Bucket:
    """The dataset in memory, as storage; counts how often each file is opened, and drops the line where it is told to."""

    def __init__(self, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()  # how often the next readings of a file are broken off
        MemoryFileSystem.store.clear()
        self.fs = MemoryFileSystem()
        self.fs.put(f"{dataset}/", "/bucket/faces", recursive=True)
        whole = MemoryFileSystem._open

        def counted(fs: MemoryFileSystem, path: str, mode: str = "rb", **how: object) -> io.BytesIO:
            name = path.removeprefix("/bucket/faces/")
            if mode == "rb":
                self.opened[name] += 1
            file = whole(fs, path, mode=mode, **how)
            if self.drops[name]:
                self.drops[name] -= 1
                return Dropping(file.getvalue())
            return file

        monkeypatch.setattr(MemoryFileSystem, "_open", counted)
        monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))
        monkeypatch.setattr(storage, "BLOCK", 8_000)

    def change(self, name: str) -> None:
        """Another byte in the middle of a file."""
        data = bytearray(self.fs.cat_file(f"/bucket/faces/{name}"))
        data[len(data) // 2] ^= 1
        self.fs.pipe_file(f"/bucket/faces/{name}", bytes(data))


@pytest.fixture
def bucket(asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bucket(asked, monkeypatch)


def names(dataset: Path) -> list[str]:
    return [path.name for path in dataset_shards(dataset)]


def short(preset: Preset) -> Preset:
    optim, run = preset.optim.model_copy(update={"steps": 2}), preset.run.model_copy(update={"sample_every": 0})
    return preset.model_copy(update={"optim": optim, "run": run})


def weights(run: Path) -> bytes:
    return (checkpoints(run)[-1] / "model.safetensors").read_bytes()


def test_the_checkpoint_is_that_of_the_local_folder(
    asked: Path, preset: Preset, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(asked, tmp_path / "local", short(preset), quiet=True)
    streamed = tmp_path / "streamed"
    settings = tmp_path / "preset.yaml"
    settings.write_text(short(preset).model_dump_json())
    app(["train", "--shards", URL, "--out", str(streamed), "--preset", str(settings), "--json"], standalone_mode=False)
    assert weights(streamed) == weights(tmp_path / "local")
    for file in ("tokenizer.json", "faces.yaml"):
        assert (streamed / file).read_bytes() == (tmp_path / "local" / file).read_bytes()
    assert {name: bucket.opened[name] for name in names(asked)} == dict.fromkeys(names(asked), 1)
    cache = tmp_path / "cache" / "unif2ace"
    root = str(read_index(asked)["root_sha256"])[:24]
    assert {p.name for p in cache.iterdir()} == {root, f"{root}.work"}
    assert {p.name for p in (cache / root).iterdir()} == {INDEX, ORIGIN, "recipe.yaml", "stats.json"}, "no shard stays"
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (cache, cache / root, cache / f"{root}.work"))
    bucket.opened.clear()
    train(stand_in(URL, quiet=True), streamed, short(preset), quiet=True)
    assert not bucket.opened.keys() & set(names(asked)), "what is cached is not fetched again"


def test_a_kill_in_mid_stream_costs_the_shard_in_hand(
    asked: Path, preset: Preset, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = encoding.encode_shard, []

    def killed_at_the_second(*shard: object) -> None:
        calls.append(shard)
        if len(calls) == 2:
            raise KeyboardInterrupt
        whole(*shard)  # type: ignore[arg-type]

    monkeypatch.setattr(encoding, "encode_shard", killed_at_the_second)
    folder = stand_in(URL, quiet=True)
    with pytest.raises(KeyboardInterrupt):
        open_dataset(folder, preset.images, preset.features, quiet=True)
    assert not list(folder.parent.rglob("*.tar")), "what was in hand is gone"
    left, elsewhere = (folder / f".999999999-x@{host}.arriving" for host in (socket.gethostname(), "elsewhere"))
    for arriving in (left, elsewhere):
        arriving.mkdir()
        (arriving / "train-000000.tar").write_bytes(
            b"of a process that was killed outright, or of one on another machine"
        )
    bucket.opened.clear()
    found = open_dataset(folder, preset.images, preset.features, quiet=True)
    first, *others = names(asked)
    assert bucket.opened[first] == 0 and [bucket.opened[name] for name in others] == [1] * len(others)
    assert [path.parent for path in folder.parent.rglob("*.tar")] == [elsewhere]
    local = open_dataset(asked, preset.images, preset.features, quiet=True)
    assert found.records == local.records and found.root_sha256 == local.root_sha256


def test_a_line_that_drops_in_mid_shard_is_taken_up(asked: Path, preset: Preset, bucket: Bucket) -> None:
    first = names(asked)[0]
    bucket.drops[first] = 1
    found = open_dataset(stand_in(URL, quiet=True), preset.images, preset.features, quiet=True)
    assert bucket.opened[first] == 2 and found.records == list(
        open_dataset(asked, preset.images, preset.features, True).records
    )


def test_a_line_that_stays_dropped_is_one_line_of_error(asked: Path, preset: Preset, bucket: Bucket) -> None:
    first = names(asked)[0]
    bucket.drops[first] = 9
    folder = stand_in(URL, quiet=True)
    with pytest.raises(UserError, match=rf"{URL}/{first}: ConnectionResetError: by peer\. What is done is kept; run"):
        open_dataset(folder, preset.images, preset.features, quiet=True)
    assert not list(folder.parent.rglob("*.tar"))


def test_a_shard_with_other_bytes_is_refused_before_anything_is_made_of_it(
    asked: Path, preset: Preset, bucket: Bucket
) -> None:
    last = names(asked)[-1]
    bucket.change(last)
    folder = stand_in(URL, quiet=True)
    with pytest.raises(UserError, match=rf"{URL}: {last}: its bytes are not the ones .* fetch it anew"):
        open_dataset(folder, preset.images, preset.features, quiet=True)
    wrong = next(entry["sha256"] for entry in read_index(asked)["shards"] if entry["name"] == last)[:24]
    assert not list((folder.with_name(f"{folder.name}.work") / "model" / wrong).iterdir())


def test_what_is_no_dataset_of_ours_is_said(
    asked: Path, built: Path, preset: Preset, bucket: Bucket, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no dataset at memory://bucket/nothing: it has no index\.json"):
        stand_in("memory://bucket/nothing", quiet=True)
    index = json.loads(bucket.fs.cat_file("/bucket/faces/index.json"))
    bucket.fs.pipe_file("/bucket/faces/index.json", json.dumps(index | {"root_sha256": "0" * 64}).encode())
    with pytest.raises(UserError, match="root_sha256 is not the hash of the files it lists"):
        stand_in(URL, quiet=True)
    bucket.fs.put(f"{built}/", "/bucket/unasked", recursive=True)
    with pytest.raises(UserError, match="no questions: run `unif2ace-data qa-gen`"):
        train(stand_in("memory://bucket/unasked", quiet=True), tmp_path / "run", preset, quiet=True)
    assert not any(name.endswith(".tar") for name in bucket.opened), "said before a shard is fetched"


def test_another_dataset_than_the_run_s_is_refused_before_a_shard_is_fetched(
    people: Path, trained_run: Path, preset: Preset, bucket: Bucket
) -> None:
    with pytest.raises(UserError, match=r"was trained on another dataset .*of a URL: the revision"):
        train(stand_in(URL, quiet=True), trained_run, preset, quiet=True)
    assert not any(name.endswith(".tar") for name in bucket.opened)
