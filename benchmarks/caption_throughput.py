"""Requests a second through the engine room, beside a bare asyncio client: same server, same prompts, same concurrency.

    python benchmarks/caption_throughput.py --photos FOLDER --base-url http://127.0.0.1:8071/v1 --model tiny-vlm

The bare client builds every body beforehand, keeps `--concurrency` requests in flight and throws the answers away. The
engine room renders prompts, encodes images, adapts its limit, parses and journals. Both run in turn, several times, with
other seeds each time, so that nothing is answered from a cache of answers; the server's caches of images are warmed first.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import numpy as np
from PIL import Image

from unif2ace_data.captions.vlm import Stage, prose_of, request_of
from unif2ace_data.faces.align import encode_jpeg
from unif2ace_data.llm.crew import run_rows
from unif2ace_data.llm.engine import Request
from unif2ace_data.llm.journal import Journal
from unif2ace_data.llm.openai_server import OpenAIServer, body_of
from unif2ace_data.llm.prompts import entries, load_prompts
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.llm.structured import object_of, prose
from unif2ace_data.recipe import Captions, Llm

SIDE = 224


def requests_of(photos: Path, count: int, max_chars: int) -> list[Request]:
    """Draft requests as `caption` sends them, over the photographs in turn."""
    images = []
    for path in sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".png"))[:count]:
        picture = Image.open(path).convert("RGB").resize((SIDE, SIDE))
        images.append(encode_jpeg(np.asarray(picture), 90))
    if not images:
        raise SystemExit(f"no photographs in {photos}")
    stage = Stage("openai", load_prompts(None), Captions(max_chars=max_chars), 1.0, 0)
    topics = [entry.name.replace("_", " ") for entry in entries()]
    return [
        request_of(
            stage, "draft", images[i % len(images)], object_of(caption=prose(max_chars)), 2 * max_chars + 64,
            topics=topics, source_captions=[], max_chars=max_chars,
        )
        for i in range(count)
    ]  # fmt: skip


async def bare(url: str, bodies: list[bytes], concurrency: int) -> None:
    """Nothing but requests."""
    todo = iter(bodies)

    async def worker(session: aiohttp.ClientSession) -> None:
        for body in todo:
            async with session.post(
                url + "/chat/completions", data=body, headers={"Content-Type": "application/json"}
            ) as r:
                await r.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(worker(session) for _ in range(concurrency)))


def room(settings: Llm, requests: list[Request]) -> int:
    """The same requests through the engine room; returns how many rows failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.sqlite")

        async def work(engine_room: EngineRoom, request: Request) -> str:
            return await engine_room.ask(request, prose_of)

        def done(request: Request, result: str | AnswerFailed) -> None:
            nonlocal failed
            failed += isinstance(result, AnswerFailed)

        def items() -> Iterator[Request]:
            yield from requests

        run_rows(EngineRoom(OpenAIServer(settings), journal, settings), items(), work, done)
        journal.close()
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--base-url", default="http://127.0.0.1:8071/v1")
    parser.add_argument("--model", default="tiny-vlm")
    parser.add_argument("--requests", type=int, default=480)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--max-chars", type=int, default=120)
    args = parser.parse_args()

    settings = Llm(model=args.model, base_url=args.base_url, in_flight=args.concurrency, attempts=1, temperature=1.0)
    requests = requests_of(args.photos, args.requests, args.max_chars)
    asyncio.run(bare(args.base_url, [body_of(r, args.model) for r in requests], args.concurrency))  # warm the caches
    rates: dict[str, list[float]] = {"bare": [], "engine room": []}
    cpu: dict[str, list[float]] = {"bare": [], "engine room": []}
    for turn in range(args.rounds):
        for place, name in enumerate(sorted(rates, reverse=bool(turn % 2))):
            mine = [replace(r, seed=10_000 * (2 * turn + place + 1) + i) for i, r in enumerate(requests)]
            bodies = [body_of(r, args.model) for r in mine]
            wall, own = time.perf_counter(), time.process_time()
            failed = 0
            if name == "bare":
                asyncio.run(bare(args.base_url, bodies, args.concurrency))
            else:
                failed = room(settings, mine)
            wall, own = time.perf_counter() - wall, time.process_time() - own
            rates[name].append(len(mine) / wall)
            cpu[name].append(1000 * own / len(mine))
            print(
                f"{name:12} {len(mine) / wall:7.2f} requests/s  {1000 * own / len(mine):5.2f} ms CPU a request  {failed} failed"
            )
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(
        f"median: bare {middle['bare']:.2f}/s, engine room {middle['engine room']:.2f}/s at {args.concurrency} in flight"
    )
    print(f"ratio: {middle['engine room'] / middle['bare']:.3f} (wanted: at least 0.9)")


if __name__ == "__main__":
    main()
