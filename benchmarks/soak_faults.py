"""The soak: a build that is attacked from its first input to its last shard must end as if nobody had touched it.

    python benchmarks/soak_faults.py [--inputs 50000] [--reference 2000] [--worker-kills 40] [--driver-kills 12]

Inputs are small pictures of examples/raw with changed bytes; one in a hundred is broken, in a way that is known. Workers
are killed at random, so is the driver; the disk fills up while it measures and while it packs; the disk, then only the
output, is read-only. Every failed run must say in a line or two what is wrong, where, and what to do. Then space
returns, the same command ends well, and the books are made up: every input has its row, every broken one its reason,
no work was done twice, `verify` passes, and the bytes are those of a build that was left in peace.

The disk is a tmpfs of this script's own. Where it may not mount one (no root), a limit on the size of files takes the
place of the full disk, and modes that of the read-only mount.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from photographs import EXAMPLES, REGIONS, png_bomb, variation

from unif2ace_data.shards import dataset_shards, read_samples

PICTURES = 200  # different ones; an input is one of them with its number behind the JPEG, so that all bytes differ
PROGRESS = re.compile(r"\w[\w ]*: \d+/\d+ ")  # a plain line of progress, no message
FULL = re.compile(r"full|No space left|File too large|disk I/O error")
READ_ONLY = re.compile(r"[Rr]ead-only|readonly|Permission denied")


# ------------------------------------------------------------------ inputs


def picture(number: int) -> bytes:
    """A repeatable variation of a face of the examples, as a small JPEG."""
    return encoded(variation(EXAMPLES / sorted(REGIONS)[number % len(REGIONS)], number))


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def break_one(path: Path, kind: int, sound: bytes, tag: bytes) -> tuple[Path, str]:
    """Put a broken input near `path`; returns (where, the reason that the ledger must give; "" where it is kept)."""
    whole: dict[str, tuple[str, bytes, str]] = {
        "cut": (".jpg", sound[: len(sound) // 2] + tag, "truncated"),
        "empty": (".jpg", b"", "empty"),
        "text": (".jpg", b"a face, in words " + tag, "not_an_image"),
        "huge": (".png", png_bomb() + tag, "too_many_pixels"),
        "dot": (".jpg", encoded(Image.new("RGB", (1, 1))) + tag, "resolution"),
        "grey": (".jpg", encoded(Image.new("RGB", (300, 300), (127, 127, 127))) + tag, "no_face"),
        "document": (".doc", b"\xd0\xcf\x11\xe0 no picture " + tag, "not_media"),
        "clip": (".mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + tag, "broken_video"),
        "otherwise": (".doc", sound + tag, ""),  # a photograph under a wrong extension is a photograph
    }
    names = [*whole, "folder", "link", "pipe", *([] if os.geteuid() == 0 else ["secret"])]  # root reads everything
    name = names[kind % len(names)]
    if name in whole:
        suffix, data, reason = whole[name]
        path.with_suffix(suffix).write_bytes(data)
        return path.with_suffix(suffix), reason
    if name == "folder":
        path.mkdir()
        return path, "is_a_directory"
    if name == "link":
        path.symlink_to(path.with_name("nowhere"))
        return path, "dangling_link"
    if name == "pipe":
        os.mkfifo(path)
        return path, "not_a_file"
    path.write_bytes(sound + tag)
    path.chmod(0)
    return path, "unreadable"


def generate(folder: Path, count: int, broken_every: int) -> dict[str, str | None]:
    """Write `count` inputs; returns source id -> the expected reason; None for a sound photograph."""
    pictures = [picture(number) for number in range(min(PICTURES, count))]
    expected: dict[str, str | None] = {}
    for number in range(count):
        parent = folder / f"{number // 1000:03d}"
        parent.mkdir(parents=True, exist_ok=True)
        path, sound, tag = parent / f"{number:06d}.jpg", pictures[number % len(pictures)], f"{number}".encode()
        reason: str | None = None
        if number % broken_every == broken_every // 2:
            path, reason = break_one(path, number // broken_every, sound, tag)
        else:
            path.write_bytes(sound + tag)
        expected[f"folder/{path.relative_to(folder)}"] = reason
    return expected


# ------------------------------------------------------------------ the disk


@dataclass(slots=True)
class Disk:
    """Where the dataset goes: a tmpfs that can be filled and made read-only, or a plain folder where none may be mounted."""

    folder: Path
    mounted: bool
    ballast: int = 0

    def fill(self, process: subprocess.Popen[bytes] | None, leave: int = 0) -> None:
        """Somebody else takes the space (all but `leave` bytes)."""
        if not self.mounted:
            if process is not None:  # no file may grow beyond what the log has now
                size = (self.folder / "shards.work" / "log.jsonl").stat().st_size
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
            return
        free = os.statvfs(self.folder)
        while (size := free.f_bavail * free.f_frsize - leave) > 0:
            self.ballast += 1
            with (self.folder / f"ballast{self.ballast}").open("wb") as file, contextlib.suppress(OSError):
                os.posix_fallocate(
                    file.fileno(), 0, size
                )  # the build may have taken some of it: what is left comes next
            free = os.statvfs(self.folder)

    def free(self) -> None:
        for path in self.folder.glob("ballast*"):
            path.unlink()

    def read_only(self, on: bool) -> None:
        if self.mounted:
            mount("-o", f"remount,{'ro' if on else 'rw'}", str(self.folder))
        else:
            self.folder.chmod(0o555 if on else 0o755)
            work = self.folder / "shards.work"
            work.chmod(0o500 if on else 0o700)

    def output_read_only(self, out: Path, on: bool) -> None:
        """Only the published folder: work beside it goes on."""
        out.mkdir(exist_ok=True)
        if not self.mounted:
            out.chmod(0o555 if on else 0o755)
        elif on:
            mount("--bind", str(out), str(out))
            mount("-o", "remount,bind,ro", str(out))
        else:
            subprocess.run(["umount", str(out)], check=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def new_disk(folder: Path, bytes_: int) -> Disk:
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={bytes_}", "tmpfs", str(folder))
        return Disk(folder, mounted=True)
    except (OSError, subprocess.CalledProcessError):
        print("no tmpfs may be mounted here: a limit on the size of files stands in for the full disk", flush=True)
        return Disk(folder, mounted=False)


# ------------------------------------------------------------------ attacked runs


@dataclass(slots=True)
class Soak:
    """A build under attack. `left`: inputs that are not measured yet, by the build's own log."""

    command: list[str]
    out: Path
    disk: Disk
    inputs: int
    chance: random.Random
    worker_kills: list[float]  # shares of the inputs at which a worker is killed, the next one last
    left: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # attacks that this machine does not allow

    @property
    def share(self) -> float:
        return 1 - self.left / self.inputs

    def run(self, what: str, at: float = 2.0, then: str = "") -> tuple[int, str]:
        """One run of the command; at this share of the inputs (1: all are measured, and it packs) `then` befalls it.

        then: "kill" (SIGKILL to the driver) | "fill" (the disk). Returns (exit code, what it said beside progress).
        """
        started, log = time.monotonic(), self.out.with_name("shards.work") / "log.jsonl"
        at_byte = log.stat().st_size if log.is_file() else 0
        with tempfile.TemporaryFile() as said:
            began = time.time()
            process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=said)
            workers: list[psutil.Process] = []
            reached = False
            while process.poll() is None:
                at_byte = self.follow(log, at_byte)
                workers = workers_of(process.pid) or workers
                due = bool(self.worker_kills) and self.share >= self.worker_kills[-1]
                if due and workers and self.kill(self.chance.choice(workers)):
                    self.worker_kills.pop()
                if then and (self.share >= at if at < 1 else reached or packs(self.out, began)):
                    if then == "fill":
                        self.disk.fill(process)
                    elif not reached:
                        process.kill()
                        self.killed["driver"] += 1
                    reached = True
                time.sleep(0.05 if at < 1 else 0.005)  # of a few hundred inputs, packing takes a second
            code = process.wait()
            self.follow(log, at_byte)
            said.seek(0)
            text = said.read().decode(errors="replace")
        message = "\n".join(line for line in text.splitlines() if not PROGRESS.match(line))
        print(f"{what}: exit {code} after {time.monotonic() - started:.0f} s, {self.share:.0%} measured", flush=True)
        for line in message.splitlines():
            print(f"    {line}", flush=True)
        if then == "kill" and code != -signal.SIGKILL:
            self.problems.append(f"{what}: the kill came too late (exit {code})")
        _, alive = psutil.wait_procs(workers, timeout=20)
        if alive:
            self.problems.append(f"{what}: {len(alive)} workers outlive their driver")
        return code, message

    def follow(self, log: Path, at: int) -> int:
        """Read what was logged since byte `at`; returns where to go on."""
        if not log.is_file():
            return at
        with log.open("rb") as file:
            file.seek(at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                at += len(line)
                event = parsed(line)
                if event.get("event") == "analyse":
                    self.left = event["pending"]
                elif event.get("event") == "analysed":
                    self.left -= len(event["sources"])
        return at

    def kill(self, process: psutil.Process) -> bool:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            return False
        self.killed["worker"] += 1
        return True

    def fails_clearly(self, what: str, why: re.Pattern[str], at: float = 2.0, then: str = "") -> None:
        """The run must fail, and say in a line or two what is wrong, where, and what to do."""
        code, message = self.run(what, at, then)
        lines = message.splitlines()
        wrong = [
            *(["exit code " + str(code)] if code != 1 else []),
            *([f"{len(lines)} lines"] if not 1 <= len(lines) <= 2 else []),
            *(["a traceback, or an error of its own"] if re.search("Traceback|internal error", message) else []),
            *(["does not say what is wrong"] if not why.search(message) else []),
            *(["does not name the place"] if str(self.disk.folder) not in message else []),
            *(["does not say what to do"] if "again" not in message else []),
        ]
        if wrong:
            self.problems.append(f"{what}: {', '.join(wrong)}: {message!r}")


def parsed(line: bytes) -> dict[str, Any]:
    """An event of the log; a line that a full disk has cut is none."""
    try:
        return dict(orjson.loads(line))
    except orjson.JSONDecodeError:
        return {}


def workers_of(pid: int) -> list[psutil.Process]:
    try:
        children = psutil.Process(pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def packs(out: Path, since: float) -> bool:
    """Whether the run that began at `since` is past its decisions: the new ledger is written just before the shards."""
    ledger = out.with_name("shards.work") / "ledger.new.parquet"
    try:
        return ledger.stat().st_mtime >= since
    except FileNotFoundError:  # not yet, or renamed by now
        return False


def attack(soak: Soak, driver_kills: int, shards: int) -> None:
    """Everything that befalls the build, in the order of its stages. shards: bytes that the shards will take."""
    disk, out = soak.disk, soak.out
    soak.run("driver killed", 0.1, "kill")
    soak.fails_clearly("disk fills while it measures", FULL, 0.25, "fill")
    if disk.mounted:
        soak.fails_clearly("disk is still full", FULL)
    disk.free()
    for number in range(driver_kills):
        soak.run("driver killed", 0.3 + 0.5 * (number + soak.chance.random()) / driver_kills, "kill")
    if disk.mounted or os.geteuid() != 0:
        disk.read_only(True)
        soak.fails_clearly("disk is read-only", READ_ONLY)
        disk.read_only(False)
    else:
        soak.left_out.append("a read-only disk")  # root may write everywhere, and may not mount here
    soak.fails_clearly("disk fills while it measures", FULL, 0.9, "fill")
    disk.free()
    soak.run("driver killed while it packs", 1.0, "kill")
    if disk.mounted:
        disk.fill(None, leave=shards // 3)
        soak.fails_clearly("no room for the shards", FULL)
        disk.free()
    else:
        soak.fails_clearly("no room for the shards", FULL, 1.0, "fill")
    if disk.mounted or os.geteuid() != 0:
        disk.output_read_only(out, True)
        soak.fails_clearly("output is read-only", READ_ONLY)
        disk.output_read_only(out, False)
    else:
        soak.left_out.append("a read-only output")


# ------------------------------------------------------------------ the books


def make_up_books(soak: Soak, expected: dict[str, str | None], reference: Path, whole: bool) -> list[str]:
    """What does not hold. reference: the build in peace, of the first inputs or (`whole`) of all."""
    wrong = list(soak.problems)
    ledger = pq.read_table(soak.out.with_name("shards.work") / "ledger.parquet").to_pylist()
    rows = Counter(row["source_id"] for row in ledger)
    if set(rows) != set(expected):
        wrong.append(
            f"{len(set(expected) - set(rows))} inputs without a row, {len(set(rows) - set(expected))} rows of none"
        )
    wrong += [f"{n} rows for {source}" for source, n in rows.items() if n > 1][:5]
    fates: Counter[str] = Counter()
    for row in ledger:
        reason, fate = expected.get(row["source_id"]), row["reason"] if row["status"] != "kept" else ""
        fates[fate or "kept"] += 1
        copy = fate == "exact_duplicate" and reason == "empty"  # nothing is the same as nothing
        if reason is not None and fate != reason and not copy:
            wrong.append(f"{row['source_id']}: {fate or 'kept'} ({row['detail']}), expected {reason or 'kept'}")
        if row["status"] != "kept" and not fate:
            wrong.append(f"{row['source_id']}: {row['status']} without a reason")
    sound = sum(reason is None for reason in expected.values())
    if fates["kept"] < 0.9 * sound:
        wrong.append(f"{fates['kept']} kept of {sound} sound inputs")
    if fates["worker_died"]:
        wrong.append(f"{fates['worker_died']} inputs blamed for the death of a worker")
    wrong += paid_twice(soak, {row["source_id"] for row in ledger if row["status"] == "kept"})
    for arguments in ([], ["--hashes"]):
        checked = cli("verify", str(soak.out), *arguments)
        if checked.returncode:
            wrong.append(f"verify {' '.join(arguments)}: {checked.stdout}{checked.stderr}")
    wrong += differences(soak.out, reference, whole)
    print(f"{len(ledger)} rows: {', '.join(f'{n} {fate}' for fate, n in fates.most_common())}", flush=True)
    return wrong


def paid_twice(soak: Soak, kept: set[str]) -> list[str]:
    """Photographs that were measured again though their result was stored. One that died twice with its worker may be."""
    log = (soak.out.with_name("shards.work") / "log.jsonl").read_bytes().splitlines()
    events = [event for event in map(parsed, log) if event.get("event") == "analysed"]
    times = Counter(source for event in events for source in event["sources"])
    again = sum(times[source] > 1 for source in kept)
    return [f"{again} photographs were measured twice"] if again > soak.killed["worker"] // 2 else []


def differences(out: Path, reference: Path, whole: bool) -> list[str]:
    if whole:
        ours, theirs = tree(out), tree(reference)
        return [
            f"{name} is not that of the build in peace" for name in ours | theirs if ours.get(name) != theirs.get(name)
        ]
    ours, theirs = samples(out), samples(reference)
    other = sum(ours.get(key) != digest for key, digest in theirs.items())
    return [f"{other} of {len(theirs)} samples are not those of the build in peace"] if other else []


def tree(out: Path) -> dict[str, str]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def samples(out: Path) -> dict[str, str]:
    """Key -> hash of picture, text and record. Only the split may depend on what else is in the dataset."""
    found = {}
    for shard in dataset_shards(out):
        for key, files in read_samples(shard):
            record = orjson.dumps(orjson.loads(files["json"]) | {"split": ""})
            found[key] = hashlib.sha256(files["jpg"] + b"\0" + record + b"\0" + files["txt"]).hexdigest()
    return found


# ------------------------------------------------------------------ the whole


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "unif2ace_data.cli", *arguments], capture_output=True, text=True)


def build_command(raw: Path, out: Path, workers: int) -> list[str]:
    """Near duplicates off (there are thousands), and identities so narrow that one picture is a person."""
    settings = ["duplicates.perceptual=null", "duplicates.near_identical=false", "identities.min_cosine=0.99"]
    return [
        "build", "--src", str(raw), "--out", str(out), "--workers", str(workers), "--subjects", "adults",
        *(word for setting in settings for word in ("--set", setting)),
    ]  # fmt: skip


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=50_000)
    parser.add_argument("--broken-every", type=int, default=100)
    parser.add_argument(
        "--reference", type=int, default=2_000, help="inputs of the build in peace; as many as --inputs: all"
    )
    parser.add_argument("--worker-kills", type=int, default=40)
    parser.add_argument(
        "--driver-kills", type=int, default=12, help="between 30 and 80 %% of the inputs; two more anyway"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unmounted", action="store_true", help="do as where no disk may be mounted")
    told = parser.parse_args()
    chance, started = random.Random(told.seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        home = Path(name)
        expected = generate(home / "raw", told.inputs, told.broken_every)
        print(f"{told.inputs} inputs, {sum(r is not None for r in expected.values())} of them broken", flush=True)
        in_peace, part = home / "peace" / "shards", min(told.reference, told.inputs)
        whole = part == told.inputs
        limit = [] if whole else ["--limit", str(part)]
        done = cli(*build_command(home / "raw", in_peace, told.workers), *limit)
        if done.returncode:
            sys.exit(f"the build in peace failed: {done.stderr}")
        print(f"in peace: {part} inputs in {time.monotonic() - started:.0f} s", flush=True)
        shards = size_of(in_peace) * told.inputs // part
        room = (size_of(in_peace.parent) * told.inputs // part) * 2 + (64 << 20)
        disk = Disk(home / "disk", mounted=False) if told.unmounted else new_disk(home / "disk", room)
        disk.folder.mkdir(exist_ok=True)
        out = disk.folder / "shards"
        kills = sorted((chance.uniform(0.02, 0.98) for _ in range(told.worker_kills)), reverse=True)
        command = [sys.executable, "-m", "unif2ace_data.cli", *build_command(home / "raw", out, told.workers)]
        soak = Soak(command, out, disk, told.inputs, chance, kills, left=told.inputs)
        try:
            attack(soak, told.driver_kills, shards)
            for what in ("left in peace at last", "and once more"):
                code, message = soak.run(what)
                if code or message:
                    soak.problems.append(f"{what}: exit {code}, {message!r}")
            wrong = make_up_books(soak, expected, in_peace, whole)
        finally:
            if disk.mounted:
                subprocess.run(["umount", "--recursive", str(disk.folder)], check=True)
        answer = {
            "inputs": told.inputs, "killed": dict(soak.killed), "mounted": disk.mounted, "left_out": soak.left_out,
            "problems": wrong, "seconds": round(time.monotonic() - started),
        }  # fmt: skip
        print(json.dumps(answer))
        sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
