"""Parquet files and HF `datasets` folders: the image column found by its schema, rows read by number, damage named."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_sources import listed, picture, put, reasons

from unif2ace_data.errors import InputError
from unif2ace_data.sources.read import read_input

PICTURES = [picture(i) for i in range(25)]


def table(**columns: object) -> pa.Table:
    image = pa.array(PICTURES, pa.binary())
    return pa.table({"id": list(range(25)), "image": image, "caption": [f"face {i}" for i in range(25)], **columns})


@pytest.mark.parametrize("kind", ["binary", "large_binary", "struct"])
def test_parquet_rows(tmp_path: Path, kind: str) -> None:
    types = {"binary": pa.binary(), "large_binary": pa.large_binary(), "struct": None}
    image = [{"bytes": p, "path": "x.jpg"} for p in PICTURES] if kind == "struct" else pa.array(PICTURES, types[kind])
    licences = ["CC0-1.0"] * 24 + [None]
    rows = table(image=image, License=licences, author=["A"] * 25, url=["https://example.org"] * 25)
    pq.write_table(rows, tmp_path / "t.parquet", row_group_size=10)
    refs = list(listed(tmp_path).values())
    assert [read_input(ref) for ref in refs] == PICTURES
    assert [read_input(refs[i]) for i in (24, 0, 13)] == [PICTURES[i] for i in (24, 0, 13)]
    said = refs[7].annotations
    assert (said.captions, said.licence, said.author, said.url) == (["face 7"], "CC0-1.0", "A", "https://example.org")
    assert refs[24].annotations.licence == ""


def test_ids_sort_as_rows_do_so_that_a_row_group_is_read_once(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "t.parquet")
    names = list(listed(tmp_path))
    assert names == sorted(names) and names[10] == "t.parquet#row000000010"


@pytest.mark.parametrize("form", ["stream", "file"])
def test_arrow_in_both_its_forms(tmp_path: Path, form: str) -> None:
    schema = table().schema
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink:
        writer = pa.ipc.new_stream(sink, schema) if form == "stream" else pa.ipc.new_file(sink, schema)
        with writer:
            writer.write_table(table(), max_chunksize=10)
    refs = list(listed(tmp_path).values())
    assert [read_input(ref) for ref in refs] == PICTURES and refs[21].annotations.captions == ["face 21"]


def test_what_hf_datasets_saves(tmp_path: Path) -> None:
    """`save_to_disk` and `to_parquet` of an Image column, beside another binary one that is no picture."""
    features = datasets.Features(
        {"blob": datasets.Value("binary"), "photo_of": datasets.Image(), "text": datasets.Value("string")}
    )
    rows = {
        "blob": [b"no"] * 3,
        "photo_of": [{"bytes": p, "path": None} for p in PICTURES[:3]],
        "text": ["a", "b", "c"],
    }
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "hub").mkdir()
    made.to_parquet(str(tmp_path / "hub" / "train-00000-of-00001.parquet"))
    found = listed(tmp_path)
    assert len(found) == 6 and set(reasons(found).values()) == {""}, reasons(found)
    assert [read_input(ref) for ref in found.values()] == PICTURES[:3] * 2
    assert [ref.annotations.captions for ref in found.values()] == [["a"], ["b"], ["c"]] * 2


def test_rows_without_bytes_are_errors_of_their_own(tmp_path: Path) -> None:
    image = [{"bytes": picture(), "path": None}, {"bytes": None, "path": "../../etc/passwd"}, None]
    pq.write_table(pa.table({"image": image}), tmp_path / "t.parquet")
    refs = list(listed(tmp_path).values())
    assert read_input(refs[0]) == picture()
    for ref, message in ((refs[1], "only names a file"), (refs[2], "holds no bytes")):
        with pytest.raises(InputError, match=message) as caught:
            read_input(ref)
        assert caught.value.code == "no_bytes"


def test_tables_without_pictures_say_so(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"x": [b"1"], "y": [b"2"]}), tmp_path / "unclear.parquet")
    pq.write_table(table().slice(0, 0), tmp_path / "none.parquet")
    found = listed(tmp_path)
    assert reasons(found) == {
        "none.parquet": "empty_table",
        "numbers.parquet": "no_image_column",
        "unclear.parquet": "no_image_column",
    }
    assert "a (int64)" in str(found["numbers.parquet"].problem)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
@pytest.mark.parametrize("data", [b"", b"PAR1 and then nothing of the kind", b"\xff" * 3000])
def test_broken_tables_leave_one_row(tmp_path: Path, name: str, data: bytes) -> None:
    put(tmp_path / name, data)
    assert reasons(listed(tmp_path)) == {name: "broken_table"}


def test_damage_inside_costs_what_lies_there(tmp_path: Path) -> None:
    """The footer is whole, so all rows are known; the captions and one group of pictures are overwritten."""
    pq.write_table(table(), tmp_path / "t.parquet", row_group_size=5, compression="zstd")
    pages = pq.ParquetFile(tmp_path / "t.parquet").metadata
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    for group, column in ((2, 2), (3, 1)):
        chunk = pages.row_group(group).column(column)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        data[start : start + chunk.total_compressed_size] = b"\xee" * chunk.total_compressed_size
    put(tmp_path / "t.parquet", bytes(data))
    found = listed(tmp_path)
    assert found.pop("t.parquet").problem is not None and len(found) == 25
    unreadable = []
    for row, ref in enumerate(found.values()):
        try:
            assert read_input(ref) == PICTURES[row]
        except InputError as error:
            assert error.code == "broken_table"
            unreadable.append(row)
    assert unreadable == [15, 16, 17, 18, 19]


def test_tables_whose_names_are_not_utf8(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "t.parquet")
    (tmp_path / "t.parquet").rename(tmp_path / os.fsdecode(b"caf\xe9.parquet"))
    assert [read_input(ref) for ref in listed(tmp_path).values()] == PICTURES


def test_a_table_that_changed_is_not_read_by_old_row_numbers(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "t.parquet")
    refs = list(listed(tmp_path).values())
    read_input(refs[0])
    pq.write_table(table().slice(1), tmp_path / "t.parquet")
    with pytest.raises(InputError) as caught:
        read_input(refs[3])
    assert caught.value.code == "changed"
