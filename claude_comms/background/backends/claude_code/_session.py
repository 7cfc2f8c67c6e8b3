"""An instance's session over the Python Agent SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from claude_comms.background.backends.claude_code._connection import Connection
from claude_comms.background.backends.claude_code._exchange import Exchange
from claude_comms.background.backends.claude_code._launch import Launch
from claude_comms.background.backends.claude_code._turn import TurnReader
from claude_comms.background.backends.claude_runtime.session import Limits, ProcessSession, Starter

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.background.backends.claude_runtime.confinement import Confinement
    from claude_comms.background.backends.claude_runtime.place import Place
    from claude_comms.background.backends.claude_runtime.workspace import Scratch
    from claude_comms.types import Emit, InstanceSpec, TurnRequest

__all__ = ["ClaudeCodeSession", "Equipped", "Limits"]


class Equipped(Starter, Protocol):
    """What the backend gives its sessions beside: the binary, and environments."""

    @property
    def binary(self) -> Path: ...

    def environment(self, spec: InstanceSpec, scratch: Scratch, max_output_tokens: int) -> dict[str, str]: ...


class ClaudeCodeSession(ProcessSession[Connection]):
    """One instance. It has at most one process, started by the first question and kept warm from then on."""

    def __init__(self, starter: Equipped, spec: InstanceSpec, confinement: Confinement, limits: Limits) -> None:
        super().__init__(starter, spec, limits)
        self._equipped = starter
        self._confinement = confinement

    def _connect(self, request: TurnRequest, scratch: Scratch, directory: Path, place: Place) -> Connection:
        launch = Launch(
            binary=self._equipped.binary,
            directory=directory,
            environment=self._equipped.environment(self._spec, scratch, request.max_output_tokens),
            scratch=scratch,
            system=request.prompt.system_text,
            model=request.model,
            confinement=self._confinement,
            max_output_tokens=request.max_output_tokens,
            session_id=place.session_id,
            resume=place.transcript,
            position=place.position,
        )
        return Connection(launch, self._equipped.workspace, place.lease, kept=place.kept)

    def _exchange_on(self, connection: Connection, request: TurnRequest, emit: Emit) -> Exchange:
        reader = TurnReader(
            emit, self._confinement, connection.launch.directory, connection.meter, deadline=request.deadline
        )
        return Exchange(connection, reader, request, self._limits, self._drop)
