"""Identity: dlib's face ResNet, converted to ONNX and put behind ArcFace's 112 x 112 input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from embedded_pack.graph import RGB_MEAN, GraphWriter, PackError, finished, float_value, sampling_grid

# The mean similarity from a pixel of dlib's chip (150 pixels, padding 0.25) to a pixel of insightface's crop (112).
CHIP_IN_CROP = np.array([[0.6396, 0.0, 9.0], [0.0, 0.6396, 23.2]])

# dlib's descriptors lie in one corner of their space (it compares by distance). Less their mean, strangers have a
# cosine around 0, as with ArcFace. In thousandths; over 539 public-domain portraits.
# fmt: off
DESCRIPTOR_MEAN = [
    -95, 91, 47, -41, -106, -5, 5, -104, 134, -72, 201, -43, -271, -32, -17, 136, -134, -108, -153, -94, 1, 40, 24, 18,
    -124, -283, -71, -114, 39, -79, -1, 47, -163, -63, 33, 53, -58, -60, 196, 4, -161, 7, 39, 245, 199, 21, 14, -87,
    95, -281, 52, 131, 90, 73, 89, -153, 23, 130, -189, 59, 63, -106, -55, -55, 182, 111, -97, -116, 177, -154, -40,
    59, -91, -157, -262, 33, 392, 138, -184, 0, -80, -17, 55, 38, -73, -68, -79, 26, 187, -60, 0, 225, 10, -19, 43, 40,
    -105, -29, -103, -8, 54, -121, 12, 81, -181, 146, -22, -38, 0, -45, -67, -3, 196, -239, 211, 183, -24, 132, 50, 74,
    -13, -11, -155, -103, 47, -27, 7, 33,
]
# fmt: on


def dlib_tensors(data: bytes, sizes: list[int]) -> Iterator[np.ndarray]:
    """The parameter tensors of a serialised dlib network, flat float32, in file order, `sizes` values each.

    A tensor is stored as: version 2, four dimensions, then the floats. dlib's integers are a control byte (the
    highest bit: negative; the low four: how many bytes) and little-endian bytes. Searching for the next tensor of the
    expected size spares us the layers' own records in between. Raises PackError where one is missing.
    """

    def integer(at: int) -> tuple[int, int] | None:
        length = data[at] & 15
        if data[at] & 0x70 or not 1 <= length <= 8:
            return None
        value = int.from_bytes(data[at + 1 : at + 1 + length], "little")
        return (-value if data[at] & 128 else value), at + 1 + length

    def start_of_floats(at: int, size: int) -> int | None:
        product = 1
        for _ in range(4):
            parsed = integer(at) if at < len(data) else None
            if parsed is None:
                return None
            product, at = product * parsed[0], parsed[1]
        return at if product == size and at + 4 * size <= len(data) else None

    position = 0
    for index, size in enumerate(sizes):
        while True:
            position = data.find(b"\x01\x02", position)
            if position < 0:
                raise PackError(f"tensor {index} ({size} values) is not in the dlib file: is it another network?")
            floats = start_of_floats(position + 2, size)
            if floats is not None:
                break
            position += 1
        yield np.frombuffer(data, "<f4", size, floats).copy()
        position = floats + 4 * size


def dlib_blocks() -> list[tuple[int, int, int]]:
    """(channels in, channels out, stride) of the 14 residual blocks, in the order in which they run."""
    blocks, channels = [], 32
    for count, width, halves in ((3, 32, False), (4, 64, True), (3, 128, True), (3, 256, True), (1, 256, True)):
        for j in range(count):
            blocks.append((channels, width, 2 if halves and j == 0 else 1))
            channels = width
    return blocks


def dlib_sizes() -> list[int]:
    """Values in each tensor of the file: per convolution its weights with bias, then its affine layer; last the FC."""
    sizes = [3 * 7 * 7 * 32 + 32, 2 * 32]
    for inner, outer, _ in dlib_blocks():
        sizes += [9 * inner * outer + outer, 2 * outer, 9 * outer * outer + outer, 2 * outer]
    return sizes + [256 * 128]


def dlib_resnet(graph: GraphWriter, x: str, data: bytes) -> str:
    """Append the network: `x` (N, 3, 150, 150) RGB 0..255 -> (N, 128)."""
    tensors = dlib_tensors(data, dlib_sizes())

    def convolution(x: str, inner: int, outer: int, kernel: int, stride: int) -> str:
        weights, affine = next(tensors), next(tensors)
        kernels, bias = weights[:-outer].reshape(outer, inner, kernel, kernel), weights[-outer:]
        gamma, beta = affine[:outer], affine[outer:]
        folded = graph.number(kernels * gamma[:, None, None, None]), graph.number(bias * gamma + beta)
        padding = kernel // 2 if stride == 1 else 0  # dlib's default
        return graph.op("Conv", x, *folded, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4)

    x = graph.op("Div", graph.op("Sub", x, graph.number(RGB_MEAN)), graph.number(256.0))
    x = graph.op("MaxPool", graph.op("Relu", convolution(x, 3, 32, 7, 2)), kernel_shape=[3, 3], strides=[2, 2])
    side = 35  # 150 -> 72 -> 35
    for inner, outer, stride in dlib_blocks():
        y = convolution(graph.op("Relu", convolution(x, inner, outer, 3, stride)), outer, outer, 3, 1)
        if stride == 2:
            # dlib adds tensors of unequal size as if the smaller one went on with zeros, to the right and below.
            x = graph.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            shortcut, residual = (side - 2) // 2 + 1, (side - 3) // 2 + 1
            side = max(shortcut, residual)
            if shortcut < side or inner < outer:
                missing = side - shortcut
                x = graph.op("Pad", x, graph.integers(0, 0, 0, 0, 0, outer - inner, missing, missing))
            if residual < side:
                missing = side - residual
                y = graph.op("Pad", y, graph.integers(0, 0, 0, 0, 0, 0, missing, missing))
        x = graph.op("Relu", graph.op("Add", x, y))
    x = graph.op("Flatten", graph.op("GlobalAveragePool", x))
    return graph.op("MatMul", x, graph.number(next(tensors).reshape(256, 128)))


def recognition_model(data: bytes) -> onnx.ModelProto:
    """`data` (N, 3, 112, 112), normalised as ArcFaceONNX does -> `feat` (N, 128), mean-centred."""
    graph = GraphWriter()
    x = graph.op("Mul", "data", graph.number(127.5))
    x = graph.op("Add", x, graph.number(127.5))
    for i, node in enumerate(graph.nodes):
        node.name = f"undo_norm{i}"
    one_grid = graph.number(sampling_grid(CHIP_IN_CROP, 150, 112))
    batch = graph.op("Slice", graph.op("Shape", x), graph.integers(0), graph.integers(1))
    shape = graph.op("Concat", batch, graph.integers(150, 150, 2), axis=0)
    chip = graph.op("GridSample", x, graph.op("Expand", one_grid, shape), mode="bilinear", padding_mode="border")
    graph.rename_as_preprocessing()
    descriptor = dlib_resnet(graph, chip, data)
    graph.op("Sub", descriptor, graph.number(np.array(DESCRIPTOR_MEAN) / 1000), out="feat")
    entry, exit_ = float_value("data", ["N", 3, 112, 112]), float_value("feat", ["N", 128])
    return finished(graph.nodes, "dlib_r29", [entry], [exit_], graph.constants)
