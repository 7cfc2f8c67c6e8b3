"""64 pairs at once, each asking one question after the other: ours beside the bare anthropic SDK, the same requests.

    python benchmarks/throughput.py [--pairs 64] [--rounds 8] [--delay-ms 200] [--home-in DIRECTORY]

The server is the loopback Messages API in a process of its own; its answers begin after 200 ms. Ours go through one
communicator, store included: each question and each answer is flushed to the disk of DIRECTORY. Bare and ours take
turns, three times. Each pair begins a conversation in each turn and asks in it ROUNDS times; the bare SDK sends what
ours send. Then, in processes of their own, the memory of 1,000 idle instances of backend `api`.

Targets: 90 % of the bare SDK's throughput; under 20 MB.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anthropic
import anyio
from _loopback import KEY, MODEL, loopback, machine

from claude_comms import AsyncCommunicator
from claude_comms.background.backends._messages_wire import messages_of, system_of
from claude_comms.background.backends.messages_api import MessagesApiBackend
from claude_comms.background.pool import Pool
from claude_comms.settings import Settings
from claude_comms.types import InstanceSpec, Pair

SOURCE, QUESTION = "marker", "How should I store my page blocks?"
REPEATS = 3
TARGET_RATIO = 0.9
IDLE_INSTANCES, TARGET_MB = 1_000, 20

Converse = Callable[[str], Coroutine[Any, Any, object]]
"""One pair's questions, one after the other."""


def describe_targets(home: Path, pairs: int) -> list[str]:
    """A module for each pair, described as shipped ones are, in a home of its own."""
    directory = home / "descriptors"
    directory.mkdir(parents=True)
    shipped = (Path(__file__).parents[1] / "descriptors" / "arangodb.yaml").read_text(encoding="utf-8")
    names = [f"target_{number}" for number in range(pairs)]
    for name in names:
        (directory / f"{name}.yaml").write_text(shipped.replace("name: arangodb", f"name: {name}", 1), encoding="utf-8")
    return names


async def bodies_of(comm: AsyncCommunicator, target: str, rounds: int) -> list[dict[str, Any]]:
    """What the questions of one conversation send."""
    bodies: list[dict[str, Any]] = []
    for _ in range(rounds):
        preview = await comm.preview(target, QUESTION)
        system, messages = system_of(preview.prompt), messages_of(preview.prompt)
        limit = comm.settings.max_output_tokens
        bodies.append({"model": preview.model, "max_tokens": limit, "system": system, "messages": messages})
        await comm.send_message(target, QUESTION)
    return bodies


async def rate(converse: Converse, targets: list[str], rounds: int) -> tuple[float, float]:
    """Answers a second over all pairs, and milliseconds of processor time for each."""
    began, busy = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as pairs:
        for target in targets:
            pairs.start_soon(converse, target)
    answers = len(targets) * rounds
    return answers / (time.perf_counter() - began), (time.process_time() - busy) * 1000 / answers


async def compare(settings: Settings, targets: list[str], rounds: int) -> None:
    """Measure both by turns and print."""
    address = settings.anthropic_base_url
    limits = anthropic.DefaultAsyncHttpxClient(base_url=address or "")
    async with (
        AsyncCommunicator(SOURCE, backend="api", settings=settings) as comm,
        anthropic.AsyncAnthropic(api_key=KEY, base_url=address, max_retries=0, http_client=limits) as client,
    ):
        bodies = await bodies_of(comm, targets[0], rounds)

        async def bare(_: str) -> None:
            for body in bodies:
                async with client.messages.stream(**body) as stream:
                    async for _text in stream.text_stream:
                        pass
                    await stream.get_final_message()

        async def ours(target: str) -> None:
            for _ in range(rounds):
                await comm.send_message(target, QUESTION)

        async def begin() -> None:
            for target in targets:
                await comm.create_conversation(target)

        rows: dict[str, Converse] = {"bare SDK, messages.stream": bare, "communicator, store included": ours}
        for converse in rows.values():  # opens connections and instances
            await begin()
            await rate(converse, targets, rounds)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        for _ in range(REPEATS):
            for name, converse in rows.items():
                await begin()
                taken[name].append(await rate(converse, targets, rounds))
    report(taken)


def report(taken: dict[str, list[tuple[float, float]]]) -> None:
    """Medians, and ours as a share of the bare SDK's."""
    print(f"{'':32}{'answers/s':>10}{'processor ms/answer':>22}")
    rates: list[float] = []
    for name, runs in taken.items():
        rates.append(statistics.median(answers for answers, _ in runs))
        print(f"{name:32}{rates[-1]:10.1f}{statistics.median(busy for _, busy in runs):22.2f}")
    print(f"Ours are {rates[1] / rates[0]:.0%} of the bare SDK's (target {TARGET_RATIO:.0%}).")


async def idle_instances(count: int) -> None:
    """Print by how much this process grows, in MB, with so many idle instances, each with its session open."""
    backend = MessagesApiBackend(api_key=KEY, base_url="http://127.0.0.1:9")
    async with Pool({"api": backend}, max_instances=count + 1, max_waiting=1, queue_wait_s=60) as pool:
        await pool.start(InstanceSpec(Pair(SOURCE, "first"), "api", MODEL))  # imports, makes the client
        gc.collect()
        before = resident_bytes()
        for number in range(count):
            await pool.start(InstanceSpec(Pair(SOURCE, f"target_{number}"), "api", MODEL))
        gc.collect()
        print((resident_bytes() - before) / 1e6)
    await backend.close()


def resident_bytes() -> int:
    """What of this process is in memory. Linux only."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def idle_memory() -> float:
    """The megabytes of 1,000 idle instances, by a fresh process."""
    command = [sys.executable, __file__, "--idle", str(IDLE_INSTANCES)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Throughput, then memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8, help="questions of each pair, one after the other")
    parser.add_argument("--delay-ms", type=float, default=200)
    parser.add_argument("--home-in", type=Path, help="where the store is; default: the system's temporary directory")
    parser.add_argument("--idle", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.idle is not None:
        anyio.run(idle_instances, options.idle)
        return
    print(f"{machine()}; {options.pairs} pairs, {options.rounds} questions each, answers after {options.delay_ms:g} ms")
    with tempfile.TemporaryDirectory(dir=options.home_in) as home, loopback(delay_s=options.delay_ms / 1000) as address:
        targets = describe_targets(Path(home), options.pairs)
        given = {"home": home, "model": MODEL, "anthropic_api_key": KEY, "anthropic_base_url": address}
        settings = Settings.load({**given, "max_instances": options.pairs})
        anyio.run(compare, settings, targets, options.rounds)
    print(f"{IDLE_INSTANCES:,} idle api instances: {idle_memory():.1f} MB (target under {TARGET_MB})")


if __name__ == "__main__":
    main()
