"""The server on stdin and stdout, for a client that starts it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import anyio

from claude_comms.plugin._desk import Desk
from claude_comms.plugin._sdk import require_sdk

if TYPE_CHECKING:
    from claude_comms.settings import Settings

__all__ = ["serve"]

_CLOSE_WITHIN_S = 5.0


def serve(settings: Settings) -> None:
    """Serve until stdin ends."""
    require_sdk()
    anyio.run(_serve, settings)


async def _serve(settings: Settings) -> None:
    from claude_comms.plugin._server import make_server

    async with Desk(settings, over_http=False) as desk, anyio.create_task_group() as tasks:
        tasks.start_soon(_end_when_told, desk)
        await make_server(desk).run_stdio_async()
        tasks.cancel_scope.cancel()


async def _end_when_told(desk: Desk) -> None:
    """At a signal, interrupt what runs, so that nobody pays for an answer that nobody gets; then end by that signal.

    The SDK's reader waits for stdin in a thread that nothing can wake: to leave by the usual way would take as long.
    """
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            with anyio.move_on_after(_CLOSE_WITHIN_S):
                await desk.close()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
