from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bridge_support import bridge_settings

from claude_comms.background.backends.mcp_bridge._own import OwnBridge
from claude_comms.testing.conformance import BackendConformance
from claude_comms.testing.loopback import Answer, Fault, LoopbackAPI

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from node_support import InstalledBridge

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.types import InstanceSpec


class TestBridge(BackendConformance):
    """Our bridge with the real TypeScript Agent SDK and the real Claude Code, over real HTTP."""

    @pytest.fixture
    def backend(self, tmp_path: Path, installed: InstalledBridge) -> Iterator[Backend]:
        self.directory = tmp_path
        with LoopbackAPI() as api:
            self.api = api
            yield OwnBridge(bridge_settings(tmp_path / "home", api, installed))

    def spec(self, backend: Backend, **more: Any) -> InstanceSpec:
        return super().spec(backend, directory=self.directory, **more)

    def expect(self, text: str) -> None:
        self.api.answer(text)

    def expect_stall(self, after: str) -> None:
        self.api.answer(Answer(pieces=(after, " and the rest")))
        self.api.fail(Fault.stall(after=1))

    def forget(self) -> None:
        self.api.reset()

    def expect_failure(self) -> None:
        self.api.fail(Fault.error_event())

    def seen(self) -> list[str]:
        return [text for role, text in self.api.requests.messages[-1].thread if role != "system"]
