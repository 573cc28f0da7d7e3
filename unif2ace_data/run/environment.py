"""What of a machine's software decides bytes: the versions of libraries, and the files of this package.

Machines that work on one dataset compare it (on_ray.py). Imports nothing heavy: every worker asks for it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from collections.abc import Mapping

from unif2ace_data import __version__
from unif2ace_data.resources import PACKAGE, resource

# Whose versions may change a measurement or a byte: they are told, so that a dataset can be built again.
LIBRARIES = (
    "insightface",
    "onnxruntime",
    "opencv-python",
    "pillow",
    "av",
    "ai-edge-litert",
    "numpy",
    "faiss-cpu",
    "pyarrow",
)
# They hash pictures and write JSON; no recipe tells of them, but two machines of one run shall not differ in them.
ALSO_COMPARED = ("imagehash", "scipy", "orjson", "msgspec")
OWN_FILES = "this package's own files"
SOURCES = (".py", ".yaml", ".jinja", ".j2")  # weights are compared where they are loaded (work.py)


@functools.cache
def environment() -> dict[str, str]:
    """Name -> version, or hash. Found once a process."""
    return {name: version(name) for name in (*LIBRARIES, *ALSO_COMPARED)} | {
        OWN_FILES: f"{__version__} {own_files()[:12]}"
    }


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def own_files() -> str:
    """A hash of code, vocabularies and templates, the same of a source checkout and of what is installed from it."""
    found = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*") if path.suffix in SOURCES}
    for folder in ("manifests", "pipelines"):  # beside the package in a checkout
        for path in resource(folder).rglob("*"):
            if path.suffix in SOURCES:
                found[f"{folder}/{path.relative_to(resource(folder)).as_posix()}"] = path
    told = hashlib.sha256()
    for name in sorted(found):
        told.update(f"{name}\n{hashlib.sha256(found[name].read_bytes()).hexdigest()}\n".encode())
    return told.hexdigest()


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What differs, each with its value there and here; empty where nothing does."""
    names = sorted({*there, *here}, key=str.casefold)
    return ", ".join(
        f"{name} ({there.get(name, 'missing')} there, {here.get(name, 'missing')} here)"
        for name in names
        if there.get(name) != here.get(name)
    )
