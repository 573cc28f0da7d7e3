"""A dataset in S3 (a server of its kind on loopback): sent, sent on after an interruption, and streamed from there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from unif2ace_data import storage
from unif2ace_data.errors import UserError
from unif2ace_data.release.stream import opened_shard, stand_in
from unif2ace_data.run import mirror as module
from unif2ace_data.run.mirror import check_target, mirror
from unif2ace_data.shards import INDEX, read_index

URL = "s3://bucket/deep/faces"

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(storage, "WAITS", (0.0,))
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield
    server.stop()


def test_there_and_back(bucket: None, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, sent = tmp_path / "faces", list[str]()
    shutil.copytree(built, out)
    shutil.copytree(built.with_name("shards.work"), tmp_path / "faces.work")
    check_target(out, URL)
    with pytest.raises(UserError, match=r"s3://nobody/faces/.* is not there: check the URL"):
        check_target(out, "s3://nobody/faces")

    def killed_at_the_fifth(place: storage.Storage, name: str, source: Path, quiet: bool) -> storage.Found:
        if len(sent) == 5:
            sent.clear()
            raise KeyboardInterrupt
        sent.append(name)
        return storage.send(place, name, source, quiet)

    monkeypatch.setattr(module, "send", killed_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        mirror(out, URL, quiet=True)
    monkeypatch.setattr(module, "send", storage.send)
    with pytest.raises(UserError, match=r"has no index\.json, which is written last"):
        stand_in(URL, quiet=True)
    done = mirror(out, URL, quiet=True)
    assert done["same"] == 5 and done["sent"] > 5
    assert mirror(out, URL, quiet=True)["sent"] == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = stand_in(URL, quiet=True)
    assert (folder / INDEX).read_bytes() == (out / INDEX).read_bytes()
    for entry in read_index(folder)["shards"]:
        with opened_shard(folder, entry) as path:
            assert path.read_bytes() == (out / entry["name"]).read_bytes()
