"""Any MCP server with a tool claude_code{prompt, workFolder} will do; what is wrong with one is said."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest
from claude_code_support import MODEL, Talk

from claude_comms.background.backends.mcp_bridge import _stock_session
from claude_comms.errors import (
    BackendCrashedError,
    BackendProtocolError,
    BackendUnavailableError,
    DeadlineExceededError,
    TurnFailedError,
)
from claude_comms.types import Delta, InstanceSpec, Pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude_code_mcp_support import TinyServer

pytestmark = pytest.mark.anyio


async def test_another_server_with_the_tool_answers(
    tiny: Callable[[str], TinyServer], spec: InstanceSpec, module_path: Path
) -> None:
    server = tiny("answers")
    talk = Talk(await server.backend.open(spec))
    first = await talk.ask("And where?")
    assert first.text == f"And where? in {module_path}"
    assert [event for event in talk.events if isinstance(event, Delta)] == [Delta(first.text)]
    assert (first.usage.cost_usd, first.usage.output_tokens, first.session_handle) == (None, 0, None)
    await talk.ask("Again?")
    one, two = server.calls
    assert one["pid"] == two["pid"]
    assert "And where? in" in two["prompt"]


async def test_each_session_has_a_server_of_its_own(tiny: Callable[[str], TinyServer], spec: InstanceSpec) -> None:
    server = tiny("answers")
    for _ in range(2):
        await Talk(await server.backend.open(spec)).ask("Who?")
    assert len({call["pid"] for call in server.calls}) == 2


async def test_a_module_without_a_path_is_answered_for_in_an_empty_private_folder(
    tiny: Callable[[str], TinyServer], tmp_path: Path
) -> None:
    server = tiny("answers")
    await Talk(await server.backend.open(InstanceSpec(Pair("a", "b"), "bridge", MODEL))).ask("Where?")
    folder = server.calls[0]["folder"]
    assert folder.startswith(str(tmp_path / "home" / "claude-code" / "scratch"))
    assert folder.endswith("/empty")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("other", r"no tool claude_code\{prompt, workFolder\}; it offers count"),
        ("homeless", r"tool claude_code does not take workFolder, .*; it takes prompt"),
    ],
)
async def test_a_server_without_the_tool_is_refused_with_what_it_offers(
    tiny: Callable[[str], TinyServer], spec: InstanceSpec, behaviour: str, words: str
) -> None:
    session = await tiny(behaviour).backend.open(spec)
    with pytest.raises(BackendUnavailableError, match=words) as caught:
        await Talk(session).ask("Anyone?")
    assert caught.value.backend == "bridge"
    assert session.pid is None


async def test_a_server_that_dies_in_a_turn_is_told_with_its_last_words_and_not_asked_twice(
    tiny: Callable[[str], TinyServer], spec: InstanceSpec
) -> None:
    server = tiny("dies")
    session = await server.backend.open(spec)
    with pytest.raises(BackendCrashedError, match="exited with code 3") as caught:
        await Talk(session).ask("Are you there?")
    assert (caught.value.exit_code, caught.value.backend) == (3, "bridge")
    assert "out of luck" in caught.value.stderr_tail
    assert len(server.calls) == 1
    assert session.pid is None


async def test_garbage_on_stdout_ends_the_turn(tiny: Callable[[str], TinyServer], spec: InstanceSpec) -> None:
    server = tiny("babbles")
    session = await server.backend.open(spec)
    with anyio.fail_after(20), pytest.raises(BackendProtocolError) as caught:
        await Talk(session).ask("Clear?")
    assert caught.value.line == "debug: this is no message"
    assert (len(server.calls), session.pid) == (1, None)


async def test_a_program_that_speaks_no_mcp_is_told(tiny: Callable[[str], TinyServer], spec: InstanceSpec) -> None:
    session = await tiny("mute").backend.open(spec)
    with pytest.raises(DeadlineExceededError):
        await Talk(session).ask("Hello?", deadline=anyio.current_time() + 0.3)
    assert session.pid is None


async def test_a_program_that_speaks_no_mcp_is_not_waited_for_for_ever(
    tiny: Callable[[str], TinyServer], spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stock_session, "START_S", 0.3)
    session = await tiny("mute").backend.open(spec)
    with anyio.fail_after(20), pytest.raises(BackendUnavailableError, match="did not answer as an MCP server"):
        await Talk(session).ask("Hello?")
    assert session.pid is None


async def test_a_result_that_is_an_error_is_no_answer(tiny: Callable[[str], TinyServer], spec: InstanceSpec) -> None:
    server = tiny("fails")
    session = await server.backend.open(spec)
    with pytest.raises(TurnFailedError, match="no luck today") as caught:
        await Talk(session).ask("Luck?")
    assert (caught.value.reason, caught.value.backend) == ("server_error", "bridge")
    assert len(server.calls) == 1
    assert session.pid is not None


async def test_an_empty_answer_is_none(tiny: Callable[[str], TinyServer], spec: InstanceSpec) -> None:
    with pytest.raises(TurnFailedError, match="answered nothing"):
        await Talk(await tiny("silent").backend.open(spec)).ask("Nothing?")


async def test_an_answer_that_is_no_text_is_refused(tiny: Callable[[str], TinyServer], spec: InstanceSpec) -> None:
    with pytest.raises(BackendProtocolError, match="no text"):
        await Talk(await tiny("shows").backend.open(spec)).ask("Show me?")


async def test_the_server_knows_nothing_of_ours_but_what_it_needs(
    tiny: Callable[[str], TinyServer], spec: InstanceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "secret-1")
    monkeypatch.setenv("ANTHROPIC_OF_OURS", "secret-2")
    monkeypatch.setenv("MCP_CLAUDE_DEBUG", "true")
    monkeypatch.setenv("IS_SANDBOX", "secret-3")
    server = tiny("answers")
    own = replace(spec, environment=(("HOME", "/tmp"), ("TABLES", "blue")))
    await Talk(await server.backend.open(own)).ask("What do you know?")
    known = server.calls[0]["variables"]
    home = str(tmp_path / "home" / "claude-code")
    assert not {"GITHUB_TOKEN", "ANTHROPIC_OF_OURS", "MCP_CLAUDE_DEBUG", "CLAUDE_CODE_MAX_OUTPUT_TOKENS"} & set(known)
    assert not any("secret" in value for value in known.values())
    assert (known["HOME"], known["CLAUDE_CONFIG_DIR"]) == (f"{home}/home", f"{home}/config")
    assert known["CLAUDE_CLI_NAME"].startswith("/")
    assert (known["ANTHROPIC_MODEL"], known["TABLES"]) == (MODEL, "blue")


@pytest.mark.parametrize(("user", "told"), [(0, "1"), (1_000, None)])
async def test_only_for_root_is_the_server_said_to_be_in_a_sandbox(
    tiny: Callable[[str], TinyServer],
    spec: InstanceSpec,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    told: str | None,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    server = tiny("answers")
    await Talk(await server.backend.open(spec)).ask("Who am I?")
    assert server.calls[0]["variables"].get("IS_SANDBOX") == told
