"""Detection: CenterFace with SCRFD's nine outputs, so that insightface's SCRFD class decodes it."""

from __future__ import annotations

import numpy as np
import onnx
from embedded_pack.graph import FLOAT, OPSET, GraphWriter, finished, float_value
from onnx import helper, numpy_helper, version_converter


def detection_model(centerface: onnx.ModelProto) -> onnx.ModelProto:
    """`input.1_n` (1, 3, h, w), normalised as SCRFD does, h and w multiples of 32 -> score, bbox, kps at 8, 16, 32.

    CenterFace gives per stride-4 cell a heat, a size, an offset and landmarks; SCRFD per stride-8, -16 and -32 cell
    and per anchor (two) a score and distances from the cell's corner, in cells. So: of each 2 x 2 cells the warmest
    becomes the first anchor at stride 8 (two faces whose centres share 8 pixels would be merged by the suppression of
    overlaps anyway); the second anchors and the coarser strides stay empty, with score 0.
    """
    body = converted_body(centerface)
    graph = GraphWriter()
    # CenterFace takes plain RGB from 0 to 255; its own input, input.1, is now the second node's output.
    before = [
        helper.make_node("Mul", ["input.1_n", "c128"], ["im_a"], name="undo_a"),
        helper.make_node("Add", ["im_a", "c127"], ["input.1"], name="undo_b"),
    ]
    graph.constants += [
        numpy_helper.from_array(np.float32(128.0), "c128"),
        numpy_helper.from_array(np.float32(127.5), "c127"),
    ]
    outputs = scrfd_heads(graph, heat="537", size="538", offset="539", landmarks="540")
    order = [f"{head}_{stride}" for head in ("score", "bbox", "kps") for stride in (8, 16, 32)]
    for name in order:
        graph.op("Identity", outputs[name], out=name)
    width = {"score": 1, "bbox": 4, "kps": 10}
    return finished(
        before + list(body.graph.node) + graph.nodes,
        "centerface_scrfd",
        [float_value("input.1_n", [1, 3, "h", "w"])],
        [float_value(name, [None, width[name.split("_")[0]]]) for name in order],
        list(body.graph.initializer) + graph.constants,
    )


def converted_body(centerface: onnx.ModelProto) -> onnx.ModelProto:
    """CenterFace at our opset, for any input size (it was exported for 10 x 3 x 32 x 32, weights listed as inputs)."""
    body = onnx.ModelProto()
    body.CopyFrom(centerface)
    weights = {constant.name for constant in body.graph.initializer}
    inputs = [value for value in body.graph.input if value.name not in weights]
    del body.graph.input[:]
    body.graph.input.extend(inputs)
    del body.graph.value_info[:]
    for value in [*body.graph.input, *body.graph.output]:
        dimensions = value.type.tensor_type.shape.dim
        dimensions[0].dim_value = 1
        dimensions[2].dim_param, dimensions[3].dim_param = value.name + "h", value.name + "w"
    return version_converter.convert_version(body, OPSET)


def scrfd_heads(graph: GraphWriter, heat: str, size: str, offset: str, landmarks: str) -> dict[str, str]:
    """Names of SCRFD's nine outputs, computed from CenterFace's four. One column per stride-8 cell until the end."""
    op, number, integers = graph.op, graph.number, graph.integers
    warmest, where = graph.ops("MaxPool", heat, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    where = op("Reshape", where, integers(-1))
    cells_across = op("Slice", op("Shape", heat), integers(3), integers(4))
    column, line = op("Mod", where, cells_across), op("Div", where, cells_across)
    column, line = op("Cast", column, to=FLOAT), op("Cast", line, to=FLOAT)

    def at_warmest(head: str, channels: int) -> str:
        return op("Gather", op("Reshape", head, integers(channels, -1)), where, axis=1)

    def channel(head: str, index: int) -> str:
        return op("Reshape", op("Gather", head, number(index, np.int64), axis=0), integers(-1))

    sizes, offsets, points = at_warmest(size, 2), at_warmest(offset, 2), at_warmest(landmarks, 10)
    half, four, eight = number(0.5), number(4.0), number(8.0)
    # Every pair of CenterFace's channels is (y, x). In pixels of the input from here on.
    height = op("Mul", op("Exp", channel(sizes, 0)), four)
    width = op("Mul", op("Exp", channel(sizes, 1)), four)
    centre_x = op("Mul", op("Add", op("Add", column, channel(offsets, 1)), half), four)
    centre_y = op("Mul", op("Add", op("Add", line, channel(offsets, 0)), half), four)
    left = op("Sub", centre_x, op("Mul", width, half))
    top = op("Sub", centre_y, op("Mul", height, half))
    anchor_x = op("Mul", op("Floor", op("Div", column, number(2.0))), eight)
    anchor_y = op("Mul", op("Floor", op("Div", line, number(2.0))), eight)

    def in_cells(distance: str) -> str:
        return op("Unsqueeze", op("Div", distance, eight), integers(1))

    bbox = [in_cells(op("Sub", anchor_x, left)), in_cells(op("Sub", anchor_y, top))]
    bbox += [
        in_cells(op("Sub", op("Add", left, width), anchor_x)),
        in_cells(op("Sub", op("Add", top, height), anchor_y)),
    ]
    boxes = op("Concat", *bbox, axis=1)
    kps = []
    for j in range(5):
        kps.append(in_cells(op("Sub", op("Add", op("Mul", channel(points, 2 * j + 1), width), left), anchor_x)))
        kps.append(in_cells(op("Sub", op("Add", op("Mul", channel(points, 2 * j), height), top), anchor_y)))
    keypoints = op("Concat", *kps, axis=1)
    scores = op("Reshape", warmest, integers(-1, 1))

    def two_anchors(values: str, second: str, channels: int) -> str:
        return op("Reshape", op("Concat", values, second, axis=1), integers(-1, channels))

    heads = {
        "score_8": two_anchors(scores, op("Mul", scores, number(0.0)), 1),
        "bbox_8": two_anchors(boxes, boxes, 4),
        "kps_8": two_anchors(keypoints, keypoints, 10),
    }
    for stride, cells in ((16, 4), (32, 8)):
        empty = op("AveragePool", heat, kernel_shape=[cells, cells], strides=[cells, cells])
        empty = op("Reshape", op("Mul", empty, number(0.0)), integers(-1, 1))
        for name, channels in (("score", 1), ("bbox", 4), ("kps", 10)):
            both = op("Concat", *[empty] * (2 * channels), axis=1)
            heads[f"{name}_{stride}"] = op("Reshape", both, integers(-1, channels))
    return heads
