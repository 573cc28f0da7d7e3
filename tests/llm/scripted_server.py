"""An OpenAI-compatible server on loopback whose answers and faults are scripted: for the engine room's failure paths.

It runs in a thread of its own, so that it can be stopped and started while a client waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

Reply = tuple[int, Any, dict[str, str]]  # status, JSON body (or bytes), headers


def completion(text: str, finish: str = "stop") -> Reply:
    usage = {"prompt_tokens": 10, "completion_tokens": len(text) // 4 + 1}
    return 200, {"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": usage}, {}


class ScriptedServer:
    """`reply(body, number)` gives the reply to the number-th request (from 0); raise Hang to answer never, Drop to hang up."""

    def __init__(self, reply: Callable[[dict[str, Any], int], Reply], model: str = "tiny-vlm", root: str = "") -> None:
        self.reply, self.model, self.root = reply, model, root
        self.bodies: list[dict[str, Any]] = []
        self.answered: list[bytes] = []  # bodies that got a 200, as they came
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self._now = 0
        self.delay = 0.0
        self.models_delay = 0.0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> ScriptedServer:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def stop(self) -> None:
        """Close the socket; connections are dropped. `start` brings it back on the same port."""
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
            self._runner = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def _models(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.models_delay)
        told = {"root": self.root} if self.root else {}
        return web.json_response({"data": [{"id": self.model, **told}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        number = len(self.bodies)
        self.bodies.append(orjson.loads(raw))
        self.headers.append(dict(request.headers))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            status, body, headers = self.reply(self.bodies[number], number)
            if status == -1:  # hang
                await asyncio.sleep(3600)
            if status == -2:  # hang up
                assert request.transport is not None
                request.transport.close()
                return web.Response()
            if status == 200:
                self.answered.append(raw)
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            return web.Response(status=status, body=data, headers=headers, content_type="application/json")
        finally:
            self._now -= 1


HANG: Reply = (-1, {}, {})
DROP: Reply = (-2, {}, {})
