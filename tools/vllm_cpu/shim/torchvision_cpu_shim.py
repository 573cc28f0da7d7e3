"""Let the CUDA-built torchvision wheel of the Python index import beside a CPU-only torch.

The index has no CPU build of torchvision. Its CUDA build installs next to ``torch==2.13.0+cpu``, but
``import torchvision`` dies with

    RuntimeError: operator torchvision::nms does not exist

because ``_C.so`` cannot be loaded and ``_meta_registrations`` then registers fake kernels for operators that nobody
declared. Declaring those schemas is enough: the pure-Python parts (``transforms.v2.functional``, which the image and
video processors of transformers use) then work. The compiled operators (``nms``, ``roi_align``, ``decode_jpeg`` …)
still have no kernel and raise if called.

``install.sh`` puts it in as a module and a ``.pth`` file, so that it also reaches the engine processes that vLLM
spawns. It costs nothing until torchvision is imported.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# The operators that torchvision/_meta_registrations.py registers fakes for unconditionally (0.28: nms, qnms); the
# others it guards with _has_ops().
SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_library: Any = None  # the declarations live as long as it does


def declare() -> None:
    global _library
    import torch

    if _library is None and torch.version.cuda is None and torch.version.hip is None:
        _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name, schema in SCHEMAS.items():
            with contextlib.suppress(RuntimeError):  # a real CPU build got there first
                _library.define(name + schema)


class Finder(importlib.abc.MetaPathFinder):
    """Finds nothing; hears that torchvision is about to be imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            declare()
        return None


def install() -> None:
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
