"""How near a plan comes: what `plan` foretells of many copies of photographs beside what `build` then takes and fills.

    python benchmarks/plan_vs_build.py --photos FOLDER [--times 20] [--workers 2]

Inputs are the photos `--times` over with changed bytes, near duplicates off, as in soak.py. The same words go to both
commands. Ends with 1 where the seconds of all stages together are more than a quarter off what came.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from soak import copies

MOST = 0.25


def answer(command: str, words: list[str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "unif2ace_data.cli", command, *words, "--json"], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def row(what: str, planned: list[float], came: float, unit: float, form: str) -> None:
    expected, low, high, measured = (f"{value / unit:{form}}" for value in (*planned, came))
    print(f"{what:<16}{expected:>10}{f'{low} to {high}':>20}{measured:>10}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    photos = [p for p in args.photos.iterdir() if p.suffix.lower() in (".jpg", ".jpeg")]
    with tempfile.TemporaryDirectory() as name:
        raw = copies(args.photos, Path(name) / "raw", len(photos) * args.times)
        words = ["--src", str(raw), "--out", f"{name}/shards", "--subjects", "adults", "--workers", str(args.workers)]
        words += ["--set", "duplicates.perceptual=null", "--set", "duplicates.near_identical=false"]
        words += ["--set", "identities.min_cosine=0.95"]
        answer("plan", words)
        told = answer("build", words)["planned"]
    came = told["happened"]
    print(f"{told['inputs']} inputs, {told['sampled']} of them on trial, {args.workers} workers")
    print(f"{'':<16}{'planned':>10}{'range':>20}{'came':>10}")
    for stage, seconds in told["here"]["stages"].items():
        row(f"{stage}, s", seconds, came["stages"].get(stage, 0.0), 1, ".1f")
    row("in all, s", told["here"]["seconds"], came["seconds"], 1, ".1f")
    row("shards, MB", told["disk"]["shards"], came["shards"], 1e6, ".1f")
    row("work, MB", told["disk"]["work"], came["work"], 1e6, ".1f")
    kept = told["kept"]
    row("kept", [kept["samples"], *(kept[end] * told["inputs"] for end in ("low", "high"))], came["kept"], 1, ".0f")
    off = told["here"]["seconds"][0] / came["seconds"] - 1
    print(f"in all {off:+.0%} off (at most {MOST:.0%})")
    sys.exit(abs(off) > MOST)


if __name__ == "__main__":
    main()
