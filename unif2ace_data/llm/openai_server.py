"""Any OpenAI-compatible server over HTTP: `vllm serve`, others on your machines, hosted ones."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from unif2ace_data.errors import UserError
from unif2ace_data.llm.engine import Answer, Broken, Busy, Refused, Request, TimedOut, Unreachable, folder_revision
from unif2ace_data.recipe import Llm

MESSAGE = 300  # characters of a server's own words that a message repeats


class OpenAIServer:
    """One connection pool for the run. The key is read from the environment and goes to `base_url` alone.

    Of several servers in the settings it is the first; `servers` gives all of them.
    """

    def __init__(self, settings: Llm) -> None:
        self.settings = settings
        self.model = settings.model
        self.revision = settings.revision or folder_revision(settings.model)
        self.most = settings.in_flight
        self.base_url = settings.base_urls[0]
        self._session: aiohttp.ClientSession | None = None
        self._loaded: dict[str, str] = {}  # by server of the fleet: what it says it has loaded under the model's name

    def servers(self) -> list[OpenAIServer]:
        others = [OpenAIServer(self.settings.model_copy(update={"base_url": u})) for u in self.settings.base_urls[1:]]
        for other in others:
            other._loaded = self._loaded
        return [self, *others]

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            key = os.environ.get(self.settings.api_key_env, "")
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(
                    total=self.settings.timeout_s, connect=min(10.0, self.settings.timeout_s)
                ),
                headers={"Authorization": f"Bearer {key}"} if key else {},
            )
        return self._session

    async def open(self) -> None:
        """Ask for the list of models; servers without one are taken at their word.

        `vllm serve` also tells what it loaded under that name (`root`): that must be the same at all servers.
        """
        status, data = await self._call("GET", "/models", None)
        listed = data.get("data") if isinstance(data, dict) else None
        names = [m.get("id", "") for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
        if status == 200 and names and self.model not in names:
            raise UserError(
                f"{self.base_url} does not serve {self.model!r}; it serves {', '.join(sorted(names)[:8])}: "
                "name one of these with --model",
                2,
            )
        roots = [str(m.get("root") or "") for m in listed or [] if isinstance(m, dict) and m.get("id") == self.model]
        if status == 200 and roots and roots[0]:
            self._loaded[self.base_url] = Path(roots[0]).name  # a folder may lie elsewhere on another machine
        for url, loaded in self._loaded.items():
            if loaded != self._loaded.get(self.base_url, loaded):
                raise UserError(
                    f"{self.base_url} serves {self._loaded[self.base_url]} as {self.model!r}, and {url} serves {loaded}: "
                    "all servers must serve the same model",
                    2,
                )

    async def answer(self, request: Request) -> Answer:
        started = time.monotonic()
        _, data = await self._call("POST", "/chat/completions", body_of(request, self.model))
        try:
            choice, usage = data["choices"][0], data.get("usage") or {}
            return Answer(
                text=str(choice["message"]["content"] or ""),
                finish="length" if choice.get("finish_reason") == "length" else "stop",
                prompt_tokens=int(usage.get("prompt_tokens") or 0),
                completion_tokens=int(usage.get("completion_tokens") or 0),
                seconds=time.monotonic() - started,
            )
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise Broken(f"the server's answer is no chat completion ({type(error).__name__}: {error})") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, path: str, body: bytes | None) -> tuple[int, Any]:
        try:
            # No redirects: the key and the photographs go to the server that the user named, and nowhere else.
            async with self.session().request(
                method,
                self.base_url + path,
                data=body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                data = await response.read()
                status, headers = response.status, response.headers
        except (aiohttp.ServerTimeoutError, TimeoutError) as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                raise Unreachable(f"{self.base_url}: no connection within the time-out") from None
            raise TimedOut(f"no answer within {self.settings.timeout_s:g} s") from None
        except aiohttp.InvalidURL:
            raise UserError(
                f"--base-url {self.base_url!r} is not a URL, for example http://127.0.0.1:8000/v1", 2
            ) from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise Unreachable(f"{self.base_url}: {error or type(error).__name__}") from None
        if status == 200:
            try:
                return status, orjson.loads(data)
            except orjson.JSONDecodeError:
                raise Broken("the server's answer is not JSON") from None
        said = said_in(data)
        if 300 <= status < 400:
            raise UserError(
                f"{self.base_url} sends us elsewhere ({status} to {headers.get('Location', 'no address')}), and nothing is "
                "sent there unasked: name that server with --base-url"
            )
        if method == "GET" and status in (404, 405):
            return status, {}
        if status in (429, 503):
            raise Busy(f"{status}: {said}", seconds_of(headers.get("Retry-After", "")))
        if status in (502, 504):
            raise Unreachable(f"{self.base_url}: {status} {said}")
        if status >= 500 or status == 408:
            raise Broken(f"{status}: {said}")
        if status in (401, 403):
            raise UserError(
                f"{self.base_url} refuses the key ({status}: {said}): set {self.settings.api_key_env} to one that it takes"
            )
        if status == 404:
            hint = "" if self.base_url.endswith("/v1") else f" (most servers want {self.base_url}/v1)"
            raise UserError(f"{self.base_url} has no such model or path ({said}): check --base-url{hint} and --model")
        raise Refused(f"{status}: {said}")


def body_of(request: Request, model: str) -> bytes:
    """The chat completion request as JSON. The system prompt comes first and is the same for all: servers cache prefixes."""
    content: list[dict[str, Any]] = []
    if request.image is not None:
        url = "data:image/jpeg;base64," + base64.b64encode(request.image).decode()
        content.append({"type": "image_url", "image_url": {"url": url}})
    content.append({"type": "text", "text": request.user})
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "system", "content": request.system}, {"role": "user", "content": content}],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": request.stage.replace(" ", "_"), "strict": True, "schema": request.schema},
        }
    return orjson.dumps(body)


def seconds_of(retry_after: str) -> float | None:
    """What a Retry-After header asks for: a number of seconds, or a date; None where it is neither."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def said_in(data: bytes) -> str:
    """The server's own message, in one short line."""
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        parsed = data.decode("utf-8", "replace")
    if isinstance(parsed, dict):
        inner = parsed.get("error", parsed)
        parsed = inner.get("message", inner) if isinstance(inner, dict) else inner
    return " ".join(str(parsed).split())[:MESSAGE]
