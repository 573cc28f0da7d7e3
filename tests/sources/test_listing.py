"""Listing folders: every entry leaves a row, in a fixed order, with what stands beside it; no picture is opened."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sources import listed, picture, put, put_tar, reasons

from unif2ace_data.errors import InputError, UserError
from unif2ace_data.recipe import SourceSpec
from unif2ace_data.sources.kinds import clean, kind_by_content
from unif2ace_data.sources.listing import list_inputs, notes, source_prefixes
from unif2ace_data.sources.manifest import load_manifest
from unif2ace_data.sources.read import read_input


def test_folders_are_walked_in_order_and_sidecars_are_joined(tmp_path: Path) -> None:
    put(tmp_path / "b/deep/er/x.jpg", picture(1))
    put(tmp_path / "a.png", picture(2, "PNG"))
    put(tmp_path / "a.txt", "A face.\n\nA smiling face.\n")
    record = (
        '{"Author": "N. N.", "license": "CC0-1.0", "url": "https://example.org/a", "caption": "Third.", "width": 8}'
    )
    put(tmp_path / "a.json", record)
    found = listed(tmp_path)
    assert list(found) == ["a.png", "b/deep/er/x.jpg"]
    said = found["a.png"].annotations
    assert (said.author, said.licence, said.url) == ("N. N.", "CC0-1.0", "https://example.org/a")
    assert said.captions == ["Third.", "A face.", "A smiling face."]
    assert read_input(found["b/deep/er/x.jpg"]) == picture(1)


def test_names_with_dots_keep_their_own_sidecars(tmp_path: Path) -> None:
    for year in ("2023", "2024"):
        put(tmp_path / f"IMG.{year}.jpg", picture())
        put(tmp_path / f"IMG.{year}.txt", f"taken in {year}")
    found = listed(tmp_path)
    assert [found[f"IMG.{year}.jpg"].annotations.captions for year in ("2023", "2024")] == [
        ["taken in 2023"],
        ["taken in 2024"],
    ]


def test_sidecars_that_cannot_be_used_have_their_own_row_and_the_photo_stays(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", picture())
    put(tmp_path / "a.json", "{broken")
    put(tmp_path / "a.png", picture(1, "PNG"))  # both pictures have these sidecars; each is reported once
    put(tmp_path / "a.txt", b"\xff\xfe\xff")
    put(tmp_path / "b.jpg", picture())
    put(tmp_path / "b.json", "[1, 2]")
    assert reasons(listed(tmp_path)) == {
        "a.json": "broken_sidecar", "a.txt": "broken_sidecar", "a.jpg": "", "a.png": "",
        "b.json": "broken_sidecar", "b.jpg": "",
    }  # fmt: skip


def test_what_is_no_picture_is_dropped_by_name(tmp_path: Path) -> None:
    for name in ("lonely.txt", ".hidden", "notes.doc", "README", "upper.TXT", "empty"):
        put(tmp_path / name, b"" if name == "empty" else b"??")
    found = listed(tmp_path)
    assert set(reasons(found).values()) == {"not_media"} and len(found) == 6
    assert all(ref.problem_status == "dropped" for ref in found.values())


def test_files_without_a_telling_extension_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    for name, format in (
        ("one", "JPEG"),
        ("two", "PNG"),
        ("three", "WEBP"),
        ("four", "GIF"),
        (".five", "BMP"),
        ("six.orig", "TIFF"),
    ):
        put(tmp_path / name, picture(9, format))
    put(tmp_path / "one.txt", "said of one")
    put_tar(tmp_path / "packed", [("k.jpg", picture())])
    found = listed(tmp_path)
    assert sorted(found) == sorted(["one", "two", "three", "four", ".five", "six.orig", "packed#k.jpg"])
    assert set(reasons(found).values()) == {""}
    assert found["one"].annotations.captions == ["said of one"]
    assert kind_by_content(b"\0\0\0\x18ftypmp42") == kind_by_content(b"\x1a\x45\xdf\xa3") == "video"
    assert kind_by_content(b"\0\0\0\x18ftypavif") == "image"


def test_one_file_can_be_the_source(tmp_path: Path) -> None:
    put(tmp_path / "only.jpg", picture())
    put(tmp_path / "only.txt", "alone")
    put(tmp_path / "other.jpg", picture())
    found = listed(tmp_path / "only.jpg")
    assert list(found) == ["only.jpg"] and found["only.jpg"].annotations.captions == ["alone"]


def test_a_source_that_is_not_there_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        listed(tmp_path / "nowhere")


def test_links_that_lead_nowhere_or_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root / "inner/a.jpg", picture())
    (root / "inner" / "back").symlink_to(root)
    (root / "inner" / "up").symlink_to(tmp_path)
    (root / "gone.jpg").symlink_to(root / "no such file")
    (root / "self.jpg").symlink_to("self.jpg")
    (root / "twin").symlink_to("inner")
    (root / "z.jpg").symlink_to("inner/a.jpg")
    assert reasons(listed(root)) == {
        "gone.jpg": "dangling_link", "inner/a.jpg": "", "inner/back": "symlink_loop", "inner/up": "symlink_loop",
        "self.jpg": "symlink_loop", "twin": "symlink_inside", "z.jpg": "",
    }  # fmt: skip


def test_links_out_of_the_source_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/a.jpg", picture())
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    for name in ("one", "two"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "elsewhere")
    assert reasons(listed(tmp_path / "root")) == {
        "one/a.jpg": "", "one/again": "symlink_loop", "two": "symlink_inside",
    }  # fmt: skip


def test_a_folder_named_like_a_picture_is_walked_and_has_its_row(tmp_path: Path) -> None:
    put(tmp_path / "x.jpg/inside.jpg", picture())
    put(tmp_path / "part.parquet/y.png", picture(1, "PNG"))  # folders of parts are the rule with tables
    assert reasons(listed(tmp_path)) == {"part.parquet/y.png": "", "x.jpg": "is_a_directory", "x.jpg/inside.jpg": ""}


def test_pipes_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reasons(listed(tmp_path)) == {"pipe.jpg": "not_a_file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    put(tmp_path / "secret.jpg", picture())
    put(tmp_path / "locked/a.jpg", picture())
    (tmp_path / "secret.jpg").chmod(0)
    (tmp_path / "locked").chmod(0)
    found = listed(tmp_path)
    (tmp_path / "locked").chmod(0o700)
    assert reasons(found)["locked"] == "unreadable"
    with pytest.raises(InputError) as caught:
        read_input(found["secret.jpg"])
    assert caught.value.code == "unreadable"


def test_folders_deeper_than_the_stack_of_python(tmp_path: Path) -> None:
    home, depth = Path.cwd(), 1050
    try:
        os.chdir(tmp_path)
        for _ in range(depth):
            Path("d").mkdir()
            os.chdir("d")
        Path("x.jpg").write_bytes(picture())
        found = listed(tmp_path)
        Path("x.jpg").unlink()
        for _ in range(depth):  # here, because those who clear temporary folders recurse
            os.chdir("..")
            Path("d").rmdir()
    finally:
        os.chdir(home)
    assert list(found) == ["d/" * depth + "x.jpg"]


def test_archives_come_with_advice(tmp_path: Path) -> None:
    for name in ("a.zip", "b.tar.gz", "c.tgz", "d.7z", "e"):
        put(tmp_path / name, b"\x1f\x8b\x08\0 compressed")
    found = listed(tmp_path)
    assert set(reasons(found).values()) == {"compressed_archive"}
    assert "decompress it first" in str(found["a.zip"].problem)


def test_names_that_are_not_utf8_can_be_read(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(picture(7))
    put(tmp_path / "caf\\xe9.jpg", picture(8))
    put(tmp_path / "line\nbreak.jpg", picture(9))
    found = listed(tmp_path)
    assert list(found) == ["caf\\\\xe9.jpg", "caf\\xe9.jpg", "line\\x0abreak.jpg"]
    assert read_input(found["caf\\xe9.jpg"]) == picture(7)
    assert read_input(found["caf\\\\xe9.jpg"]) == picture(8)


def test_a_file_cannot_take_the_id_of_a_member(tmp_path: Path) -> None:
    put_tar(tmp_path / "s.tar", [("a.jpg", picture(1))])
    put(tmp_path / "s.tar#a.jpg", picture(2))
    found = listed(tmp_path)
    assert [read_input(found[name]) for name in ("s.tar#a.jpg", r"s.tar\x23a.jpg")] == [picture(1), picture(2)]


@given(
    st.lists(
        st.binary(min_size=1, max_size=12).filter(lambda b: b"\0" not in b and b"/" not in b), min_size=2, unique=True
    )
)
def test_clean_names_are_printable_text_and_stay_distinct(names: list[bytes]) -> None:
    cleaned = [clean(os.fsdecode(name)) for name in names]
    assert len(set(cleaned)) == len(names)
    for name in cleaned:
        name.encode("utf-8")
        assert "#" not in name and all(c >= " " for c in name)


@given(st.binary(max_size=600))
def test_any_bytes_are_of_some_kind(head: bytes) -> None:
    assert kind_by_content(head) in ("image", "video", "tar", "table", "archive", "other")


def test_what_changes_after_listing_is_an_error_of_that_input(tmp_path: Path) -> None:
    for name in ("gone.jpg", "grown.jpg", "same-size.jpg"):
        put(tmp_path / name, picture())
    put_tar(tmp_path / "s.tar", [("k.jpg", picture())])
    found = listed(tmp_path)
    (tmp_path / "gone.jpg").unlink()
    put(tmp_path / "grown.jpg", picture() + b"more")
    put(tmp_path / "same-size.jpg", bytes(len(picture())))
    os.utime(tmp_path / "same-size.jpg", ns=(1, 1))
    put(tmp_path / "s.tar", b"short")
    for name, code in (
        ("gone.jpg", "vanished"),
        ("grown.jpg", "changed"),
        ("same-size.jpg", "changed"),
        ("s.tar#k.jpg", "changed"),
    ):
        with pytest.raises(InputError) as caught:
            read_input(found[name])
        assert caught.value.code == code, name


def test_a_problem_is_what_reading_says(tmp_path: Path) -> None:
    put(tmp_path / "notes.doc", b"??")
    with pytest.raises(InputError) as caught:
        read_input(listed(tmp_path)["notes.doc"])
    assert caught.value.code == "not_media"


def test_stamps_change_with_the_bytes(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", picture())
    before = listed(tmp_path)["a.jpg"].stamp
    put(tmp_path / "a.jpg", picture() + b"more")
    assert listed(tmp_path)["a.jpg"].stamp != before


def test_listing_streams_and_needs_no_second_look(tmp_path: Path) -> None:
    for number in range(50):
        put(tmp_path / f"{number:02d}.jpg", picture())
    refs = list_inputs(SourceSpec(path=str(tmp_path)), load_manifest("folder"))
    assert next(refs).source_id == "folder/00.jpg"
    (tmp_path / "30.jpg").unlink()
    assert [ref.problem for ref in refs if ref.problem] == [("vanished", "it is gone again")]


def test_sources_of_one_manifest_do_not_collide(tmp_path: Path) -> None:
    specs = []
    for folder in ("a", "b", "x/b"):
        put(tmp_path / folder / "p.jpg", picture())
        specs.append(SourceSpec(path=str(tmp_path / folder)))
    manifests = [load_manifest("folder")] * 3
    prefixes = source_prefixes(specs, manifests)
    assert prefixes == ["folder", "folder@b", "folder@b~2"]
    ids = [r.source_id for s, m, p in zip(specs, manifests, prefixes, strict=True) for r in list_inputs(s, m, p)]
    assert all(one != other for one, other in combinations(ids, 2))
    assert {r.dataset for r in list_inputs(specs[2], manifests[2], prefixes[2])} == {"folder"}
    assert notes(specs[0], manifests[0]) == []
