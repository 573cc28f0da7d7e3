"""Shards: bytes depend on the samples alone; a shard is there whole or not at all; webdataset reads it."""

from __future__ import annotations

import hashlib
import string
import tarfile
from pathlib import Path

import orjson
import pytest
import webdataset
from hypothesis import example, given
from hypothesis import strategies as st

from unif2ace_data.errors import UserError
from unif2ace_data.schema import SCHEMA_VERSION, Captioner, Claim, Face, Image, Sample, Source
from unif2ace_data.shards import (
    BLOCK,
    contents,
    header,
    member_at,
    members,
    read_samples,
    root_hash,
    sample_json,
    tar_header,
    write_shard,
)


def sample(key: str, caption: str = "A face.") -> Sample:
    return Sample(
        uid=key,
        schema_version=SCHEMA_VERSION,
        split="train",
        source=Source(dataset="folder", id=f"folder/{key}.jpg", sha256=key * 2, licence="CC0-1.0", author="", url=""),
        image=Image(
            width=8, height=8, align="ffhq", quad=[[0, 0], [8, 0], [8, 8], [0, 8]], source_width=9, source_height=9, padded=0
        ),
        face=Face(
            box=[1, 1, 7, 7], landmarks=[[2, 2], [6, 2], [4, 4], [2, 6], [6, 6]], score=0.9, face_px=6.0,
            yaw=0, pitch=0, roll=0, sharpness=100, brightness=120,
        ),
        attributes=[],
        caption=caption,
        captioner=Captioner(engine="grounded", model="grounded", revision="1", prompt_sha256="0" * 64),
        claims=[Claim(attribute="smile", value="broad", span=[0, 1], verdict="supported")],
        qa=[],
    )  # fmt: skip


def key(n: int) -> str:
    return hashlib.sha256(str(n).encode()).hexdigest()[:32]


def three() -> list[tuple[str, bytes, Sample]]:
    return [(k, b"\xff\xd8" + k.encode(), sample(k, f"Face {k[:4]}.")) for k in sorted(map(key, range(3)))]


def test_golden_bytes(tmp_path: Path) -> None:
    """If this changes, every dataset's bytes change: raise PACK_VERSION and say so in the release notes."""
    info = write_shard(tmp_path / "a.tar", three())
    data = (tmp_path / "a.tar").read_bytes()
    assert (info.sha256, info.bytes, info.samples) == (hashlib.sha256(data).hexdigest(), len(data), 3)
    assert info.sha256 == "e1df38ac57a4670631e201b6071de3d0e0a8cd1f6c62991c8b9ef2108120cf9e"


def test_the_same_samples_give_the_same_bytes_anywhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first, second = write_shard(tmp_path / "a.tar", three()), write_shard(tmp_path / "elsewhere" / "b.tar", three())
    assert first == second


def test_tarfile_and_webdataset_read_it(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    write_shard(path, three())
    with tarfile.open(path) as tar:
        names = tar.getnames()
        assert all(m.mtime == 0 and m.uid == 0 and m.mode == 0o644 for m in tar)
    assert names == [f"{k}.{e}" for k, _, _ in three() for e in ("jpg", "json", "txt")]
    read = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [(s["__key__"], s["jpg"], s["json"], s["txt"]) for s in read] == [
        (k, jpeg, sample_json(s), s.caption.encode()) for k, jpeg, s in three()
    ]


@given(payload=st.lists(st.binary(max_size=1500), min_size=1, max_size=5))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, payload: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("shard") / "a.tar"
    rows = [(k, data, sample(k)) for k, data in zip(sorted(key(i) for i in range(len(payload))), payload, strict=True)]
    write_shard(path, rows)
    assert [(k, f["jpg"]) for k, f in read_samples(path)] == [(k, data) for k, data, _ in rows]


def test_a_writer_that_stops_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    def failing():
        yield three()[0]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "a.tar", failing())
    assert not (tmp_path / "a.tar").exists()


def test_a_place_that_takes_no_bytes_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*run the command again"):
        write_shard(tmp_path / "no such folder" / "a.tar", three())


@pytest.mark.parametrize("cut", [1, 512, 1024, 1500])
def test_a_cut_shard_is_not_a_sound_archive(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.tar"
    write_shard(path, three())
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(tarfile.TarError):
        list(members(path))
    with pytest.raises(tarfile.TarError):
        list(read_samples(path))


@given(
    name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60),
    size=st.one_of(st.integers(0, 10**6), st.integers(0, 8**11 - 1)),
)
def test_headers_are_tarfiles_own(name: str, size: int) -> None:
    try:
        expected = tar_header(name, size)
    except ValueError:  # tarfile refuses names too long for USTAR, and so do we
        with pytest.raises(ValueError, match="too long"):
            header(name, size)
    else:
        assert header(name, size) == expected


@given(
    name=st.text(string.ascii_letters, min_size=1, max_size=90),
    at=st.integers(0, BLOCK - 1),
    byte=st.integers(0, 255),
)
@example(name="a", at=134, byte=ord("8"))  # a digit, and none of an octal number
def test_a_header_is_read_as_tarfile_reads_it(name: str, at: int, byte: int) -> None:
    """Also where a byte of it was changed: the same name and size, or an error on both sides."""
    block = bytearray(header(name, 1000))
    block[at] = byte
    try:
        info = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "strict")
        expected = (info.name, info.size)
    except (tarfile.TarError, UnicodeDecodeError):
        expected = None
    try:
        found = member_at(bytes(block), 0, 10**12)
        assert found is not None
        assert (found.name, found.size) == expected
    except tarfile.TarError:
        assert expected is None


def test_a_tar_of_another_writer_is_walked_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    long = "a" * 60 + "/" + "b" * 60 + ".jpg"  # USTAR keeps the folder in its prefix field
    with path.open("wb") as file:
        for name, data in (("x.jpg", b"12345"), ("x.json", b"{}"), (long, b"6" * 513)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(data), 1234567, "someone"
            file.write(info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK))
        file.write(bytes(2 * BLOCK))
    assert [(m.name, m.size) for m in members(path)] == [("x.jpg", 5), ("x.json", 2), (long, 513)]
    assert [(m, data) for m, data, _ in contents(path)] == list(
        zip(members(path), (b"12345", b"{}", b"6" * 513), strict=True)
    )


def test_a_record_is_what_the_model_dumps() -> None:
    for _, _, s in three():
        assert sample_json(s) == orjson.dumps(s.model_dump())
        changed = s.model_copy(update={"caption": "Ünïcode \u2028", "qa": []})
        assert sample_json(changed) == orjson.dumps(changed.model_dump())


def test_the_root_hash_does_not_depend_on_order() -> None:
    entries = [("b", "2"), ("a", "1")]
    assert root_hash(entries) == root_hash(entries[::-1]) == hashlib.sha256(b"a 1\nb 2\n").hexdigest()
