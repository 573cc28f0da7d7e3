"""Writing ONNX graphs node by node, and sampling an image inside a graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 16, 8  # the oldest that have GridSample: old onnxruntimes must load the pack too
FLOAT = TensorProto.FLOAT
RGB_MEAN = np.array([122.782, 117.001, 104.298]).reshape(1, 3, 1, 1)  # dlib's input layer subtracts this


class PackError(Exception):
    """What is wrong and what to do; the script prints it and exits with 2."""


class GraphWriter:
    """Collects nodes and constants and gives every value a name, by counting: the same calls give the same bytes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.count = 0

    def number(self, value: object, dtype: type = np.float32) -> str:
        """Name of a constant."""
        self.count += 1
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"k{self.count}"))
        return f"k{self.count}"

    def integers(self, *values: int) -> str:
        return self.number(values, np.int64)

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: object) -> str:
        """Name of the output of a new node."""
        self.count += 1
        return self._append(kind, inputs, [out or f"t{self.count}_0"], attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: object) -> list[str]:
        """Names of the outputs of a new node that has several."""
        self.count += 1
        return self._append(kind, inputs, [f"t{self.count}_{j}" for j in range(outputs)], attributes)

    def _append(self, kind: str, inputs: tuple[str, ...], names: list[str], attributes: dict[str, object]) -> list[str]:
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"n{self.count}", **attributes))
        return names

    def rename_as_preprocessing(self) -> None:
        """Keep insightface from taking our undoing of its normalisation for a network that normalises by itself.

        It looks for names that begin with Sub and Mul among the first nodes, and would then feed raw pixels.
        """
        for node in self.nodes:
            node.name = "pre_" + node.name


def float_value(name: str, shape: list[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, shape)


def sampling_grid(to_source: np.ndarray, side: int, source_side: int) -> np.ndarray:
    """(1, side, side, 2) float32 grid for GridSample. `to_source` (2, 3): output pixel -> source pixel, both square."""
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float64)
    pixels = np.stack([columns, rows, np.ones_like(columns)], -1) @ to_source.T
    grid = (pixels + 0.5) / source_side * 2 - 1  # GridSample counts from -1 to 1 between the image's outer edges
    return np.asarray(grid, np.float32)[None]


def finished(
    nodes: list[onnx.NodeProto],
    name: str,
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.checker.check_model(model)
    return model
