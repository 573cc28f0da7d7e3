"""Questions from a file in FaceBench's layout, and the pictures that they are about: whatever dataset they are of.

One JSON object a line, as `unif2ace-data qa-gen --jsonl` writes them: image_id (a file of the picture folder), text,
question_type (TFQ, SCQ, MCQ, OEQ), options, gt_answer (an option's words or its letter, or the open answer); metadata with
view and attribute where they are known. A picture is aligned as the builder aligns photographs; what is a crop already
stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
import orjson
import torch

from unif2ace_data.errors import InputError, UserError
from unif2ace_data.faces.align import crop, into_crop, quad_side
from unif2ace_data.faces.analyse import Analyser
from unif2ace_data.faces.decode import decode
from unif2ace_data.qa.jsonl import TYPES, UNSEEN
from unif2ace_data.qa.llm import means
from unif2ace_data.qa.phrasings import phrasings
from unif2ace_data.recipe import Faces
from unif2ace_data.run.progress import Progress
from unif2ace_data.taxonomy import load_taxonomy
from unif2ace_model.config import Images
from unif2ace_model.data import views_of
from unif2ace_model.evaluate_qa import Asked
from unif2ace_model.features import FeatureNetwork, kept
from unif2ace_model.image_tokenizer import ImageTokenizer
from unif2ace_model.pictures import EncodedPictures

KINDS = (*sorted(set(TYPES.values())), "MCQ")
ENDINGS = ("", ".jpg", ".jpeg", ".png", ".webp")  # of a picture that the file names without one
WHOLE = (
    0.1  # our choice: corners of the aligned crop within so much of its side from the picture's: it is a crop already
)


@dataclass(slots=True)
class QaFile:
    """`left_out`: rows that are not asked, by reason; `images`: file names in the order of Asked.picture."""

    rows: int = 0
    asked: list[Asked] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    no_face: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "asked": len(self.asked),
            "left_out": dict(sorted(self.left_out.items())),
            "images": len(self.images),
            "images_without_a_face": self.no_face,
        }


# ------------------------------------------------------------------ the questions


def read_qa_file(file: Path, folder: Path, split: str = "test") -> QaFile:
    """Rows that say of which split they are count where it is `split`; others count.

    Raises UserError: no such file or folder, no JSON, a field that is missing (with its line), pictures that are not there."""
    if not folder.is_dir():
        raise UserError(f"--images {folder}: there is no such folder", 2)
    found, numbers, missing = QaFile(), dict[Path, int](), Counter[str]()
    for number, row in rows_of(file):
        found.rows += 1
        where = f"{file} line {number}"
        kind = needed(row, "question_type", str, where)
        if kind not in KINDS:
            raise UserError(f"{where}: question_type {kind!r} is none of {', '.join(KINDS)}")
        name = needed(row, "image_id", str, where)
        qa = of_another_split(row, split) or question_of(row, kind, where)
        if isinstance(qa, str):
            found.left_out[qa] += 1
            continue
        path = next((p for ending in ENDINGS if (p := folder / f"{name}{ending}").is_file()), None)
        if path is None:
            missing[name] += 1
            continue
        found.asked.append(Asked(numbers.setdefault(path, len(numbers)), qa))
    if missing:
        shown = ", ".join(list(missing)[:3])
        raise UserError(
            f"{folder} lacks {len(missing)} of the pictures that {file} asks about, in {missing.total()} of {found.rows} rows "
            f"(the first: {shown}): give the folder that holds them with --images"
        )
    if not found.asked:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in found.left_out.items()) or "it is empty"
        raise UserError(f"{file} holds no question that can be asked ({reasons})")
    found.images = list(numbers)
    return found


def rows_of(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"--qa {file} cannot be read ({error.strerror})", 2) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UserError(f"{file} line {number} is not JSON ({error}): one object a line is expected") from None
        if not isinstance(row, dict):
            raise UserError(f"{file} line {number} is not a JSON object")
        yield number, row


def needed(row: Mapping[str, Any], name: str, kind: type | tuple[type, ...], where: str) -> Any:
    if name not in row:
        raise UserError(f"{where} has no field {name!r}: it has {', '.join(sorted(row)) or 'none'}")
    if not isinstance(row[name], kind):
        raise UserError(f"{where}: {name} is a {type(row[name]).__name__}, which it must not be")
    return row[name]


def of_another_split(row: Mapping[str, Any], split: str) -> str:
    """Why a row is left out that `qa-gen --jsonl` wrote of another split; a model may have learnt it."""
    metadata = row.get("metadata")
    stated = metadata.get("split") if isinstance(metadata, dict) else None
    return f"of split {stated}" if stated and stated != split else ""


def question_of(row: Mapping[str, Any], kind: str, where: str) -> dict[str, Any] | str:
    """The question as QA.model_dump() has it, or why it is not asked."""
    text = needed(row, "text", str, where)
    gold = needed(row, "gt_answer", (str, list), where)
    options = [ours(str(option), kind) for option in needed(row, "options", list, where)] if kind != "OEQ" else []
    answers = [ours(str(answer), kind) for answer in (gold if isinstance(gold, list) else [gold])]
    if len(answers) != 1:
        return "several answers are right" if answers else "no answer is right"
    metadata = row.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    attribute = str(metadata.get("attribute") or "")
    qa = {
        "question": text, "answer": answers[0], "kind": "open", "options": options, "letter": "", "value": "",
        "attribute": attribute or "not stated", "category": str(metadata.get("view") or "not stated").lower(),
    }  # fmt: skip
    if kind == "OEQ":
        value = means(answers[0], attribute) if attribute in load_taxonomy() else ""
        return qa | {"value": value}
    if len(options) < 2 or len(options) > len(ascii_uppercase):
        return "fewer than two options, or more than letters"
    place = place_of(answers[0], options)
    if place is None:
        return "the answer is none of the options"
    kinds = "true_false" if kind == "TFQ" else "choice_2_3" if len(options) < 4 else "choice_4"
    return qa | {"kind": kinds, "answer": options[place], "letter": ascii_uppercase[place]}


def ours(text: str, kind: str) -> str:
    """An option in the words of our datasets, which a model has learnt."""
    if text.strip().lower() == UNSEEN.lower():
        return phrasings().not_visible.option
    return text.strip().lower() if kind == "TFQ" else text.strip()


def place_of(answer: str, options: Sequence[str]) -> int | None:
    lower = [option.lower() for option in options]
    if answer.lower() in lower:
        return lower.index(answer.lower())
    letter = answer.strip(" .()").upper()
    return ascii_uppercase.index(letter) if len(letter) == 1 and letter in ascii_uppercase[: len(options)] else None


# ------------------------------------------------------------------ the pictures


def encode_pictures(
    found: QaFile,
    images: Images,
    tokenizer: ImageTokenizer,
    faces: Faces,
    networks: Mapping[str, FeatureNetwork],
    quiet: bool,
) -> EncodedPictures:
    """Codes and features of the file's pictures. `faces`: how they are found and aligned; `networks`: of the features.

    A picture without a face is taken whole, with face features of zero. Raises UserError for one that cannot be read.
    """
    analyser = Analyser(faces)
    codes: list[np.ndarray] = []
    guests: dict[str, list[np.ndarray]] = {name: [] for name in networks}
    progress = Progress("encoding", len(found.images), quiet)
    for path in found.images:
        try:
            pixels, landmarks = aligned(path.read_bytes(), analyser)
        except (InputError, OSError) as error:
            raise UserError(f"{path} cannot be read ({getattr(error, 'message', error)})") from None
        whole = torch.from_numpy(views_of(pixels, "0" * 8, images.size, 1)).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            codes.append(tokenizer.encode(whole)[0].numpy())
        if landmarks is None:
            found.no_face += 1
        for name, network in networks.items():
            seen = kept(network.of([pixels], [landmarks if landmarks is not None else np.zeros((5, 2))])[0])
            guests[name].append(np.zeros_like(seen) if name == "face" and landmarks is None else seen)
        progress.advance(1, [] if landmarks is not None else ["no_face"])
    progress.close()
    return EncodedPictures(np.stack(codes), {name: np.stack(rows) for name, rows in guests.items()})


def aligned(data: bytes, analyser: Analyser) -> tuple[np.ndarray, np.ndarray | None]:
    """(crop (S, S, 3) uint8, its five landmarks) of the largest face; the picture's square middle and None without one."""
    record = analyser.analyse(data).record
    if record.error is not None:
        raise InputError(*record.error)
    decoded = decode(data)
    measured = next((face for face in record.faces if face.measured), None)
    if measured is None:
        return middle(decoded.rgb), None
    quad, landmarks = np.array(measured.quad), np.array(measured.landmarks)
    width, height = record.width, record.height
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    if np.abs(quad - corners).max() <= WHOLE * quad_side(quad):
        return decoded.rgb, landmarks
    pixels, _ = crop(decoded, quad, analyser.faces.align.size)
    return pixels, into_crop(landmarks, quad, pixels.shape[0])


def middle(rgb: np.ndarray) -> np.ndarray:
    side = min(rgb.shape[:2])
    top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])
