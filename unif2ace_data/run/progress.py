"""What a person sees while a run works: a bar with rate, ETA and counts on a terminal, plain lines elsewhere, a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

PLAIN_EVERY = 10.0  # seconds between plain lines


class Log:
    """JSON lines in `shards.work/log.jsonl`: one event a line, appended across runs."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, event: str, **facts: Any) -> None:
        line = {"time": round(time.time(), 3), "event": event, **facts}
        self._file.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

    def close(self) -> None:
        self._file.close()


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
