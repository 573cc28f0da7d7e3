"""The limit of requests in flight follows the server: up while that pays, down when it refuses."""

from __future__ import annotations

import asyncio

from unif2ace_data.llm.engine import Answer, Request
from unif2ace_data.llm.fleet import Fleet
from unif2ace_data.llm.in_flight import START, InFlight
from unif2ace_data.recipe import Llm

REQUEST = Request("draft", "system", "user", 8, 0.0, 0)


class Simulated:
    """A server that works on `capacity` requests at once, 10 ms each, and queues the others."""

    model, revision = "simulated", ""

    def __init__(self, capacity: int, most: int) -> None:
        self.most, self.places = most, asyncio.Semaphore(capacity)

    async def open(self) -> None:
        return

    async def answer(self, request: Request) -> Answer:
        async with self.places:
            await asyncio.sleep(0.01)
        return Answer("x", "stop", 1, 1, 0.01)

    async def close(self) -> None:
        return

    def servers(self) -> list[Simulated]:
        return [self]


def simulated(capacity: int, most: int, count: int) -> Fleet:
    async def run() -> Fleet:
        fleet = Fleet(Simulated(capacity, most), Llm(in_flight=most))

        async def one() -> None:
            async with fleet.turn() as server:
                await server.engine.answer(REQUEST)
            fleet.answered(server)

        await asyncio.gather(*(one() for _ in range(count)))
        return fleet

    return asyncio.run(run())


def test_it_grows_while_the_rate_grows() -> None:
    fleet = simulated(capacity=128, most=256, count=2000)
    assert fleet.servers[0].places.limit >= 128 and fleet.peak >= 128


def test_it_stops_growing_when_more_requests_would_only_queue() -> None:
    assert simulated(capacity=16, most=4096, count=2000).servers[0].places.limit <= 128


def test_it_never_exceeds_what_the_recipe_allows() -> None:
    assert simulated(capacity=100, most=5, count=200).peak == 5


def test_a_wave_of_refusals_halves_it_once() -> None:
    now = [0.0]
    limit = InFlight(64, clock=lambda: now[0])
    assert limit.limit == START
    for _ in range(10):
        limit.too_much()
    assert limit.limit == START // 2
    now[0] = 10.0
    limit.too_much()
    assert limit.limit == START // 4
    for i in range(10):
        now[0] = 20.0 + 10 * i
        limit.too_much()
    assert limit.limit == 1


def test_a_cancelled_wait_gives_its_turn_on() -> None:
    async def run() -> int:
        fleet = Fleet(Simulated(8, 1), Llm(in_flight=1))
        done = []

        async def one(name: str) -> None:
            async with fleet.turn():
                await asyncio.sleep(0.01)
                done.append(name)

        first, second, third = (asyncio.create_task(one(n)) for n in "abc")
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)
        assert done == ["a", "c"]
        return fleet.servers[0].places.running

    assert asyncio.run(run()) == 0


def test_a_turn_that_was_given_and_cancelled_at_once_is_passed_on() -> None:
    async def run() -> None:
        fleet = Fleet(Simulated(8, 1), Llm(in_flight=1))
        async with fleet.turn():
            waiting = [asyncio.create_task(fleet.turn().__aenter__()) for _ in range(2)]
            await asyncio.sleep(0)
        waiting[0].cancel()  # the place is its already, and it has not run since
        server = await waiting[1]
        assert server.places.running == 1 and waiting[0].cancelled()

    asyncio.run(run())
