"""What is asked of a model, what comes back, and what may go wrong on the way: the one interface of all engines."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Llm


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model. `schema`: the JSON schema that the answer must follow; None: prose.

    `image`: a JPEG, already scaled to the model's limit, or None. `max_tokens` bounds the answer. `about`: the key of the
    sample that is asked about; it decides nothing, and the journal keeps it so that a removed sample's answers are found.
    """

    stage: str
    system: str
    user: str
    max_tokens: int
    temperature: float
    seed: int
    image: bytes | None = field(default=None, repr=False)
    schema: dict[str, Any] | None = field(default=None, repr=False)
    about: str = ""

    def key(self, model: str, revision: str) -> str:
        """SHA-256 (hex) over image, prompt, schema, model, revision and sampling: what decides the answer."""
        image = hashlib.sha256(self.image).hexdigest() if self.image is not None else ""
        prompt = hashlib.sha256(orjson.dumps([self.system, self.user, self.schema])).hexdigest()
        decided = [image, prompt, model, revision, self.max_tokens, self.temperature, self.seed]
        return hashlib.sha256(orjson.dumps(decided)).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """`finish`: stop, or length where the answer was cut off at max_tokens."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class Busy(Exception):
    """The server asks for fewer or later requests (429, 503). `after`: seconds, where it says so."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Unreachable(Exception):
    """Nobody answers: connection refused or lost, 502, 504."""


class Broken(Exception):
    """The server failed on this request (500), or answered something that is no answer."""


class TimedOut(Broken):
    """The server took this request, and did not answer it within the time-out."""


class Refused(Exception):
    """The server will not take this request (400, 413, 422): a bad image, a prompt over the context."""


class Engine(Protocol):
    """`model` and `revision` identify what answers; they are settled by `open`, before the first request."""

    model: str
    revision: str
    most: int  # requests that it can use at once

    async def open(self) -> None:
        """Find the model. Raises UserError where it is not there or may not be used, Unreachable where nobody answers."""
        ...

    async def answer(self, request: Request) -> Answer:
        """Raises Busy, Unreachable, Broken, Refused; UserError for what no request can get past (401, 404)."""
        ...

    async def close(self) -> None: ...

    def servers(self) -> Sequence[Engine]:
        """What answers independently of each other, each an engine by itself: this one, and others of the same model."""
        ...


def make_engine(kind: str, settings: Llm) -> Engine:
    """The engine of this kind (vllm or openai). Nothing is loaded and nobody is asked before `open`."""
    if not settings.model:
        raise UserError(f"engine {kind} needs --model, for example --model Qwen/Qwen2.5-VL-7B-Instruct", 2)
    if kind == "openai":
        from unif2ace_data.llm.openai_server import OpenAIServer

        return OpenAIServer(settings)
    from unif2ace_data.llm.vllm_in_process import InProcessVllm

    return InProcessVllm(settings)


def told_model(model: str) -> str:
    """The model's name as it may be published: of a path only its last part."""
    return Path(model).name if model.startswith(("/", "~", ".")) or Path(model).is_dir() else model


def keyed_model(model: str) -> str:
    """The model's name in keys: of a folder its last part, since its revision tells what is in it, wherever it lies."""
    return Path(model).name if Path(model).is_dir() else model


def folder_revision(model: str) -> str:
    """A local model folder's revision: 12 hex digits over its small files and the names and sizes of the others; else ""."""
    folder = Path(model)
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        if size <= 1 << 20:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
