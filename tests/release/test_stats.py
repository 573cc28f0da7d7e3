"""Statistics: sums that hold, reasons in the order of the filters, aggregates only, the same bytes every time."""

from __future__ import annotations

import io
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from small_dataset import Dataset, jpeg, row, sample, write_dataset

from unif2ace_data.errors import UserError
from unif2ace_data.release.stats import BINS, bars, compute_stats, plain, render_stats


def test_every_input_is_counted_once(dataset: Dataset) -> None:
    stats = compute_stats(dataset.out, dataset.ledger)
    assert stats["inputs"] == stats["rows"] == 12
    assert (stats["kept"], stats["dropped"], stats["failed"]) == (7, 4, 1)
    assert sum(step["rows"] for step in stats["reasons"]) == 5
    assert stats["datasets"] == {"folder": {"kept": 7, "dropped": 4, "failed": 1}}
    assert {split: sums["samples"] for split, sums in stats["splits"].items()} == {
        "train": 4,
        "validation": 2,
        "test": 1,
    }


def test_reasons_stand_in_the_order_of_the_filters_behind_the_failures(dataset: Dataset) -> None:
    reasons = compute_stats(dataset.out, dataset.ledger)["reasons"]
    assert [(step["reason"], step["rows"]) for step in reasons] == [
        ("truncated", 1),
        ("nsfw", 1),
        ("yaw", 2),
        ("adult", 1),
    ]


def test_a_photo_with_three_faces_is_one_input_and_three_rows(tmp_path: Path) -> None:
    lost = [row("folder/group.jpg", reason="face_px", face=i) for i in range(3)]
    stats = compute_stats((data := write_dataset(tmp_path, [(sample("a"), jpeg())], lost)).out, data.ledger)
    assert (stats["inputs"], stats["rows"], stats["dropped"]) == (2, 4, 3)


def test_histograms_hold_every_measured_row_and_part_the_kept_from_the_others(dataset: Dataset) -> None:
    distributions = compute_stats(dataset.out, dataset.ledger)["distributions"]
    assert list(distributions) == list(BINS)
    yaw = distributions["yaw"]
    assert (sum(yaw["kept"]), sum(yaw["others"])) == (7, 2)
    assert yaw["kept"][yaw["edges"].index(0)] == 7  # 5 degrees
    assert yaw["others"][yaw["edges"].index(60)] == yaw["others"][yaw["edges"].index(-50)] == 1
    assert (yaw["mean"], yaw["min"], yaw["max"]) == (5, 5, 5)
    assert sum(distributions["source_px"]["others"]) == 4  # the failed input has no size


def test_attributes_captions_claims_and_licences_are_counted(dataset: Dataset) -> None:
    stats = compute_stats(dataset.out, dataset.ledger)
    hair = next(a for a in stats["attributes"] if a["name"] == "hair")
    assert (hair["samples"], hair["share"], hair["claimed"]) == (7, 1.0, 7)
    assert hair["values"] == [{"value": "grey", "samples": 7, "share": 1.0}]
    assert (stats["attributes_per_sample"], stats["captions"]["attributes_per_caption"]) == (3, 2)
    assert stats["captions"]["varied_attributes_per_caption"] == 0  # everyone has the same values
    assert stats["captions"]["tokens_mean"] == 8  # seven words and a full stop
    assert {n: stats["claims"][n] for n in ("total", "supported", "contradicted", "unverified")} == {
        "total": 14,
        "supported": 14,
        "contradicted": 0,
        "unverified": 0,
    }
    assert stats["licences"] == {"CC0-1.0": 7}


def test_the_same_dataset_gives_the_same_bytes(dataset: Dataset) -> None:
    once, twice = (orjson.dumps(compute_stats(dataset.out, dataset.ledger)) for _ in range(2))
    assert once == twice


def test_statistics_name_no_input_and_no_person(dataset: Dataset) -> None:
    text = orjson.dumps(compute_stats(dataset.out, dataset.ledger)).decode()
    for private in ("folder/", ".jpg", "A. Person", "ends early", *(p["key"] for p in kept(dataset))):
        assert private not in text


def kept(dataset: Dataset) -> list[dict[str, str]]:
    return [r for p in (dataset.out / "ledger").iterdir() for r in pq.read_table(p, columns=["key"]).to_pylist()]


def test_without_the_full_ledger_drops_come_from_the_earlier_statistics(dataset: Dataset) -> None:
    full = compute_stats(dataset.out, dataset.ledger, notes=["the gate cost much"])
    (dataset.out / "stats.json").write_bytes(orjson.dumps(full))
    assert compute_stats(dataset.out, None) == full


def test_without_any_ledger_of_drops_that_is_said(dataset: Dataset) -> None:
    stats = compute_stats(dataset.out, None)
    assert (stats["kept"], stats["reasons"]) == (7, [])
    assert any("not counted" in note for note in stats["notes"])


def test_sums_that_do_not_agree_are_an_error(dataset: Dataset) -> None:
    table = pq.read_table(dataset.ledger)
    pq.write_table(table.slice(1), dataset.ledger)
    with pytest.raises(UserError, match="the full ledger keeps 6 samples, the shards hold 7"):
        compute_stats(dataset.out, dataset.ledger)


def test_a_lost_ledger_row_or_a_lost_shard_is_an_error(dataset: Dataset) -> None:
    part = dataset.out / "ledger" / "kept-train-000000.parquet"
    pq.write_table(pq.read_table(part).slice(1), part)
    with pytest.raises(UserError, match=r"train-000000\.tar holds 4 samples, its ledger 3"):
        compute_stats(dataset.out, dataset.ledger)
    (dataset.out / "test-000000.tar").unlink()
    with pytest.raises(UserError, match=r"do not match \(kept-test-000000\.parquet\)"):
        compute_stats(dataset.out, dataset.ledger)


@pytest.mark.parametrize("damage", [b"", b"\0" * 10, b"no tar " * 200])
def test_a_broken_shard_is_an_error_that_names_it(dataset: Dataset, damage: bytes) -> None:
    (dataset.out / "train-000000.tar").write_bytes(damage)
    with pytest.raises(UserError, match=r"train-000000"):
        compute_stats(dataset.out, dataset.ledger)


def test_a_broken_ledger_a_missing_folder_and_an_empty_one_are_errors(dataset: Dataset, tmp_path: Path) -> None:
    dataset.ledger.write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"cannot read .*ledger\.parquet"):
        compute_stats(dataset.out, dataset.ledger)
    with pytest.raises(UserError, match="no such folder"):
        compute_stats(tmp_path / "nowhere", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither shards"):
        compute_stats(tmp_path / "empty", None)


def test_statistics_are_shown_in_the_terminal(dataset: Dataset) -> None:
    stats = compute_stats(dataset.out, dataset.ledger, notes=["two identities cannot fill three splits"])
    text = printed(stats)
    for words in ("12 inputs: 7 kept  4 dropped  1 failed", "two identities cannot", "yaw", "grey 100.0%", "CC0-1.0 7"):
        assert words in text


def printed(stats: dict[str, object]) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(render_stats(stats))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_text_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in plain("\x1b]0;owned\x07 grey\nhair") and plain("grey\nhair é 漢") == "grey\nhair é 漢"


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), max_size=20))
def test_bars_have_one_block_a_bin_and_hide_no_count(counts: list[int]) -> None:
    drawn = bars(counts)
    assert [block != " " for block in drawn] == [count > 0 for count in counts]
