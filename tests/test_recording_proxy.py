"""The proxy that the tests of the engines count with: every fault, and the record that it keeps."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, web
from recording_proxy import Fault, RecordingProxy
from vllm_server import free_port


@pytest.fixture
def echo() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each POST with its own body under "you_said", after body["wait"] seconds."""
    served: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(body.get("wait", 0))
        served.append(await request.read())
        return web.json_response({"you_said": body})

    async def serve() -> None:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(application, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await over.wait()
        await runner.cleanup()

    port, ready, over, loop = free_port(), threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{port}/v1", served
    loop.call_soon_threadsafe(over.set)
    thread.join(10)


def ask(base_url: str, *bodies: dict[str, Any], seconds: float = 10) -> list[tuple[int, str]]:
    """(status, text) of each body, all asked at once; (0, name of the error) where no whole answer came."""

    async def one(client: ClientSession, body: dict[str, Any]) -> tuple[int, str]:
        try:
            async with client.post(f"{base_url}/chat/completions", json=body) as answer:
                return answer.status, await answer.text()
        except (ClientError, TimeoutError, OSError) as error:
            return 0, type(error).__name__

    async def everything() -> list[tuple[int, str]]:
        async with ClientSession(timeout=ClientTimeout(total=seconds)) as client:
            return list(await asyncio.gather(*[one(client, body) for body in bodies]))

    return asyncio.run(everything())


def test_what_is_not_spoiled_passes_unchanged_and_is_written_down(echo):
    base_url, _ = echo
    with RecordingProxy(base_url) as proxy:
        [(status, text)] = ask(proxy.base_url, {"model": "m", "n": 1})
        assert status == 200
        assert json.loads(text) == {"you_said": {"model": "m", "n": 1}}
        [entry] = proxy.requests
        assert (entry.method, entry.path, entry.status, entry.answered) == ("POST", "/v1/chat/completions", 200, True)
        assert entry.sha256 == hashlib.sha256(entry.body).hexdigest()
        assert entry.json() == {"model": "m", "n": 1}
        assert 0 < entry.started <= entry.ended


def test_a_repeated_request_is_found_and_one_that_was_never_answered_is_none(echo):
    base_url, _ = echo
    with RecordingProxy(base_url) as proxy:
        proxy.inject(Fault("drop"))
        ask(proxy.base_url, {"n": 1})
        ask(proxy.base_url, {"n": 1})
        ask(proxy.base_url, {"n": 2})
        assert proxy.repeated() == []
        ask(proxy.base_url, {"n": 1})
        assert [entry.number for entry in proxy.repeated()] == [3]


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_refused_requests_never_reach_the_server(echo, status):
    base_url, served = echo
    with RecordingProxy(base_url) as proxy:
        proxy.inject(Fault("refuse", status=status, headers={"Retry-After": "1"}))
        [(got, text)] = ask(proxy.base_url, {"n": 1})
        assert got == status
        assert "planted" in json.loads(text)["error"]["type"]
        assert served == []
        assert ask(proxy.base_url, {"n": 1})[0][0] == 200


@pytest.mark.parametrize(("kind", "reaches"), [("drop", 0), ("lose", 1), ("truncate", 1)])
def test_a_broken_connection_gives_no_answer(echo, kind, reaches):
    base_url, served = echo
    with RecordingProxy(base_url) as proxy:
        proxy.inject(Fault(kind))
        [(status, error)] = ask(proxy.base_url, {"n": 1})
        assert status == 0
        assert "Timeout" not in error
        assert len(served) == reaches
        assert (proxy.requests[0].status, proxy.requests[0].answered, proxy.requests[0].fault) == (0, False, kind)


def test_a_garbled_answer_is_a_200_that_does_not_parse(echo):
    base_url, _ = echo
    with RecordingProxy(base_url) as proxy:
        proxy.inject(Fault("garble"))
        [(status, text)] = ask(proxy.base_url, {"n": 1})
        assert status == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
        assert not proxy.requests[0].answered


def test_a_hung_request_is_answered_late_or_not_at_all_when_the_client_leaves(echo):
    base_url, served = echo
    with RecordingProxy(base_url) as proxy:
        proxy.inject(Fault("hang", seconds=0.4))
        began = time.monotonic()
        assert ask(proxy.base_url, {"n": 1})[0][0] == 200
        assert time.monotonic() - began >= 0.4
        proxy.inject(Fault("hang", seconds=30))
        assert ask(proxy.base_url, {"n": 2}, seconds=0.3) == [(0, "TimeoutError")]
        assert ask(proxy.base_url, {"n": 3})[0][0] == 200
        assert [json.loads(body)["n"] for body in served] == [1, 3]


def test_a_rule_spoils_by_what_the_body_says(echo):
    base_url, _ = echo
    with RecordingProxy(base_url) as proxy:
        proxy.rule = lambda body: Fault("refuse", status=400) if body["n"] % 2 else None
        assert [status for status, _ in ask(proxy.base_url, *[{"n": n} for n in range(6)])] == [200, 400] * 3
        proxy.forget()
        assert proxy.requests == []
        assert ask(proxy.base_url, {"n": 1})[0][0] == 200


def test_requests_under_way_at_once_are_counted(echo):
    base_url, _ = echo
    with RecordingProxy(base_url) as proxy:
        ask(proxy.base_url, *[{"n": n, "wait": 0.3} for n in range(9)])
        assert proxy.peak == 9


def test_a_server_that_is_away_breaks_connections_until_it_is_back(echo):
    base_url, _ = echo
    with RecordingProxy(f"http://127.0.0.1:{free_port()}/v1") as proxy:
        assert ask(proxy.base_url, {"n": 1})[0][0] == 0
        proxy.target = base_url
        assert ask(proxy.base_url, {"n": 1})[0][0] == 200
        assert proxy.repeated() == []
