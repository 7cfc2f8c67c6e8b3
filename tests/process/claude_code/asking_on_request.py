"""Run by test_sharing: another process with a backend over the same home, which asks what it is told to.

Arguments: the loopback API's address, a home, a module's path. Each line of stdin is a question with the handle and
the history of its thread; each line of stdout what came of it. Its Claude Code stays warm until stdin ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import anyio.to_thread
from claude_code_support import MODEL, READING, Talk

from claude_comms.background.backends.claude_code import ClaudeCodeBackend
from claude_comms.types import HistoryMessage, InstanceSpec, Pair, Role


async def main(address: str, home: str, module: str) -> None:
    variables = {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "k"}
    backend = ClaudeCodeBackend(Path(home), variables=variables)
    session = await backend.open(InstanceSpec(Pair("marker", "arangodb"), "claude-code", MODEL, READING, Path(module)))
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        told = json.loads(line)
        history = [HistoryMessage(Role(role), text) for role, text in told["history"]]
        result = await Talk(session, told["handle"], history).ask(told["question"])
        print(json.dumps({"text": result.text, "handle": result.session_handle, "rebuilt": result.rebuilt}), flush=True)
    await backend.close()


if __name__ == "__main__":
    _, address, home, module = sys.argv
    anyio.run(main, address, home, module)
