"""Weights of networks that others published: the folder that a name stands for, the tensors in it, and their hash."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unif2ace_data.errors import UserError

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def folder_of(name: str) -> Path:
    """A folder as it is named, or a Hub repository that the local cache holds: nothing is downloaded. Raises UserError."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not HUB_NAME.fullmatch(name):
        raise UserError(f"there is no folder {folder}", 2)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise UserError(
            f"there is no folder {name}, and no such repository in the local cache of the Hub: `hf download {name}` gets it",
            2,
        ) from None


def read_weights(folder: Path, files: Sequence[str], expected: str) -> dict[str, Tensor]:
    """The tensors in the first of `files` that the folder has. Raises UserError: none there, or a broken one."""
    file = next((folder / name for name in files if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"{folder} holds no weights: {expected} has one of {', '.join(files)}", 2)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read ({error}): the file is broken or not whole") from None
    except Exception as error:  # torch raises nearly anything on a broken file, in many lines
        why = str(error).partition("\n")[0][:120] or type(error).__name__
        raise UserError(f"{file} cannot be read ({why}): the file is broken, or holds more than tensors") from None
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise UserError(f"{file} is not a mapping of names to tensors, as {expected} has it")
    return found


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and values of the tensors, whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Hub look-ups stay in the local cache; open_clip's own messages stay out of the terminal."""
    from huggingface_hub import constants

    before, level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    constants.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.disable(level)
