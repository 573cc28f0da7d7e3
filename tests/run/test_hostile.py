"""A folder of everything that goes wrong: the run completes, every input has its row and reason, nothing leaks out."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from photographs import png_bomb, variation
from PIL import Image

from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.build import build
from unif2ace_data.run.executor import Executor
from unif2ace_data.shards import read_index, read_samples
from unif2ace_data.verify import verify


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def hostile(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """(folder, expected reason by name; '' for kept). Different pictures each, so that none is a duplicate."""
    raw = tmp_path_factory.mktemp("hostile") / "raw"
    raw.mkdir()
    expected: dict[str, str] = {}
    numbers = iter(range(100, 200))

    def face() -> Image.Image:
        names = ["obama.jpg", "astronaut.png", "biden.jpg", "obama3.jpg", "obama2.jpg"]
        number = next(numbers)
        return variation(examples / names[number % 5], number)

    def put(name: str, data: bytes, reason: str) -> None:
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).write_bytes(data)
        expected[name] = reason

    whole = jpeg(face())
    put("truncated.jpg", whole[: len(whole) // 2], "truncated")
    put("zero.jpg", b"", "empty")
    put("page.jpg", b"<html><body>404 not found</body></html>", "not_an_image")
    put("bomb.png", png_bomb(), "too_many_pixels")
    put("one.png", jpeg(Image.new("RGB", (1, 1))), "resolution")
    put("cmyk.jpg", jpeg(face().convert("CMYK")), "")
    moving, waving = face(), face().quantize(128)
    for name, picture, options in [
        ("palette.png", face().quantize(256), {}),
        ("rgba.png", face().convert("RGBA"), {}),
        ("grey.png", face().convert("L"), {}),
        ("animated.gif", waving, {"save_all": True, "append_images": [waving.rotate(90)]}),
        ("animated.webp", moving, {"save_all": True, "append_images": [moving.rotate(180)], "quality": 92}),
    ]:
        picture.save(raw / name, **options)
        expected[name] = ""
    deep = (np.asarray(face().convert("L")).astype(np.uint16) * 257) | 3
    Image.fromarray(deep).save(raw / "deep16.png")
    expected["deep16.png"] = ""
    turned = Image.Exif()
    turned[0x0112] = (
        6  # the camera was held so that the picture must be turned by 90 degrees clockwise to stand upright
    )
    put("turned.jpg", jpeg(face().transpose(Image.Transpose.ROTATE_90), exif=turned), "")
    (raw / "loop").symlink_to(raw)
    (raw / "folder.jpg").mkdir()
    put("folder.jpg/inside.jpg", jpeg(face()), "")
    (raw / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(face()))
    put("notes.doc", b"\xd0\xcf\x11\xe0 not a picture", "not_media")
    put("broken.parquet", b"PAR1 and then nothing of the kind", "?")
    put("empty.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "?")
    with tarfile.open(raw / "escape.tar", "w") as tar:
        add(tar, "../../escaped.jpg", jpeg(face()))
        add(tar, "good.jpg", jpeg(face()))
    with tarfile.open(raw / "mixed.tar", "w") as tar:
        add(tar, "a.jpg", jpeg(face()))
        add(tar, "b.jpg", jpeg(face()))
        add(tar, "a.txt", b"about a")
        add(tar, "b.txt", b"about b")
    pq.write_table(pa.table({"image": [jpeg(face()), b"no picture"], "caption": ["a", "b"]}), raw / "table.parquet")
    if os.geteuid() != 0:  # root reads everything
        put("secret.jpg", jpeg(face()), "unreadable")
        (raw / "secret.jpg").chmod(0)
    return raw, expected


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="module")
def rows(hostile: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    home = tmp_path_factory.mktemp("home")
    out = home / "shards"
    recipe = load_recipe("embedded", ["subjects=adults", "alarm.max_failed=1", "duplicates.near_identical=false"])
    recipe = recipe.model_copy(update={"sources": [SourceSpec(path=str(hostile[0]))]})
    build(recipe, out, Executor(workers=2), quiet=True)
    table = pq.read_table(home / "shards.work" / "ledger.parquet").to_pylist()
    found = {row["source_id"].split("/", 1)[1]: row for row in table}
    assert len(found) == len(table), "two rows for one input"
    assert sorted(p.name for p in home.iterdir()) == ["shards", "shards.work"]
    assert verify(out).problems == []
    return {"@out": out, **found}  # type: ignore[dict-item]


def test_every_file_has_its_row_and_reason(hostile: tuple[Path, dict[str, str]], rows: dict[str, dict]) -> None:
    raw, expected = hostile
    for name, reason in expected.items():
        containers = [r for r in rows if r == name or r.startswith(f"{name}#")]
        assert containers, f"{name} has no row"
        row = rows[containers[0]]
        if reason == "?":
            assert row["status"] == "failed" and row["reason"] and row["detail"], name
        elif reason:
            assert row["reason"] == reason, (name, row["reason"], row["detail"])
        else:
            assert row["status"] == "kept", (name, row["reason"], row["detail"])
    for path in raw.iterdir():
        name = path.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        assert any(r.startswith(name) for r in rows), f"{name} left no row"


def test_symlink_loops_and_folders_named_like_pictures(rows: dict[str, dict]) -> None:
    assert rows["loop"]["status"] == "failed" and "loop" in rows["loop"]["reason"]
    assert rows["folder.jpg"]["reason"] == "is_a_directory"
    assert rows["folder.jpg/inside.jpg"]["status"] == "kept"


def test_names_that_are_not_utf8(rows: dict[str, dict]) -> None:
    assert rows["caf\\xe9.jpg"]["status"] == "kept"


def test_tars_that_want_out(rows: dict[str, dict], hostile: tuple[Path, dict[str, str]]) -> None:
    bad = next(row for name, row in rows.items() if name.startswith("escape.tar#") and "escaped" in name)
    assert bad["status"] == "failed" and bad["reason"] == "unsafe_member"
    assert rows["escape.tar#good.jpg"]["status"] == "kept"
    for folder in (hostile[0].parent, hostile[0].parent.parent, Path.cwd(), Path.cwd().parent):
        assert not (folder / "escaped.jpg").exists()


def test_interleaved_keys_do_not_mix(rows: dict[str, dict]) -> None:
    for name in ("mixed.tar#a.jpg", "mixed.tar#b.jpg"):
        assert rows[name]["status"] == "kept" or rows[name]["reason"] == "interleaved_key"


def test_a_table_fails_by_the_row(rows: dict[str, dict]) -> None:
    good, bad = (
        next(row for name, row in rows.items() if name.startswith("table.parquet#") and name.endswith(str(i)))
        for i in (0, 1)
    )
    assert good["status"] == "kept" and bad["reason"] == "not_an_image"


def test_turned_photographs_come_out_upright(rows: dict[str, dict]) -> None:
    row, out = rows["turned.jpg"], rows["@out"]
    assert abs(row["roll"]) < 20
    shards = [Path(str(out)) / s["name"] for s in read_index(Path(str(out)))["shards"]]
    assert any(key == row["key"] for shard in shards for key, _ in read_samples(shard))


def test_the_sums_hold(rows: dict[str, dict]) -> None:
    out = Path(str(rows["@out"]))
    counts = read_index(out)["counts"]
    assert (
        counts["inputs"] == counts["inputs_kept"] + counts["inputs_dropped"] + counts["inputs_failed"] == len(rows) - 1
    )


def test_the_same_folder_again_is_the_same_dataset(hostile: tuple[Path, dict[str, str]], rows: dict[str, dict]) -> None:
    out = Path(str(rows["@out"]))
    before = read_index(out)["root_sha256"]
    recipe = load_recipe("embedded", ["subjects=adults", "alarm.max_failed=1", "duplicates.near_identical=false"])
    again = build(recipe.model_copy(update={"sources": [SourceSpec(path=str(hostile[0]))]}), out, quiet=True)
    assert again.root_sha256 == before
    shutil.rmtree(out)
