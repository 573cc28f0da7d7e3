"""Memory stays flat: resident memory of a build of 20,000 inputs beside one of 2,000.

    python benchmarks/soak.py --photos FOLDER [--counts 2000 20000] [--workers 2]

Inputs are the photos repeated with changed bytes (a comment behind the JPEG), duplicates off. Memory is the sum over the
driver and its workers, sampled twice a second; the ratio of the largest samples must be at most 1.2.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil


def copies(photos: Path, folder: Path, count: int) -> Path:
    files = sorted(p for p in photos.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))
    data = [p.read_bytes() for p in files]
    for number in range(count):
        parent = folder / f"{number // 1000:03d}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"{number:06d}.jpg").write_bytes(data[number % len(data)] + f"copy {number}".encode())
    return folder


def resident(process: psutil.Process) -> tuple[int, int]:
    """(driver, workers) in bytes: memory of their own (Pss_Anon), without pages of shards that are being read."""

    def size(p: psutil.Process) -> int:
        try:
            lines = Path(f"/proc/{p.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:")), 0)

    try:
        return size(process), sum(size(child) for child in process.children(recursive=True))
    except psutil.Error:
        return 0, 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs=2, default=[2000, 20000])
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        for count in args.counts:
            raw = copies(args.photos, Path(name) / f"raw{count}", count)
            command = [
                sys.executable,
                "-m",
                "unif2ace_data.cli",
                "build",
                "--src",
                str(raw),
                "--out",
                f"{name}/shards{count}",
            ]
            command += ["--subjects", "adults", "--workers", str(args.workers)]
            command += ["--set", "duplicates.perceptual=null", "--set", "duplicates.near_identical=false"]
            command += ["--set", "identities.min_cosine=0.95"]
            start = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            watched, samples = psutil.Process(process.pid), []
            while process.poll() is None:
                samples.append(resident(watched))
                time.sleep(0.5)
            if process.returncode:
                sys.exit(f"the build of {count} ended with {process.returncode}")
            driver, workers = max(s[0] for s in samples), max(s[1] for s in samples)
            peaks.append(max(sum(s) for s in samples))
            took = time.monotonic() - start
            print(
                f"{count:6d} inputs: {took:6.0f} s, {count / took:5.1f}/s, peak {peaks[-1] / 2**20:6.0f} MiB "
                f"(driver {driver / 2**20:.0f}, workers {workers / 2**20:.0f})",
                flush=True,
            )
    ratio = peaks[1] / peaks[0]
    print(f"ratio {ratio:.2f} (at most 1.2)")
    sys.exit(ratio > 1.2)


if __name__ == "__main__":
    main()
