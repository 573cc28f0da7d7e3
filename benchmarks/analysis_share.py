"""How much of the analysis of a photograph is the networks' and the JPEG decoder's and encoder's own work.

    python benchmarks/analysis_share.py --photos FOLDER [--count 405] [--profile]

The workers' own function (run/work.py) runs over the photographs, a chunk at a time, in this process, on one thread, after
a first pass over eight of them that loads the networks. CPU time inside onnxruntime's and LiteRT's runs, and inside
Pillow's decoder and OpenCV's encoder, is set against the CPU time of the whole. --profile: what the rest is, by function.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import pstats
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from PIL import ImageFile

from unif2ace_data.faces.analyse import models_of
from unif2ace_data.faces.engine import find_pack
from unif2ace_data.recipe import SourceSpec, load_recipe
from unif2ace_data.run.local import CHUNK
from unif2ace_data.run.work import analyse_chunk
from unif2ace_data.sources.listing import list_inputs
from unif2ace_data.sources.manifest import load_manifest

WANTED = 0.85
MOVES = ("warpAffine", "resize", "cvtColor", "getRectSubPix", "copyMakeBorder")  # of OpenCV; and dnn.blobFromImage


def timed(owner: Any, name: str, into: dict[str, float], kind: str) -> None:
    """Add the CPU time of every call of `owner.name` to `into[kind]`."""
    inner: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return inner(*args, **kwargs)
        finally:
            into[kind] += time.process_time() - start

    setattr(owner, name, outer)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=405)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    recipe = load_recipe("embedded", ["subjects=adults"])
    source = SourceSpec(path=str(args.photos))
    refs = [ref for ref in list_inputs(source, load_manifest(source.manifest)) if not ref.problem][: args.count]
    spent: dict[str, float] = defaultdict(float)
    timed(onnxruntime.InferenceSession, "run", spent, "onnxruntime: detector, age and gender, embedding")
    timed(Interpreter, "invoke", spent, "LiteRT: mesh, blendshapes, emotion")
    timed(ImageFile.ImageFile, "load", spent, "Pillow's decoder")
    timed(cv2, "imencode", spent, "OpenCV's JPEG encoder")
    moved: dict[str, float] = defaultdict(float)
    for owner, name in [*((cv2, name) for name in MOVES), (cv2.dnn, "blobFromImage")]:
        timed(owner, name, moved, "OpenCV's warps, scaling and colours")
    with tempfile.TemporaryDirectory() as name:
        models = models_of(find_pack(recipe.faces.engine))
        analyse_chunk(recipe, Path(name), models, refs[:8])
        spent.clear()
        moved.clear()
        profile = cProfile.Profile()
        start = time.process_time()
        if args.profile:
            profile.enable()
        results = [
            r
            for i in range(0, len(refs), CHUNK)
            for r in analyse_chunk(recipe, Path(name), models, refs[i : i + CHUNK])
        ]
        profile.disable()
        whole = time.process_time() - start
    failed = [result.error for result in results if result.error]
    print(f"{len(refs)} photographs, {sum(len(r.crops) for r in results)} crops, {len(failed)} errors")
    for kind, seconds in sorted(spent.items(), key=lambda entry: -entry[1]):
        print(f"{kind:<56}{1000 * seconds / len(refs):8.2f} ms a photograph {seconds / whole:8.1%}")
    for kind, seconds in moved.items():
        print(f"{kind:<56}{1000 * seconds / len(refs):8.2f} ms a photograph {seconds / whole:8.1%}")
    print(f"{'everything':<56}{1000 * whole / len(refs):8.2f} ms a photograph")
    print(f"{'inside networks, decoder and encoder':<56}{sum(spent.values()) / whole:29.1%}   wanted {WANTED:.0%}")
    if args.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        pstats.Stats(profile).sort_stats("cumtime").print_stats("unif2ace_data", 45)


if __name__ == "__main__":
    main()
