"""Which engine a communicator takes, and what it costs to reach the daemon's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import claude_comms
from claude_comms import AsyncBackground, AsyncCommunicator, Background, ContextGenerator
from claude_comms.communicator import AsyncInstanceManager
from claude_comms.errors import ConfigError, DaemonError, PermissionDeniedError
from claude_comms.testing.scripted import ScriptedBackend
from claude_comms.types import InstanceLimits, RetryPolicy

pytestmark = pytest.mark.anyio

HEAVY = (
    "sqlalchemy", "sqlmodel", "alembic", "fastapi", "starlette", "uvicorn", "prometheus_client", "psutil",
    "anthropic", "claude_agent_sdk", "mcp", "jinja2", "yaml", "jsonschema_rs", "httpx", "typer", "rich",
)  # fmt: skip
"""What only the daemon needs, or only other requests than questions."""


@pytest.mark.parametrize("options", [{"backend": ScriptedBackend()}, {"context_generator": ContextGenerator()}])
def test_what_is_an_object_of_this_process_cannot_go_to_the_daemon(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the daemon is another process"):
        AsyncCommunicator("marker", use_background=True, **options)
    with pytest.raises(ConfigError, match="the daemon is another process"):
        AsyncInstanceManager(use_background=True, backends=[ScriptedBackend()])


@pytest.mark.parametrize(
    "options",
    [
        {"backend": ScriptedBackend()},
        {"context_generator": ContextGenerator()},
        {"retry": RetryPolicy(attempts=1)},
        {"use_background": False},
        {"settings": {"daemon": "off"}},
    ],
)
async def test_it_does_not_even_look_for_a_daemon_that_it_may_not_use(
    options: dict[str, Any], claude_comms_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(_: object) -> None:
        raise AssertionError("a daemon was looked for")

    monkeypatch.setattr("claude_comms.daemon.find", looked, raising=False)
    settings = {"home": claude_comms_home, **options.pop("settings", {})}
    async with AsyncCommunicator("marker", settings=settings, **options) as comm:
        assert await comm.list_conversations() == []


async def test_limits_of_an_instance_are_a_record_or_a_mapping(claude_comms_home: Path) -> None:
    scripted = ScriptedBackend()
    async with AsyncInstanceManager({"home": claude_comms_home, "backend": "scripted"}, backends=[scripted]) as manager:
        one = await manager.start("marker", "arangodb", limits={"max_turns": 2}, environment={"A": "b"})
        two = await manager.start("marker", "arangodb", limits=InstanceLimits(max_turns=2))
        assert one.limits == two.limits == InstanceLimits(max_turns=2)
        with pytest.raises(ConfigError, match="limits: no 'max_turn'"):
            await manager.start("marker", "arangodb", limits={"max_turn": 2})
        with pytest.raises(PermissionDeniedError):
            await manager.start("marker", "arangodb", grants=["Bash"])


async def test_a_state_that_no_job_has_is_named() -> None:
    with pytest.raises(ConfigError, match="queued, running, done, failed, cancelled"):
        await AsyncBackground().list_jobs(state="lost")


async def test_jobs_need_a_daemon_and_say_so(claude_comms_home: Path) -> None:
    async with AsyncBackground({"home": claude_comms_home}, use_background=False) as background:
        with pytest.raises(DaemonError, match="daemon start"):
            await background.start_job("arangodb", "?", source="marker")
        assert await background.usage() == []


def test_nothing_is_opened_before_it_is_used(claude_comms_home: Path) -> None:
    with Background({"home": claude_comms_home}):
        pass
    assert list(claude_comms_home.iterdir()) == []


def test_asking_over_the_daemon_imports_nothing_that_answers_or_stores() -> None:
    code = f"""
import sys
from claude_comms import AsyncBackground, AsyncCommunicator, InstanceManager
from claude_comms.settings import Settings
from claude_comms.daemon import find, start, status, stop
from claude_comms.daemon.client import RemoteEngine
from websockets.asyncio.client import unix_connect
AsyncCommunicator("marker", use_background=True)
print([name for name in {HEAVY} if name in sys.modules])
"""
    environment = {"PYTHONPATH": str(Path(claude_comms.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
