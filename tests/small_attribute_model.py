"""An attribute model that is a formula: what it says of a picture can be told by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from unif2ace_data.attributes.predict import METADATA, PIXELS, PROBABILITIES

CLAIM = {
    "threshold": 0.9, "labels": 100, "cases": 50, "others": 50, "mistaken": 1, "precision": 0.98, "coverage": 0.9,
    "wilson_low": 0.9,
}  # fmt: skip


def facts(**changes: Any) -> dict[str, Any]:
    """Two attributes: the darker the picture, the likelier dark clothes; earrings are seen on everybody."""
    return {
        "format": "unif2ace-attributes-1",
        "encoder": {"name": "mean", "sha256": "0" * 64, "licence": "CC0-1.0", "non_commercial": False},
        "preprocessing": {"kind": "crop", "size": 64, "align": "ffhq"},
        "heads": [
            {"name": "wearing_earrings", "values": ["no", "yes"], "stated": {"yes": CLAIM}},
            {"name": "clothing_tone", "values": ["dark", "light", ""], "stated": {"dark": CLAIM, "light": CLAIM}},
        ],
        "precision": 0.9, "yaw": 30.0, "pitch": 20.0, "trained_on": "0" * 64,
    } | changes  # fmt: skip


def write_model(path: Path, metadata: dict[str, Any] | None = None, earrings: float = 4.0, side: int = 64) -> Path:
    """Mean brightness b of the pixels (0 to 1) -> softmax(0, earrings), softmax(10 - 20 b, 20 b - 10, 2)."""
    weights = {"w": [[0, 0, -20 / 255, 20 / 255, 0]], "b": [0, earrings, 10, -10, 2]}
    nodes = [
        helper.make_node("ReduceMean", [PIXELS], ["mean4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["mean4"], ["mean"], axis=1),
        helper.make_node("Gemm", ["mean", "w", "b"], ["scores"]),
        helper.make_node("Split", ["scores", "sizes"], ["one", "two"], axis=1),
        helper.make_node("Softmax", ["one"], ["p1"], axis=1),
        helper.make_node("Softmax", ["two"], ["p2"], axis=1),
        helper.make_node("Concat", ["p1", "p2"], [PROBABILITIES], axis=1),
    ]
    tensors = [helper.make_tensor(n, TensorProto.FLOAT, np.shape(v), np.ravel(v)) for n, v in weights.items()]
    tensors.append(helper.make_tensor("sizes", TensorProto.INT64, [2], [2, 3]))
    graph = helper.make_graph(
        nodes, "mean",
        [helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["N", 5])], tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key=METADATA, value=json.dumps(metadata or facts()))
    onnx.save(model, path)
    return path
