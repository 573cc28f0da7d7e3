"""vLLM in this process: `LLM.chat` over batches of whatever waits, on a thread of its own.

While one batch runs the next one gathers, so the engine is never idle; a request that vLLM refuses is found by running
its batch one by one, and fails alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from unif2ace_data.errors import UserError
from unif2ace_data.llm.engine import Answer, Refused, Request, folder_revision
from unif2ace_data.recipe import Llm

WATCH_S = 2.0  # seconds between looks at whether the engine still lives while a batch runs
GATHER = 0.02  # seconds that a batch waits for more requests before it starts
DEFAULTS: dict[str, Any] = {
    "limit_mm_per_prompt": {"image": 1},
    # Without it a model may pad JSON with white space until it is cut off.
    "structured_outputs_config": {"disable_any_whitespace": True, "backend": "xgrammar"},
}

Waiting = tuple[Request, "asyncio.Future[Answer]"]


class InProcessVllm:
    """`settings.engine_args` go to vllm.LLM as they are (tensor_parallel_size, max_model_len, dtype, …)."""

    def __init__(self, settings: Llm) -> None:
        self.settings = settings
        self.model = settings.model
        self.revision = settings.revision or folder_revision(settings.model)
        self.most = settings.in_flight
        self._llm: Any = None
        self._thread = ThreadPoolExecutor(1, "vllm")
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._server: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Load the model (minutes for a large one). Raises UserError where vllm or the model cannot be loaded."""
        if self._llm is None:
            self._llm = await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
            self._server = asyncio.create_task(self._serve())

    def _load(self) -> Any:
        try:
            from vllm import LLM
        except ImportError as error:
            raise UserError(
                f"the engine vllm needs vllm in this environment ({error}): pip install 'unif2ace[vllm]' in one of its own, "
                "or start `vllm serve` there and use --captioner openai --base-url http://127.0.0.1:8000/v1"
            ) from None
        try:
            return LLM(
                model=self.model,
                revision=self.settings.revision or None,
                seed=0,
                **(DEFAULTS | self.settings.engine_args),
            )
        except Exception as error:
            raise UserError(
                f"vllm cannot load {self.model!r}: {error}. Check --model, and llm.engine_args in the recipe"
            ) from None

    async def answer(self, request: Request) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self._queue.put((request, future))
        return await future

    async def close(self) -> None:
        if self._server is not None:
            self._server.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._server
        self._thread.shutdown(wait=True)
        self._llm = None

    def servers(self) -> list[InProcessVllm]:
        return [self]

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            await asyncio.sleep(GATHER)
            while not self._queue.empty() and len(batch) < self.most:
                batch.append(self._queue.get_nowait())
            batch = [(request, future) for request, future in batch if not future.done()]
            running = loop.run_in_executor(self._thread, self._run, [request for request, _ in batch])
            while not (await asyncio.wait({running}, timeout=WATCH_S))[0]:
                wake_from_dead_engine(self._llm)
            results = running.result()
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Answer):
                    future.set_result(result)
                else:
                    future.set_exception(result)

    def _run(self, requests: list[Request]) -> list[Answer | Exception]:
        try:
            return list(self._chat(requests))
        except Exception as error:
            if is_dead(error):
                return [gone(f"the vLLM engine in this process died ({error})") for _ in requests]
            if len(requests) == 1:
                return [Refused(f"vllm: {type(error).__name__}: {error}")]
            return [result for request in requests for result in self._run([request])]

    def _chat(self, requests: list[Request]) -> list[Answer]:
        started = time.monotonic()
        outputs = self._llm.chat([conversation(r) for r in requests], [sampling(r) for r in requests], use_tqdm=False)
        seconds = (time.monotonic() - started) / len(requests)
        return [
            Answer(
                text=output.outputs[0].text,
                finish="length" if output.outputs[0].finish_reason == "length" else "stop",
                prompt_tokens=len(output.prompt_token_ids or ()),
                completion_tokens=len(output.outputs[0].token_ids),
                seconds=seconds,
            )
            for output in outputs
        ]


def wake_from_dead_engine(llm: Any) -> None:
    """Who waits for answers of an engine whose process was killed waits for ever: vLLM marks it as dead and tells nobody.

    The error that it would raise at the next request goes to where the answers are waited for.
    """
    core = getattr(getattr(llm, "llm_engine", None), "engine_core", None)
    answers = getattr(core, "outputs_queue", None)
    if answers is not None and getattr(getattr(core, "resources", None), "engine_dead", False):
        from vllm.v1.engine.exceptions import EngineDeadError

        answers.put_nowait(EngineDeadError())


def is_dead(error: Exception) -> bool:
    """Whether no later request can be answered either."""
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError)


def gone(what: str) -> UserError:
    return UserError(
        f"{what}. Every answer that arrived is kept: run the same command again; vLLM's own lines are above"
    )


def conversation(request: Request) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if request.image is not None:
        picture = Image.open(io.BytesIO(request.image)).convert("RGB")
        content.append({"type": "image_pil", "image_pil": picture})
    content.append({"type": "text", "text": request.user})
    return [{"role": "system", "content": request.system}, {"role": "user", "content": content}]


def sampling(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    schema = StructuredOutputsParams(json=request.schema) if request.schema is not None else None
    return SamplingParams(
        max_tokens=request.max_tokens, temperature=request.temperature, seed=request.seed, structured_outputs=schema
    )
