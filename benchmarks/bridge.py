"""The backend `bridge` beside what it stands between: each figure in one run, over the same loopback API.

    python benchmarks/bridge.py [--turns 60] [--only turns,cold,codec,crossings] [--claude-code-mcp COMMAND]

- turns: a warm turn of the bare TypeScript SDK, of the bare Python SDK, on `claude-code`, and on `bridge`; a new
  conversation on a warm instance of both backends. Target: `bridge` at most 3 ms over the same turn without it.
- cold: what starts a process for each question: `bridge` over a stock claude-code-mcp, and `claude -p`; beside them the
  first answer of an instance on `claude-code` and on `bridge`.
- codec: JSON of 1 kB to 10 MB encoded and decoded, in Python and in Node.
- crossings: the round trip of one message by the ways there are between the two.

The bridge must be installed (`claude-comms install bridge`, or npm in the checkout's `bridge/`); claude-code-mcp is on
PATH, or COMMAND starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from _crossings import Node, codec, crossings
from _loopback import loopback, machine
from claude_agent_sdk import ClaudeSDKClient
from claude_code_turns import MODEL, QUESTION, SYSTEM, TOOLS, Bench, Ours, Turn, rounds, sdk_options, sdk_turn

from claude_comms.background.backends.claude_runtime.binary import find_binary
from claude_comms.background.backends.mcp_bridge import OWN, STOCK, make_bridge
from claude_comms.background.backends.mcp_bridge._node import find_node
from claude_comms.background.backends.mcp_bridge._sources import BridgeProgram, find_bridge
from claude_comms.settings import Settings
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from claude_comms.background.backends.protocol import Backend

GROUPS = ("turns", "cold", "codec", "crossings")
TARGET_MS = 3.0


def settings_of(bench: Bench, server: str, command: tuple[str, ...]) -> Settings:
    """A home of its own that talks to `server`, which its owner has allowed."""
    home = Path(tempfile.mkdtemp(dir=bench.root))
    (home / "config.toml").write_text(f'allow_permission_bypass = ["{STOCK}"]\n')
    given = {"home": home, "backend": BRIDGE, "bridge_server": server, "bridge_command": command}
    key, address = bench.variables["ANTHROPIC_API_KEY"], bench.address
    return Settings.load({**given, "anthropic_api_key": key, "anthropic_base_url": address})


@contextlib.asynccontextmanager
async def typescript(bench: Bench, node: Node) -> AsyncGenerator[Turn]:
    """A warm session of the bare TypeScript SDK, told over a pipe when to ask."""
    process = await node.start("turns", stderr=asyncio.subprocess.DEVNULL)
    writing, reading = process.stdin, process.stdout
    assert writing is not None
    assert reading is not None
    options = {
        "question": QUESTION,
        "systemPrompt": SYSTEM,
        "tools": list(TOOLS),
        "model": MODEL,
        "cwd": str(bench.root / "module"),
        "env": bench.environment,
        "settingSources": [],
        "includePartialMessages": True,
        "pathToClaudeCodeExecutable": bench.cli,
    }
    writing.write(json.dumps(options).encode() + b"\n")

    async def turn() -> None:
        writing.write(b"go on\n")
        result = json.loads(await reading.readline())
        if result["subtype"] != "success":
            raise RuntimeError(f"the bare SDK's turn ended with {result}")

    yield turn
    writing.close()
    await process.wait()


@contextlib.asynccontextmanager
async def warm(bench: Bench, node: Node, own: tuple[str, ...]) -> AsyncGenerator[dict[str, Turn]]:
    """Turns on processes that are running."""
    backends: dict[str, Backend] = {"claude-code": bench.backend(), BRIDGE: make_bridge(settings_of(bench, OWN, own))}
    rows: dict[str, Turn] = {}
    for name, backend in backends.items():
        spec = replace(bench.spec, backend=name)
        rows[f"{name}, warm turn"] = Ours(await backend.open(spec)).turn
        rows[f"{name}, new conversation"] = Ours(await backend.open(spec)).fresh
    async with typescript(bench, node) as bare, ClaudeSDKClient(sdk_options(bench)) as client:
        sdks: dict[str, Turn] = {
            "bare TypeScript SDK, warm turn": bare,
            "bare Python SDK, warm turn": lambda: sdk_turn(client),
        }
        yield {**sdks, **rows}
    for backend in backends.values():
        await backend.close()


@contextlib.asynccontextmanager
async def cold(bench: Bench, own: tuple[str, ...], stock: tuple[str, ...]) -> AsyncGenerator[dict[str, Turn]]:
    """Turns for which a process starts."""
    backends: dict[str, Backend] = {
        "claude-code": bench.backend(),
        BRIDGE: make_bridge(settings_of(bench, OWN, own)),
        STOCK: make_bridge(settings_of(bench, STOCK, stock)),
    }

    def first(name: str) -> Turn:
        async def turn() -> None:
            session = await backends[name].open(replace(bench.spec, backend=name))
            await Ours(session).turn()
            await session.close()

        return turn

    kept = Ours(await backends[STOCK].open(replace(bench.spec, backend=BRIDGE, grants=())))
    yield {
        "claude-code, first answer": first("claude-code"),
        "bridge, first answer": first(BRIDGE),
        "bridge over claude-code-mcp, a turn": kept.fresh,
        "claude -p, a turn": lambda: printed(bench),
    }
    for backend in backends.values():
        await backend.close()


async def printed(bench: Bench) -> None:
    """One run of ``claude -p``."""
    process = await asyncio.create_subprocess_exec(
        *(bench.cli, "-p", QUESTION, "--model", MODEL, "--tools", ",".join(TOOLS), "--system-prompt", SYSTEM),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        cwd=bench.root / "module",
        env=bench.environment,
    )
    if await process.wait():
        raise RuntimeError(f"claude -p ended with {process.returncode}")


def show(times: dict[str, list[float]]) -> dict[str, float]:
    """Print the rows; their medians."""
    print(f"{'ms':38}{'median':>9}{'min':>9}{'max':>9}{'turns':>7}")
    for name, row in times.items():
        print(f"  {name:36}{statistics.median(row):9.1f}{min(row):9.1f}{max(row):9.1f}{len(row):7}")
    return {name: statistics.median(row) for name, row in times.items()}


async def run(options: argparse.Namespace, address: str) -> None:
    """Measure the groups that are asked for, and print them."""
    program, node, binary = installed(), find_node(), find_binary()
    if binary is None or program.folder is None:
        raise SystemExit("no Claude Code, or no installed bridge: claude-comms doctor tells")
    own = (str(node.path), *program.argv) if program.needs_node else program.argv
    echo = Node(str(node.path), program.folder, {"PATH": os.environ["PATH"]})
    print(f"{machine()}; Node {node}, bridge {program.version}, TypeScript SDK {program.sdk}")
    warmed: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(address, Path(folder), str(binary.path))
        if "turns" in options.only:
            async with warm(bench, echo, own) as rows:
                warmed = show(await rounds(rows, options.turns))
            compare(warmed)
        if "cold" in options.only:
            async with cold(bench, own, tuple(shlex.split(options.claude_code_mcp))) as rows:
                medians = show(await rounds(rows, max(5, options.turns // 10)))
            if warmed:
                ratio = medians["bridge over claude-code-mcp, a turn"] / warmed["bridge, warm turn"]
                print(f"claude-code-mcp / bridge, warm: {ratio:.1f}")
    if "codec" in options.only:
        codec(echo)
    if "crossings" in options.only:
        await crossings(echo)


def compare(medians: dict[str, float]) -> None:
    """Print what the boundary costs."""
    ours = medians["bridge, warm turn"]
    for name in ("bare TypeScript SDK", "bare Python SDK", "claude-code"):
        other = medians[f"{name}, warm turn"]
        print(f"bridge over {name}: {ours - other:+.1f} ms, {ours / other:.2f} times (target {TARGET_MS} ms)")
    print(f"bridge, new conversation / warm turn: {medians['bridge, new conversation'] / ours:.2f}")


def installed() -> BridgeProgram:
    """The bridge of the user's home, or the checkout's."""
    settings = Settings.load()
    return find_bridge(settings.home, settings.bridge_command)


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(GROUPS), metavar="GROUPS")
    parser.add_argument("--claude-code-mcp", default="", metavar="COMMAND")
    options = parser.parse_args()
    with loopback() as address:
        anyio.run(run, options, address)


if __name__ == "__main__":
    main()
