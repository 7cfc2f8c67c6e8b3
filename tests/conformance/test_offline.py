from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.background.backends.offline import OfflineBackend
from claude_comms.testing.conformance import BackendConformance

if TYPE_CHECKING:
    from claude_comms.background.backends.protocol import Backend


class TestOffline(BackendConformance):
    """It cannot be told what to say and asks nobody, so the tests about that are skipped."""

    @pytest.fixture
    def backend(self) -> Backend:
        return OfflineBackend()
