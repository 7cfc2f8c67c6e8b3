"""The Node half's own checks and tests, as ``npm test`` runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from node_support import run_npm

if TYPE_CHECKING:
    from node_support import InstalledBridge


@pytest.mark.timeout(300)
def test_the_bridge_passes_its_own_checks_and_tests(installed: InstalledBridge) -> None:
    run_npm(installed.folder, "test")
