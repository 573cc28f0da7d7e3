"""Age and gender: the two networks of dlib-models in one graph behind one 96 x 96 input."""

from __future__ import annotations

import numpy as np
import onnx
from embedded_pack.graph import IR_VERSION, OPSET, RGB_MEAN, GraphWriter, finished, float_value, sampling_grid
from onnx import compose

# The mean similarity from a pixel of dlib's chip (64 pixels, padding 0.2) to a pixel of insightface's crop (96).
CHIP_IN_CROP = np.array([[0.8121, 0.0, 22.2], [0.0, 0.8121, 26.9]])


def genderage_model(age: onnx.ModelProto, gender: onnx.ModelProto) -> onnx.ModelProto:
    """`data` (1, 3, 96, 96), normalised as Attribute does -> `fc1` (1, 3): p(female), p(male), expected age / 100.

    The distribution over the 81 ages stays readable inside, as `a_probabilities` (1, 81).
    """
    age, gender = compose.add_prefix(age, "a_"), compose.add_prefix(gender, "s_")
    graph = GraphWriter()
    x = graph.op("Mul", "data", graph.number(128.0))
    x = graph.op("Add", x, graph.number(127.5))
    mean = graph.number(RGB_MEAN)
    for prefix, side in (("a_", 64), ("s_", 32)):
        step = 64 / side
        chip = CHIP_IN_CROP.copy()
        chip[:, :2] *= step
        chip[:, 2] += CHIP_IN_CROP[:, :2].sum(1) * (step - 1) / 2  # pixel centres move when pixels grow
        fine = chip.copy()  # sample twice as finely and average: the crop is shrunk here, and would alias
        fine[:, :2] /= 2
        fine[:, 2] -= chip[:, :2].sum(1) / 4
        grid = graph.number(sampling_grid(fine, 2 * side, 96))
        pixels = graph.op("GridSample", x, grid, mode="bilinear", padding_mode="border")
        pixels = graph.op("AveragePool", pixels, kernel_shape=[2, 2], strides=[2, 2])
        graph.op("Div", graph.op("Sub", pixels, mean), graph.number(256.0), out=prefix + "images")
    graph.rename_as_preprocessing()
    for model in (age, gender):
        graph.nodes += list(model.graph.node)
        graph.constants += list(model.graph.initializer)
    years = np.array([0.25, *range(1, 81)], np.float32)  # the network's classes; the first one is "a few months"
    hundredths = graph.number((years / 100)[:, None])  # Attribute multiplies by 100
    graph.op("Concat", "s_probabilities", graph.op("MatMul", "a_probabilities", hundredths), axis=1, out="fc1")
    opsets = [o.version for model in (age, gender) for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return finished(
        graph.nodes,
        "genderage",
        [float_value("data", [1, 3, 96, 96])],
        [float_value("fc1", [1, 3])],
        graph.constants,
        opset=max(OPSET, *opsets),
        ir_version=max(IR_VERSION, age.ir_version),
    )
