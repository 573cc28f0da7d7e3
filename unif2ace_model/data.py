"""A dataset as the model sees it: image codes and features, computed once a shard, and the texts of its samples.

    X samples of a shard   V views   N image tokens   P patches   C channels

The cache lies in `shards.work/model/` (private: features of faces are embeddings), by the hash of the shard and of what
encoded it: a changed shard, tokenizer or network is encoded anew, everything else is taken as it is. Of a dataset that is
streamed (release/stream.py) the texts are kept there as well: a shard is opened once.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import torch
from PIL import Image

from unif2ace_data.errors import UserError
from unif2ace_data.faces.decode import decode
from unif2ace_data.records import read_record
from unif2ace_data.release.read import sample_records
from unif2ace_data.release.stream import opened_shard, streamed
from unif2ace_data.run.progress import Progress
from unif2ace_data.schema import SCHEMA_VERSION, Split
from unif2ace_data.shards import read_index, read_samples, writing
from unif2ace_model.config import Features, Images
from unif2ace_model.image_tokenizer import ImageTokenizer, load_image_tokenizer

if TYPE_CHECKING:
    from unif2ace_model.features import FeatureNetwork

SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
VIEW_SCALE = (0.9, 1.0)  # our choice: a view shows at least so much of the crop's side
TEXTS = "texts.jsonl"  # of a shard that does not stay here
ENCODE_BATCH = 16  # fixed: the same codes whatever lies in a shard


@dataclass(slots=True)
class Record:
    """One sample's texts, and where its codes and features lie."""

    uid: str
    split: Split
    caption: str
    qa: list[dict[str, Any]]  # QA.model_dump()
    attributes: dict[str, str]  # what was measured and validated: name -> value
    shard: int
    row: int

    @property
    def sided(self) -> bool:
        """Whether a text tells left from right: a mirrored view would make it wrong."""
        said = [self.caption]
        for qa in self.qa:  # not the question's words: "is it right to say that" tells no side
            said += [qa["answer"], qa["value"], *qa["options"]]
        return any(SIDES.search(text) for text in said)


@dataclass(slots=True)
class ShardArrays:
    """Memory-mapped: codes (X, V, N) int32; face (X, C) and clip (X, P, C) float16, or None."""

    codes: np.ndarray
    face: np.ndarray | None = None
    clip: np.ndarray | None = None


@dataclass(slots=True)
class Dataset:
    """`widths`: channels of "clip" and "face"; `encoders`: revisions of the "tokenizer", "clip" and "face" networks."""

    root_sha256: str
    records: list[Record]
    shards: list[ShardArrays]
    widths: dict[str, int] = field(default_factory=dict)
    encoders: dict[str, str] = field(default_factory=dict)

    def of(self, split: Split) -> list[Record]:
        """The samples of a split, by key. Raises UserError where there are none."""
        found = [record for record in self.records if record.split == split]
        if not found:
            raise UserError(no_samples(split))
        return found

    def codes(self, record: Record, view: int = 0) -> np.ndarray:
        """(N,) codes of one view; view 0 is the whole crop."""
        return np.asarray(self.shards[record.shard].codes[record.row, view])

    def features(self, name: str, records: list[Record]) -> torch.Tensor | None:
        """(len(records), ...) float32, or None where the dataset was encoded without."""
        arrays = [getattr(self.shards[record.shard], name) for record in records]
        if not arrays or arrays[0] is None:
            return None
        rows = [a[record.row] for a, record in zip(arrays, records, strict=True)]
        return torch.from_numpy(np.stack(rows).astype(np.float32))


def no_samples(split: Split) -> str:
    return (
        f"the dataset has no samples in {split!r}: build it with a larger share, "
        f"for example --set splits.train=0.7 --set splits.validation=0.1 --set splits.test=0.2"
    )


# ------------------------------------------------------------------ reading and encoding


def open_dataset(shards: Path, images: Images, features: Features, quiet: bool = False) -> Dataset:
    """Encode what is not in the cache yet, and read the texts. Raises UserError: no dataset, another schema."""
    from unif2ace_model.features import networks_of  # who only generates needs none

    index = read_index(shards)
    check_schema(shards, index)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_image_tokenizer(images.tokenizer)
    if images.size % tokenizer.downscale:
        raise UserError(f"images.size {images.size} is not a multiple of the tokenizer's {tokenizer.downscale}", 2)
    tokenizer.to(device)
    networks = networks_of(features)
    cache = private_folder(shards)
    dataset = Dataset(str(index["root_sha256"]), [], [], encoders={"tokenizer": tokenizer.revision})
    dataset.encoders |= {name: network.revision for name, network in networks.items()}
    progress = Progress("encoding", sum(int(shard["samples"]) for shard in index["shards"]), quiet)
    for number, entry in enumerate(index["shards"]):
        folder = cache / str(entry["sha256"])[:24]
        folder.mkdir(exist_ok=True)
        codes_file = folder / f"codes-{short_hash(tokenizer.revision, images.size, images.views)}.npy"
        files = {"codes": codes_file}
        for name, network in networks.items():
            files[name] = folder / f"{name}-{short_hash(network.revision)}.npy"
        missing = {name: file for name, file in files.items() if not file.is_file()}
        texts = folder / TEXTS if streamed(shards) else shards / entry["name"]
        if missing or not texts.is_file():
            with opened_shard(shards, entry, quiet) as path:
                if missing:
                    encode_shard(path, int(entry["samples"]), missing, networks, tokenizer, images, device, progress)
                if streamed(shards):
                    keep_texts(path, texts)
        else:
            progress.advance(int(entry["samples"]), [])
        arrays = ShardArrays(**{name: np.load(file, mmap_mode="r") for name, file in files.items()})
        records = list(read_records(texts, number))
        if len(records) != len(arrays.codes):
            raise UserError(f"{texts} has {len(records)} samples, its cache {len(arrays.codes)}: delete {folder}")
        dataset.records += records
        dataset.shards.append(arrays)
    progress.close()
    for name in ("face", "clip"):
        array = getattr(dataset.shards[0], name) if dataset.shards else None
        if array is not None:
            dataset.widths[name] = int(array.shape[-1])
    return dataset


def check_schema(shards: Path, index: dict[str, Any]) -> None:
    """Raises UserError where the dataset is of another schema."""
    if index["schema_version"] != SCHEMA_VERSION:
        raise UserError(
            f"{shards} is of schema {index['schema_version']}, this toolkit reads {SCHEMA_VERSION}: build it again"
        )


def same_encoders(learnt: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raises UserError where a model learnt from codes or features of other weights than those at hand.

    Nothing else would tell: other weights give codes and features of the same shape.
    """
    for name in sorted(learnt.keys() & found.keys()):
        if learnt[name] != found[name]:
            key = "images.tokenizer" if name == "tokenizer" else f"features.{name}"
            raise UserError(
                f"the model learnt with other weights of {key} ({learnt[name][:12]}) than those that lie there now "
                f"({found[name][:12]}): put the old ones back, or train anew"
            )


def read_records(path: Path, shard: int) -> Iterator[Record]:
    """From a shard, or from the texts that were kept of one."""
    found = kept_texts(path) if path.name == TEXTS else map(text_of, sample_records(path))
    for row, text in enumerate(found):
        yield Record(**text, shard=shard, row=row)


def text_of(sample: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: sample[name] for name in ("uid", "split", "caption", "qa")},
        "attributes": {a["name"]: a["value"] for a in sample["attributes"] if a["validated"]},
    }


def keep_texts(path: Path, texts: Path) -> None:
    """What `read_records` gives of a shard that does not stay, one JSON a line."""
    with writing(texts) as file:
        for sample in sample_records(path):
            file.write(orjson.dumps(text_of(sample)) + b"\n")


def kept_texts(texts: Path) -> Iterator[dict[str, Any]]:
    with texts.open("rb") as lines:
        yield from map(orjson.loads, lines)


def encode_shard(
    path: Path,
    samples: int,
    missing: dict[str, Path],
    networks: Mapping[str, FeatureNetwork],
    tokenizer: ImageTokenizer,
    images: Images,
    device: torch.device,
    progress: Progress,
) -> None:
    """Write the arrays of one shard that are missing, each whole or not at all, `ENCODE_BATCH` samples at a time."""
    growing = {name: Growing(file, samples) for name, file in missing.items()}
    samples_in = iter(read_samples(path))
    while batch := list(itertools.islice(samples_in, ENCODE_BATCH)):
        crops = [decode(parts["jpg"]).rgb for _, parts in batch]
        if "codes" in missing:
            views = [
                views_of(crop, key, images.size, images.views) for crop, (key, _) in zip(crops, batch, strict=True)
            ]
            pixels = torch.from_numpy(np.concatenate(views)).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
            with torch.no_grad():
                codes = tokenizer.encode(pixels).cpu().numpy().astype(np.int32)
            growing["codes"].add(codes.reshape(len(batch), images.views, -1))
        if networks.keys() & missing.keys():
            found = [read_record(parts["json"]) for _, parts in batch]
            landmarks = [np.array(sample.face.landmarks) for sample in found]
        for name in networks.keys() & missing.keys():
            growing[name].add(networks[name].of(crops, landmarks).astype(np.float16))
        progress.advance(len(batch), [])
    for array in growing.values():
        array.finish()


def views_of(crop: np.ndarray, key: str, size: int, count: int) -> np.ndarray:
    """(V, size, size, 3) uint8: the crop, then parts of it by chance of its key; every second view is mirrored."""
    picture, rng = Image.fromarray(crop), np.random.default_rng(int(key[:8], 16))
    width, height = picture.size
    made = []
    for view in range(count):
        scale, right, down = (rng.uniform(*VIEW_SCALE), rng.random(), rng.random()) if view else (1.0, 0.0, 0.0)
        left, top = right * (1 - scale) * width, down * (1 - scale) * height
        box = (left, top, left + scale * width, top + scale * height)
        shown = picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
        made.append(np.asarray(shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view % 2 else shown))
    return np.stack(made)


class Growing:
    """An .npy file that is filled row by row, and takes its name once it is whole.

    Plain writes: a full disk is an error here, and would be the end of the process in a memory map.
    """

    def __init__(self, file: Path, rows: int) -> None:
        self.file, self.rows, self.filled = file, rows, 0
        self.partial = file.with_name(f".{file.name}.{os.getpid()}.partial")

    def add(self, rows: np.ndarray) -> None:
        """Append (R, ...). Raises UserError where the disk does not take it."""
        with self.telling(), self.partial.open("ab" if self.filled else "wb") as out:
            if not self.filled:
                shape = (self.rows, *rows.shape[1:])
                header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(out, header)
            out.write(np.ascontiguousarray(rows).tobytes())
        self.filled += len(rows)

    def finish(self) -> None:
        """Raises UserError where the shard holds another number of samples than the index says, or the disk is full."""
        if self.filled != self.rows:
            self.partial.unlink(missing_ok=True)
            raise UserError(f"a shard holds {self.filled} samples where its index says {self.rows}: `verify` says more")
        with self.telling(), self.partial.open("rb") as written:
            os.fsync(written.fileno())
        self.partial.rename(self.file)

    @contextmanager
    def telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with suppress(OSError):
                self.partial.unlink(missing_ok=True)
            raise UserError(
                f"codes and features cannot be written to {self.file.parent} ({error.strerror}). What other shards gave is "
                "kept; run the command again"
            ) from None


def private_folder(shards: Path) -> Path:
    """`shards.work/model`, readable by its owner alone. Raises UserError where it cannot be made."""
    work = shards.absolute().with_name(shards.absolute().name + ".work")
    try:
        work.mkdir(mode=0o700, exist_ok=True)
        folder = work / "model"
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError(f"the cache of codes and features cannot be made in {work} ({error.strerror})") from None
    return folder


def short_hash(*parts: Any) -> str:
    return hashlib.sha256(orjson.dumps([str(part) for part in parts])).hexdigest()[:12]
