"""What the tests of our bridge share: a backend's settings, who is who among its processes, and what was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_code_support import last_line

from claude_comms.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from node_support import InstalledBridge

    from claude_comms.background.backends.mcp_bridge._own import OwnBridge
    from claude_comms.testing import LoopbackAPI


def bridge_settings(home: Path, api: LoopbackAPI, installed: InstalledBridge, **more: Any) -> Settings:
    """Settings for our bridge over the loopback API."""
    values: dict[str, Any] = {
        "home": home,
        "bridge_command": installed.command,
        "anthropic_api_key": "any",
        "anthropic_base_url": api.base_url,
        **more,
    }
    return Settings(**values)


def node_pid(backend: OwnBridge) -> int:
    """The Node process of the running bridge."""
    assert backend.link.process is not None
    return int(backend.link.facts["pid"])


def times_asked(api: LoopbackAPI, question: str) -> int:
    """How often a question came to the model as the last of its thread."""
    return sum(last_line(request) == question for request in api.requests.messages)
