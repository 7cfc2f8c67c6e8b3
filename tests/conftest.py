"""For all tests: asyncio, no real credentials, and no connection that leaves the machine."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from node_support import InstalledBridge, installed_bridge

from claude_comms.testing import plugin

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["pytester", "claude_code_mcp_support"]


def pytest_configure(config: pytest.Config) -> None:
    """Load the plugin that ships, where the package is not installed and so has no entry point."""
    if not config.pluginmanager.is_registered(plugin):
        config.pluginmanager.register(plugin, "claude_comms")
    # A shell's background jobs, and nohup, start with these ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def no_credentials() -> Iterator[None]:
    """Real keys, and settings of whoever runs the tests, are out of sight from the first test to the last."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "CLAUDE_"))]:
            patch.delenv(name)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(autouse=True)
def only_this_machine(loopback_only: None) -> None:
    """The guard of the plugin, for every test."""


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest) -> InstalledBridge:
    """Our bridge, with the packages that it needs."""
    return installed_bridge(request.config)
