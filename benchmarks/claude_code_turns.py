"""Claude Code as a backend beside its rivals, over the same loopback API: `python benchmarks/turns.py --claude-code`.

The rivals: the Agent SDK as it comes, `claude -p`, and claude-code-mcp where Node is and CLAUDE_CODE_MCP names its
``server.js``. The same question, system prompt, tools and answer for each. Rows of one group take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage

from claude_comms.background.backends.claude_code import ClaudeCodeBackend
from claude_comms.background.backends.claude_runtime.binary import find_binary
from claude_comms.testing import LoopbackAPI
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
    TurnResult,
)

MODEL, TOOLS = "claude-sonnet-5-5", ("Read", "Grep", "Glob")
SYSTEM, QUESTION = "You speak for arangodb. " * 150, "How should I store my page blocks?"
Turn = Callable[[], Awaitable[object]]


@dataclass
class Bench:
    """Where it runs: an address, and directories that go away."""

    address: str
    root: Path
    cli: str
    variables: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """One environment for all rivals; ours makes its own from the same variables."""
        for name in ("module", "config", "user"):
            (self.root / name).mkdir()
        self.variables = {
            "ANTHROPIC_BASE_URL": self.address,
            "ANTHROPIC_API_KEY": "sk-ant-benchmark",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }

    @property
    def environment(self) -> dict[str, str]:
        """A rival's whole environment."""
        own = {"HOME": str(self.root / "user"), "CLAUDE_CONFIG_DIR": str(self.root / "config"), "IS_SANDBOX": "1"}
        return {"PATH": os.environ["PATH"], **self.variables, **own}

    def backend(self) -> ClaudeCodeBackend:
        """Ours, with a home of its own."""
        return ClaudeCodeBackend(Path(tempfile.mkdtemp(dir=self.root)), variables=self.variables)

    @property
    def spec(self) -> InstanceSpec:
        """An instance with the default grant."""
        return InstanceSpec(Pair("marker", "arangodb"), "claude-code", MODEL, TOOLS, self.root / "module")


async def _ignore(_event: TurnEvent) -> None:
    pass


class Ours:
    """A conversation on our backend, told as the engine tells it."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._history: list[HistoryMessage] = []
        self._handle: str | None = None

    async def turn(self) -> TurnResult:
        """The next turn."""
        system = (SystemBlock("target", SYSTEM),)
        prompt = Prompt(
            Pair("marker", "arangodb"), system, tuple(self._history), QUESTION, QUESTION, "query", "v", TokenCount(9)
        )
        result: TurnResult = await self._session.ask(TurnRequest(prompt, "c_1", MODEL, 8192, self._handle), _ignore)
        self._handle = result.session_handle
        self._history += [HistoryMessage(Role.QUESTION, QUESTION), HistoryMessage(Role.ANSWER, result.text)]
        return result

    async def fresh(self) -> TurnResult:
        """The first turn of a new conversation on the same instance."""
        self._history, self._handle = [], None
        return await self.turn()

    async def elsewhere(self, session: Any) -> TurnResult:
        """The next turn, on another instance."""
        self._session = session
        return await self.turn()


def sdk_options(bench: Bench, **more: Any) -> ClaudeAgentOptions:
    """The rival's options: the same prompt, tools and streaming."""
    return ClaudeAgentOptions(
        system_prompt=SYSTEM,
        tools=list(TOOLS),
        model=MODEL,
        cwd=bench.root / "module",
        env=bench.environment,
        setting_sources=[],
        include_partial_messages=True,
        **more,
    )


async def sdk_turn(client: ClaudeSDKClient) -> str:
    """One turn of the bare Agent SDK; its session."""
    await client.query(QUESTION)
    async for message in client.receive_response():
        if isinstance(message, ResultMessage):
            return message.session_id
    raise RuntimeError("the turn had no result")


async def rounds(rows: dict[str, Turn], count: int) -> dict[str, list[float]]:
    """Milliseconds of each row, its turns taken alternately."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    names = list(rows)
    for number in range(-max(1, count // 10), count):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            await rows[name]()
            if number >= 0:
                times[name].append((time.perf_counter() - began) * 1000)
    return times


@contextlib.asynccontextmanager
async def warm(bench: Bench) -> AsyncGenerator[dict[str, Turn], None]:
    """Turns on processes that are running."""
    backend = bench.backend()
    talk, starter = Ours(await backend.open(bench.spec)), Ours(await backend.open(bench.spec))
    async with ClaudeSDKClient(sdk_options(bench)) as client:
        yield {
            "bare Agent SDK, warm turn": lambda: sdk_turn(client),
            "ours, warm turn": talk.turn,
            "ours, new conversation": starter.fresh,
        }
    await backend.close()


@contextlib.asynccontextmanager
async def cold(bench: Bench) -> AsyncGenerator[dict[str, Turn], None]:
    """Turns that start a process."""
    client = ClaudeSDKClient(sdk_options(bench))
    await client.connect()
    session = await sdk_turn(client)
    await client.disconnect()
    backend = bench.backend()
    known = Ours(await backend.open(bench.spec))
    await known.turn()

    async def bare(**more: Any) -> None:
        async with ClaudeSDKClient(sdk_options(bench, **more)) as client:
            await sdk_turn(client)

    async def first() -> None:
        session = await backend.open(bench.spec)
        await Ours(session).turn()
        await session.close()

    async def resumed() -> None:
        await backend.close()
        await known.elsewhere(await backend.open(bench.spec))

    async def printed(*more: str) -> None:
        command = [bench.cli, "-p", QUESTION, "--model", MODEL, "--tools", ",".join(TOOLS), *more]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            cwd=bench.root / "module",
            env=bench.environment,
        )
        if await process.wait():
            raise RuntimeError(f"claude -p ended with {process.returncode}")

    rows: dict[str, Turn] = {
        "claude -p, cold": printed,
        "claude -p --resume": lambda: printed("--resume", session),
        "bare Agent SDK, first answer": bare,
        "bare Agent SDK, resume": lambda: bare(resume=session),
        "ours, first answer": first,
        "ours, resume": resumed,
    }
    async with contextlib.AsyncExitStack() as stack:
        mcp = await stack.enter_async_context(claude_code_mcp(bench))
        yield {**rows, **mcp}
    await backend.close()


@contextlib.asynccontextmanager
async def claude_code_mcp(bench: Bench) -> AsyncGenerator[dict[str, Turn], None]:
    """The stock claude-code-mcp over stdio; no row where it is not there."""
    script, node = os.environ.get("CLAUDE_CODE_MCP"), shutil.which("node")
    if script is None or node is None:
        yield {}
        return
    process = await asyncio.create_subprocess_exec(
        node,
        script,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**bench.environment, "CLAUDE_CLI_NAME": bench.cli},
    )
    number = 0

    async def call(method: str, parameters: dict[str, Any]) -> None:
        nonlocal number
        number += 1
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        process.stdin.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = {}
        while answer.get("id") != number:
            answer = json.loads(await process.stdout.readline())
        if "error" in answer or answer["result"].get("isError"):
            raise RuntimeError(str(answer)[:500])

    client = {"name": "benchmark", "version": "1"}
    await call("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
    arguments = {"prompt": QUESTION, "workFolder": str(bench.root / "module")}
    yield {"claude-code-mcp, per call": lambda: call("tools/call", {"name": "claude_code", "arguments": arguments})}
    process.terminate()
    await process.wait()


async def memory(bench: Bench) -> dict[int, tuple[float, float]]:
    """MB of 1 and of 8 warm instances: all resident, and their fair share (PSS)."""
    found: dict[int, tuple[float, float]] = {}
    backend, started = bench.backend(), 0
    for count in (1, 8):
        for number in range(started, count):
            await Ours(await backend.open(replace(bench.spec, pair=Pair("marker", f"m{number}")))).turn()
        started = count
        found[count] = _memory_of(_descendants(os.getpid()))
    await backend.close()
    return found


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_bytes().rpartition(b")")[2].split()[1])
    commands = {pid for pid in parents if b"loopback" not in _command(pid)}
    found, level = list[int](), {root}
    while level := {pid for pid, parent in parents.items() if parent in level and pid in commands}:
        found.extend(level)
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _memory_of(pids: list[int]) -> tuple[float, float]:
    totals = {"Rss": 0.0, "Pss": 0.0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, size = line.partition(":")
            if name in totals:
                totals[name] += int(size.split()[0]) / 1024
    return totals["Rss"], totals["Pss"]


async def overhead(root: Path) -> dict[str, int]:
    """Tokens (a quarter of the bytes) beyond system prompt and question, of the first request."""
    found: dict[str, int] = {}
    for name, grants in (("without tools", ()), ("with Read, Grep, Glob", TOOLS)):
        with LoopbackAPI("yes") as api:
            backend = ClaudeCodeBackend(Path(tempfile.mkdtemp(dir=root)), variables=api.environment())
            spec = InstanceSpec(Pair("marker", "arangodb"), "claude-code", MODEL, grants, root / "module")
            usage = (await Ours(await backend.open(spec)).turn()).usage
            await backend.close()
        sent = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        found[name] = sent - (len(SYSTEM) + len(QUESTION)) // 4
    return found


def _print(times: dict[str, list[float]]) -> None:
    for name, row in times.items():
        print(f"{name:32}{statistics.median(row):9.1f}{min(row):9.1f}{max(row):9.1f}{len(row):7}")


async def run(address: str, turns: int) -> None:
    """Measure everything and print it."""
    binary = find_binary()
    if binary is None:
        raise SystemExit("no Claude Code: pip install 'claude-module-comms[claude-code]'")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(address, Path(folder), str(binary.path))
        print(f"{'':32}{'median':>9}{'min':>9}{'max':>9}{'turns':>7}  (ms)")
        async with warm(bench) as rows:
            times = await rounds(rows, turns)
        _print(times)
        async with cold(bench) as rows:
            cold_times = await rounds(rows, max(5, turns // 10))
        _print(cold_times)
        medians = {name: statistics.median(row) for name, row in {**times, **cold_times}.items()}
        ours, bare = medians["ours, warm turn"], medians["bare Agent SDK, warm turn"]
        print(f"ours, warm / bare Agent SDK, warm: {ours / bare:.2f}")
        print(f"ours, new conversation / ours, warm: {medians['ours, new conversation'] / ours:.2f}")
        print(
            f"ours, resume / bare Agent SDK, resume: {medians['ours, resume'] / medians['bare Agent SDK, resume']:.2f}"
        )
        if "claude-code-mcp, per call" in medians:
            print(f"claude-code-mcp / ours, warm: {medians['claude-code-mcp, per call'] / ours:.1f}")
        for count, (resident, share) in (await memory(bench)).items():
            print(f"{count} warm: {resident:.0f} MB resident, {share:.0f} MB as their share")
        for name, tokens in (await overhead(bench.root)).items():
            print(f"prompt overhead {name}: about {tokens} tokens")
