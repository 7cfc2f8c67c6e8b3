"""An instance's session over our bridge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from claude_comms.background.backends.claude_runtime.session import Limits, ProcessSession, Starter
from claude_comms.background.backends.mcp_bridge._connection import BridgeConnection, Launch
from claude_comms.background.backends.mcp_bridge._exchange import BridgeExchange

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.background.backends.claude_runtime.confinement import Confinement
    from claude_comms.background.backends.claude_runtime.place import Place
    from claude_comms.background.backends.claude_runtime.workspace import Scratch
    from claude_comms.background.backends.mcp_bridge._link import Link
    from claude_comms.types import Emit, InstanceSpec, TurnRequest

__all__ = ["BridgeSession", "Limits", "Linked"]


class Linked(Starter, Protocol):
    """What the backend gives its sessions beside: the way to the bridge, the binary, and environments."""

    @property
    def link(self) -> Link: ...

    @property
    def binary(self) -> Path: ...

    def environment(self, spec: InstanceSpec, scratch: Scratch, max_output_tokens: int) -> dict[str, str]: ...


class BridgeSession(ProcessSession[BridgeConnection]):
    """One instance. It has at most one process, in the bridge, started by the first question and kept warm."""

    def __init__(self, starter: Linked, spec: InstanceSpec, confinement: Confinement, limits: Limits) -> None:
        super().__init__(starter, spec, limits)
        self._linked = starter
        self._confinement = confinement

    def _connect(self, request: TurnRequest, scratch: Scratch, directory: Path, place: Place) -> BridgeConnection:
        launch = Launch(
            binary=self._linked.binary,
            directory=directory,
            environment=self._linked.environment(self._spec, scratch, request.max_output_tokens),
            scratch=scratch,
            system=request.prompt.system_text,
            model=request.model,
            confinement=self._confinement,
            max_output_tokens=request.max_output_tokens,
            session_id=place.session_id,
            resume=place.transcript,
            position=place.position,
        )
        return BridgeConnection(self._linked.link, launch, self._linked.workspace, place.lease, kept=place.kept)

    def _exchange_on(self, connection: BridgeConnection, request: TurnRequest, emit: Emit) -> BridgeExchange:
        return BridgeExchange(connection, request, emit, self._limits, self._drop)

    def _died_unasked(self, *, warm: bool) -> bool:
        """Whether a crash came before the first credit: then the bridge has put the question to nobody.

        Of a process that was not warm, only the bridge's own death counts: another start would meet the same.
        """
        asked = self._exchange is not None and self._exchange.heard
        return not asked and (warm or self._linked.link.process is None)
