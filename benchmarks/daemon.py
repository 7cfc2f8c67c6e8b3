"""What the daemon costs and what it gives: each figure beside the bare SDKs, in one run.

    python benchmarks/daemon.py [--turns 200] [--only api,load,idle,command,claude-code] [--home-in DIRECTORY]

The server is the loopback Messages API in a process of its own. The daemon is the real one, started for a home that
goes away with the run, reached by its socket. Rows of one group take turns, in an order drawn anew each round.

- api: one streamed turn on `api`: the bare anthropic SDK, a communicator in this process, one through the daemon.
  Target: 2 ms over the bare SDK at the median.
- load: 64 pairs at once, answers that begin after 200 ms. Target: 90 % of the bare SDK's throughput.
- idle: by how much the daemon grows with 1,000 idle `api` instances, once it has one of each pair. Target: under 20 MB.
- command: `query-module` through the running daemon, beyond the answer itself. Target: 300 ms.
- claude-code: a warm turn, a prewarmed instance's first answer beside that of a bare client that is connected, one
  after hibernation beside a bare `--resume` (target 1.2 times), and 8 pairs at once beside 8 bare Agent SDK clients.

On a machine that does other things, too, the processor times and the ratios tell more than the milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import anyio
import psutil
from _loopback import KEY, MODEL, loopback, machine
from claude_agent_sdk import ClaudeSDKClient
from claude_code_turns import Bench, sdk_options, sdk_turn
from throughput import bodies_of, describe_targets

import claude_comms
from claude_comms import AsyncCommunicator
from claude_comms.background.backends.claude_runtime.binary import find_binary
from claude_comms.communicator import AsyncInstanceManager
from claude_comms.daemon import start, stop
from claude_comms.settings import Settings

SOURCE, QUESTION = "marker", "How should I store my page blocks?"
GROUPS = ("api", "load", "idle", "command", "claude-code")
LOADED_PAIRS, LOADED_ROUNDS, LOADED_DELAY_S = 64, 4, 0.2
IDLE_INSTANCES = 1_000
CLAUDE_PAIRS = 8

Turn = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Place:
    """A home, and the modules in it that are asked."""

    settings: Settings
    targets: list[str]
    module: Path

    @property
    def local(self) -> Settings:
        """The same, in a home beside it, without a daemon."""
        return self.settings.with_overrides(home=self.settings.home.with_name("local"), daemon="off")


@contextlib.contextmanager
def place(folder: Path, address: str, **more: Any) -> Generator[Place]:
    """A home whose modules have a path, with its daemon; both end with the block."""
    homes = [folder / "home", folder / "local"]
    module = folder / "module"
    module.mkdir()
    targets: list[str] = []
    for home in homes:
        home.mkdir()
        targets = describe_targets(home, LOADED_PAIRS)
        for name in targets[:CLAUDE_PAIRS]:
            own = module / name
            own.mkdir(exist_ok=True)
            run_cli(home, address, "register-module", name, "--path", str(own), "--desc", str(described(home, name)))
    given = {"home": homes[0], "model": MODEL, "anthropic_api_key": KEY, "anthropic_base_url": address}
    settings = Settings.load({**given, "max_instances": IDLE_INSTANCES + LOADED_PAIRS + 50, **more})
    (homes[0] / "config.toml").write_text(
        f'model = "{MODEL}"\nmax_instances = {settings.max_instances}\n', encoding="utf-8"
    )
    start(settings)
    try:
        yield Place(settings, targets, module)
    finally:
        stop(settings, drain_s=0)


def described(home: Path, name: str) -> Path:
    """The file that describes a module."""
    return home / "descriptors" / f"{name}.yaml"


def run_cli(home: Path, address: str, *arguments: str) -> str:
    """A command in a process of its own, and what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "claude_comms", *arguments],
        env=environment(home, address),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def environment(home: Path, address: str) -> dict[str, str]:
    """The whole environment of a command."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home.parent),
        "CLAUDE_COMMS_HOME": str(home),
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": address,
        "PYTHONPATH": str(Path(claude_comms.__file__).parents[1]),
    }


async def alternately(rows: dict[str, Turn], count: int) -> dict[str, float]:
    """The median of each row in milliseconds."""
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(-max(2, count // 10), count):
        for name in random.sample(list(rows), len(rows)):
            began = time.perf_counter()
            await rows[name]()
            if number >= 0:
                taken[name].append((time.perf_counter() - began) * 1000)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"  {name:44}{median:9.2f} ms   (median of {count})")
    return medians


# --- api ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def three_ways(where: Place) -> AsyncGenerator[tuple[anthropic.AsyncAnthropic, list[AsyncCommunicator]]]:
    """The bare SDK's client, a communicator of this process, and one through the daemon."""
    url = where.settings.anthropic_base_url
    async with (
        anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0) as client,
        AsyncCommunicator(SOURCE, backend="api", settings=where.local, use_background=False) as here,
        AsyncCommunicator(SOURCE, backend="api", settings=where.settings, use_background=True) as there,
    ):
        yield client, [here, there]


async def bare_turn(client: anthropic.AsyncAnthropic, body: dict[str, Any]) -> None:
    """One streamed message of the bare SDK, read to its end."""
    async with client.messages.stream(**body) as stream:
        async for _ in stream.text_stream:
            pass
        await stream.get_final_message()


async def streamed(comm: AsyncCommunicator, target: str) -> None:
    """One streamed turn of ours, read to its end."""
    async with comm.stream_message(target, QUESTION) as stream:
        async for _ in stream:
            pass


async def api_turns(where: Place, turns: int) -> None:
    """One turn, three ways, each beginning a conversation."""
    async with three_ways(where) as (client, (here, there)):
        target = where.targets[-1]
        (body,) = await bodies_of(here, target, 1)

        daemon = psutil.Process(start(where.settings).pid)

        async def ours(comm: AsyncCommunicator) -> None:
            await comm.create_conversation(target)
            busy, theirs = time.process_time(), processor_s(daemon)
            began = time.perf_counter()
            await streamed(comm, target)
            spent[comm].append((time.perf_counter() - began) * 1000)
            busy_ms[comm].append((time.process_time() - busy) * 1000)
            daemons_ms[comm].append((processor_s(daemon) - theirs) * 1000)

        spent: dict[AsyncCommunicator, list[float]] = {here: [], there: []}
        busy_ms: dict[AsyncCommunicator, list[float]] = {here: [], there: []}
        daemons_ms: dict[AsyncCommunicator, list[float]] = {here: [], there: []}
        medians = await alternately(
            {
                "bare SDK, messages.stream": lambda: bare_turn(client, body),
                "create_conversation + turn, this process": lambda: ours(here),
                "create_conversation + turn, daemon": lambda: ours(there),
            },
            turns,
        )
        bare = medians["bare SDK, messages.stream"]
        for name, comm, target_ms in (("this process", here, 1.0), ("the daemon", there, 2.0)):
            over = statistics.median(spent[comm][-turns:]) - bare
            print(f"  a turn through {name}: {over:+.2f} ms over the bare SDK (target {target_ms:.1f})")
        # The system counts a process's time in steps of 10 ms: only the mean of many turns tells anything.
        own, other, served = (
            statistics.mean(taken[-turns:]) for taken in (busy_ms[here], busy_ms[there], daemons_ms[there])
        )
        print(
            f"  processor time of a turn: {own:.1f} ms in one process; {other:.1f} of the client and {served:.1f} of",
            end="",
        )
        print(f" the daemon, together {(other + served) / own:.1f} times that; load {os.getloadavg()[0]:.1f}")


def processor_s(process: psutil.Process) -> float:
    """What it has used, in the system and for itself."""
    times = process.cpu_times()
    return times.user + times.system


async def api_load(where: Place) -> None:
    """64 pairs at once, twice, by turns."""
    async with three_ways(where) as (client, (here, there)):
        bodies = await bodies_of(here, where.targets[0], LOADED_ROUNDS)

        async def bare(_: str) -> None:
            for body in bodies:
                await bare_turn(client, body)

        async def ours(target: str) -> None:
            for _ in range(LOADED_ROUNDS):
                await streamed(there, target)

        async def rate(ask: Callable[[str], Coroutine[Any, Any, None]]) -> float:
            began = time.perf_counter()
            async with anyio.create_task_group() as pairs:
                for target in where.targets:
                    pairs.start_soon(ask, target)
            return len(where.targets) * LOADED_ROUNDS / (time.perf_counter() - began)

        await ours(where.targets[0])
        rates: dict[str, list[float]] = {"bare": [], "daemon": []}
        for number in range(4):
            for name, ask in (("bare", bare), ("daemon", ours)):
                for target in where.targets:
                    await there.create_conversation(target)
                answers_a_second = await rate(ask)
                if number:  # the first round opens connections and instances
                    rates[name].append(answers_a_second)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    share = medians["daemon"] / medians["bare"]
    print(
        f"  bare SDK {medians['bare']:.0f} answers/s, through the daemon {medians['daemon']:.0f}: {share:.0%}", end=""
    )
    print(" (target 90 %)")


async def idle_instances(where: Place) -> None:
    """How much the daemon grows with instances that nobody asks."""
    async with AsyncInstanceManager(where.settings, use_background=True) as manager:
        for target in where.targets:  # what is loaded once, and for each module, is not an instance's
            await manager.start(SOURCE, target, backend="api")
        before = daemon_bytes(where)
        for number in range(IDLE_INSTANCES):
            await manager.start(SOURCE, where.targets[number % len(where.targets)], backend="api")
        grown = (daemon_bytes(where) - before) / 1e6
        print(f"  {IDLE_INSTANCES} idle api instances: {grown:.1f} MB (target 20)")
        for instance in await manager.list():
            await manager.stop(instance.instance_id)


def daemon_bytes(where: Place) -> int:
    """Resident memory of the daemon itself."""
    return psutil.Process(start(where.settings).pid).memory_info().rss


# --- the command -------------------------------------------------------------------------------


async def command(where: Place, address: str, rounds: int) -> None:
    """The whole command, against the same turn without one, and against an empty interpreter."""
    home = where.settings.home
    target = where.targets[-1]

    def process(*arguments: str) -> Turn:
        async def run() -> None:
            await anyio.run_process([sys.executable, *arguments], env=environment(home, address), check=True)

        return run

    async with AsyncCommunicator(SOURCE, backend="api", settings=where.settings, use_background=True) as comm:
        query = ("-m", "claude_comms", "query-module", target, QUESTION, "--from", SOURCE, "--backend", "api")
        medians = await alternately(
            {
                "python -c pass": process("-c", "pass"),
                "the turn alone, through the daemon": lambda: streamed(comm, target),
                "query-module through the daemon": process(*query),
                "query-module --no-daemon": process(*query, "--no-daemon"),
            },
            rounds,
        )
    beyond = medians["query-module through the daemon"] - medians["the turn alone, through the daemon"]
    print(f"  query-module beyond the answer: {beyond:.0f} ms (target 300)")


# --- Claude Code -------------------------------------------------------------------------------


async def claude_code(where: Place, bench: Bench, turns: int) -> None:
    """Warm, prewarmed, hibernated, and eight at once."""
    target = where.targets[0]
    async with (
        AsyncCommunicator(SOURCE, backend="claude-code", settings=where.settings, use_background=True) as comm,
        AsyncInstanceManager(where.settings, use_background=True) as manager,
        ClaudeSDKClient(sdk_options(bench)) as client,
    ):
        await comm.send_message(target, QUESTION)
        session = await sdk_turn(client)
        warm = await alternately(
            {
                "bare Agent SDK, warm turn": lambda: sdk_turn(client),
                "daemon, warm turn": lambda: comm.send_message(target, QUESTION),
            },
            turns,
        )
        print(f"  daemon / bare: {warm['daemon, warm turn'] / warm['bare Agent SDK, warm turn']:.2f}")
        await prewarmed(where, manager, bench, warm)
        await hibernated(comm, manager, bench, session, target)
    await eight(where, bench)


async def prewarmed(where: Place, manager: AsyncInstanceManager, bench: Bench, warm: dict[str, float]) -> None:
    """The first answer of instances that were started before, beside that of bare clients that are connected."""
    bare_ms: list[float] = []
    ours_ms: list[float] = []
    for number in range(7):
        async with ClaudeSDKClient(sdk_options(bench)) as client:
            began = time.perf_counter()
            await sdk_turn(client)
            bare_ms.append((time.perf_counter() - began) * 1000)
        target = where.targets[1 + number % (CLAUDE_PAIRS - 1)]
        instance = await manager.start(SOURCE, target, backend="claude-code")
        began = time.perf_counter()
        await manager.query(instance.instance_id, QUESTION)
        ours_ms.append((time.perf_counter() - began) * 1000)
        await manager.stop(instance.instance_id)
    rows = (
        ("bare Agent SDK, first turn once connected", bare_ms, "bare Agent SDK, warm turn"),
        ("daemon, first answer of a started instance", ours_ms, "daemon, warm turn"),
    )
    for name, taken, row in rows:
        first = statistics.median(taken)
        print(f"  {name:44}{first:9.2f} ms   ({first / warm[row]:.1f} warm turns)")


async def hibernated(
    comm: AsyncCommunicator, manager: AsyncInstanceManager, bench: Bench, session: str, target: str
) -> None:
    """A turn after the instance gave up its process, beside a bare client that resumes."""

    async def bare() -> None:
        async with ClaudeSDKClient(sdk_options(bench, resume=session)) as client:
            await sdk_turn(client)

    taken: dict[str, list[float]] = {"bare Agent SDK, --resume": [], "daemon, after hibernation": []}
    for _ in range(7):
        await hibernate_all(manager)
        for name, turn in (("daemon, after hibernation", lambda: comm.send_message(target, QUESTION)), (BARE, bare)):
            began = time.perf_counter()
            await turn()
            taken[name].append((time.perf_counter() - began) * 1000)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"  {name:44}{median:9.2f} ms   (median of 7)")
    print(f"  after hibernation / bare resume: {medians['daemon, after hibernation'] / medians[BARE]:.2f} (target 1.2)")


BARE = "bare Agent SDK, --resume"


async def hibernate_all(manager: AsyncInstanceManager) -> None:
    """Have every idle instance give up its process."""
    for instance in await manager.list():
        if instance.state == "idle":
            await manager.hibernate(instance.instance_id)


async def eight(where: Place, bench: Bench) -> None:
    """Eight pairs at once, four turns each, beside eight bare clients."""
    targets = where.targets[:CLAUDE_PAIRS]
    async with contextlib.AsyncExitStack() as stack:
        comm = await stack.enter_async_context(
            AsyncCommunicator(SOURCE, backend="claude-code", settings=where.settings, use_background=True)
        )
        clients = [await stack.enter_async_context(ClaudeSDKClient(sdk_options(bench))) for _ in targets]

        async def bare(number: int) -> None:
            for _ in range(4):
                await sdk_turn(clients[number])

        async def ours(number: int) -> None:
            for _ in range(4):
                await comm.send_message(targets[number], QUESTION)

        rates: dict[str, list[float]] = {"bare": [], "daemon": []}
        for round_ in range(4):
            for name, ask in (("bare", bare), ("daemon", ours)):
                began = time.perf_counter()
                await asyncio.gather(*(ask(number) for number in range(CLAUDE_PAIRS)))
                if round_:
                    rates[name].append(CLAUDE_PAIRS * 4 / (time.perf_counter() - began))
    bare_rate, our_rate = (statistics.median(rates[name]) for name in ("bare", "daemon"))
    share = our_rate / bare_rate
    print(f"  8 pairs at once: bare Agent SDK {bare_rate:.0f} answers/s, daemon {our_rate:.0f} ({share:.0%})")


# --- all ---------------------------------------------------------------------------------------


def chosen(text: str) -> Iterable[str]:
    """The groups named in `text`."""
    wanted = text.split(",")
    for name in wanted:
        if name not in GROUPS:
            raise SystemExit(f"no group {name!r}: choose of {', '.join(GROUPS)}")
    return wanted


def main() -> None:
    """Measure what was chosen and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--only", default=",".join(GROUPS))
    parser.add_argument("--home-in", type=Path, help="where the stores are; default: the system's temporary directory")
    options = parser.parse_args()
    wanted = chosen(options.only)
    print(machine())
    with tempfile.TemporaryDirectory(dir=options.home_in) as folder, loopback() as address:
        (Path(folder) / "a").mkdir()
        with place(Path(folder) / "a", address) as where:
            if "api" in wanted:
                print("api, one turn")
                anyio.run(api_turns, where, options.turns)
            if "idle" in wanted:
                print("idle instances")
                anyio.run(idle_instances, where)
            if "command" in wanted:
                print("the command")
                anyio.run(command, where, address, max(5, options.turns // 10))
            if "claude-code" in wanted:
                print("Claude Code")
                binary = find_binary()
                if binary is None:
                    raise SystemExit("no Claude Code: pip install 'claude-module-comms[claude-code]'")
                (Path(folder) / "bare").mkdir()
                anyio.run(
                    claude_code, where, Bench(address, Path(folder) / "bare", str(binary.path)), options.turns // 2
                )
    if "load" in wanted:
        print(f"{LOADED_PAIRS} pairs at once")
        with tempfile.TemporaryDirectory(dir=options.home_in) as folder, loopback(delay_s=LOADED_DELAY_S) as address:
            (Path(folder) / "b").mkdir()
            with place(Path(folder) / "b", address) as where:
                anyio.run(api_load, where)


if __name__ == "__main__":
    main()
