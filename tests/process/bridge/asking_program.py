"""Run by test_kills: another process with a bridge, which asks once, says so, and waits to be killed.

Arguments: the loopback API's address, a home, a module's path, then the command that starts the bridge.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
from claude_code_support import MODEL, READING, Talk

from claude_comms.background.backends.mcp_bridge._own import OwnBridge
from claude_comms.settings import Settings
from claude_comms.types import InstanceSpec, Pair


async def main(address: str, home: str, module: str, command: list[str]) -> None:
    login = {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "k"}
    backend = OwnBridge(Settings.model_validate({"home": home, "bridge_command": command, **login}))
    session = await backend.open(InstanceSpec(Pair("marker", "arangodb"), "bridge", MODEL, READING, Path(module)))
    result = await Talk(session).ask("one")
    print(result.text, flush=True)
    await anyio.sleep_forever()


if __name__ == "__main__":
    _, address, home, module, *command = sys.argv
    anyio.run(main, address, home, module, command)
