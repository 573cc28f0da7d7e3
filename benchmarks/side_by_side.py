"""Four tools on the same photographs, five of them broken: speed, faces found, and what becomes of what cannot be read.

    python benchmarks/side_by_side.py --photos FOLDER --envs FOLDER [--count 405] [--limit 1800]

- `unif2ace-data build`, one worker.
- The loop that a user would write: cv2.imread, insightface's FaceAnalysis.get with the same pack at 640 x 640 on one
  thread, webdataset.ShardWriter; a picture that cannot be read is passed over.
- Data-Juicer's image_face_count_filter (OpenCV's Haar cascade), one process, at least one face.
- img2dataset from a loopback server: one process, two threads, the longer side at most what the recipe's crops have, JPEG
  of the recipe's quality, webdataset.

Data-Juicer and img2dataset each get a virtual environment of their own under --envs (made once). CPU time is that of the
tool's processes with their start-up, not the server's; --limit: seconds after which a tool is ended. One that cannot be
installed or run is in the table with the last line of its error. They do different work: the table says what each gives.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import yaml

from unif2ace_data.faces.engine import EMBEDDED
from unif2ace_data.recipe import load_recipe

PACKAGES = {
    # aiohttp and ray are imported by Data-Juicer's start, and declared nowhere; OpenCV 5 has no cascades
    "data-juicer": ["py-data-juicer==1.6.1", "opencv-python<5", "opencv-contrib-python<5", "aiohttp", "ray"],
    "img2dataset": ["img2dataset==1.47.0"],
}
PR_SET_CHILD_SUBREAPER = 36  # of Linux' prctl
LOOP = """
import sys, os, glob, json, warnings
warnings.simplefilter("ignore")
import cv2, webdataset, onnxruntime
from insightface.app import FaceAnalysis
pack, photos, out = sys.argv[1:]
cv2.setNumThreads(1)
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1; options.inter_op_num_threads = 1
app = FaceAnalysis(name=pack, sess_options=options)
app.prepare(ctx_id=-1, det_size=(640, 640))
found = {}
with webdataset.ShardWriter(os.path.join(out, "loop-%06d.tar"), verbose=0) as sink:
    for i, f in enumerate(sorted(glob.glob(photos + "/*"))):
        image = cv2.imread(f)
        if image is None:
            continue
        faces = app.get(image)
        found[os.path.basename(f)] = len(faces)
        sink.write({"__key__": f"{i:06d}", "jpg": open(f, "rb").read(), "json": {
            "boxes": [[float(v) for v in x.bbox] for x in faces], "age": [int(x.age) for x in faces]}})
json.dump(found, open(os.path.join(out, "found.json"), "w"))
"""


@dataclass
class Outcome:
    """faces: found in all photographs, or None where the tool looks for none. rows: photographs with a row in what the tool
    leaves behind; broken: of the planted ones, those that have a row; told: in what words."""

    cpu: float = 0.0
    wall: float = 0.0
    faces: int | None = None
    rows: int = 0
    broken: int = 0
    told: str = ""
    error: str = ""


class ToolFailed(Exception):
    """The last line of what the tool said."""


def run(command: list[str], limit: float) -> tuple[float, float]:
    """(CPU seconds of the process and those that it waited for, wall seconds). Raises ToolFailed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise ToolFailed(f"not done after {limit:.0f} s") from None
    except OSError as error:
        raise ToolFailed(str(error)) from None
    finally:
        end_orphans()
    wall = time.perf_counter() - start
    if done.returncode:
        lines = [line for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
        raise ToolFailed(lines[-1].strip() if lines else f"exit code {done.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def end_orphans() -> None:
    """Workers that a tool has left behind: their time counts too, once somebody has waited for them."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def environment(envs: Path, name: str) -> Path:
    """The bin folder of a virtual environment with the tool's packages, made where it is not there. Raises ToolFailed."""
    folder, stamp = envs / name, envs / name / "installed.txt"
    wanted = "\n".join(PACKAGES[name])
    if not stamp.is_file() or stamp.read_text() != wanted:
        run([sys.executable, "-m", "venv", str(folder)], 600)
        run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES[name]], 3600)
        stamp.write_text(wanted)
    return folder / "bin"


def planted(photos: Path) -> list[str]:
    """Five files that are no whole pictures, beside the photographs; their names."""
    whole = next(path for path in sorted(photos.iterdir())).read_bytes()
    files = {
        "broken-empty.jpg": b"",
        "broken-text.jpg": b"This is no picture.\n",
        "broken-cut.jpg": whole[: len(whole) // 2],
        "broken-header.jpg": whole[:200],
        "broken-noise.jpg": whole[:20] + bytes(range(256)) * 40,
    }
    for name, data in files.items():
        (photos / name).write_bytes(data)
    return sorted(files)


# ------------------------------------------------------------------ the tools


def ours(photos: Path, work: Path, broken: list[str], limit: float) -> Outcome:
    out = work / "shards"
    command = [sys.executable, "-m", "unif2ace_data.cli", "build", "--src", str(photos), "--out", str(out)]
    cpu, wall = run([*command, "--subjects", "adults", "--workers", "1", "--set", "alarm.max_failed=1"], limit)
    ledger = pq.read_table(
        work / "shards.work" / "ledger.parquet", columns=["source_id", "status", "reason"]
    ).to_pylist()
    of_broken = [row for row in ledger if Path(row["source_id"]).name in broken]
    db = sqlite3.connect(work / "shards.work" / "work.sqlite")
    faces = sum(len(json.loads(record)["faces"]) for (record,) in db.execute("select record from analyses"))
    db.close()
    told = ", ".join(sorted({f"{row['status']}: {row['reason']}" for row in of_broken}))
    return Outcome(cpu, wall, faces, len(ledger) - len(of_broken), len(of_broken), told)


def loop(photos: Path, work: Path, broken: list[str], limit: float) -> Outcome:
    cpu, wall = run([sys.executable, "-c", LOOP, str(EMBEDDED), str(photos), str(work)], limit)
    found = json.loads((work / "found.json").read_text())
    rows = [name for name in found if name not in broken]
    told = "as if they were whole" if len(found) > len(rows) else "passed over"
    return Outcome(cpu, wall, sum(found.values()), len(rows), len(found) - len(rows), told)


def data_juicer(photos: Path, work: Path, broken: list[str], limit: float, envs: Path) -> Outcome:
    bin_folder = environment(envs, "data-juicer")
    lines = [json.dumps({"text": "<__dj__image>", "images": [str(path)]}) for path in sorted(photos.iterdir())]
    (work / "in.jsonl").write_text("\n".join(lines) + "\n")
    recipe = {
        "project_name": "side-by-side", "dataset_path": str(work / "in.jsonl"), "export_path": str(work / "out" / "out.jsonl"),
        "np": 1, "use_cache": False, "keep_stats_in_res_ds": True, "skip_op_error": True,
        "process": [{"image_face_count_filter": {"min_face_count": 1, "max_face_count": 1000}}],
    }  # fmt: skip
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    cpu, wall = run([str(bin_folder / "dj-process"), "--config", str(work / "recipe.yaml")], limit)
    rows = [json.loads(line) for line in (work / "out" / "out.jsonl").read_text().splitlines()]
    names = [Path(row["images"][0]).name for row in rows]
    faces = sum(sum((row.get("__dj__stats__") or {}).get("face_counts") or []) for row in rows)
    there = sum(name in broken for name in names)
    return Outcome(cpu, wall, int(faces), len(names) - there, there, "rows of kept pictures only")


def img2dataset(photos: Path, work: Path, broken: list[str], limit: float, envs: Path) -> Outcome:
    bin_folder = environment(envs, "img2dataset")
    align = load_recipe("embedded", []).faces.align

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(photos)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        (work / "urls.txt").write_text("".join(f"{base}/{path.name}\n" for path in sorted(photos.iterdir())))
        options = {
            "url_list": work / "urls.txt", "output_folder": work / "out", "output_format": "webdataset",
            "image_size": align.size, "resize_mode": "keep_ratio_largest", "resize_only_if_bigger": True,
            "encode_quality": align.quality, "processes_count": 1, "thread_count": 2, "enable_wandb": False,
        }  # fmt: skip
        cpu, wall = run([str(bin_folder / "img2dataset"), *(f"--{k}={v}" for k, v in options.items())], limit)
    finally:
        server.shutdown()
        server.server_close()
    rows = [row for path in sorted((work / "out").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    of_broken = [row for row in rows if row["url"].rsplit("/", 1)[1] in broken]
    written = 0
    for path in (work / "out").glob("*.tar"):
        with tarfile.open(path) as tar:
            written += sum(name.endswith(".jpg") for name in tar.getnames())
    told = ", ".join(sorted({str(row["status"]) for row in of_broken})) + f"; {written} pictures written"
    return Outcome(cpu, wall, None, len(rows) - len(of_broken), len(of_broken), told)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--envs", type=Path, required=True)
    parser.add_argument("--count", type=int, default=405)
    parser.add_argument("--limit", type=float, default=1800)
    parser.add_argument("--only", nargs="*", help="ours, loop, data-juicer, img2dataset")
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of the tools become this process's children
    envs = args.envs.resolve()
    files = sorted(p for p in args.photos.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))[: args.count]
    tools: dict[str, Callable[[Path, Path, list[str], float], Outcome]] = {
        "ours": ours,
        "loop": loop,
        "data-juicer": functools.partial(data_juicer, envs=envs),
        "img2dataset": functools.partial(img2dataset, envs=envs),
    }
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        photos.mkdir()
        for path in files:
            shutil.copy(path, photos)
        broken = planted(photos)
        print(f"{len(files)} photographs and {len(broken)} broken files")
        print(f"{'':<14}{'a CPU-second':>13}{'a second':>10}{'faces':>7}{'rows':>6}{'of broken':>11}")
        for tool, measure in tools.items():
            if args.only and tool not in args.only:
                continue
            work = Path(name) / tool
            work.mkdir()
            try:
                done = measure(photos, work, broken, args.limit)
            except ToolFailed as error:
                print(f"{tool:<14}does not run: {error}", flush=True)
                continue
            faces = "" if done.faces is None else str(done.faces)
            count = len(files) + len(broken)
            print(
                f"{tool:<14}{count / done.cpu:>13.2f}{count / done.wall:>10.2f}{faces:>7}{done.rows:>6}"
                f"{done.broken:>6} of {len(broken)}  {done.told}", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
