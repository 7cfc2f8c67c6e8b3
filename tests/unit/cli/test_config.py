from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from claude_comms.cli._run import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLAUDE_COMMS_HOME", str(tmp_path))
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    assert run(["config", "show", "--json"]) == 0
    return {setting["name"]: setting for setting in json.loads(capsys.readouterr().out)}


def test_each_setting_says_where_it_came_from(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config.toml").write_text("max_instances = 3\n")
    monkeypatch.setenv("CLAUDE_COMMS_BACKEND", "offline")
    settings = shown(capsys)
    assert settings["max_instances"] == {
        "name": "max_instances", "value": 3, "origin": str(home / "config.toml"),
    }  # fmt: skip
    assert settings["backend"]["origin"] == "CLAUDE_COMMS_BACKEND"
    assert settings["deadline_s"]["origin"] == "default"


def test_secrets_are_masked_in_both_forms(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "not-to-be-seen")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://me:not-to-be-seen@127.0.0.1:1/v1")
    settings = shown(capsys)
    assert settings["anthropic_api_key"]["value"] == "********"
    assert settings["anthropic_base_url"]["value"] == "https://********@127.0.0.1:1/v1"
    assert run(["config", "show"]) == 0
    text = capsys.readouterr().out
    assert "not-to-be-seen" not in text
    assert "127.0.0.1" in text


def test_an_mcp_server_is_shown_without_its_env_and_headers(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(
        '[mcp_servers.rows]\ncommand = "rows-server"\nargs = ["-v"]\nenv = { KEY = "not-to-be-seen" }\n'
        '[mcp_servers.web]\nurl = "https://127.0.0.1/mcp"\nheaders = { Authorization = "not-to-be-seen" }\n'
    )
    assert shown(capsys)["mcp_servers"]["value"] == {
        "rows": {"command": "rows-server", "args": ["-v"], "env": {"KEY": "********"}},
        "web": {"url": "https://127.0.0.1/mcp", "headers": {"Authorization": "********"}},
    }
    assert run(["config", "show"]) == 0
    text = capsys.readouterr().out
    assert "rows-server" in text
    assert "not-to-be-seen" not in text


def test_a_broken_config_file_is_misuse_that_names_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text("max_instances = 'many'\n")
    assert run(["config", "show"]) == 2
    assert "config.toml: max_instances" in capsys.readouterr().err
