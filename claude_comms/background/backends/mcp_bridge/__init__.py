"""Claude Code behind another process: our own Node bridge, or a stock claude-code-mcp.

Importing this is cheap; what each of the two needs is imported when it is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from claude_comms.errors import ConfigError

if TYPE_CHECKING:
    from claude_comms.background.backends.protocol import Backend
    from claude_comms.settings import Settings

__all__ = ["OWN", "STOCK", "make_bridge"]

OWN, STOCK = "claude-comms-bridge", "claude-code-mcp"
"""The servers, as the setting `bridge_server` names them."""

_MADE_BY = {OWN: ("_own", "OwnBridge"), STOCK: ("_stock", "StockBridge")}


def make_bridge(settings: Settings) -> Backend:
    """The backend `bridge` over the server that is set. Nothing is started or looked for yet.

    ConfigError for a server that is neither of the two.
    """
    made_by = _MADE_BY.get(settings.bridge_server)
    if made_by is None:
        raise ConfigError(f"bridge_server: {settings.bridge_server!r} is unknown. Set {OWN} or {STOCK}.")
    module, name = made_by
    return getattr(import_module(f"{__name__}.{module}"), name)(settings)
