from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.background.backends.messages_api import MessagesApiBackend
from claude_comms.testing.conformance import BackendConformance
from claude_comms.testing.loopback import Answer, Fault, LoopbackAPI
from claude_comms.types import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.background.backends.protocol import Backend


class TestApi(BackendConformance):
    """The Messages API's backend, over real HTTP."""

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with LoopbackAPI() as api:
            self.api = api
            yield MessagesApiBackend(api_key=api.key, base_url=api.base_url, retry=RetryPolicy(attempts=1))

    def expect(self, text: str) -> None:
        self.api.answer(text)

    def expect_stall(self, after: str) -> None:
        self.api.answer(Answer(pieces=(after, " and the rest")))
        self.api.fail(Fault.stall(after=1))

    def forget(self) -> None:
        self.api.reset()

    def expect_failure(self) -> None:
        self.api.fail(Fault.status(500))

    def seen(self) -> list[str]:
        return [text for _role, text in self.api.requests[-1].thread]
