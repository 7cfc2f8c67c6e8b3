"""Run by test_leftovers: asks a Claude Code that may run Bash, and stays in the turn until something happens to it.

Arguments: the loopback API's address, a home, a module's path, and how to end ("wait" or "raise").
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
from claude_code_support import MODEL, Talk

from claude_comms.background.backends.claude_code import ClaudeCodeBackend
from claude_comms.types import InstanceSpec, Pair


async def main(address: str, home: str, module: str, ending: str) -> None:
    variables = {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "k"}
    backend = ClaudeCodeBackend(Path(home), variables=variables)
    spec = InstanceSpec(Pair("marker", "arangodb"), "claude-code", MODEL, ("Bash",), Path(module))
    talk = Talk(await backend.open(spec))
    await talk.ask("first")
    print("asked", flush=True)
    if ending == "raise":
        raise RuntimeError("on purpose")
    await talk.ask("second")


if __name__ == "__main__":
    _, address, home, module, ending = sys.argv
    anyio.run(main, address, home, module, ending)
