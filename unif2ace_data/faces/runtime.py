"""How networks are run: one thread each, quiet, on the CPU. Parallelism is photos side by side, not threads in a layer.

A thread pool inside each network makes one photo faster and a thousand slower: two threads cost 2.4 times the CPU time
of one on the 640-pixel detector.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Protocol

import cv2
import numpy as np
import onnxruntime


def single_threaded() -> None:
    """Pin OpenCV; call once in every worker process."""
    cv2.setNumThreads(1)


def session_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def bgr_of(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 as OpenCV and insightface want it; a tenth of the time that numpy takes to turn the channels."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def four_channels(rgb: np.ndarray) -> np.ndarray:
    """What OpenCV warps in half the time that three channels take, to the same bits."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA))


def warped(picture: np.ndarray, matrix: np.ndarray, side: int, border: int, flags: int = 0) -> np.ndarray:
    """cv2.warpAffine, linear, to (side, side, 3) RGB; of a picture with a fourth channel, too."""
    found = cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR | flags, borderMode=border)
    return np.asarray(found if found.shape[2] == 3 else cv2.cvtColor(found, cv2.COLOR_RGBA2RGB))


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Silence what native libraries print on file descriptor 2 while they start (an INFO line a process)."""
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


class Network(Protocol):
    def __call__(self, array: np.ndarray, divisor: float = 1) -> list[np.ndarray]:
        """All outputs (copies) for `array` / `divisor` in float32."""


def tflite(graph: bytes) -> Network:
    """A TFLite graph with one float32 input as a function."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet_stderr():
        interpreter = Interpreter(model_content=graph, num_threads=1)
        interpreter.allocate_tensors()
        entry, exits = interpreter.get_input_details()[0], interpreter.get_output_details()
        interpreter.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
        interpreter.invoke()  # the delegate announces itself on its first call
    inlet = interpreter.tensor(entry["index"])  # gives a view of the input itself, which no call of invoke may outlive

    def run(array: np.ndarray, divisor: float = 1) -> list[np.ndarray]:
        np.divide(array, divisor, out=inlet(), dtype=np.float32)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in exits]

    return run
