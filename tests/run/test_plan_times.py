"""How long a build takes, told from trials: start-up and work apart, what workers share, how far off it may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.run.plan_times import NOISE, Trial, rates_of, scatter, spread_of, times, with_ranges


def trial(inputs: int, analysed: int = 0, **stages: float) -> Trial:
    return Trial(inputs, inputs, analysed, stages)


def runs_at(folder: Path, *runs: list[tuple[float, int]]) -> Path:
    """A place whose trials analysed so many photographs at such times."""
    lines: list[dict[str, Any]] = []
    for chunks in runs:
        lines.append({"time": 0.0, "event": "analyse", "pending": sum(count for _, count in chunks)})
        lines += [{"time": at, "event": "analysed", "sources": ["x"] * count} for at, count in chunks]
        lines.append({"time": 99.0, "event": "done"})
    work = folder / "shards.work"
    work.mkdir()
    (work / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "shards"


@given(st.floats(0, 20), st.floats(0, 20), st.floats(0, 0.1), st.integers(300, 10**6))
def test_what_two_sizes_share_is_start_up_and_what_they_do_not_is_work(
    once: float, start: float, each: float, total: int
) -> None:
    small = trial(64, 0, packing=start + each * 64, analysing=0.1)
    large = trial(256, 192, packing=start + each * 256, analysing=start + 192 / 20)  # the other 64 were measured before
    first = trial(64, 64, packing=once + start + each * 64, analysing=start + 64 / 20)
    found = times([first, small, large], total, total // 2, np.full(4, 20.0), 1.5)
    assert found["packing"] == pytest.approx((once + start, each * total), abs=1e-6 * total)
    assert found["analysing"] == (pytest.approx(start, abs=1e-6), total // 2 / 20)  # the others cannot be read
    assert found["listing"] == (0.0, 1.5)  # the whole source was listed


def test_what_no_smaller_trial_has_shown_counts_as_work() -> None:
    nothing = Trial(0, 0, 0, {})
    found = times([nothing, nothing, trial(8, 8, packing=2.0, analysing=4.0)], 80, 80, np.full(4, 2.0), 0.0)
    assert found["packing"] == (0.0, 20.0) and found["analysing"] == (0.0, 40.0)


def test_a_report_shows_so_many_samples_and_no_more() -> None:
    start, each = 0.5, 0.006

    def report(kept: int) -> float:
        return start + each * min(kept, 200)

    for few, many in ((16, 64), (64, 256)):
        sizes = [trial(n, n, report=report(n), analysing=n / 20) for n in (few, few, many)]
        for total in (100, 8_100, 10**6):
            assert sum(times(sizes, total, total, np.full(4, 20.0), 0.0)["report"]) == pytest.approx(report(total))


def test_workers_share_the_analysis_and_nothing_else() -> None:
    told = with_ranges({"analysing": (2.0, 100.0), "packing": (1.0, 10.0)}, 0.2, 2 / 64)
    assert told["stages"] == {"analysing": [5.1, 4.1, 6.1], "packing": [11.0, 8.8, 13.2]}
    assert told["seconds"] == pytest.approx([16.125, 12.9, 19.35], abs=0.06)


def test_the_time_of_a_model_is_in_the_sum_and_workers_do_not_divide_it() -> None:
    stages = {"analysing": (0.0, 64.0), "captioning": (0.0, 0.0), "packing": (0.0, 10.0)}
    told = with_ranges(stages, 0.5, 1 / 64, captioning=(3600.0, 3000.0, 4000.0))
    assert told["stages"]["captioning"] == [3600.0, 3000.0, 4000.0]
    assert told["seconds"] == [3611.0, 3005.5, 4016.5]


def test_a_range_follows_the_scatter_of_the_rates_and_is_never_narrow() -> None:
    assert spread_of(np.full(4, 25.0)) == NOISE
    rates = np.array([10.0, 30.0, 20.0, 20.0])
    assert spread_of(rates) == scatter(rates) == pytest.approx(2 * np.std(rates, ddof=1) / 2 / 20)
    assert scatter(np.array([7.0])) == 1.0  # one of a kind tells nothing of the others


def test_rates_leave_the_start_up_out(tmp_path: Path) -> None:
    place = runs_at(tmp_path, [(10 + i / 5, 4) for i in range(40)])
    assert rates_of(place, 2) == pytest.approx([20.0] * 4)


def test_rates_are_of_the_trial_that_analysed_most(tmp_path: Path) -> None:
    place = runs_at(tmp_path, [(4.0, 8)], [], [])  # all others are copies of these
    assert rates_of(place, 2) == pytest.approx([2.0] * 4)
