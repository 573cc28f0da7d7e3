"""`doctor`: what is installed, which engines work, and what to install for the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unif2ace_data import __version__
from unif2ace_data.errors import UserError
from unif2ace_data.faces.engine import EMBEDDED, INSIGHTFACE_MODELS, find_pack
from unif2ace_data.recipe import Faces
from unif2ace_data.run.local import usable_cores
from unif2ace_data.shards import sha256_file

OPTIONAL = {
    "nudenet": ("nsfw", "the NSFW filter (filters.nsfw)"),
    "torch": ("train", "unif2ace_model"),
    "open_clip": ("train", "CLIP features and the attribute model"),
    "vllm": ("vllm", "captions through vLLM (better in its own environment)"),
    "ray": ("ray", "the Ray executor"),
    "huggingface_hub": ("hub", "publishing to the Hub"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """`state`: ok, missing (an optional part) or broken (something the toolkit needs)."""

    name: str
    state: str
    detail: str


def examine(engine: str = "embedded", folder: Path | None = None) -> list[Check]:
    """Run every check; nothing is installed, downloaded or written."""
    checks = [
        Check("unif2ace", "ok", __version__),
        Check("python", "ok", platform.python_version()),
        Check("machine", "ok", f"{usable_cores()} cores, {memory_gib():.0f} GiB, {platform.machine()}"),
        free_space(folder or Path.cwd()),
        *[
            library(name)
            for name in ("insightface", "onnxruntime", "ai-edge-litert", "opencv-python", "pyarrow", "faiss-cpu", "av")
        ],
        weights(),
        face_engine(engine),
        *[installed_pack(p) for p in sorted(INSIGHTFACE_MODELS.expanduser().glob("*")) if p.is_dir()],
    ]
    for module, (extra, use) in OPTIONAL.items():
        found = importlib.util.find_spec(module) is not None
        checks.append(
            Check(module, "ok" if found else "missing", use if found else f"{use}: pip install 'unif2ace[{extra}]'")
        )
    return checks


def library(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "broken", f"not installed: pip install {name}")


def weights() -> Check:
    """The embedded weights against their hashes."""
    listed = [line.split() for line in (EMBEDDED / "SHA256SUMS").read_text().splitlines() if line.strip()]
    wrong = [
        name for digest, name in listed if not (EMBEDDED / name).is_file() or sha256_file(EMBEDDED / name) != digest
    ]
    if wrong:
        return Check("embedded weights", "broken", f"{', '.join(wrong)} differ from SHA256SUMS: reinstall the package")
    return Check("embedded weights", "ok", f"{len(listed)} files match SHA256SUMS")


def face_engine(engine: str) -> Check:
    """Load the whole analyser and run it on a blank picture."""
    from unif2ace_data.faces.align import encode_jpeg
    from unif2ace_data.faces.analyse import Analyser

    try:
        pack = find_pack(engine)
        record = Analyser(Faces(engine=engine)).analyse(encode_jpeg(np.full((96, 96, 3), 127, np.uint8), 90)).record
    except (UserError, RuntimeError, ImportError, OSError) as error:
        return Check(f"faces: {engine}", "broken", str(error))
    if record.error:
        return Check(f"faces: {engine}", "broken", record.error[1])
    terms = "non-commercial" if pack.non_commercial else pack.licence
    return Check(f"faces: {engine}", "ok", f"loads and runs ({terms})")


def installed_pack(folder: Path) -> Check:
    return Check(
        f"pack: {folder.name}", "ok", f"use --faces {folder.name} (InsightFace packs: non-commercial research only)"
    )


def free_space(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 2**30
    return Check("disk", "ok" if free > 1 else "broken", f"{free:.0f} GiB free here")


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
