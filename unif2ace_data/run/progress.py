"""What a person sees while a run works: a bar with rate, ETA and counts on a terminal, plain lines elsewhere, a log."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from unif2ace_data.errors import UserError

PLAIN_EVERY = 10.0  # seconds between plain lines


class Log:
    """JSON lines in `shards.work/log.jsonl`: one event a line, appended across runs.

    Raises UserError where the disk does not take a line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        if ends_within_a_line(path):  # the disk was full: what comes now must not be lost with it
            self._append(b"\n")

    def write(self, event: str, **facts: Any) -> None:
        line = {"time": round(time.time(), 3), "event": event, **facts}
        self._append(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

    def _append(self, data: bytes) -> None:
        try:
            while data:  # a disk that is nearly full takes a part
                data = data[self._file.write(data) :]
        except OSError as error:
            why = error.strerror or error
            raise UserError(
                f"cannot write {self._path}: {why}. Finished work is kept; mend this and run the command again"
            ) from None

    def close(self) -> None:
        self._file.close()


def ends_within_a_line(path: Path) -> bool:
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


class Progress:
    """Counts finished items and the reasons of those that did not get through."""

    def __init__(self, label: str, total: int, quiet: bool = False, unit: str = "photo") -> None:
        self.label, self.total, self.done = label, total, 0
        self.reasons: Counter[str] = Counter()
        self._start = self._last = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._quiet = quiet or total == 0
        self._bar = tqdm(total=total, desc=label, unit=unit, disable=self._quiet or not self._terminal, smoothing=0.05)

    def advance(self, count: int, reasons: list[str]) -> None:
        self.done += count
        self.reasons.update(reasons)
        if self._terminal:
            self._bar.set_postfix_str(" ".join(f"{r}={n}" for r, n in self.reasons.most_common(4)), refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last >= PLAIN_EVERY:
            self._line()

    def close(self) -> None:
        self._bar.close()
        if not self._terminal and not self._quiet:
            self._line()

    def _line(self) -> None:
        self._last = time.monotonic()
        rate = self.done / max(self._last - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        reasons = " ".join(f"{r}={n}" for r, n in self.reasons.most_common())
        print(
            f"{self.label}: {self.done}/{self.total} {rate:.1f}/s eta {left:.0f} s {reasons}".rstrip(),
            file=sys.stderr,
            flush=True,
        )
