"""Listing: every entry leaves a row, in a fixed order, with what stands beside it; no picture is opened."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unif2ace_data.recipe import SourceSpec
from unif2ace_data.schema import InputError, InputRef
from unif2ace_data.sources.kinds import clean, kind_of
from unif2ace_data.sources.listing import list_inputs
from unif2ace_data.sources.manifest import load_manifest
from unif2ace_data.sources.read import read_input

FOLDER = load_manifest("folder")


def picture(shade: int = 0, format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(buffer, format)
    return buffer.getvalue()


def listed(path: Path) -> dict[str, InputRef]:
    refs = list(list_inputs(SourceSpec(path=str(path)), FOLDER))
    found = {ref.source_id.removeprefix("folder/"): ref for ref in refs}
    assert len(found) == len(refs), "source ids are not unique"
    return found


def put_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_folders_are_walked_in_order_and_sidecars_are_joined(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.jpg").write_bytes(picture(1))
    (tmp_path / "a.png").write_bytes(picture(2, "PNG"))
    (tmp_path / "a.txt").write_text("A face.\n\nA smiling face.\n")
    (tmp_path / "a.json").write_text(
        '{"Author": "N. N.", "license": "CC0-1.0", "url": "https://example.org/a", "caption": "Third."}'
    )
    found = listed(tmp_path)
    assert list(found) == ["a.png", "b/x.jpg"]
    notes = found["a.png"].annotations
    assert (notes.author, notes.licence, notes.url) == ("N. N.", "CC0-1.0", "https://example.org/a")
    assert notes.captions == ["Third.", "A face.", "A smiling face."]
    assert read_input(found["b/x.jpg"]) == picture(1)


def test_a_text_without_a_picture_is_an_input_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "lonely.txt").write_text("about nothing")
    (tmp_path / ".hidden").write_bytes(b"??")
    found = listed(tmp_path)
    for name in ("lonely.txt", ".hidden"):
        assert found[name].problem is not None and found[name].problem[0] == "not_media"
        assert found[name].problem_status == "dropped"


def test_pictures_without_an_extension_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    for name, format in (("one", "JPEG"), ("two", "PNG"), ("three", "WEBP"), ("four", "GIF")):
        (tmp_path / name).write_bytes(picture(9, format))
    assert all(ref.problem is None and ref.kind == "file" for ref in listed(tmp_path).values())
    assert kind_of("", b"\0\0\0\x18ftypmp42") == "video"


def test_one_file_can_be_the_source(tmp_path: Path) -> None:
    path = tmp_path / "only.jpg"
    path.write_bytes(picture())
    assert list(listed(path)) == ["only.jpg"]


def test_links_that_lead_nowhere_or_back(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "back").symlink_to(tmp_path)
    (tmp_path / "gone-link.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    found = listed(tmp_path)
    assert found["inner/back"].problem is not None and found["inner/back"].problem[0] == "symlink_loop"
    assert found["gone-link.jpg"].problem is not None and found["gone-link.jpg"].problem[0] == "dangling_link"
    assert found["self.jpg"].problem is not None and found["self.jpg"].problem[0] in ("symlink_loop", "dangling_link")


def test_tar_members_are_read_by_their_place(tmp_path: Path) -> None:
    put_tar(
        tmp_path / "s.tar",
        [("k1.jpg", picture(1)), ("k1.txt", b"one"), ("d/k2.jpg", picture(2)), ("d/k2.json", b'{"author": "A"}')],
    )
    found = listed(tmp_path)
    assert list(found) == ["s.tar#k1.jpg", "s.tar#d/k2.jpg"]
    assert read_input(found["s.tar#k1.jpg"]) == picture(1) and found["s.tar#k1.jpg"].annotations.captions == ["one"]
    assert read_input(found["s.tar#d/k2.jpg"]) == picture(2) and found["s.tar#d/k2.jpg"].annotations.author == "A"


def test_interleaved_keys_keep_their_own_captions(tmp_path: Path) -> None:
    put_tar(
        tmp_path / "s.tar", [("a.jpg", picture(1)), ("b.jpg", picture(2)), ("b.txt", b"about b"), ("a.txt", b"about a")]
    )
    found = listed(tmp_path)
    assert [found[f"s.tar#{k}.jpg"].annotations.captions for k in "ab"] == [["about a"], ["about b"]]


def test_members_that_point_outside_are_never_read(tmp_path: Path) -> None:
    put_tar(tmp_path / "s.tar", [("../up.jpg", picture()), ("/etc/top.jpg", picture()), ("fine.jpg", picture(3))])
    with tarfile.open(tmp_path / "s.tar", "a") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    found = listed(tmp_path)
    bad = {name: ref for name, ref in found.items() if ref.problem}
    assert len(bad) == 3 and {ref.problem[0] for ref in bad.values() if ref.problem} == {"unsafe_member"}
    with pytest.raises(InputError, match="points outside"):
        read_input(next(iter(bad.values())))


def test_a_member_name_twice_gives_two_rows(tmp_path: Path) -> None:
    put_tar(tmp_path / "s.tar", [("a.jpg", picture(1)), ("a.jpg", picture(2))])
    assert len(listed(tmp_path)) == 2


def test_a_tar_that_breaks_off_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    put_tar(tmp_path / "s.tar", [(f"{i}.jpg", picture(i)) for i in range(8)])
    data = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(data[: 5 * 1536 + 700])
    found = listed(tmp_path)
    assert found["s.tar"].problem is not None and found["s.tar"].problem[0] == "broken_tar"
    assert sum(ref.problem is None for ref in found.values()) >= 5


def test_compressed_tars_are_named_with_advice(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = len(picture())
        tar.addfile(info, io.BytesIO(picture()))
    (ref,) = listed(tmp_path).values()
    assert ref.problem is not None and "decompress it first" in ref.problem[1]


@pytest.mark.parametrize("kind", ["binary", "struct", "arrow"])
def test_tables_with_an_image_column(tmp_path: Path, kind: str) -> None:
    pictures = [picture(i) for i in range(25)]
    column: list[object] = list(pictures) if kind == "binary" else [{"bytes": p, "path": "x.jpg"} for p in pictures]
    table = pa.table(
        {
            "id": list(range(25)),
            "image": column,
            "caption": [f"face {i}" for i in range(25)],
            "licence": ["CC0-1.0"] * 25,
        }
    )
    if kind == "arrow":
        with (
            pa.OSFile(str(tmp_path / "data-00000-of-00001.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=10)
        (tmp_path / "dataset_info.json").write_text("{}")
        (tmp_path / "state.json").write_text("{}")
    else:
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=10)
    refs = list(listed(tmp_path).values())
    assert [read_input(ref) for ref in refs] == pictures
    assert refs[7].annotations.captions == ["face 7"] and refs[7].annotations.licence == "CC0-1.0"


def test_tables_that_hold_no_pictures_say_so(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"image": pa.array([picture(), None], pa.binary())}), tmp_path / "holes.parquet")
    found = listed(tmp_path)
    assert found["numbers.parquet"].problem is not None and found["numbers.parquet"].problem[0] == "no_image_column"
    with pytest.raises(InputError, match="holds no bytes"):
        read_input(found["holes.parquet#row1"])


def test_what_changes_after_listing_is_an_error_of_that_input(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture())
    put_tar(tmp_path / "s.tar", [("k.jpg", picture())])
    found = listed(tmp_path)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "s.tar").write_bytes(b"short")
    for name, code in (("a.jpg", "vanished"), ("s.tar#k.jpg", "changed")):
        with pytest.raises(InputError) as caught:
            read_input(found[name])
        assert caught.value.code == code


def test_stamps_change_with_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture())
    before = listed(tmp_path)["a.jpg"].stamp
    (tmp_path / "a.jpg").write_bytes(picture() + b"more")
    assert listed(tmp_path)["a.jpg"].stamp != before


@given(
    st.lists(
        st.binary(min_size=1, max_size=12).filter(lambda b: b"\0" not in b and b"/" not in b), min_size=2, unique=True
    )
)
def test_clean_names_are_text_and_stay_distinct(names: list[bytes]) -> None:
    cleaned = [clean(os.fsdecode(name)) for name in names]
    assert len(set(cleaned)) == len(names)
    for name in cleaned:
        name.encode("utf-8")
