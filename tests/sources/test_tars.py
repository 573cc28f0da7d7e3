"""WebDataset tars: members read by their place, whatever their order; nothing unpacked; no damage in silence."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_sources import listed, picture, put, put_tar, reasons

from unif2ace_data.errors import InputError
from unif2ace_data.sources.read import read_input


def test_members_are_read_by_their_place(tmp_path: Path) -> None:
    members = [("k1.jpg", picture(1)), ("k1.txt", b"one"), ("d/k2.jpg", picture(2)), ("d/k2.json", b'{"author": "A"}')]
    put_tar(tmp_path / "s.tar", members)
    found = listed(tmp_path)
    assert list(found) == ["s.tar#k1.jpg", "s.tar#d/k2.jpg"]
    assert read_input(found["s.tar#k1.jpg"]) == picture(1) and found["s.tar#k1.jpg"].annotations.captions == ["one"]
    assert read_input(found["s.tar#d/k2.jpg"]) == picture(2) and found["s.tar#d/k2.jpg"].annotations.author == "A"
    assert listed(tmp_path / "s.tar") == found


def test_interleaved_keys_are_usable_and_keep_their_own_captions(tmp_path: Path) -> None:
    members = [("a.jpg", picture(1)), ("b.jpg", picture(2)), ("b.txt", b"about b"), ("a.txt", b"about a")]
    put_tar(tmp_path / "s.tar", members)
    found = listed(tmp_path)
    assert [found[f"s.tar#{k}.jpg"].annotations.captions for k in "ab"] == [["about a"], ["about b"]]
    assert set(reasons(found).values()) == {""}


def test_members_that_point_outside_are_never_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    put_tar(
        root / "s.tar",
        [("../up.jpg", picture()), ("/top.jpg", picture()), ("a/../b.jpg", picture()), ("fine.jpg", picture(3))],
    )
    with tarfile.open(root / "s.tar", "a") as tar:
        for name, kind in (("link.jpg", tarfile.SYMTYPE), ("hard.jpg", tarfile.LNKTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    found = listed(root)
    codes = reasons(found)
    assert codes.pop("s.tar#fine.jpg") == "" and len(codes) == 5 and set(codes.values()) == {"unsafe_member"}
    with pytest.raises(InputError, match="points outside"):
        read_input(found["s.tar#../up.jpg"])
    assert [p.name for p in tmp_path.rglob("*")] == ["root", "s.tar"]


def test_every_other_member_has_its_row_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, kind in (("x.jpg", tarfile.DIRTYPE), ("plain", tarfile.DIRTYPE), ("pipe.jpg", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
        for name, data in (
            ("sniffed", picture()),
            ("what.bin", b"??"),
            ("lonely.txt", b"?"),
            ("in.tar", b"?"),
            ("clip.mp4", b"?"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found = listed(tmp_path)
    assert reasons(found) == {
        "s.tar#x.jpg": "is_a_directory", "s.tar#pipe.jpg": "not_a_file", "s.tar#sniffed": "", "s.tar#what.bin": "not_media",
        "s.tar#lonely.txt": "not_media", "s.tar#in.tar": "nested_container", "s.tar#clip.mp4": "",
    }  # fmt: skip
    assert found["s.tar#clip.mp4"].kind == "video" and read_input(found["s.tar#clip.mp4"]) == b"?"


def test_of_members_with_one_name_the_last_counts_as_when_unpacking(tmp_path: Path) -> None:
    put_tar(tmp_path / "s.tar", [("a.jpg", picture(1)), ("a.txt", b"old"), ("a.jpg", picture(2)), ("a.txt", b"new")])
    found = listed(tmp_path)
    assert reasons(found) == {"s.tar#a.jpg#1": "replaced_member", "s.tar#a.txt#1": "replaced_member", "s.tar#a.jpg": ""}
    assert read_input(found["s.tar#a.jpg"]) == picture(2)
    assert found["s.tar#a.jpg"].annotations.captions == ["new"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        info = tarfile.TarInfo("caf\xe9.jpg")
        info.size = len(picture(5))
        tar.addfile(info, io.BytesIO(picture(5)))
    found = listed(tmp_path)
    assert list(found) == ["s.tar#caf\\xe9.jpg"]
    orjson.dumps(found["s.tar#caf\\xe9.jpg"].member)
    assert read_input(found["s.tar#caf\\xe9.jpg"]) == picture(5)


def whole(tmp_path: Path) -> bytes:
    return put_tar(tmp_path / "s.tar", [(f"{i}.jpg", picture(i)) for i in range(4)])


STEP = 512 + (len(picture()) + 511) // 512 * 512  # bytes of one member with its header


@pytest.mark.parametrize(
    ("damage", "usable", "code"),
    [
        (lambda d: d[: 2 * STEP + 700], 2, "broken_tar"),  # inside a member
        (lambda d: d[: 2 * STEP + 100], 2, "broken_tar"),  # inside a header
        (lambda d: d[: 2 * STEP], 2, "broken_tar"),  # between members: looks complete but for the end mark
        (lambda d: d[: 2 * STEP] + b"\xff" * 512 + d[2 * STEP + 512 :], 2, "broken_tar"),  # a header overwritten
        (lambda d: d + d, 4, "broken_tar"),  # two tars joined: readers stop after the first
        (lambda d: d[: 2 * STEP] + bytes(1024), 2, ""),
        (lambda d: b"", 0, "broken_tar"),
        (lambda d: bytes(10240), 0, "empty_tar"),
        (lambda d: b"<html>no tar</html>" * 100, 0, "broken_tar"),
    ],
)
def test_damage_costs_what_lies_behind_it_and_is_said(tmp_path: Path, damage, usable: int, code: str) -> None:  # type: ignore[no-untyped-def]
    put(tmp_path / "s.tar", damage(whole(tmp_path)))
    codes = reasons(listed(tmp_path))
    assert codes.pop("s.tar", "") == code
    assert sum(c == "" for c in codes.values()) == usable
    assert set(codes.values()) <= {"", "truncated_member"}


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_compressed_tars_are_named_with_advice_whatever_their_name(tmp_path: Path, packing: str) -> None:
    put_tar(tmp_path / f"s.tar.{packing}", [("a.jpg", picture())], f"w:{packing}")
    (tmp_path / "renamed.tar").write_bytes((tmp_path / f"s.tar.{packing}").read_bytes())
    found = listed(tmp_path)
    assert reasons(found) == {"renamed.tar": "compressed_tar", f"s.tar.{packing}": "compressed_archive"}
    assert all("decompress it first" in str(ref.problem) for ref in found.values())


def test_broken_sidecars_cost_no_picture(tmp_path: Path) -> None:
    put_tar(tmp_path / "s.tar", [("a.jpg", picture()), ("a.json", b"{"), ("a.txt", b"said")])
    found = listed(tmp_path)
    assert reasons(found) == {"s.tar#a.json": "broken_sidecar", "s.tar#a.jpg": ""}
    assert found["s.tar#a.jpg"].annotations.captions == ["said"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bytes_give_rows_and_no_traceback(tmp_path: Path, data: st.DataObject) -> None:
    tar = bytearray(whole(tmp_path))
    for _ in range(data.draw(st.integers(1, 6))):
        tar[data.draw(st.integers(0, 4 * STEP + 1100))] = data.draw(st.integers(0, 255))
    put(tmp_path / "s.tar", bytes(tar))
    found = listed(tmp_path)
    assert found
    for ref in found.values():
        if ref.problem is None:
            assert len(read_input(ref)) == ref.size


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda s: "\0" not in s), min_size=1, max_size=6))
def test_any_member_names_give_one_row_each(tmp_path: Path, names: list[str]) -> None:
    safe = [n.encode("utf-8", "replace").decode() + ".jpg" for n in names]
    put_tar(tmp_path / "s.tar", [(name, picture(i)) for i, name in enumerate(safe)])
    assert len(listed(tmp_path)) == len(safe)
