"""A key and the token are nowhere to be read while a real daemon works, or after: argv, files, events, answers."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from claude_comms.daemon import Places, start, stop
from claude_comms.settings import Settings
from claude_comms.testing.loopback import Fault, LoopbackAPI

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

CANARY = "canary-key-8d1f4b7e2a90c365"
QUESTION = {"source": "marker", "target": "arangodb", "prompt": "How?"}
ROUTES = ("/openapi.json", "/metrics", "/health", "/v1/daemon", "/v1/events", "/v1/conversations", "/v1/diagnose")


@pytest.fixture
def settings(loopback_api: LoopbackAPI, claude_comms_home: Path) -> Iterator[Settings]:
    chosen = Settings.load(
        {
            "home": claude_comms_home,
            "backend": "api",
            "anthropic_api_key": CANARY,
            "anthropic_base_url": loopback_api.base_url,
            "log_level": "DEBUG",
            "log_texts": True,
        }
    )
    yield chosen
    stop(chosen, drain_s=0)


def command_lines() -> list[bytes]:
    found: list[bytes] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(entry.read_bytes())
    return found


def test_a_canary_key_and_the_token_are_nowhere(settings: Settings, loopback_api: LoopbackAPI) -> None:
    info = start(settings, listen="127.0.0.1:0")
    token = Places(settings.home).token.read_text(encoding="utf-8").strip()
    said: list[str] = []
    over_socket = httpx.HTTPTransport(uds=str(info.socket))
    with httpx.Client(transport=over_socket, base_url="http://daemon", timeout=30) as client:
        reply = client.post("/v1/messages", json=QUESTION)
        said.append(reply.text)
        loopback_api.fail(Fault.status(401), times=10)
        said.append(client.post("/v1/messages", json=QUESTION).text)
        said += [client.get(route).text for route in ROUTES]
        said.append(client.get(f"/v1/conversations/{reply.json()['thread_id']}/export").text)
        said.append(client.get("/v1/modules", headers={"Claude-Comms-Settings": "{}"}).text)
    said.append(httpx.get(f"http://{info.listen}/health", headers={"Authorization": "Bearer no"}, trust_env=False).text)
    arguments = command_lines()
    stop(settings, drain_s=0)

    assert reply.status_code == 200
    assert any("API key" in text for text in said)
    for secret in (CANARY, token):
        assert not [text for text in said if secret in text]
        assert not [line for line in arguments if secret.encode() in line]
        assert _files_with(settings.home, secret) == (["daemon.token"] if secret == token else [])
    assert Places(settings.home).log.stat().st_size > 0


def _files_with(home: Path, secret: str) -> list[str]:
    files = [file for file in home.rglob("*") if file.is_file()]
    assert {"claude-comms.db", "events.db"} <= {file.name for file in files}
    return [file.name for file in files if secret.encode() in file.read_bytes()]
