"""Several servers of one model: the load goes where it is answered, and a server that dies costs what it had in hand."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from scripted_server import HANG, Reply, ScriptedServer, completion

from unif2ace_data.errors import UserError
from unif2ace_data.llm import fleet as fleet_module
from unif2ace_data.llm import room as room_module
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Request, make_engine
from unif2ace_data.llm.fleet import Fleet, Server
from unif2ace_data.llm.journal import Journal
from unif2ace_data.llm.openai_server import OpenAIServer
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.recipe import Llm, load_recipe

Serve = Callable[..., ScriptedServer]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "PAUSE", 0.05)
    monkeypatch.setattr(fleet_module, "KNOCK", 0.05)


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ScriptedServer] = []

    def start(reply: Callable[[dict[str, Any], int], Reply] = answering, **told: str) -> ScriptedServer:
        servers.append(ScriptedServer(reply, **told).start())
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def number_of(body: dict[str, Any]) -> int:
    return int(body["messages"][1]["content"][-1]["text"].split()[-1])


def answering(body: dict[str, Any], n: int) -> Reply:
    return completion(f"answer {number_of(body)}")


def dead(body: dict[str, Any], n: int) -> Reply:
    return 500, {"error": "the engine is dead"}, {}


def at(number: int, happens: Callable[[], None]) -> Callable[[dict[str, Any], int], Reply]:
    """Answers, and at the request of this number something happens to the servers, meanwhile."""

    def reply(body: dict[str, Any], n: int) -> Reply:
        if n == number:
            threading.Thread(target=happens).start()
        return answering(body, n)

    return reply


def ask(
    servers: list[ScriptedServer], folder: Path, count: int, **changes: Any
) -> tuple[dict[int, str | AnswerFailed], EngineRoom]:
    """Ask `count` questions of all servers together; results by number, and the room for its accounts."""
    urls = [server.base_url for server in servers]
    settings = Llm(
        **{"model": "tiny-vlm", "base_url": urls, "attempts": 3, "timeout_s": 5, "wait_s": 5, "in_flight": 4} | changes
    )
    results: dict[int, str | AnswerFailed] = {}
    book = Journal(folder / "journal.sqlite")

    async def work(room: EngineRoom, number: int) -> str:
        return await room.ask(Request("draft", "system", f"question {number}", 64, 0.2, 0), str)

    room = EngineRoom(make_engine("openai", settings), book, settings)
    try:
        run_rows(room, range(count), work, results.__setitem__)
    finally:
        book.close()
    return results, room


def all_of(count: int) -> dict[int, str]:
    return {number: f"answer {number}" for number in range(count)}


def journal_of(folder: Path) -> list[tuple[str, str, str]]:
    book = Journal(folder / "journal.sqlite")
    try:
        return sorted(book.db.execute("select key, model, text from answers").fetchall())
    finally:
        book.close()


def test_each_server_gets_its_share_within_its_own_limit(serve: Serve, tmp_path: Path) -> None:
    servers = [serve(), serve(), serve()]
    for server in servers:
        server.delay = 0.1
    results, room = ask(servers, tmp_path, 60)
    assert results == all_of(60) and room.accounts["draft"].asked == 60
    assert all(len(server.bodies) >= 10 and server.most_at_once <= 4 for server in servers)
    assert room.fleet.peak == 12


def test_a_slower_server_gets_fewer_requests(serve: Serve, tmp_path: Path) -> None:
    slow, fast = serve(), serve()
    slow.delay, fast.delay = 0.5, 0.02
    results, _ = ask([slow, fast], tmp_path, 120)
    assert results == all_of(120)
    assert 0 < len(slow.bodies) < len(fast.bodies)


def test_a_server_killed_in_mid_run_costs_what_it_had_in_flight(serve: Serve, tmp_path: Path) -> None:
    mortal, other = serve(), serve()
    mortal.delay = other.delay = 0.02
    mortal.reply = at(40, mortal.stop)
    results, room = ask([mortal, other], tmp_path, 300)
    assert results == all_of(300)
    assert 0 < len(mortal.answered) < len(other.answered), "the server was not lost in mid-run"
    assert max(Counter([*mortal.answered, *other.answered]).values()) <= 2
    twice = len(mortal.answered) + len(other.answered) - 300
    assert 0 <= twice <= 4, "an answer that had arrived was asked for again"  # four were in flight: sent, never read
    assert room.accounts["draft"].again <= 8


def test_a_server_that_comes_back_is_asked_again(serve: Serve, tmp_path: Path) -> None:
    away, other = serve(), serve()
    away.stop()
    other.delay = 0.02
    other.reply = at(40, lambda: away.start() and None)
    results, _ = ask([away, other], tmp_path, 300)
    assert results == all_of(300) and len(away.bodies) > 10


def test_the_run_ends_when_none_answers_and_keeps_what_arrived(serve: Serve, tmp_path: Path) -> None:
    servers = [serve(), serve()]
    for number, server in zip((20, 40), servers, strict=True):
        server.delay, server.reply = 0.02, at(number, server.stop)
    with pytest.raises(UserError, match=r"no answer from the server for 0.3 s .* run the same command again"):
        ask(servers, tmp_path, 2000, wait_s=0.3)
    answered = {raw for server in servers for raw in server.answered}
    assert len(answered) - 8 <= len(journal_of(tmp_path)) <= len(answered)


def test_what_one_server_cannot_answer_another_is_asked_at_once(serve: Serve, tmp_path: Path) -> None:
    broken = serve(dead)
    busy = serve(lambda body, n: (429, {"error": "later"}, {"Retry-After": "3600"}))
    hung = serve(lambda body, n: HANG)
    for bad in (broken, busy, hung):
        results, _ = ask([bad, serve()], tmp_path / str(bad.port), 30, timeout_s=3)
        assert results == all_of(30)


@pytest.mark.parametrize("attempts", [1, 3])
def test_one_good_server_answers_what_all_others_fail_at_once(serve: Serve, tmp_path: Path, attempts: int) -> None:
    bad = [serve(dead), serve(dead), serve(dead)]
    good = serve()
    good.delay = 0.02
    results, room = ask([*bad, good], tmp_path, 80, attempts=attempts)
    assert results == all_of(80) and room.accounts["draft"].failed == 0
    assert all(len(server.bodies) >= fleet_module.AILING for server in bad), "the bad servers were never asked"


def test_a_server_that_only_fails_is_asked_last_until_it_answers() -> None:
    settings = Llm(model="tiny-vlm", base_url=["http://a:1/v1", "http://b:1/v1"], in_flight=4)
    fleet = Fleet(make_engine("openai", settings), settings)
    failing, well = fleet.servers

    async def given(count: int) -> list[Server]:
        async with contextlib.AsyncExitStack() as held:
            return [await held.enter_async_context(fleet.turn()) for _ in range(count)]

    for _ in range(fleet_module.AILING):
        assert asyncio.run(given(2)) == [failing, well]
        fleet.broke(failing)
    assert asyncio.run(given(8)) == [well] * 4 + [failing] * 4
    fleet.answered(failing)
    assert asyncio.run(given(2)) == [failing, well]


def test_a_request_that_every_server_fails_costs_its_row_alone(serve: Serve, tmp_path: Path) -> None:
    def poison(body: dict[str, Any], n: int) -> Reply:
        return dead(body, n) if number_of(body) == 7 else answering(body, n)

    busy = serve(lambda body, n: (429, {"error": "later"}, {}))
    for servers, why in (
        ([serve(poison), serve(poison)], r"the engine is dead \(2 times\)"),
        ([serve(poison), busy], r"failed \d+ times, and elsewhere refused \(429: later\)"),
    ):
        results, _ = ask(servers, tmp_path / str(servers[0].port), 20, wait_s=0.5, attempts=1)
        failed = results.pop(7)
        assert isinstance(failed, AnswerFailed) and re.search(why, str(failed))
        assert results == {number: text for number, text in all_of(20).items() if number != 7}


def test_a_request_that_hangs_costs_a_time_out_at_two_servers_and_its_row_alone(serve: Serve, tmp_path: Path) -> None:
    def hanging(body: dict[str, Any], n: int) -> Reply:
        return HANG if number_of(body) == 7 else answering(body, n)

    servers = [serve(hanging) for _ in range(4)]
    results, room = ask(servers, tmp_path, 30, timeout_s=1, attempts=5)
    failed = results.pop(7)
    assert isinstance(failed, AnswerFailed) and str(failed) == "draft: no answer within 1 s, at 2 servers"
    assert results == {number: text for number, text in all_of(30).items() if number != 7}
    assert sorted(sum(number_of(body) == 7 for body in server.bodies) for server in servers) == [0, 0, 1, 1]
    assert room.accounts["draft"].failed == 1


def test_two_servers_that_hang_on_everything_cost_no_row(serve: Serve, tmp_path: Path) -> None:
    hung, good = [serve(lambda body, n: HANG) for _ in range(2)], serve()
    good.delay = 0.1
    results, _ = ask([*hung, good], tmp_path, 100, timeout_s=1, attempts=1)
    assert results == all_of(100)
    numbers = [Counter(map(number_of, server.bodies)) for server in hung]
    assert (numbers[0] & numbers[1]).total() > 0, "no row was asked at both"


def test_neither_the_journal_nor_the_answers_know_who_answered(serve: Serve, tmp_path: Path) -> None:
    one, two = serve(), serve()
    alone, _ = ask([one], tmp_path / "alone", 20)
    together, _ = ask([two, one], tmp_path / "together", 20)
    assert alone == together and journal_of(tmp_path / "alone") == journal_of(tmp_path / "together")
    asked = len(one.bodies) + len(two.bodies)
    again, room = ask([serve()], tmp_path / "together", 20)  # another server: everything is at hand
    assert again == together and len(one.bodies) + len(two.bodies) == asked and room.accounts["draft"].asked == 0


def test_a_server_of_another_model_is_told_before_the_first_request(serve: Serve, tmp_path: Path) -> None:
    right, wrong = serve(), serve(model="another-vlm")
    with pytest.raises(UserError, match=rf"{wrong.base_url} does not serve 'tiny-vlm'; it serves another-vlm") as told:
        ask([right, wrong], tmp_path, 20)
    assert told.value.exit_code == 2 and not right.bodies and not wrong.bodies


def test_a_wrong_server_is_told_at_once_and_of_one_that_was_still_being_asked_nothing(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, wrong = serve(), serve(model="another-vlm")
    slow.models_delay = 3600
    with pytest.raises(UserError, match="it serves another-vlm"):
        ask([slow, wrong], tmp_path, 20, timeout_s=3600)
    assert capsys.readouterr().err == ""


def test_a_bug_in_asking_whether_a_server_is_back_ends_the_run(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    opened, opens = OpenAIServer.open, Counter[str]()

    async def once(engine: OpenAIServer) -> None:
        opens["asked"] += 1
        await opened(engine) if opens["asked"] == 1 else [][0]

    monkeypatch.setattr(OpenAIServer, "open", once)
    server.reply = at(5, server.stop)
    with pytest.raises(
        UserError, match=r"internal error \(IndexError: .* report it. Every answer that arrived is kept"
    ):
        ask([server], tmp_path, 2000)


def test_another_model_under_the_same_name_is_told(serve: Serve, tmp_path: Path) -> None:
    small, large = serve(root="/models/vlm-3b"), serve(root="/models/vlm-7b")
    with pytest.raises(UserError, match=r"serves vlm-[37]b as 'tiny-vlm', and .* serves vlm-[37]b: all servers must"):
        ask([small, large], tmp_path, 20)
    assert not small.bodies and not large.bodies
    elsewhere = serve(root="hub/vlm-7b")  # the same model, in another place
    assert ask([large, elsewhere], tmp_path, 20)[0] == all_of(20)


def test_a_server_that_comes_back_with_another_model_ends_the_run(serve: Serve, tmp_path: Path) -> None:
    changed, other = serve(), serve()
    other.delay = changed.delay = 0.02

    def change() -> None:
        changed.stop()
        asked, until = len(other.bodies), time.monotonic() + 30
        while len(other.bodies) < asked + 20 and time.monotonic() < until:  # one of these finds it gone
            time.sleep(0.01)
        changed.model = "another-vlm"
        changed.start()

    changed.reply = at(20, change)
    with pytest.raises(UserError, match="it serves another-vlm"):
        ask([changed, other], tmp_path, 2000)


def test_servers_are_named_one_by_one_or_as_a_list() -> None:
    urls = ["http://a:8000/v1", "http://b:8000/v1"]
    assert load_recipe("embedded", [f"llm.base_url={orjson.dumps(urls).decode()}"]).llm.base_urls == urls
    assert load_recipe("embedded", ["llm.base_url=http://a:8000/v1/"]).llm.base_urls == urls[:1]
    assert Llm(base_url=[urls[0], f"{urls[0]}/"]).base_urls == urls[:1]
    for wrong in ("ftp://a", '["http://a", "b"]', "[]"):
        with pytest.raises(UserError, match=r"llm\.base_url"):
            load_recipe("embedded", [f"llm.base_url={wrong}"])
