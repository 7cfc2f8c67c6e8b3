"""What it costs to cross from Python to Node and back: encoding, decoding, and the ways there are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import websockets

if TYPE_CHECKING:
    from collections.abc import Mapping

ECHO = Path(__file__).with_name("_echo.mjs")
SIZES_BYTES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
LONGEST_BYTES = 64 * 1024 * 1024
PARAGRAPH = 'Store each page as a document; "blocks" stay an array, in reading order – ä, 漢, 🦜.\n'

Crossing = Callable[[str], Awaitable[object]]


def document_of(size_bytes: int) -> dict[str, Any]:
    """A message as the bridge has them, of about that size: an answer's text, with its figures around it."""
    text = PARAGRAPH * (size_bytes // len(PARAGRAPH.encode()) + 1)
    params = {"session": "0" * 36, "turn": "t_1", "piece": 0, "text": text[: max(1, len(text) - 40)]}
    return {"jsonrpc": "2.0", "method": "turn.delta", "params": params}


def rounds_of(size_bytes: int) -> int:
    """Enough to have a median, and not minutes."""
    return max(7, min(200, 20_000_000 // size_bytes))


class Node:
    """Runs the other side with an installed bridge's dependencies."""

    def __init__(self, node: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.command = [node, str(ECHO), str(folder)]
        self.environment = dict(environment)

    async def start(self, *arguments: str, **pipes: Any) -> asyncio.subprocess.Process:
        """It, with pipes for input and output."""
        return await asyncio.create_subprocess_exec(
            *self.command,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self.environment,
            limit=LONGEST_BYTES,
            **pipes,
        )


def codec(node: Node) -> None:
    """Print what encoding and decoding cost in both languages."""
    print(f"{'encode and decode JSON (ms)':32}{'Python':>18}{'Node':>18}")
    for size in SIZES_BYTES:
        value, count = document_of(size), rounds_of(size)
        done = subprocess.run(
            [*node.command, "codec", str(count)],
            input=json.dumps(value).encode(),
            capture_output=True,
            env=node.environment,
            check=True,
        )
        theirs = {name: statistics.median(times) for name, times in json.loads(done.stdout).items()}
        ours = _in_python(value, count)
        shown = [f"{row['encode']:8.3f} {row['decode']:8.3f}" for row in (ours, theirs)]
        print(f"  {size / 1000:>8,.0f} kB{'':20}" + "".join(f"{text:>18}" for text in shown))


def _in_python(value: Any, count: int) -> dict[str, float]:
    times: dict[str, list[float]] = {"encode": [], "decode": []}
    for _ in range(count):
        began = time.perf_counter()
        document = json.dumps(value, ensure_ascii=False, allow_nan=False)
        encoded = time.perf_counter()
        json.loads(document)
        times["encode"].append((encoded - began) * 1000)
        times["decode"].append((time.perf_counter() - encoded) * 1000)
    return {name: statistics.median(row) for name, row in times.items()}


async def crossings(node: Node) -> None:
    """Print the round trip of one document by each way, decoded and encoded at both ends."""
    async with contextlib.AsyncExitStack() as stack:
        ways: dict[str, Crossing] = {
            "native: no other language": _native,
            "subprocess, one a message": lambda text: _once(node, text),
            "subprocess, kept, pipes": await stack.enter_async_context(_lines(node)),
        }
        ways |= await stack.enter_async_context(_served(node))
        sizes = (1_000, 100_000, 1_000_000, 10_000_000)
        print(f"{'round trip (ms)':32}" + "".join(f"{size // 1000:>9,} kB" for size in sizes))
        for name, way in ways.items():
            medians = [await _median(way, document_of(size), name.endswith("a message")) for size in sizes]
            print(f"  {name:30}" + "".join(f"{median:12.2f}" for median in medians))


async def _median(way: Crossing, value: Any, slow: bool) -> float:
    size = len(json.dumps(value))
    times: list[float] = []
    for number in range(-2, 10 if slow else rounds_of(size)):
        began = time.perf_counter()
        await way(json.dumps(value, ensure_ascii=False))
        if number >= 0:
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def _native(text: str) -> object:
    return json.loads(json.dumps(json.loads(text), ensure_ascii=False))


async def _once(node: Node, text: str) -> object:
    process = await node.start("once")
    output, _ = await process.communicate(text.encode())
    return json.loads(output)


@contextlib.asynccontextmanager
async def _lines(node: Node) -> AsyncGenerator[Crossing]:
    process = await node.start("lines")
    writing, reading = process.stdin, process.stdout
    assert writing is not None
    assert reading is not None

    async def cross(text: str) -> object:
        writing.write(text.encode() + b"\n")
        await writing.drain()
        return json.loads(await reading.readline())

    yield cross
    writing.close()
    await process.wait()


@contextlib.asynccontextmanager
async def _served(node: Node) -> AsyncGenerator[dict[str, Crossing]]:
    process = await node.start("serve")
    assert process.stdin is not None
    assert process.stdout is not None
    place = f"127.0.0.1:{int(await process.stdout.readline())}"
    try:
        async with (
            websockets.connect(f"ws://{place}/", max_size=None, compression=None) as socket,
            httpx.AsyncClient(timeout=60) as client,
        ):

            async def by_socket(text: str) -> object:
                await socket.send(text)
                return json.loads(await socket.recv())

            async def by_http(text: str) -> object:
                return (await client.post(f"http://{place}/", content=text.encode())).json()

            yield {"WebSocket": by_socket, "HTTP, kept alive": by_http}
    finally:
        process.stdin.close()
        await process.wait()
