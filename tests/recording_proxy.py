"""A reverse proxy that writes down every request and can spoil some: what a client really asked of a server.

It runs in a thread of the test's process, so that a test may look at its record and change its faults at any moment,
while the client under test runs here or in a process of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import ClientError, ClientSession, ClientTimeout, web

PATIENCE = 20.0  # seconds to start and to stop


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request.

    refuse     the server never sees it; the answer is `status` with `headers` (429 and Retry-After, 500, 503, 400)
    drop       the server never sees it; the connection breaks
    lose       the server answers it; the connection breaks before the client hears
    truncate   the server answers it; the connection breaks in the middle of the answer
    garble     the server answers it; the client gets the first half as if it were the whole (200, no JSON)
    hang       nothing happens for `seconds`; then it goes to the server, unless the client has gone away
    """

    kind: Literal["refuse", "drop", "lose", "truncate", "garble", "hang"]
    status: int = 503
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "a fault that the test planted"


@dataclass(slots=True)
class Request:
    """One request as it came. `status`: what the client was answered; 0: nothing (yet), or the connection broke.

    `seconds` are since the proxy started; `ended` is 0 while the request is under way.
    """

    number: int
    method: str
    path: str
    sha256: str
    body: bytes
    started: float
    ended: float = 0.0
    status: int = 0
    fault: str = ""

    @property
    def answered(self) -> bool:
        """Whether the client got a whole answer that it may keep."""
        return self.status == 200 and self.fault != "garble"

    def json(self) -> dict[str, Any]:
        """The body of a POST."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


class RecordingProxy:
    """Stands in front of `target` (a server's base_url, settable: a server may come back on another port).

    Faults apply to POSTs only: first those of `inject`, one a request in the order of arrival, then what `rule` says
    of the body (None: nothing).
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.rule: Callable[[dict[str, Any]], Fault | None] | None = None
        self.requests: list[Request] = []
        self.alike = (
            False  # like requests get like answers: what was answered once is answered so again (batching varies)
        )
        self.peak = 0  # most POSTs under way at once
        self._remembered: dict[str, tuple[int, bytes, str]] = {}
        self._under_way = 0
        self._faults: list[Fault] = []
        self._port = 0
        self._zero = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._over: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="recording-proxy", daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def posts(self) -> list[Request]:
        """The POSTs, in the order of arrival."""
        return [request for request in list(self.requests) if request.method == "POST"]

    def repeated(self) -> list[Request]:
        """POSTs that ask, byte for byte, what a whole answer with status 200 had been given to before they came."""
        first: dict[str, float] = {}
        for request in self.posts:
            if request.answered:
                first[request.sha256] = min(request.ended, first.get(request.sha256, request.ended))
        return [r for r in self.posts if r.sha256 in first and r.started > first[r.sha256]]

    def inject(self, *faults: Fault) -> None:
        """The next POSTs meet these faults, one each."""
        self._faults.extend(faults)

    def forget(self) -> None:
        """An empty record, no faults, no rule."""
        self.requests, self._faults, self.rule, self.peak = [], [], None, self._under_way

    def __enter__(self) -> RecordingProxy:
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise RuntimeError("the recording proxy did not start")
        return self

    def __exit__(self, *_: Any) -> None:
        if self._over is not None:
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # handler_cancellation: a client that goes away takes its request at the server with it, as without a proxy.
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        async with ClientSession(timeout=ClientTimeout(total=None), auto_decompress=False) as self._client:
            self._ready.set()
            await self._over.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        entry = Request(
            number=len(self.requests),
            method=request.method,
            path=request.path,
            sha256=hashlib.sha256(body).hexdigest(),
            body=body,
            started=time.monotonic() - self._zero,
        )
        self.requests.append(entry)
        is_post = request.method == "POST"
        self._under_way += is_post
        self.peak = max(self.peak, self._under_way)
        try:
            return await self._answer(request, entry, self._fault_of(entry) if is_post else None)
        finally:
            self._under_way -= is_post
            entry.ended = time.monotonic() - self._zero

    def _fault_of(self, entry: Request) -> Fault | None:
        if self._faults:
            return self._faults.pop(0)
        return self.rule(entry.json()) if self.rule else None

    async def _answer(self, request: web.Request, entry: Request, fault: Fault | None) -> web.StreamResponse:
        kind = entry.fault = fault.kind if fault else ""
        if fault and kind == "refuse":
            entry.status = fault.status
            problem = {"error": {"message": fault.message, "type": "planted", "code": fault.status}}
            return web.json_response(problem, status=fault.status, headers=fault.headers)
        if fault and kind == "hang":
            await asyncio.sleep(fault.seconds)
        if kind == "drop":
            return break_off(request)
        url = self.target.removesuffix("/v1") + request.raw_path
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            if self.alike and entry.sha256 in self._remembered:
                status, answer, type_ = self._remembered[entry.sha256]
            else:
                async with self._client.request(request.method, url, data=entry.body, headers=headers) as heard:
                    status, answer, type_ = heard.status, await heard.read(), heard.headers.get("Content-Type", "")
        except (ClientError, OSError):  # the server is away
            return break_off(request)
        if self.alike and request.method == "POST" and status == 200:
            self._remembered[entry.sha256] = (status, answer, type_)
        if kind == "lose":
            return break_off(request)
        if kind == "garble":
            answer = answer[: len(answer) // 2]
        response = web.StreamResponse(status=status, headers={"Content-Type": type_})
        response.content_length = len(answer)
        await response.prepare(request)
        if kind == "truncate":
            await response.write(answer[: len(answer) // 2])
            return break_off(request)
        # Written down before the last byte leaves: whoever has the answer may look here at once.
        entry.status, entry.ended = status, time.monotonic() - self._zero
        try:
            await response.write(answer)
            await response.write_eof()
        except ConnectionError:  # the client went away
            entry.status = 0
        return response


HOP_BY_HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive", "expect"}


def break_off(request: web.Request) -> web.StreamResponse:
    """Break the connection without an answer; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
