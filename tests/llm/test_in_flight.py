"""The limit of requests in flight follows the server: up while that pays, down when it refuses."""

from __future__ import annotations

import asyncio

from unif2ace_data.llm.in_flight import START, InFlight


async def load(limit: InFlight, count: int, serve) -> None:
    async def one() -> None:
        async with limit.slot():
            await serve()
        limit.answered()

    await asyncio.gather(*(one() for _ in range(count)))


def simulated(capacity: int, most: int, count: int) -> InFlight:
    """A server that works on `capacity` requests at once, 10 ms each, and queues the others."""

    async def run() -> InFlight:
        limit = InFlight(most)
        places = asyncio.Semaphore(capacity)

        async def serve() -> None:
            async with places:
                await asyncio.sleep(0.01)

        await load(limit, count, serve)
        return limit

    return asyncio.run(run())


def test_it_grows_while_the_rate_grows() -> None:
    limit = simulated(capacity=128, most=256, count=2000)
    assert limit.limit >= 128 and limit.peak >= 128


def test_it_stops_growing_when_more_requests_would_only_queue() -> None:
    limit = simulated(capacity=16, most=4096, count=2000)
    assert limit.limit <= 128


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
        limit = InFlight(1)
        done = []

        async def one(name: str) -> None:
            async with limit.slot():
                await asyncio.sleep(0.01)
                done.append(name)

        first, second, third = (asyncio.create_task(one(n)) for n in "abc")
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)
        assert done == ["a", "c"]
        return limit.running

    assert asyncio.run(run()) == 0
