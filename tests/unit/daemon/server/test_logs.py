"""The log: lines of JSON with ids, without texts unless they are wanted, and never with a secret."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from daemon_support import TOKEN, Script, running

from claude_comms.daemon.server import configure_logging, secrets_of
from claude_comms.errors import TurnFailedError
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

QUESTION = {"source": "marker", "target": "arangodb", "prompt": "the question's text", "turn_id": "t_mine"}
KEY = 'canary-key-4f1b"2c9d'
ROUTES = ("/openapi.json", "/metrics", "/health", "/v1/daemon", "/v1/events", "/v1/modules")
LOG = logging.getLogger("claude_comms.daemon.test")


@pytest.fixture
def umask() -> Generator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@contextmanager
def logged(path: Path, level: str = "INFO", **options: Any) -> Generator[None]:
    root, ours = logging.getLogger(), logging.getLogger("claude_comms")
    before = (root.level, ours.level)
    handler = configure_logging(path, level, **options)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        root.setLevel(before[0])
        ours.setLevel(before[1])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.usefixtures("umask")
def test_a_line_is_json_with_its_ids_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "daemon.jsonl"
    with logged(path):
        LOG.info("line\nbreak", extra={"conversation": "c_1", "instance": "i_1", "turn": "t_1"})
        LOG.debug("too small")
        logging.getLogger("elsewhere").info("not ours")
        logging.getLogger("elsewhere").warning("not ours, but grave")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second = lines(path)
    assert (first["message"], first["level"], first["conversation"]) == ("line\nbreak", "INFO", "c_1")
    assert (first["instance"], first["turn"], first["logger"]) == ("i_1", "t_1", "claude_comms.daemon.test")
    assert first["time"].endswith("+00:00")
    assert second["message"] == "not ours, but grave"


def test_what_is_grave_is_written_at_once_and_the_rest_soon(tmp_path: Path) -> None:
    path = tmp_path / "daemon.jsonl"
    with logged(path):
        LOG.info("first")
        LOG.warning("grave")
        at_once = [line["message"] for line in lines(path)]
        LOG.info("later")
        for _ in range(100):
            if len(lines(path)) == 3:
                break
            threading.Event().wait(0.1)
        soon = [line["message"] for line in lines(path)]
        LOG.info("at the end")

    assert at_once == ["first", "grave"]
    assert soon == ["first", "grave", "later"]
    assert lines(path)[-1]["message"] == "at the end"


def test_the_file_rotates_and_stays_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_comms.daemon.server._logs._LARGEST_BYTES", 2_000)
    path = tmp_path / "daemon.jsonl"
    with logged(path):
        for number in range(100):
            LOG.info("line %d %s", number, "x" * 100)

    files = sorted(tmp_path.iterdir())
    assert len(files) == 6
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert all(file.stat().st_size <= 2_000 for file in files)


@pytest.mark.parametrize("texts", [False, True])
def test_a_secret_is_hidden_wherever_it_stands(tmp_path: Path, texts: bool) -> None:
    path = tmp_path / "daemon.jsonl"
    with logged(path, secrets=[KEY, TOKEN, ""], texts=texts):
        LOG.info("key %s", KEY)
        LOG.info("header Authorization: Bearer %s", TOKEN)
        LOG.info("never told: sk-ant-api03-abcdefghijklmnop and Bearer some-other-token")
        LOG.info("facts", extra={"facts": {"key": KEY}, "conversation": TOKEN})
        try:
            raise ValueError(f"a message with {KEY}")
        except ValueError:
            LOG.exception("failed")

    text = path.read_text(encoding="utf-8")
    assert len(lines(path)) == 5
    for secret in (KEY, json.dumps(KEY)[1:-1], TOKEN, "abcdefghijklmnop", "some-other-token"):
        assert secret not in text


def test_an_errors_message_is_told_only_where_texts_are_wanted(tmp_path: Path) -> None:
    for texts in (False, True):
        path = tmp_path / f"{texts}.jsonl"
        with logged(path, texts=texts):
            try:
                raise ValueError("what the module said")
            except ValueError:
                LOG.exception("failed")
        told = lines(path)[0]["exception"]
        assert "ValueError" in told
        assert ("what the module said" in told.replace('raise ValueError("what the module said")', "")) is texts


def test_all_credentials_are_known_to_be_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "oauth-canary")
    servers = {
        "docs": {"command": "serve", "env": {"TOKEN": "env-canary"}},
        "web": {"url": "https://docs.example/mcp", "headers": {"Authorization": "header-canary"}},
    }
    settings = Settings.load({"home": tmp_path, "anthropic_api_key": KEY, "mcp_servers": servers})

    found = set(secrets_of(settings, f"{TOKEN}\n"))

    assert {KEY, TOKEN, "oauth-canary", "env-canary", "header-canary"} <= found


@pytest.mark.anyio
@pytest.mark.parametrize("texts", [False, True])
async def test_what_happens_is_logged_with_its_ids_and_texts_only_by_setting(tmp_path: Path, texts: bool) -> None:
    path = tmp_path / "daemon.jsonl"
    failing = Script(
        error=TurnFailedError("cut off after the answer's text", reason="cut", partial="the answer's text")
    )
    with logged(path, "DEBUG", texts=texts):
        async with running(tmp_path, failing, log_texts=texts) as daemon, daemon.client() as client:
            await client.post("/v1/messages", json=QUESTION)

    turns = [line for line in lines(path) if line["message"].startswith("turn.")]
    assert [line["message"] for line in turns] == ["turn.started", "turn.delta", "turn.delta", "turn.failed"]
    assert {(line["conversation"], line["instance"], line["turn"]) for line in turns} == {("c_1", "i_1", "t_mine")}
    text = path.read_text(encoding="utf-8")
    assert ("the answer's text" in text) is texts
    assert ("Yes, " in text) is texts


@pytest.mark.anyio
async def test_a_canary_key_appears_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "daemon.jsonl"
    canary = "canary-key-0123456789abcdef"
    settings: dict[str, Any] = {
        "anthropic_api_key": canary,
        "mcp_servers": {"docs": {"command": "serve", "env": {"T": canary}}},
    }
    seen: list[str] = []
    loaded = Settings.load({"home": tmp_path, **settings})
    failing = Script(error=RuntimeError(f"refused: {canary} and {TOKEN}"))
    with logged(path, "DEBUG", secrets=secrets_of(loaded, TOKEN), texts=True):
        async with (
            running(tmp_path, failing, log_texts=True, **settings) as daemon,
            daemon.client() as client,
            await daemon.over_tcp() as tcp,
        ):
            for one in (client, tcp):
                seen += [(await one.get(route)).text for route in ROUTES]
                seen.append((await one.post("/v1/messages", json=QUESTION)).text)
            wrong = {"Claude-Comms-Settings": "{}"}
            seen.append((await client.get("/v1/modules", headers=wrong)).text)
            tcp.headers["Authorization"] = f"Bearer {canary}"
            seen.append((await tcp.get("/health")).text)
        seen += [json.dumps(event.as_cloudevent()) for event in daemon.bus.events]
        seen.append(daemon.server.service.digest)
    seen.append(path.read_text(encoding="utf-8"))

    assert any("InternalError" in text for text in seen)
    for text in seen:
        assert canary not in text
        assert TOKEN not in text
