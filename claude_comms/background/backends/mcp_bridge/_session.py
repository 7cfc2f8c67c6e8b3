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
    """What the backend gives its sessions beside: the way to the bridge."""

    @property
    def link(self) -> Link: ...


class BridgeSession(ProcessSession[BridgeConnection]):
    """One instance. It has at most one process, in the bridge, started by the first question and kept warm."""

    def __init__(self, starter: Linked, spec: InstanceSpec, confinement: Confinement, limits: Limits) -> None:
        super().__init__(starter, spec, confinement, limits)
        self._link = starter.link

    def _connect(self, request: TurnRequest, scratch: Scratch, directory: Path, place: Place) -> BridgeConnection:
        launch = self._launch(Launch, request, scratch, directory, place)
        return BridgeConnection(self._link, launch, self._starter.workspace, place.lease, kept=place.kept)

    def _exchange_on(self, connection: BridgeConnection, request: TurnRequest, emit: Emit) -> BridgeExchange:
        return BridgeExchange(connection, request, emit, self._limits, self._drop)

    def _died_unasked(self, *, warm: bool) -> bool:
        """Whether a crash came before the first credit: then the bridge has put the question to nobody.

        Of a process that was not warm, only the bridge's own death counts: another start would meet the same.
        """
        asked = self._exchange is not None and self._exchange.heard
        return not asked and (warm or self._link.process is None)
