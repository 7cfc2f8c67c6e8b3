"""One streamed turn: the bare anthropic SDK beside backend `api`, same prompt, same server, turn about.

    python benchmarks/turns.py [--turns N]
    python benchmarks/turns.py --claude-code [--turns N]

The server is the loopback Messages API in a process of its own. Each contender is a function that does one
whole turn; all of them run once in every round, in changing order, so that what slows the machine slows all.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

import anthropic
import anyio

from claude_comms.background.backends._messages_wire import messages_of, system_of
from claude_comms.background.backends.messages_api import MessagesApiBackend
from claude_comms.types import (
    HistoryMessage,
    InstanceSpec,
    Pair,
    Prompt,
    Role,
    SystemBlock,
    TokenCount,
    TurnEvent,
    TurnRequest,
)

MODEL, KEY, MOST_TOKENS = "claude-sonnet-5-5", "sk-ant-benchmark", 1024
PAIR = Pair("marker", "arangodb")
ANSWER = "Store each page as a document and its blocks as an array inside it, in reading order. " * 4
Turn = Callable[[], Awaitable[object]]


@contextlib.contextmanager
def server() -> Generator[str, None, None]:
    """The loopback API's address."""
    command = [sys.executable, "-m", "claude_comms.testing.loopback", "--answer", ANSWER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield (process.stdout or sys.stdin).readline().strip()
        finally:
            process.terminate()


def prompt() -> Prompt:
    """A prompt of ordinary size: 6 kB of system, four turns of history."""
    turns = (HistoryMessage(Role.QUESTION, "And the text? " * 10), HistoryMessage(Role.ANSWER, "As it is. " * 20))
    system = (SystemBlock("target", "You speak for arangodb. " * 150), SystemBlock("source", "marker asks. " * 200))
    question = "How should I store my page blocks?"
    return Prompt(PAIR, system, turns * 4, f"Some details.\n\n{question}", question, "query", "v", TokenCount(2000))


@contextlib.asynccontextmanager
async def bare_sdk(address: str) -> AsyncGenerator[dict[str, Turn], None]:
    """The SDK alone, both ways it streams."""
    asked = prompt()
    request: Any = {
        "model": MODEL,
        "max_tokens": MOST_TOKENS,
        "system": system_of(asked),
        "messages": messages_of(asked),
    }
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=address, max_retries=0) as client:

        async def helper() -> str:
            async with client.messages.stream(**request) as stream:
                return "".join([text async for text in stream.text_stream])

        async def events() -> int:
            return len([event async for event in await client.messages.create(**request, stream=True)])

        yield {"bare SDK, messages.stream": helper, "bare SDK, raw events": events}


@contextlib.asynccontextmanager
async def api_backend(address: str) -> AsyncGenerator[dict[str, Turn], None]:
    """Backend `api`, without an engine around it."""
    backend = MessagesApiBackend(api_key=KEY, base_url=address)
    session = await backend.open(InstanceSpec(PAIR, "api"))
    asked = prompt()

    async def ignore(_: TurnEvent) -> None:
        pass

    async def turn() -> str:
        request = TurnRequest(asked, "c_benchmark", MODEL, MOST_TOKENS, deadline=anyio.current_time() + 60)
        return (await session.ask(request, ignore)).text

    yield {"backend api, session.ask": turn}
    await backend.close()


CONTENDERS = (bare_sdk, api_backend)
"""What is measured, the rival first. Each gives its rows by name."""


async def measure(address: str, turns: int) -> dict[str, list[float]]:
    """Milliseconds of each turn, by row."""
    async with contextlib.AsyncExitStack() as stack:
        rows: dict[str, Turn] = {}
        for contender in CONTENDERS:
            rows.update(await stack.enter_async_context(contender(address)))
        times: dict[str, list[float]] = {name: [] for name in rows}
        names = list(rows)
        for number in range(-turns // 10, turns):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                began = time.perf_counter()
                await rows[name]()
                if number >= 0:  # the first rounds only warm up
                    times[name].append((time.perf_counter() - began) * 1000)
        return times


def main() -> None:
    """Print the medians, and what each row adds to the first."""
    parser = argparse.ArgumentParser(description="One streamed turn, bare and through backend api.")
    parser.add_argument("--turns", type=int, default=1000, help="rounds that count")
    parser.add_argument("--claude-code", action="store_true", help="backend claude-code beside its rivals instead")
    options = parser.parse_args()
    turns = options.turns
    if options.claude_code:
        import claude_code_turns

        with server() as address:
            anyio.run(claude_code_turns.run, address, min(turns, 100))
        return
    with server() as address:
        times = anyio.run(measure, address, turns)
    print(f"{turns} turns each; anthropic {anthropic.__version__}, Python {platform.python_version()}")
    print(f"{'':28}{'median':>9}{'p90':>9}{'over the first':>16}  (ms)")
    first = statistics.median(next(iter(times.values())))
    for name, row in times.items():
        median, p90 = statistics.median(row), statistics.quantiles(row, n=10)[-1]
        print(f"{name:28}{median:9.2f}{p90:9.2f}{median - first:+16.2f}")


if __name__ == "__main__":
    main()
