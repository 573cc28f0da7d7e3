"""Any damage is named: one flipped byte anywhere, a missing shard, an extra member, a ledger row removed."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unif2ace_data.shards import read_index, read_samples, root_hash, sha256_file
from unif2ace_data.verify import decoded_size, verify


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "shards"))


def reindex(out: Path) -> None:
    """Make the index agree with what lies there, as somebody would who meddles with care."""
    index = read_index(out)
    for entry in index["shards"]:
        entry["bytes"], entry["sha256"] = (out / entry["name"]).stat().st_size, sha256_file(out / entry["name"])
    for name, entry in index["files"].items():
        entry["bytes"], entry["sha256"] = (out / name).stat().st_size, sha256_file(out / name)
    entries = [(s["name"], s["sha256"]) for s in index["shards"]] + [
        (n, f["sha256"]) for n, f in index["files"].items()
    ]
    index["root_sha256"] = root_hash(entries)
    (out / "index.json").write_bytes(orjson.dumps(index))


def test_an_untouched_dataset_holds(copy: Path) -> None:
    verdict = verify(copy)
    assert verdict.problems == [] and verdict.samples == read_index(copy)["counts"]["kept"] > 0


def test_any_single_flipped_byte_is_named(copy: Path) -> None:
    chosen = random.Random(0)
    for path in sorted(copy.glob("*.tar")):
        data = bytearray(path.read_bytes())
        for at in [0, len(data) - 1, *chosen.sample(range(len(data)), 12)]:
            flipped = bytearray(data)
            flipped[at] ^= 1 << chosen.randrange(8)
            path.write_bytes(flipped)
            assert any(path.name in p for p in verify(copy).problems), (path.name, at)
            assert any(path.name in p for p in verify(copy, hashes_only=True).problems)
        path.write_bytes(data)
    assert verify(copy).holds


@pytest.mark.parametrize("name", ["stats.json", "recipe.yaml", "DATASHEET.md", "report.html"])
def test_a_changed_companion_is_named(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    assert any(p.startswith(name) for p in verify(copy, hashes_only=True).problems)


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "train-000000.tar").unlink()
    assert "train-000000.tar: missing" in verify(copy).problems


def test_an_extra_file_is_named(copy: Path) -> None:
    shutil.copy(copy / "train-000000.tar", copy / "train-000001.tar")
    assert any(p.startswith("train-000001.tar: not in index.json") for p in verify(copy).problems)


def test_a_missing_index_is_an_unfinished_build(copy: Path) -> None:
    (copy / "index.json").unlink()
    assert "written last" in verify(copy).problems[0]


def test_an_extra_member_is_named_even_where_the_index_was_made_to_agree(copy: Path) -> None:
    path = copy / "train-000000.tar"
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("extra.jpg")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"more"))
    reindex(copy)
    assert any("train-000000.tar" in p for p in verify(copy).problems)


def test_a_removed_ledger_row_is_named_even_where_the_index_was_made_to_agree(copy: Path) -> None:
    part = copy / "ledger" / "kept-train-000000.parquet"
    table = pq.read_table(part)
    gone = table.column("key")[0].as_py()
    pq.write_table(table.slice(1), part)
    reindex(copy)
    assert any(f"no row for sample {gone}" in p for p in verify(copy).problems)


def test_a_removed_row_of_the_full_ledger_is_named(copy: Path, built: Path) -> None:
    work = built.with_name("shards.work")
    shutil.copytree(work, copy.with_name("shards.work"))
    full = copy.with_name("shards.work") / "ledger.parquet"
    table = pq.read_table(full)
    pq.write_table(table.slice(1), full)
    assert any(p.startswith("shards.work/ledger.parquet") for p in verify(copy).problems)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s["claims"][0].update(span=[0, 99999]), "lies outside the caption"),
        (lambda s: s.update(uid="f" * 32), "uid is"),
        (lambda s: s.update(split="validation"), "belongs to split"),
        (lambda s: s["image"].update(width=7), "json says 7 x"),
        (lambda s: s.pop("qa"), "does not follow the schema"),
        (lambda s: s.update(caption="Something else."), "txt is not the caption"),
        (lambda s: s["attributes"][0].update(name="skin_ita"), "private attribute"),
    ],
)
def test_samples_that_break_a_rule_are_named(copy: Path, change, named: str) -> None:
    from unif2ace_data.shards import END, member

    path = copy / "train-000000.tar"
    rows = list(read_samples(path))
    sample = orjson.loads(rows[0][1]["json"])
    change(sample)
    rows[0][1]["json"] = orjson.dumps(sample)
    blob = b"".join(
        b"".join(member(f"{key}.{ext}", files[ext])) for key, files in rows for ext in ("jpg", "json", "txt")
    )
    path.write_bytes(blob + END)
    reindex(copy)
    assert any(rows[0][0] in p and named in p for p in verify(copy).problems), verify(copy).problems


def test_a_damaged_crop_is_found_as_whole_decoding_finds_it(built: Path) -> None:
    crop = next(files["jpg"] for _, files in read_samples(built / "train-000000.tar"))
    chosen = random.Random(0)

    def outcome(decode: Callable[[bytes], object], data: bytes) -> str:
        try:
            decode(data)
        except (OSError, SyntaxError, ValueError) as error:
            return str(error)
        return ""

    outcomes = []
    for number in range(300):
        data = bytearray(crop)
        if number % 3 == 0:
            del data[chosen.randrange(len(data)) :]
        else:
            data[chosen.randrange(len(data) if number % 3 == 1 else 700)] = chosen.randrange(256)
        whole = outcome(lambda jpeg: Image.open(io.BytesIO(jpeg)).load(), bytes(data))
        assert bool(outcome(decoded_size, bytes(data))) == bool(whole), (number, whole)
        outcomes.append(bool(whole))
    assert 100 < sum(outcomes) < 200


def test_the_command_exits_with_what_it_found(copy: Path) -> None:
    command = [sys.executable, "-m", "unif2ace_data.cli", "verify", str(copy)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (copy / "stats.json").unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "stats.json: missing" in done.stdout and "Traceback" not in done.stderr
