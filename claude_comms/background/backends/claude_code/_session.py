"""An instance's session over the Python Agent SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.background.backends.claude_code._connection import Connection
from claude_comms.background.backends.claude_code._exchange import Exchange
from claude_comms.background.backends.claude_code._launch import Launch
from claude_comms.background.backends.claude_code._turn import TurnReader
from claude_comms.background.backends.claude_runtime.session import Limits, ProcessSession, Starter

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.background.backends.claude_runtime.place import Place
    from claude_comms.background.backends.claude_runtime.workspace import Scratch
    from claude_comms.types import Emit, TurnRequest

__all__ = ["ClaudeCodeSession", "Limits", "Starter"]


class ClaudeCodeSession(ProcessSession[Connection]):
    """One instance. It has at most one process, started by the first question and kept warm from then on."""

    def _connect(self, request: TurnRequest, scratch: Scratch, directory: Path, place: Place) -> Connection:
        launch = self._launch(Launch, request, scratch, directory, place)
        return Connection(launch, self._starter.workspace, place.lease, kept=place.kept)

    def _exchange_on(self, connection: Connection, request: TurnRequest, emit: Emit) -> Exchange:
        reader = TurnReader(
            emit, self._confinement, connection.launch.directory, connection.meter, deadline=request.deadline
        )
        return Exchange(connection, reader, request, self._limits, self._drop)
