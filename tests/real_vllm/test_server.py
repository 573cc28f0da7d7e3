"""The real server under the tests: it answers about images, is counted, and dies and comes back as it is told."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from PIL import Image
from recording_proxy import Fault
from vllm_server import MODEL, Server, living

from unif2ace_data.taxonomy import load_taxonomy

pytestmark = pytest.mark.slow

# Patterns that xgrammar 0.2.8 compiles and that keep answers parsable. A class may be repeated at most 128 times (more
# is a 500), so long prose is words of bounded length; `maxLength` lets control characters in.
QUOTE = r"^[ !#-\[\]-~]{2,80}$"
PROSE = r"^(?:[!#-\[\]-~]{1,20} ){3,60}[!#-\[\]-~]{1,20}$"


def object_of(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def claims_schema() -> dict[str, Any]:
    pairs = [f"{e.name}={value}" for e in load_taxonomy().attributes.values() for value in e.values]
    claim = object_of(
        states={"type": "string", "enum": pairs},
        negated={"type": "boolean"},
        quote={"type": "string", "pattern": QUOTE},
    )
    return object_of(claims={"type": "array", "items": claim, "maxItems": 24})


def body(
    picture: Path, seed: int, max_tokens: int, schema: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    image = Image.open(picture).convert("RGB")
    image.thumbnail((224, 224))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Describe the face."}]
    messages = [{"role": "user", "content": content}]
    asked: dict[str, Any] = {"model": MODEL, "messages": messages, "max_tokens": max_tokens, "seed": seed} | more
    if schema is not None:
        described = {"name": "answer", "strict": True, "schema": schema}
        asked["response_format"] = {"type": "json_schema", "json_schema": described}
    return asked


def ask(base_url: str, bodies: list[dict[str, Any]], at_once: int = 32) -> list[tuple[int, dict[str, Any]]]:
    """(status, answer) of each body; (0, {}) where the connection broke."""

    async def everything() -> list[tuple[int, dict[str, Any]]]:
        places = asyncio.Semaphore(at_once)

        async def one(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            async with places:
                try:
                    async with client.post(f"{base_url}/chat/completions", json=asked) as answer:
                        return answer.status, await answer.json()
                except (ClientError, OSError):
                    return 0, {}

        async with ClientSession(timeout=ClientTimeout(total=120)) as client:
            return list(await asyncio.gather(*[one(asked) for asked in bodies]))

    return asyncio.run(everything())


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_two_hundred_lists_of_claims_all_parse_and_keep_to_the_taxonomy(vllm_server, examples):
    schema = claims_schema()
    allowed = set(schema["properties"]["claims"]["items"]["properties"]["states"]["enum"])
    answers = ask(vllm_server.base_url, [body(examples / "obama.jpg", seed, 4096, schema) for seed in range(200)])
    assert Counter(status for status, _ in answers) == {200: 200}
    assert Counter(answer["choices"][0]["finish_reason"] for _, answer in answers) == {"stop": 200}
    listed = [json.loads(text_of(answer))["claims"] for _, answer in answers]
    assert all(len(claims) <= 24 for claims in listed)
    assert max(len(claims) for claims in listed) > 5
    assert {claim["states"] for claims in listed for claim in claims} <= allowed
    assert all(re.fullmatch(QUOTE, claim["quote"]) for claims in listed for claim in claims)


def test_prose_of_many_words_is_bounded_and_parses(vllm_server, examples):
    schema = object_of(caption={"type": "string", "pattern": PROSE})
    answers = ask(vllm_server.base_url, [body(examples / "obama.jpg", seed, 1400, schema) for seed in range(100)])
    assert Counter(answer["choices"][0]["finish_reason"] for _, answer in answers) == {"stop": 100}
    assert all(len(json.loads(text_of(answer))["caption"].split()) >= 3 for _, answer in answers)


def test_a_class_repeated_more_than_128_times_is_a_500(vllm_server, examples):
    """Why PROSE is written in words. Should this fail after an update, captions may be bounded in characters again."""

    def status(most: int) -> int:
        schema = object_of(caption={"type": "string", "pattern": f"^[a-z ]{{1,{most}}}$"})
        return ask(vllm_server.base_url, [body(examples / "obama.jpg", 0, 200, schema)])[0][0]

    assert [status(128), status(129), status(128)] == [200, 500, 200]


def test_the_image_reaches_the_model(vllm_server, examples):
    pictures = [examples / "obama.jpg", examples / "biden.jpg"]
    bodies = [body(picture, 7, 1, logprobs=True, temperature=0) for picture in pictures]
    first, second = [answer["choices"][0]["logprobs"]["content"][0] for _, answer in ask(vllm_server.base_url, bodies)]
    assert (first["token"], first["logprob"]) != (second["token"], second["logprob"])


def test_answers_cut_off_and_bad_requests_are_told_apart(vllm_server, examples):
    picture = examples / "obama.jpg"
    cut = body(picture, 1, 8, object_of(caption={"type": "string", "pattern": PROSE}))
    no_image = body(picture, 1, 8)
    no_image["messages"][0]["content"][0]["image_url"]["url"] = "data:image/jpeg;base64,bm8gcGljdHVyZQ=="
    too_long = body(picture, 1, 8)
    too_long["messages"][0]["content"][1]["text"] = "face " * 20000
    bad_schema = body(picture, 1, 8, {"type": "nonsense"})
    no_model = body(picture, 1, 8) | {"model": "another"}
    answers = ask(vllm_server.base_url, [cut, no_image, too_long, bad_schema, no_model])
    assert [status for status, _ in answers] == [200, 400, 400, 400, 404]
    assert answers[0][1]["choices"][0]["finish_reason"] == "length"


def test_the_proxy_and_the_server_count_the_same(vllm_server, proxy, examples):
    before = vllm_server.requests_served()
    proxy.inject(Fault("refuse", status=429))
    bodies = [body(examples / "obama.jpg", seed, 16) for seed in range(12)]
    answers = ask(proxy.base_url, [*bodies, bodies[0]], at_once=1)
    assert [status for status, _ in answers] == [429] + [200] * 12
    assert vllm_server.requests_served() - before == 12
    assert proxy.repeated() == []
    ask(proxy.base_url, [bodies[5]])
    assert [request.json()["seed"] for request in proxy.repeated()] == [5]


def test_a_killed_server_leaves_nothing_behind_and_comes_back_on_its_port(tiny_vlm, examples):
    with Server() as server:
        server.start(tiny_vlm).wait_ready()
        port, group = server.port, server.process.pid
        server.kill()
        assert living(group) == []
        assert not server.healthy()
        assert ask(server.base_url, [body(examples / "obama.jpg", 0, 8)]) == [(0, {})]
        server.start(tiny_vlm, port).wait_ready()
        assert ask(server.base_url, [body(examples / "obama.jpg", 0, 8)])[0][0] == 200
        group = server.process.pid
        server.stop()
        assert living(group) == []
