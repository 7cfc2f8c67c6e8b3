"""The server on stdin and stdout, for a client that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from claude_comms.plugin._desk import Desk
from claude_comms.plugin._sdk import require_sdk

if TYPE_CHECKING:
    from claude_comms.settings import Settings

__all__ = ["serve"]


def serve(settings: Settings) -> None:
    """Serve until stdin ends."""
    require_sdk()
    anyio.run(_serve, settings)


async def _serve(settings: Settings) -> None:
    from claude_comms.plugin._server import make_server

    async with Desk(settings, over_http=False) as desk:
        await make_server(desk).run_stdio_async()
