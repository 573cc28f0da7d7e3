"""Files behind a URL: what a dropped line costs, what is said where nothing helps, and paths that were meant as URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from unif2ace_data import storage as module
from unif2ace_data.errors import UserError
from unif2ace_data.shards import read_index
from unif2ace_data.storage import blocks, delete, is_url, listed, name_of, read_if_there, send, storage

DATA = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def empty_and_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    MemoryFileSystem.store.clear()
    monkeypatch.setattr(module, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(module, "BLOCK", 1000)


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://bucket/deep/faces" if request.param == "memory" else f"file://{tmp_path}/bucket/deep/faces"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source.bin").write_bytes(DATA)
    return tmp_path / "source.bin"


def test_what_is_sent_lies_there_under_its_name_and_comes_back(url: str, source: Path) -> None:
    place = storage(f"{url}/")
    assert listed(place) == {} and read_if_there(place, "ledger/a.bin") is None
    sent = send(place, "ledger/a.bin", source)
    assert sent.bytes == len(DATA) and listed(place) == {"ledger/a.bin": sent}
    assert b"".join(blocks(place, "ledger/a.bin")) == DATA == read_if_there(place, "ledger/a.bin")
    delete(place, "ledger/a.bin")
    delete(place, "ledger/a.bin")
    assert listed(place) == {}


def test_a_dropped_line_is_taken_up_where_it_was(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = storage("memory://bucket/faces")
    send(place, "a.bin", source)
    reads: list[int] = []

    def read(file: MemoryFile, size: int = -1) -> bytes:
        reads.append(file.tell())
        if len(reads) % 3 == 0:
            raise ConnectionResetError("by peer")
        return super(MemoryFile, file).read(size)

    monkeypatch.setattr(MemoryFile, "read", read)
    assert b"".join(blocks(place, "a.bin", quiet=True)) == DATA
    assert max(reads) == len(DATA) and reads == sorted(reads), "nothing is read twice"


def test_a_line_that_stays_dropped_is_told(source: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    place = storage("memory://bucket/faces")
    send(place, "a.bin", source)
    monkeypatch.setattr(MemoryFile, "read", lambda *_: (_ for _ in ()).throw(ConnectionResetError("by peer")))
    with pytest.raises(UserError, match=r"faces/a\.bin: ConnectionResetError: by peer\. What is done is kept; run"):
        list(blocks(place, "a.bin"))
    assert capsys.readouterr().err.count("ConnectionResetError: by peer: trying again in 0 s") == 2


def test_what_the_reader_does_wrong_is_not_the_storage_s(source: Path) -> None:
    place = storage("memory://bucket/faces")
    send(place, "a.bin", source)
    with pytest.raises(OSError, match="disk full"):
        for _ in blocks(place, "a.bin"):
            raise OSError("disk full")


def test_nothing_is_tried_again_that_cannot_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    place = storage("memory://bucket/faces")
    with pytest.raises(UserError, match=r"a\.bin is not there: check the URL"):
        list(blocks(place, "a.bin"))

    class NoCredentialsError(Exception):
        pass

    for error, said in ((PermissionError("denied"), "may not do that"), (NoCredentialsError("none"), "no credentials")):
        calls: list[str] = []

        def refusing(*_: Any, error: Exception = error, calls: list[str] = calls, **__: Any) -> None:
            calls.append("")
            raise error

        monkeypatch.setattr(MemoryFileSystem, "find", refusing)
        with pytest.raises(UserError, match=said):
            listed(place)
        assert len(calls) == 1


def test_a_storage_that_nobody_knows_is_wrong_usage() -> None:
    with pytest.raises(UserError, match="nosuch") as caught:
        storage("nosuch://bucket/faces")
    assert caught.value.exit_code == 2


def test_what_is_a_url_and_what_its_folder_is_called() -> None:
    assert is_url("s3://bucket/faces") and is_url("hf://datasets/user/name") and not is_url("data/faces")
    assert name_of("s3://bucket/deep/faces/") == "faces" and name_of("hf://datasets/user/name@v1") == "name"
    with pytest.raises(UserError, match="has no name"):
        name_of("memory://")


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("hf://datasets/user/name", "`unif2ace-data pull user/name --out name` first"),
        ("s3://bucket/faces", "copy it first"),
    ],
)
def test_a_command_that_takes_a_folder_says_what_to_do_with_a_url(url: str, advice: str) -> None:
    with pytest.raises(UserError, match=advice) as caught:
        read_index(Path(url))
    assert url in caught.value.message and caught.value.exit_code == 2
