"""samples.jpg: the first faces of train, whatever shards they lie in, and nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_dataset import jpeg, sample

from unif2ace_data.release import sample_sheet as module
from unif2ace_data.release.contact_sheet import GAP
from unif2ace_data.release.sample_sheet import COLUMNS, FACES, SIDE, sample_sheet
from unif2ace_data.shards import write_shard

Face = tuple[Any, bytes]


def faces(count: int, split: str = "train") -> list[Face]:
    """Of so many plain colours, in key order: the first has the least red."""
    found = sorted((sample(f"{split}{i}", split) for i in range(count)), key=lambda s: s.uid)
    told = [s.model_copy(update={"caption": f"Face {i} of <{split}>."}) for i, s in enumerate(found)]
    return [(s, jpeg(64, (20 * i, 100, 50))) for i, s in enumerate(told)]


def write(out: Path, samples: list[Face], digits: int) -> list[dict[str, Any]]:
    """Shards by key prefix, numbered backwards, and their entries in that order."""
    out.mkdir(parents=True)
    groups: dict[tuple[str, str], list[Face]] = {}
    for face in samples:
        groups.setdefault((face[0].split, face[0].uid[:digits]), []).append(face)
    entries = []
    for number, ((split, prefix), inside) in enumerate(reversed(groups.items())):
        name = f"{split}-{number:06d}.tar"
        write_shard(out / name, [(s.uid, data, s) for s, data in inside])
        entries.append({"name": name, "split": split, "prefix": prefix})
    return entries


def test_it_shows_the_first_eight_of_train_in_key_order_each_in_its_place(tmp_path: Path) -> None:
    shards = write(tmp_path / "a", [*faces(3, "test"), *faces(11), *faces(2, "validation")], 1)
    data, captions = sample_sheet(tmp_path / "a", shards)
    assert captions == [f"Face {i} of <train>." for i in range(FACES)]
    with Image.open(io.BytesIO(data)) as sheet:
        assert sheet.format == "JPEG" and not sheet.getexif()
        for i in range(FACES):
            row, column = divmod(i, COLUMNS)
            where = (GAP + column * (SIDE + GAP) + SIDE // 2, GAP + row * (sheet.height - GAP) // 2 + SIDE // 2)
            red, green, blue = sheet.convert("RGB").getpixel(where)  # type: ignore[misc]
            assert max(abs(red - 20 * i), abs(green - 100), abs(blue - 50)) < 6, i
        assert sheet.width == GAP + COLUMNS * (SIDE + GAP)


def test_its_bytes_do_not_depend_on_how_the_shards_are_cut(tmp_path: Path) -> None:
    made = [sample_sheet(tmp_path / str(d), write(tmp_path / str(d), faces(9), d)) for d in (0, 1, 2)]
    assert made[0] == made[1] == made[2] and made[0][0]
    assert sample_sheet(tmp_path / "fewer", write(tmp_path / "fewer", faces(9)[1:], 1)) != made[0]


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (5, 4, 2)])
def test_fewer_faces_make_a_smaller_sheet(tmp_path: Path, count: int, columns: int, rows: int) -> None:
    data, captions = sample_sheet(tmp_path / "a", write(tmp_path / "a", faces(count), 0))
    with Image.open(io.BytesIO(data)) as sheet:
        assert sheet.width == GAP + columns * (SIDE + GAP) and sheet.height // (SIDE + GAP) == rows
    assert len(captions) == count


def test_without_train_there_is_none(tmp_path: Path) -> None:
    assert sample_sheet(tmp_path / "a", write(tmp_path / "a", faces(3, "test"), 0)) == (b"", [])


def test_no_more_than_eight_pictures_are_decoded_and_a_broken_one_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = faces(12)
    many[2] = (many[2][0], b"no picture")
    decoded: list[bytes] = []
    real = module.square
    monkeypatch.setattr(module, "square", lambda data, side: (decoded.append(data), real(data, side))[1])
    _, captions = sample_sheet(tmp_path / "a", write(tmp_path / "a", many, 1))
    assert captions == [f"Face {i} of <train>." for i in (0, 1, 3, 4, 5, 6, 7)]
    assert decoded == [data for _, data in many[:FACES]]
