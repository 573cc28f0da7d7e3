"""The engine room against a real HTTP server whose faults are scripted: nothing lost, nothing asked twice, one row at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_server import DROP, HANG, Reply, ScriptedServer, completion

from unif2ace_data.errors import UserError
from unif2ace_data.llm import fleet as fleet_module
from unif2ace_data.llm import room as room_module
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Request
from unif2ace_data.llm.journal import Journal
from unif2ace_data.llm.openai_server import OpenAIServer, seconds_of
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.recipe import Llm

SETTINGS = Llm(model="tiny-vlm", attempts=3, timeout_s=5, wait_s=5, in_flight=8)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "PAUSE", 0.05)
    monkeypatch.setattr(fleet_module, "KNOCK", 0.05)


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    servers: list[ScriptedServer] = []

    def start(reply: Callable[[dict[str, Any], int], Reply]) -> ScriptedServer:
        servers.append(ScriptedServer(reply).start())
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def request(number: int) -> Request:
    return Request("draft", "system", f"question {number}", 64, 0.2, 0)


def ask(
    server: ScriptedServer, journal: Path, numbers: list[int], parse: Callable[[str], str] = str, **changes: Any
) -> tuple[dict[int, str | AnswerFailed], EngineRoom]:
    """Ask every question; returns results by number, and the room for its accounts."""
    settings = SETTINGS.model_copy(update={"base_url": server.base_url, **changes})
    results: dict[int, str | AnswerFailed] = {}
    book = Journal(journal / "journal.sqlite")

    async def work(room: EngineRoom, number: int) -> str:
        return await room.ask(request(number), parse)

    try:
        room = EngineRoom(OpenAIServer(settings), book, settings)
        run_rows(room, numbers, work, results.__setitem__)
    finally:
        book.close()
    return results, room


def number_of(body: dict[str, Any]) -> int:
    return int(body["messages"][1]["content"][-1]["text"].split()[-1])


def test_answers_arrive_and_a_second_run_asks_nothing(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda body, n: completion(f"answer {number_of(body)}"))
    results, room = ask(server, tmp_path, list(range(30)))
    assert results == {i: f"answer {i}" for i in range(30)}
    assert room.accounts["draft"].asked == 30 and room.accounts["draft"].prompt_tokens == 300
    again, room = ask(server, tmp_path, list(range(30)))
    assert again == results and len(server.bodies) == 30
    assert room.accounts["draft"].asked == 0 and room.accounts["draft"].journalled == 30


def test_the_same_request_is_in_flight_once(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda body, n: completion("same"))
    server.delay = 0.1
    results, _ = ask(server, tmp_path, [7] * 5)
    assert results == {7: "same"} and len(server.bodies) == 1


def test_requests_in_flight_are_bounded(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda body, n: completion("x"))
    server.delay = 0.02
    ask(server, tmp_path, list(range(60)), in_flight=4)
    assert server.most_at_once == 4


def test_a_cut_off_answer_is_asked_for_with_another_seed_then_fails_alone(serve: Any, tmp_path: Path) -> None:
    def reply(body: dict[str, Any], n: int) -> Reply:
        cut = number_of(body) == 3 or (number_of(body) == 5 and body["seed"] == 0)
        return completion("half an ans", "length") if cut else completion("whole")

    server = serve(reply)
    results, _ = ask(server, tmp_path, list(range(8)))
    failure = results.pop(3)
    assert isinstance(failure, AnswerFailed) and "cut off at 64 tokens" in str(failure)
    assert set(results.values()) == {"whole"}
    assert sorted(b["seed"] for b in server.bodies if number_of(b) == 3) == [0, 1, 2]
    assert sorted(b["seed"] for b in server.bodies if number_of(b) == 5) == [0, 1]
    before = len(server.bodies)
    again, _ = ask(server, tmp_path, list(range(8)))
    assert (
        isinstance(again[3], AnswerFailed) and len(server.bodies) == before
    )  # answers that arrived are not asked for again


def test_an_answer_that_does_not_parse_is_treated_alike(serve: Any, tmp_path: Path) -> None:
    def parse(text: str) -> str:
        if text != "good":
            raise ValueError("not good")
        return text

    server = serve(lambda body, n: completion("good" if body["seed"] == 2 else "bad"))
    results, _ = ask(server, tmp_path, [0], parse)
    assert results == {0: "good"}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_fails_alone_and_at_once(serve: Any, tmp_path: Path, status: int) -> None:
    error = {"error": {"message": "prompt is too long"}}
    server = serve(lambda body, n: (status, error, {}) if number_of(body) == 2 else completion("x"))
    results, _ = ask(server, tmp_path, list(range(6)))
    failure = results.pop(2)
    assert isinstance(failure, AnswerFailed) and "prompt is too long" in str(failure)
    assert len(results) == 5 and sum(number_of(b) == 2 for b in server.bodies) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_gets_fewer_requests_and_every_answer_arrives(serve: Any, tmp_path: Path, status: int) -> None:
    refused = Counter[int]()

    def reply(body: dict[str, Any], n: int) -> Reply:
        number = number_of(body)
        if number % 3 == 0 and refused[number] < 2:
            refused[number] += 1
            return status, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"}
        return completion("x")

    server = serve(reply)
    results, room = ask(server, tmp_path, list(range(30)))
    assert len(results) == 30 and set(results.values()) == {"x"}
    assert room.fleet.servers[0].places.limit < 8 and room.accounts["draft"].again == 20


def test_a_request_that_breaks_the_server_is_tried_again_then_fails_alone(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda body, n: (500, {"error": "boom"}, {}) if number_of(body) == 1 else completion("x"))
    results, _ = ask(server, tmp_path, list(range(4)))
    failure = results.pop(1)
    assert isinstance(failure, AnswerFailed) and "500: boom (3 times)" in str(failure)
    assert set(results.values()) == {"x"}


def test_a_hung_request_times_out_and_costs_nobody_else(serve: Any, tmp_path: Path) -> None:
    hung = Counter[int]()

    def reply(body: dict[str, Any], n: int) -> Reply:
        number = number_of(body)
        hung[number] += 1
        if number == 2 or (number == 4 and hung[number] == 1):
            return HANG
        return completion("x")

    server = serve(reply)
    started = time.monotonic()
    results, _ = ask(server, tmp_path, list(range(12)), timeout_s=0.4)
    failure = results.pop(2)
    assert isinstance(failure, AnswerFailed) and "no answer within 0.4 s" in str(failure)
    assert len(results) == 11 and set(results.values()) == {"x"} and time.monotonic() - started < 5


def test_a_lost_connection_is_made_again(serve: Any, tmp_path: Path) -> None:
    dropped = Counter[int]()

    def reply(body: dict[str, Any], n: int) -> Reply:
        number = number_of(body)
        dropped[number] += 1
        return DROP if dropped[number] == 1 and number % 2 else completion("x")

    server = serve(reply)
    results, _ = ask(server, tmp_path, list(range(10)))
    assert len(results) == 10 and set(results.values()) == {"x"}
    assert max(Counter(server.answered).values()) == 1


def test_a_server_that_dies_is_waited_for(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda body, n: completion("x"))
    server.delay = 0.05

    def outage() -> None:
        time.sleep(0.3)
        server.stop()
        time.sleep(0.6)
        server.start()

    thread = threading.Thread(target=outage)
    thread.start()
    results, _ = ask(server, tmp_path, list(range(100)), in_flight=4)
    thread.join()
    assert len(results) == 100 and set(results.values()) == {"x"}
    assert max(Counter(server.answered).values()) == 1  # zero repeated answers


def test_a_server_that_stays_away_ends_the_run_and_keeps_the_answers(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda body, n: completion("x"))
    server.delay = 0.02
    timer = threading.Timer(0.4, server.stop)
    timer.start()
    with pytest.raises(UserError, match=r"no answer from the server for 0.5 s .* run the same command again"):
        ask(server, tmp_path, list(range(400)), in_flight=2, wait_s=0.5)
    timer.join()
    answered = len(server.answered)
    assert answered > 5
    server.start()
    server.delay = 0
    results, room = ask(server, tmp_path, list(range(400)))
    assert len(results) == 400
    assert room.accounts["draft"].journalled >= answered - 2  # the two in flight may not have arrived


def test_nobody_there_from_the_start(tmp_path: Path) -> None:
    settings = replace_url(SETTINGS, "http://127.0.0.1:9/v1")
    book = Journal(tmp_path / "journal.sqlite")

    async def work(room: EngineRoom, number: int) -> str:
        return await room.ask(request(number), str)

    with pytest.raises(UserError, match="start the server"):
        run_rows(EngineRoom(OpenAIServer(settings), book, settings), [1], work, lambda i, r: None)


def replace_url(settings: Llm, url: str) -> Llm:
    return settings.model_copy(update={"base_url": url, "wait_s": 0.3})


@pytest.mark.parametrize(("status", "hint"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "--model")])
def test_what_no_request_can_get_past_ends_the_run(serve: Any, tmp_path: Path, status: int, hint: str) -> None:
    server = serve(lambda body, n: (status, {"error": {"message": "no"}}, {}))
    with pytest.raises(UserError, match=hint):
        ask(server, tmp_path, list(range(20)))


def test_a_model_that_is_not_served_is_named_before_the_first_request(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda body, n: completion("x"))
    with pytest.raises(UserError, match=r"does not serve 'another'; it serves tiny-vlm"):
        ask(server, tmp_path, [1], model="another")
    assert not server.bodies


def test_the_key_comes_from_the_environment_and_follows_no_redirect(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    elsewhere = serve(lambda body, n: completion("stolen"))
    server = serve(lambda body, n: (307, b"", {"Location": elsewhere.base_url + "/chat/completions"}))
    with pytest.raises(UserError, match=rf"307 to {elsewhere.base_url}.* name that server with --base-url"):
        ask(server, tmp_path, [1])
    assert not elsewhere.bodies
    assert server.headers[0]["Authorization"] == "Bearer secret-key"
    assert b"secret-key" not in (tmp_path / "journal.sqlite").read_bytes()


def test_a_wrong_path_hints_at_the_usual_one(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda body, n: completion("x"))
    url = server.base_url.removesuffix("/v1")
    with pytest.raises(UserError, match=rf"no such model or path .*most servers want {url}/v1"):
        ask(server, tmp_path, [1], base_url=url)


@pytest.mark.parametrize("after", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_server_that_asks_for_an_hour_is_waited_for_as_long_as_the_recipe_says(
    serve: Any, tmp_path: Path, after: str
) -> None:
    server = serve(lambda body, n: (429, {"error": "later"}, {"Retry-After": after}))
    started = time.monotonic()
    with pytest.raises(UserError, match=r"refusing requests for 0\.5 s"):
        ask(server, tmp_path, [1], wait_s=0.5)
    assert time.monotonic() - started < 3 and len(server.bodies) == 2


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("2", 2), ("0.5", 0.5), ("-1", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", None), ("", None)],
)
def test_a_pause_is_given_in_seconds_or_as_a_date(said: str, seconds: float | None) -> None:
    assert seconds_of(said) == seconds


def test_a_bug_in_one_row_fails_that_row_and_says_where(serve: Any, tmp_path: Path) -> None:
    def parse(text: str) -> str:
        if text == "answer 2":
            raise KeyError("missing")
        return text

    server = serve(lambda body, n: completion(f"answer {number_of(body)}"))
    results, _ = ask(server, tmp_path, list(range(5)), parse)
    failure = results.pop(2)
    assert isinstance(failure, AnswerFailed) and "KeyError" in str(failure) and "parse, line" in str(failure)
    assert results == {i: f"answer {i}" for i in (0, 1, 3, 4)}


def test_what_had_finished_when_an_error_ends_the_run_is_handed_over_and_accounted_for(
    serve: Any, tmp_path: Path
) -> None:
    server = serve(lambda body, n: completion("x"))
    ask(server, tmp_path, list(range(6)))
    settings = SETTINGS.model_copy(update={"base_url": server.base_url})
    room = EngineRoom(OpenAIServer(settings), Journal(tmp_path / "journal.sqlite"), settings)
    handed: list[int] = []

    async def work(room: EngineRoom, number: int) -> str:
        if number == 3:
            raise UserError("the key is not taken")
        return await room.ask(request(number), str)

    with pytest.raises(UserError, match="the key is not taken"):
        run_rows(room, range(6), work, lambda number, result: handed.append(number))
    assert handed == [0, 1, 2] and room.accounts["draft"].journalled == 3
    room.journal.close()


def test_requests_are_sent_while_the_first_rows_are_still_being_read(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda body, n: completion("x"))
    settings = SETTINGS.model_copy(update={"base_url": server.base_url})
    journal = Journal(tmp_path / "journal.sqlite")
    seen: list[int] = []

    def rows() -> Iterator[int]:
        for number in range(16):
            yield number
            time.sleep(0.02)  # a picture that is read and scaled
            seen.append(len(server.bodies))

    async def work(room: EngineRoom, number: int) -> str:
        return await room.ask(request(number), str)

    run_rows(EngineRoom(OpenAIServer(settings), journal, settings), rows(), work, lambda number, result: None)
    journal.close()
    assert seen[-1] >= 1


def test_images_and_schemas_reach_the_server(serve: Any, tmp_path: Path) -> None:
    from unif2ace_data.llm.openai_server import body_of

    asked = replace(request(1), image=b"\xff\xd8jpeg", schema={"type": "object"})
    import orjson

    body = orjson.loads(body_of(asked, "m"))
    image = body["messages"][1]["content"][0]["image_url"]["url"]
    assert image.startswith("data:image/jpeg;base64,") and len(body["messages"][1]["content"]) == 2
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["seed"], body["max_tokens"], body["temperature"]) == (0, 64, 0.2)
