"""`build` beside the loop that a user would write: images per CPU-second, the same faces, recall on montages.

    python benchmarks/build_vs_loop.py --photos FOLDER [--count 405] [--quick]

The loop: `FaceAnalysis.get(cv2.imread(f))` with the same pack at 640 x 640, and `webdataset.ShardWriter` with the file's
bytes and a JSON of what was found. It runs as insightface comes (all threads) and pinned to one thread. Every variant is
a process of its own; CPU time counts its children; ratios are what to read, one machine, one run.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from unif2ace_data.faces.engine import EMBEDDED

LOOP = """
import sys, json, glob, os, warnings
warnings.simplefilter("ignore")
import cv2, webdataset, onnxruntime
from insightface.app import FaceAnalysis
pack, photos, out, threads = sys.argv[1:5]
options = {}
if threads == "1":
    cv2.setNumThreads(1)
    so = onnxruntime.SessionOptions(); so.intra_op_num_threads = 1; so.inter_op_num_threads = 1
    options["sess_options"] = so
app = FaceAnalysis(name=pack, **options)
app.prepare(ctx_id=-1, det_size=(640, 640))
found = {}
with webdataset.ShardWriter(os.path.join(out, "loop-%06d.tar"), verbose=0) as sink:
    for i, f in enumerate(sorted(glob.glob(photos + "/*"))):
        image = cv2.imread(f)
        faces = app.get(image)
        boxes = [[float(v) for v in x.bbox] for x in faces]
        found[os.path.basename(f)] = boxes
        sink.write({"__key__": f"{i:06d}", "jpg": open(f, "rb").read(), "json": {
            "boxes": boxes, "age": [int(x.age) for x in faces], "sex": [x.sex for x in faces]}})
json.dump(found, open(os.path.join(out, "found.json"), "w"))
"""


def run(command: list[str]) -> tuple[float, float]:
    """(CPU seconds of the process and all its children, wall seconds)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - start


def loop(photos: Path, work: Path, threads: str) -> tuple[float, float, dict[str, list[list[float]]]]:
    out = fresh(work / f"loop{threads}")
    cpu, wall = run([sys.executable, "-c", LOOP, str(EMBEDDED), str(photos), str(out), threads])
    return cpu, wall, json.loads((out / "found.json").read_text())


def build(photos: Path, work: Path, workers: int, *settings: str) -> tuple[float, float, Path]:
    out = work / "build" / "shards"
    shutil.rmtree(out.parent, ignore_errors=True)
    command = [sys.executable, "-m", "unif2ace_data.cli", "build", "--src", str(photos), "--out", str(out)]
    command += ["--subjects", "adults", "--workers", str(workers), "--set", "alarm.max_failed=1"]
    for setting in settings:
        command += ["--set", setting]
    cpu, wall = run(command)
    return cpu, wall, out


def boxes_of(out: Path) -> dict[str, list[list[float]]]:
    """Every detected box by file name, from the work store."""
    import sqlite3

    db = sqlite3.connect(out.with_name("shards.work") / "work.sqlite")
    rows = db.execute("select i.source_id, a.record from inputs i join analyses a on a.sha256 = i.sha256")
    return {name.rsplit("/", 1)[1]: [f["box"] for f in json.loads(record)["faces"]] for name, record in rows}


def steady_rate(out: Path) -> float:
    """Photos a second between the first and the last stored result: without start-up and packing."""
    lines = (out.with_name("shards.work") / "log.jsonl").read_text().splitlines()
    done = [(e["time"], len(e["sources"])) for e in map(json.loads, lines) if e["event"] == "analysed"]
    return sum(n for _, n in done[1:]) / (done[-1][0] - done[0][0])


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def recall(theirs: dict[str, list[list[float]]], ours: dict[str, list[list[float]]]) -> tuple[int, int]:
    """(faces of the loop that build found too, at IoU >= 0.5; faces of the loop)."""
    pairs = [(b, ours.get(name, [])) for name, boxes in theirs.items() for b in boxes]
    return sum(any(iou(b, o) >= 0.5 for o in found) for b, found in pairs), len(pairs)


def upscaled(photos: list[Path], folder: Path) -> Path:
    for path in photos:
        image = Image.open(path).convert("RGB")
        factor = (12e6 / (image.width * image.height)) ** 0.5
        image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC).save(
            folder / path.name, quality=90
        )
    return folder


def montages(photos: list[Path], folder: Path, seed: int = 0) -> Path:
    """Twelve portraits a picture, 4 x 3, each scaled so that its face is 60 to 200 pixels tall."""
    rng = np.random.default_rng(seed)
    for number in range(len(photos) // 12):
        cells = []
        for path in photos[number * 12 : number * 12 + 12]:
            image = cv2.imread(str(path))
            face = rng.uniform(60, 200)
            scale = face / (0.5 * image.shape[0])  # in these portraits the face is about half of the height
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            cell = np.full((410, 335, 3), 127, np.uint8)
            h, w = min(410, small.shape[0]), min(335, small.shape[1])
            cell[:h, :w] = small[:h, :w]
            cells.append(cell)
        rows = [np.hstack(cells[i : i + 4]) for i in (0, 4, 8)]
        cv2.imwrite(str(folder / f"montage{number:03d}.jpg"), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return folder


def repeated(photos: list[Path], folder: Path, times: int) -> Path:
    """Copies with other bytes (a comment behind the end of the JPEG) and the same pixels."""
    for turn in range(times):
        for path in photos:
            (folder / f"{turn}-{path.name}").write_bytes(path.read_bytes() + f"copy {turn}".encode())
    return folder


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def line(name: str, cpu: float, wall: float, count: int, base: float | None = None) -> None:
    ratio = f"   {base / cpu:4.2f}x the loop per CPU-second" if base else ""
    print(f"{name:<34} {1000 * cpu / count:7.1f} ms CPU {1000 * wall / count:7.1f} ms wall a photo{ratio}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=405)
    parser.add_argument("--large", type=int, default=405, help="how many of them at 12 megapixels")
    args = parser.parse_args()
    files = sorted(p for p in args.photos.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))[: args.count]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        photos = fresh(work / "photos")
        for path in files:
            shutil.copy(path, photos)
        print(f"{len(files)} portraits")
        cpu_all, wall, found = loop(photos, work, "all")
        line("insightface loop, 640, as it comes", cpu_all, wall, len(files))
        cpu_one, wall, _ = loop(photos, work, "1")
        line("insightface loop, 640, one thread", cpu_one, wall, len(files))
        cpu, wall, out = build(photos, work, 1)
        line("unif2ace-data build, 1 worker", cpu, wall, len(files), cpu_all)
        print(f"  against the loop on one thread: {cpu_one / cpu:.2f}x")
        same, faces = recall(found, boxes_of(out))
        kept = json.loads((out / "index.json").read_text())["counts"]["kept"]
        print(f"  the loop's faces found (IoU >= 0.5): {same} of {faces}; kept {kept} of {len(files)}")

        large = upscaled(files[:: max(1, len(files) // args.large)], fresh(work / "large"))
        count = len(list(large.iterdir()))
        print(f"{count} portraits at 12 megapixels")
        cpu_large, wall, found = loop(large, work, "all")
        line("insightface loop, 640, as it comes", cpu_large, wall, count)
        cpu, wall, out = build(large, work, 1, "duplicates.perceptual=null", "duplicates.near_identical=false")
        line("unif2ace-data build, 1 worker", cpu, wall, count, cpu_large)
        same, faces = recall(found, boxes_of(out))
        print(f"  the loop's faces found (IoU >= 0.5): {same} of {faces}")

        groups = montages(files, fresh(work / "montages"))
        _, _, found = loop(groups, work, "all")
        _, _, out = build(groups, work, 1, "faces.per_photo=each")
        ours = boxes_of(out)
        same, faces = recall(found, ours)
        truth = 12 * len(list(groups.iterdir()))
        print(f"montages of 12: {truth} faces; loop found {faces}, build {sum(map(len, ours.values()))}, both {same}")

        many = repeated(files, fresh(work / "many"), 5)
        count = len(list(many.iterdir()))
        off = ("duplicates.perceptual=null", "duplicates.near_identical=false")
        _, wall_one, out = build(many, work, 1, *off)
        rate_one = steady_rate(out)
        _, wall_two, out = build(many, work, 2, *off)
        rate_two = steady_rate(out)
        print(f"{count} photos: 1 worker {wall_one:.1f} s, 2 workers {wall_two:.1f} s: {wall_one / wall_two:.2f}x")
        print(f"  steady state: {rate_one:.1f} and {rate_two:.1f} photos a second: {rate_two / rate_one:.2f}x")


if __name__ == "__main__":
    main()
