from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.errors import TurnFailedError
from claude_comms.testing.conformance import BackendConformance
from claude_comms.testing.scripted import ALL_FEATURES, Crash, Garbage, ScriptedBackend, Stall, Step
from claude_comms.types import BackendFeatures

if TYPE_CHECKING:
    from claude_comms.background.backends.protocol import Backend


class TestScripted(BackendConformance):
    """With everything declared."""

    features = ALL_FEATURES
    failure: Step = TurnFailedError("no", reason="overloaded", backend="scripted")

    @pytest.fixture
    def backend(self) -> Backend:
        self.scripted = ScriptedBackend(features=self.features)
        return self.scripted

    def expect(self, text: str) -> None:
        self.scripted.add(text)

    def expect_stall(self, after: str) -> None:
        self.scripted.add(Stall(after))

    def expect_failure(self) -> None:
        self.scripted.add(self.failure)

    def seen(self) -> list[str]:
        prompt = self.scripted.requests[-1].prompt
        return [*(message.text for message in prompt.history), prompt.message]


class TestScriptedWithNothing(TestScripted):
    """With nothing declared, every feature must be refused or absent."""

    features = BackendFeatures()
    failure = Crash("half")


class TestScriptedGarbage(TestScripted):
    failure = Garbage()
