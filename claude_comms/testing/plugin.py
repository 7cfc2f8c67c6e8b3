"""A pytest plugin, found by itself once claude-comms is installed: fixtures to test modules without a key.

`loopback_api`, `claude_comms_home` and `loopback_settings` are there to be asked for; `loopback_only` too, which
fails a test that talks to any other machine. Nothing happens in tests that ask for none of them.
"""

from __future__ import annotations

import contextlib
import os
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from claude_comms.settings import Settings
    from claude_comms.testing.loopback import LoopbackAPI

__all__ = ["claude_comms_home", "loopback_api", "loopback_only", "loopback_settings"]

pytest.register_assert_rewrite("claude_comms.testing.conformance")

_OURS = ("ANTHROPIC_", "CLAUDE_COMMS_", "CLAUDE_CODE_")


@pytest.fixture
def loopback_api() -> Iterator[LoopbackAPI]:
    """A Messages API on 127.0.0.1, fresh for each test: script it, break it, read what it was asked.

    See `claude_comms.testing.LoopbackAPI`.
    """
    from claude_comms.testing.loopback import LoopbackAPI

    with LoopbackAPI() as api:
        yield api


@pytest.fixture
def claude_comms_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of claude-comms for this test, set as CLAUDE_COMMS_HOME.

    All other variables that steer claude-comms or hold credentials (``ANTHROPIC_*``, ``CLAUDE_COMMS_*``,
    ``CLAUDE_CODE_*``) are removed until the test ends.
    """
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        monkeypatch.delenv(name)
    home = tmp_path / "claude-comms-home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("CLAUDE_COMMS_HOME", str(home))
    return home


@pytest.fixture
def loopback_settings(loopback_api: LoopbackAPI, claude_comms_home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings by which everything asks `loopback_api`, through backend `api`, and keeps its state in a fresh home."""
    from claude_comms.settings import Settings

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return Settings.load(
        {
            "home": claude_comms_home,
            "backend": "api",
            "anthropic_api_key": loopback_api.key,
            "anthropic_base_url": loopback_api.base_url,
            "daemon": "off",
        }
    )


@pytest.fixture
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No connection of this process leaves the machine: an attempt is refused, and fails the test even if caught.

    Covers `socket.socket` and name lookups, not child processes.
    """
    attempts: list[str] = []
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(address: object) -> None:
        attempts.append(str(address))
        raise OSError(f"a test tried to reach {address}, which is not this machine")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if not _is_local(self.family, address):
            refuse(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if not _is_local(self.family, address):
            refuse(address)
        return connect_ex(self, address)

    def guarded_lookup(host: Any, *rest: Any, **options: Any) -> Any:
        if host is not None and not _is_loopback(host):
            refuse(host)
        return lookup(host, *rest, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_lookup)
    yield
    if attempts:
        pytest.fail(f"the test tried to reach {', '.join(attempts)}. Let it ask a server on 127.0.0.1.")


def _is_local(family: int, address: Any) -> bool:
    return family not in (socket.AF_INET, socket.AF_INET6) or _is_loopback(address[0])


def _is_loopback(host: object) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if name in ("localhost", ""):
        return True
    with contextlib.suppress(ValueError):
        address = ip_address(name.partition("%")[0])
        return address.is_loopback or address.is_unspecified
    return False
