"""MCP servers that were granted, over the bridge: what of them can be used, and which turn they are told of."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bridge_support import bridge_settings
from claude_code_support import READING, Talk, descendants

from claude_comms.background.backends.mcp_bridge._own import OwnBridge
from claude_comms.errors import BackendUnavailableError
from claude_comms.testing import Answer, ToolUse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from node_support import InstalledBridge

    from claude_comms.testing import LoopbackAPI
    from claude_comms.types import InstanceSpec

pytestmark = pytest.mark.anyio

SERVER = Path(__file__).parent.parent / "claude_code" / "tiny_mcp_server.py"
SECRET = "hunter2-of-the-server"


@pytest.fixture
async def shop(api: LoopbackAPI, tmp_path: Path, installed: InstalledBridge) -> AsyncIterator[OwnBridge]:
    """A backend for which the user has defined servers."""
    before = descendants()
    tiny = {"command": sys.executable, "args": [str(SERVER), str(tmp_path / "calls")], "env": {"TINY_TOKEN": SECRET}}
    broken = {"command": sys.executable, "args": ["-c", "raise SystemExit('no configuration')"]}
    servers = {"tiny": tiny, "broken": broken}
    backend = OwnBridge(bridge_settings(tmp_path / "home", api, installed, mcp_servers=servers))
    yield backend
    await backend.close()
    assert descendants() <= before
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


async def test_one_granted_tool_can_be_used_the_others_not_and_the_server_knows_the_turn(
    shop: OwnBridge, spec: InstanceSpec, api: LoopbackAPI, tmp_path: Path
) -> None:
    talk = Talk(await shop.open(replace(spec, grants=(*READING, "mcp:tiny/count", "mcp:tiny/variables"))))
    api.answer(
        Answer(
            blocks=(
                ToolUse("mcp__tiny__count", {"table": "pages"}),
                ToolUse("mcp__tiny__wipe", {"table": "pages"}),
                ToolUse("mcp__tiny__variables", {}),
            )
        )
    )
    result = await talk.ask("how many?", turn_id="turn_1", chain=("marker", "arangodb"))
    assert [used.tool for used in result.tools] == ["mcp__tiny__count", "mcp__tiny__variables"]
    assert [refused.tool for refused in result.refusals] == ["mcp__tiny__wipe"]
    calls = [line for line in (tmp_path / "calls").read_text().splitlines() if not line.startswith("pid ")]
    assert calls == ["count pages"]
    sent = json.dumps(api.requests.messages[-1].body)
    assert "pages has 4711 rows" in sent
    assert "CLAUDE_COMMS_TURN" in sent
    assert "ANTHROPIC_API_KEY" not in sent
    [turn] = (tmp_path / "home" / "claude-code" / "scratch").glob("*/turn.json")
    assert json.loads(turn.read_text())["turn_id"] == "turn_1"
    assert turn.stat().st_mode & 0o777 == 0o600


async def test_a_server_that_cannot_be_reached_is_named(shop: OwnBridge, spec: InstanceSpec) -> None:
    talk = Talk(await shop.open(replace(spec, grants=(*READING, "mcp:broken"))))
    with pytest.raises(BackendUnavailableError, match='"broken", which was granted, cannot be used') as raised:
        await talk.ask("one")
    assert "[mcp_servers.broken]" in str(raised.value)
