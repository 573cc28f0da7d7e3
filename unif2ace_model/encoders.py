"""Frozen image encoders as ONNX graphs: RGB pixels (N, 3, S, S) from 0 to 255 in, one feature vector (N, D) out.

Whatever the encoder, what trains and what is shipped run the same graph in the same way, so that a feature is the same
number on both sides. Normalisation of the pixels is part of the graph.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from unif2ace_data.attributes.predict import PIXELS, PROBABILITIES, EncoderFacts, Preprocessing, one_line
from unif2ace_data.errors import UserError
from unif2ace_data.faces.engine import find_pack
from unif2ace_data.faces.runtime import quiet_stderr, session_options

FEATURES = "features"
UNSTATED = "not stated by the weights"
OPSET = 17  # our choice: layer normalisation is one node from here on, and every onnxruntime of the last years runs it
URL_CACHE = Path("~/.cache/clip")  # where open_clip keeps weights that are not on the Hub


@dataclass(slots=True)
class Encoder:
    """`graph`: PIXELS (N, 3, S, S) float32 -> FEATURES (N, D) float32."""

    facts: EncoderFacts
    preprocessing: Preprocessing
    graph: onnx.ModelProto


def load_encoder(name: str, align: str) -> Encoder:
    """`face` (the embedded pack's recogniser), a face pack by name or folder, or a CLIP.

    A CLIP is a folder in open_clip's format (open_clip_config.json and the weights), `MODEL=WEIGHTS` (a model name of
    open_clip with a checkpoint file or a tag), or `hf-hub:OWNER/NAME`; tags and the Hub only where the weights are in
    the local cache: nothing is downloaded. `align`: how the dataset's crops are aligned. Raises UserError.
    """
    if name == "face":
        return face_encoder("embedded")
    if name.startswith("hf-hub:") or "=" in name or is_clip_folder(name):
        model, weights, shown = clip_source(name)
        folder = Path(name).expanduser()
        licence = licence_of(folder) if folder.is_dir() else UNSTATED
        return clip_encoder(model, weights, shown, align, licence)
    try:
        return face_encoder(name)
    except UserError:
        raise UserError(
            f"no encoder {name!r}: use `face`, the name or folder of a face pack, a folder in open_clip's format, or "
            "MODEL=WEIGHTS (for example ViT-B-32=laion2b_s34b_b79k)",
            2,
        ) from None


# ------------------------------------------------------------------ the face network


def face_encoder(engine: str) -> Encoder:
    """The recogniser of a face pack: what insightface takes for it, with its own pixel normalisation in the graph."""
    from insightface.model_zoo import get_model

    pack = find_pack(engine)
    logging.getLogger("insightface").setLevel(logging.ERROR)
    for file in sorted(pack.folder.glob("*.onnx")):
        with quiet_stderr():
            model = get_model(str(file), providers=["CPUExecutionProvider"], sess_options=session_options())
        if model is not None and model.taskname == "recognition":
            break
    else:
        raise UserError(f"the pack in {pack.folder} has no recognition network (w600k_*.onnx or the like)")
    graph = onnx.load(file)
    taken, size = model.input_name, int(model.input_size[0])
    scaled = [
        helper.make_node("Sub", [PIXELS, "normalise.mean"], ["normalise.centred"], name="normalise.sub"),
        helper.make_node("Div", ["normalise.centred", "normalise.std"], [taken], name="normalise.div"),
    ]
    constants = {"normalise.mean": np.float32(model.input_mean), "normalise.std": np.float32(model.input_std)}
    graph.graph.initializer.extend(numpy_helper.from_array(np.array(v), n) for n, v in constants.items())
    for node in reversed(scaled):
        graph.graph.node.insert(0, node)
    entry = next(entry for entry in graph.graph.input if entry.name == taken)
    entry.name = PIXELS
    rename_output(graph, model.output_names[0], FEATURES)
    facts = EncoderFacts(
        name=f"face-{pack.name}",
        sha256=pack.files[file.name],
        licence=pack.licence,
        non_commercial=pack.non_commercial,
    )
    return Encoder(facts, Preprocessing(kind="face", size=size), tidy(graph))


def rename_output(model: onnx.ModelProto, old: str, new: str) -> None:
    """Give the graph's only output another name, by one more node: `old` may be used inside as well."""
    kept = next(output for output in model.graph.output if output.name == old)
    shape = [d.dim_value or d.dim_param or "D" for d in kept.type.tensor_type.shape.dim]
    model.graph.node.append(helper.make_node("Identity", [old], [new], name="features.name"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(new, TensorProto.FLOAT, shape))


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without what does not compute: documentation, and metadata that may name files of the machine that exported it."""
    model.ir_version = max(model.ir_version, 8)
    model.doc_string = model.graph.doc_string = ""
    model.producer_name, model.producer_version = "unif2ace", ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]
    return model


# ------------------------------------------------------------------ CLIP


def is_clip_folder(name: str) -> bool:
    return (Path(name).expanduser() / "open_clip_config.json").is_file()


def clip_source(name: str) -> tuple[str, str | None, str]:
    """(model, weights, name to show) as open_clip wants them, of what `load_encoder` calls a CLIP."""
    folder = Path(name).expanduser()
    if is_clip_folder(name):
        return f"local-dir:{folder}", None, folder.resolve().name
    model, separator, weights = name.partition("=")
    if name.startswith("hf-hub:"):
        return name, None, name.removeprefix("hf-hub:")
    if not separator:
        raise UserError(
            f"no CLIP {name!r}: give a folder in open_clip's format (open_clip_config.json and the weights), "
            "MODEL=WEIGHTS (for example ViT-B-32=laion2b_s34b_b79k) or hf-hub:OWNER/NAME",
            2,
        )
    file = Path(weights).expanduser()
    return (model, str(file), f"{model}={file.name}") if file.is_file() else (model, weights, name)


def clip_encoder(model: str, weights: str | None, name: str, align: str, licence: str = UNSTATED) -> Encoder:
    """The image tower of an open_clip model (its projected, unit-length features). Raises UserError."""
    from unif2ace_model.weights import weights_hash  # with it comes torch, which a face network does not need

    clip = load_clip(model, weights, name)
    graph, size = exported(clip)
    facts = EncoderFacts(
        name=f"clip-{name.replace('/', '-')}",
        sha256=weights_hash(clip.visual.state_dict()),
        licence=licence,
        non_commercial="non-commercial" in licence.lower() or "-nc" in licence.lower(),
    )
    return Encoder(facts, Preprocessing(kind="crop", size=size, align=align), graph)


def load_clip(model: str, weights: str | None, name: str) -> Any:
    """An open_clip model in evaluation mode, on the CPU, in float32. Raises UserError: not installed, no such weights."""
    try:
        import open_clip
    except ImportError as error:
        raise UserError(f"a CLIP encoder needs open_clip ({error}): pip install 'unif2ace[train]'") from None
    from unif2ace_model.weights import offline

    known = open_clip.get_pretrained_cfg(model, weights) if weights else {}
    url = known.get("url", "") if not known.get("hf_hub") else ""
    if url and not (URL_CACHE.expanduser() / url.rpartition("/")[2]).is_file():
        raise UserError(f"the weights of {name} are not in {URL_CACHE}: download them first, or give a checkpoint file")
    if weights and not known and not Path(weights).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or f"none: open_clip knows no model {model!r}"
        raise UserError(f"{name}: no such checkpoint file, and no tag of {model} (tags: {tags})", 2)
    try:
        with offline():
            made = open_clip.create_model(
                model, pretrained=weights, device="cpu", require_pretrained=True, pretrained_text=False,
                force_quick_gelu=bool(known.get("quick_gelu", False)),
            )  # fmt: skip
    except Exception as error:  # open_clip and torch raise nearly anything on what they cannot load
        raise UserError(
            f"open_clip cannot load {name} without a download ({type(error).__name__}: {one_line(error)})"
        ) from None
    return made.eval().requires_grad_(False)


def exported(clip: Any) -> tuple[onnx.ModelProto, int]:
    """(graph, side in pixels): pixels from 0 to 255, normalised as the model wants, through the image tower."""
    import torch

    how = clip.visual.preprocess_cfg
    size = how["size"] if isinstance(how["size"], int) else int(how["size"][0])

    class Tower(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.clip = clip
            self.register_buffer("mean", 255 * torch.tensor(how["mean"]).view(1, 3, 1, 1))
            self.register_buffer("std", 255 * torch.tensor(how["std"]).view(1, 3, 1, 1))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            features = self.clip.encode_image((pixels - self.mean) / self.std, normalize=True)
            assert isinstance(features, torch.Tensor)
            return features

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        file = Path(folder) / "encoder.onnx"
        torch.onnx.export(
            Tower().eval(), (torch.zeros(1, 3, size, size),), file, dynamo=False, opset_version=OPSET,
            input_names=[PIXELS], output_names=[FEATURES],
        )  # fmt: skip  # our choice: the TorchScript exporter; the other one needs a further package (onnxscript)
        return tidy(onnx.load(file)), size


def licence_of(folder: Path) -> str:
    """The licence that a folder's README states in its front matter, as the Hub's do."""
    import yaml

    readme = folder / "README.md"
    with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
        _, fence, rest = readme.read_text(encoding="utf-8").partition("---\n")
        front = yaml.safe_load(rest.partition("\n---")[0]) if fence else {}
        if isinstance(front, dict) and front.get("license"):
            return str(front["license"])
    return UNSTATED


def add_heads(encoder: Encoder, heads: Sequence[tuple[np.ndarray, np.ndarray]]) -> onnx.ModelProto:
    """The encoder with a softmax per head (weights (D, K), bias (K,)): PIXELS -> PROBABILITIES (N, sum of K)."""
    model = onnx.ModelProto()
    model.CopyFrom(encoder.graph)
    graph, shares = model.graph, []
    for number, (weights, bias) in enumerate(heads):
        name = f"head{number}"
        graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), f"{name}.weights"))
        graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), f"{name}.bias"))
        scores = helper.make_node("Gemm", [FEATURES, f"{name}.weights", f"{name}.bias"], [f"{name}.scores"], name=name)
        softmax = helper.make_node("Softmax", [f"{name}.scores"], [f"{name}.shares"], name=f"{name}.softmax", axis=1)
        graph.node.extend([scores, softmax])
        shares.append(f"{name}.shares")
    graph.node.append(helper.make_node("Concat", shares, [PROBABILITIES], name="heads", axis=1))
    batch = graph.output[0].type.tensor_type.shape.dim[0]
    shape = [batch.dim_value or batch.dim_param or "N", sum(bias.size for _, bias in heads)]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, shape))
    return model
