from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from claude_comms.background.backends import _registry, backend_names, choose_backend, make_backend
from claude_comms.background.backends.protocol import BackendHealth
from claude_comms.errors import ConfigError
from claude_comms.settings import Settings
from claude_comms.testing.scripted import ScriptedBackend

HERE = Path("/somewhere")


def settings(**values: Any) -> Settings:
    return Settings(**values)


def scripted(_settings: Settings) -> ScriptedBackend:
    return ScriptedBackend(name="mine")


def broken(_settings: Settings) -> ScriptedBackend:
    raise KeyError("oops")


def number(_settings: Settings) -> int:
    return 5


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed distributions bring backends of their own."""
    monkeypatch.setitem(sys.modules, "others", sys.modules[__name__])
    found = EntryPoints(
        EntryPoint(name, f"others:{function}", _registry.ENTRY_POINTS)
        for name, function in (("mine", "scripted"), ("broken", "broken"), ("number", "number"), ("gone", "nothing"))
    )

    def entry_points(*, group: str) -> EntryPoints:
        return found.select(group=group)

    monkeypatch.setattr(_registry, "entry_points", entry_points)


def test_our_backends_are_known() -> None:
    assert backend_names()[:4] == ["offline", "api", "claude-code", "bridge"]


def test_offline_is_made() -> None:
    assert make_backend("offline", settings()).name == "offline"


def test_claude_code_is_made_without_looking_for_it() -> None:
    assert make_backend("claude-code", settings()).name == "claude-code"


def test_the_bridge_is_made_without_looking_for_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert make_backend("bridge", settings()).name == "bridge"


def test_an_unknown_backend_is_refused_with_the_names_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"no backend 'gpt'\. Known backends: offline, api"):
        make_backend("gpt", settings())


@pytest.mark.usefixtures("others")
def test_a_backend_can_come_from_an_entry_point() -> None:
    assert "mine" in backend_names()
    assert make_backend("mine", settings()).name == "mine"


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(("name", "problem"), [("broken", "KeyError"), ("number", "a int"), ("gone", "AttributeError")])
def test_an_entry_point_that_makes_no_backend_is_named(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"backend '{name}' \(entry point others:.*{problem}.*Repair"):
        make_backend(name, settings())


def test_what_is_set_wins_and_says_where() -> None:
    chosen = choose_backend(Settings.load({"backend": "offline", "anthropic_api_key": "k"}), target_path=HERE)
    assert (chosen.backend, chosen.reason) == ("offline", "it is set (argument)")


def _found(monkeypatch: pytest.MonkeyPatch, health: BackendHealth) -> None:
    def look(_settings: Settings) -> BackendHealth:
        return health

    monkeypatch.setattr(_registry, "claude_code_health", look)


@pytest.mark.parametrize("path", [HERE, None])
def test_auto_is_api_when_there_is_a_key_and_offline_otherwise_where_claude_code_is_missing(
    path: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _found(monkeypatch, BackendHealth(usable=False, reason="the Agent SDK is not installed"))
    with_key = choose_backend(settings(anthropic_api_key="k"), target_path=path)
    without = choose_backend(settings(), target_path=path)
    blank = choose_backend(settings(anthropic_api_key=" "), target_path=path)
    assert (with_key.backend, without.backend, blank.backend) == ("api", "offline", "offline")
    unusable = "Claude Code is not usable, because the Agent SDK is not installed"
    assert with_key.reason == f"ANTHROPIC_API_KEY is set, and {unusable}"
    assert without.reason == f"ANTHROPIC_API_KEY is not set, and {unusable}"


def claude(path: Path, script: str) -> Path:
    """A program in Claude Code's place that counts its runs in a file beside it."""
    path.write_text(f"#!/bin/sh\necho run >> '{path}.runs'\n{script}\n")
    path.chmod(0o755)
    return path


def runs(binary: Path) -> int:
    return len(Path(f"{binary}.runs").read_text().splitlines())


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo 2.1.197", "2.1.329 or later is needed"), ("exit 3", "does not answer as Claude Code"), (":", "does not")],
)
@pytest.mark.parametrize("key", ["k", None])
def test_auto_leaves_out_a_claude_code_that_is_too_old_or_no_claude_code_and_says_why(
    tmp_path: Path, script: str, why: str, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "t")
    binary = claude(tmp_path / "claude", script)
    here = settings(home=tmp_path / "home", claude_code_binary=binary, anthropic_api_key=key)
    for _ in range(3):
        choice = choose_backend(here, target_path=HERE)
        assert choice.backend == ("offline" if key is None else "api")
        assert "Claude Code is not usable, because" in choice.reason
        assert why in choice.reason
    assert runs(binary) == 1


def test_auto_takes_a_claude_code_that_will_do_and_asks_it_for_its_version_once(tmp_path: Path) -> None:
    binary = claude(tmp_path / "claude", "echo 2.1.400")
    here = settings(home=tmp_path / "home", claude_code_binary=binary, anthropic_api_key="k")
    for _ in range(3):
        choice = choose_backend(here, target_path=HERE)
        assert (choice.backend, "2.1.400" in choice.reason) == ("claude-code", True)
    assert runs(binary) == 1


@pytest.mark.parametrize(
    ("key", "path", "chosen"),
    [("k", HERE, "claude-code"), ("k", None, "api"), (None, None, "claude-code"), (None, HERE, "claude-code")],
)
def test_auto_prefers_claude_code_once_it_is_usable_for_a_target_with_a_path(
    monkeypatch: pytest.MonkeyPatch, key: str | None, path: Path | None, chosen: str
) -> None:
    _found(monkeypatch, BackendHealth(usable=True, reason="Claude Code is installed"))
    assert choose_backend(settings(anthropic_api_key=key), target_path=path).backend == chosen


def test_knowing_the_backends_imports_no_heavy_library() -> None:
    code = (
        "import sys; import claude_comms.background.backends, claude_comms.background.pool;"
        "print({'anthropic', 'httpx2', 'httpx', 'sqlmodel', 'jinja2', 'rich', 'pydantic'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
