"""One streamed turn: the bare anthropic SDK beside us, the same request to the same server, turn about.

    python benchmarks/turns.py [--turns 400] [--home-in DIRECTORY]
    python benchmarks/turns.py --claude-code [--turns 100]

The server is the loopback Messages API in a process of its own. Each row is a function that does one whole turn;
all of them run once in every round, in an order drawn anew, so that what slows the machine slows all. Ours store the
question before it is sent and the answer before it is returned, each flushed to the disk of DIRECTORY; what that
flush takes alone is a row, too.

The bare SDK streams with `messages.stream`, takes the text as it comes, and then the final message. It sends what
ours would send next (`preview`): before anything is measured, one request of each row is compared.

"fresh" turns begin a conversation, "continued" ones are the second to the ninth of one.

Target: 1 ms over the bare SDK at the median.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import anyio
from _loopback import KEY, MODEL, loopback, machine

from claude_comms import AsyncCommunicator, ModuleCommunicator
from claude_comms.background.backends._messages_wire import messages_of, system_of
from claude_comms.background.backends.messages_api import MessagesApiBackend
from claude_comms.settings import Settings
from claude_comms.testing.loopback import LoopbackAPI
from claude_comms.types import InstanceSpec, Preview, TurnEvent, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SOURCE, TARGET, QUESTION = "marker", "arangodb", "How should I store my page blocks?"
TARGET_MS = 1.0
LONGEST = 8
"""Turns of a conversation that are measured as continued."""

Step = Callable[[int], Awaitable[object]]
"""Does its part of the round of that number."""


async def _nothing(_: int) -> None:
    pass


@dataclass(frozen=True, eq=False)
class Row:
    """One contender: `turn` is measured, what is around it is not."""

    name: str
    rival: str
    turn: Step
    before: Step = _nothing
    after: Step = _nothing


class Bodies:
    """The requests that ours send, for the bare SDK to send, too."""

    def __init__(self, fresh: Preview, continued: list[Preview], settings: Settings) -> None:
        self.fresh_preview = fresh
        self.fresh = self._body(fresh, settings)
        self._continued = [self._body(preview, settings) for preview in continued]

    def continued(self, number: int) -> dict[str, Any]:
        """That of a continued turn in the round of that number."""
        return self._continued[number % LONGEST]

    @staticmethod
    def _body(preview: Preview, settings: Settings) -> dict[str, Any]:
        return {
            "model": preview.model,
            "max_tokens": settings.max_output_tokens,
            "system": system_of(preview.prompt),
            "messages": messages_of(preview.prompt),
        }


async def bodies_of(settings: Settings) -> Bodies:
    """What a conversation of nine turns sends."""
    async with AsyncCommunicator(SOURCE, backend="api", settings=settings) as comm:
        fresh = await comm.preview(TARGET, QUESTION)
        continued: list[Preview] = []
        for _ in range(LONGEST):
            await comm.send_message(TARGET, QUESTION)
            continued.append(await comm.preview(TARGET, QUESTION))
    return Bodies(fresh, continued, settings)


@contextlib.asynccontextmanager
async def bare(settings: Settings, bodies: Bodies) -> AsyncGenerator[list[Row]]:
    """The SDK alone."""
    url = settings.anthropic_base_url
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0) as client:

        async def ask(body: Any) -> str:
            async with client.messages.stream(**body) as stream:
                async for _ in stream.text_stream:
                    pass
                return (await stream.get_final_message()).id

        with anthropic.Anthropic(api_key=KEY, base_url=url, max_retries=0) as blocking_client:

            async def ask_blocking(body: Any) -> str:
                with blocking_client.messages.stream(**body) as stream:
                    for _ in stream.text_stream:
                        pass
                    return stream.get_final_message().id

            yield [
                Row("bare SDK, fresh", "", lambda _: ask(bodies.fresh)),
                Row("bare SDK, continued", "", lambda number: ask(bodies.continued(number))),
                Row("bare sync SDK, fresh", "", lambda _: ask_blocking(bodies.fresh)),
                Row("bare sync SDK, continued", "", lambda number: ask_blocking(bodies.continued(number))),
            ]


@contextlib.asynccontextmanager
async def session(settings: Settings, bodies: Bodies) -> AsyncGenerator[list[Row]]:
    """Backend `api` without an engine around it: stores nothing."""
    backend = MessagesApiBackend(api_key=KEY, base_url=settings.anthropic_base_url)
    prompt = bodies.fresh_preview.prompt
    opened = await backend.open(InstanceSpec(prompt.pair, "api"))

    async def ignore(_: TurnEvent) -> None:
        pass

    async def turn(_: int) -> None:
        deadline = anyio.current_time() + 60
        await opened.ask(TurnRequest(prompt, "c_1", MODEL, settings.max_output_tokens, deadline=deadline), ignore)

    yield [Row("backend api alone, fresh", "bare SDK, fresh", turn)]
    await backend.close()


@contextlib.asynccontextmanager
async def communicator(settings: Settings, _: Bodies) -> AsyncGenerator[list[Row]]:
    """The asynchronous communicator: messages, and one that is read in pieces."""
    async with (
        AsyncCommunicator(SOURCE, backend="api", settings=settings) as comm,
        AsyncCommunicator(SOURCE, backend="api", settings=settings) as long_comm,
    ):

        async def fresh(_: int) -> None:
            await comm.send_message(TARGET, QUESTION)

        async def fresh_stream(_: int) -> None:
            async for _piece in comm.stream_message(TARGET, QUESTION):
                pass

        async def forget(_: int) -> None:
            await comm.archive_conversation((await comm.list_conversations(TARGET, limit=1))[0].thread_id)

        async def begin(number: int) -> None:
            if number % LONGEST == 0:
                await long_comm.create_conversation(TARGET)
                await long_comm.send_message(TARGET, QUESTION)

        async def continued(_: int) -> None:
            await long_comm.send_message(TARGET, QUESTION)

        yield [
            Row("send_message, fresh", "bare SDK, fresh", fresh, after=forget),
            Row("stream_message, fresh", "bare SDK, fresh", fresh_stream, after=forget),
            Row("send_message, continued", "bare SDK, continued", continued, before=begin),
        ]


@contextlib.asynccontextmanager
async def blocking_communicator(settings: Settings, _: Bodies) -> AsyncGenerator[list[Row]]:
    """The synchronous communicator. It blocks the loop of this benchmark, as a script would its own thread."""
    with (
        ModuleCommunicator(SOURCE, backend="api", settings=settings) as comm,
        ModuleCommunicator(SOURCE, backend="api", settings=settings) as long_comm,
    ):

        async def fresh(_: int) -> None:
            comm.send_message(TARGET, QUESTION)

        async def forget(_: int) -> None:
            comm.archive_conversation(comm.list_conversations(TARGET, limit=1)[0].thread_id)

        async def begin(number: int) -> None:
            if number % LONGEST == 0:
                long_comm.create_conversation(TARGET)
                long_comm.send_message(TARGET, QUESTION)

        async def continued(_: int) -> None:
            long_comm.send_message(TARGET, QUESTION)

        yield [
            Row("sync send_message, fresh", "bare sync SDK, fresh", fresh, after=forget),
            Row("sync send_message, continued", "bare sync SDK, continued", continued, before=begin),
        ]


@contextlib.asynccontextmanager
async def flushes(settings: Settings, _: Bodies) -> AsyncGenerator[list[Row]]:
    """What the disk alone takes for a stored turn: two commits of 16 kB."""
    with (settings.home / "flushes").open("wb", buffering=0) as file:

        async def flush(_: int) -> None:
            for _flush in range(2):
                file.write(bytes(16_384))
                os.fdatasync(file.fileno())

        yield [Row("two flushes of the disk", "", flush)]


CONTENDERS = (bare, session, communicator, blocking_communicator, flushes)


@contextlib.asynccontextmanager
async def rows_of(settings: Settings) -> AsyncGenerator[list[Row]]:
    """All rows, over the server that `settings` name."""
    bodies = await bodies_of(settings)
    async with contextlib.AsyncExitStack() as stack:
        yield [row for each in CONTENDERS for row in await stack.enter_async_context(each(settings, bodies))]


async def compare(settings: Settings, api: LoopbackAPI) -> None:
    """One turn of each row: it must send what its rival sends."""
    sent: dict[str, object] = {}
    async with rows_of(settings) as rows:
        for row in rows:
            await row.before(0)
            await row.turn(0)
            sent[row.name] = api.requests[-1].body
            await row.after(0)
    for row in rows:
        if row.rival and sent[row.name] != sent[row.rival]:
            sys.exit(f"{row.name} does not send what {row.rival} sends")


@dataclass(frozen=True)
class Times:
    """Milliseconds of each turn of a row: until it was done, and of this process's processor time."""

    passed: list[float]
    busy: list[float]


async def measure(settings: Settings, turns: int) -> dict[Row, Times]:
    """The times of each row."""
    async with rows_of(settings) as rows:
        times = {row: Times([], []) for row in rows}
        order = random.Random(7)
        for number in range(-LONGEST * max(1, turns // 100), turns):
            for row in order.sample(rows, len(rows)):
                await row.before(number)
                began, busy = time.perf_counter(), time.process_time()
                await row.turn(number)
                passed, busy = time.perf_counter() - began, time.process_time() - busy
                await row.after(number)
                if number >= 0:  # the first rounds only warm up
                    times[row].passed.append(passed * 1000)
                    times[row].busy.append(busy * 1000)
    return times


def report(times: dict[Row, Times]) -> None:
    """Each row below its rival, and what it adds."""
    medians = {row.name: statistics.median(taken.passed) for row, taken in times.items()}
    busy = {row.name: statistics.median(taken.busy) for row, taken in times.items()}
    print(f"{'milliseconds':32}{'median':>8}{'p90':>8}{'added':>8}{'ratio':>8}{'processor':>12}{'added':>8}")
    for row in sorted(times, key=lambda row: (row.rival or row.name, bool(row.rival))):
        median, p90 = medians[row.name], statistics.quantiles(times[row].passed, n=10)[-1]
        name = f"  {row.name}" if row.rival else row.name
        added = f"{median - medians[row.rival]:+8.2f}{median / medians[row.rival]:8.2f}" if row.rival else " " * 16
        work = f"{busy[row.name] - busy[row.rival]:+8.2f}" if row.rival else ""
        print(f"{name:32}{median:8.2f}{p90:8.2f}{added}{busy[row.name]:12.2f}{work}")
    print(f"Target: {TARGET_MS:g} ms added.")


def main() -> None:
    """Compare what is sent, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=400, help="rounds that count (default 400)")
    parser.add_argument("--home-in", type=Path, help="where the store is; default: the system's temporary directory")
    parser.add_argument("--claude-code", action="store_true", help="backend claude-code beside its rivals instead")
    options = parser.parse_args()
    if options.claude_code:
        import claude_code_turns

        with loopback() as address:
            anyio.run(claude_code_turns.run, address, min(options.turns, 100))
        return
    with tempfile.TemporaryDirectory(dir=options.home_in) as directory, LoopbackAPI() as api, loopback() as address:
        given = {"model": MODEL, "anthropic_api_key": KEY}
        near = Settings.load({**given, "home": Path(directory) / "compared", "anthropic_base_url": api.base_url})
        far = Settings.load({**given, "home": Path(directory) / "measured", "anthropic_base_url": address})
        anyio.run(compare, near, api)
        print(f"{machine()}; {options.turns} turns of each row, all rows sent the same")
        times = anyio.run(measure, far, options.turns)
    report(times)


if __name__ == "__main__":
    main()
