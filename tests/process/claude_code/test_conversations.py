"""Turns, new conversations, and conversations that are found again: with the real Claude Code."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from claude_code_support import Talk, descendants

from claude_comms.background.backends.claude_code import ClaudeCodeBackend
from claude_comms.errors import BackendUnavailableError, TurnFailedError
from claude_comms.testing import Answer, Fault, Text, Thinking, ToolUse
from claude_comms.testing._wire import Exchange, Step, error_response, healthy
from claude_comms.types import HistoryMessage, Role, Source, ToolUsed, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from claude_comms.background.backends.claude_code._session import ClaudeCodeSession
    from claude_comms.testing import LoopbackAPI, RecordedRequest
    from claude_comms.types import InstanceSpec

pytestmark = pytest.mark.anyio


def said(request: RecordedRequest) -> list[tuple[str, str]]:
    """The thread as the model sees it, each message's last line: reminders stand before."""
    return [(role, text.splitlines()[-1]) for role, text in request.thread if role != "system" and text]


def _poison(session_id: str) -> Fault:
    """The API refuses whatever that session sends, and answers every other one."""

    def steps(exchange: Exchange) -> Iterator[Step]:
        if session_id in str(exchange.body.get("metadata")):
            yield from error_response(400, "messages.1.content.0: thinking blocks cannot be modified", "req_1")
        else:
            yield from healthy(exchange)

    return Fault("poison", steps)


async def test_a_turn_streams_its_text_and_reports_what_the_api_counted(talk: Talk, api: LoopbackAPI) -> None:
    api.answer(Answer(pieces=("Use a ", "document ", "collection.")))
    result = await talk.ask("How should I store my page blocks?")
    assert result.text == "Use a document collection."
    assert result.stop_reason == "end_turn"
    assert result.usage.output_tokens > 0
    assert result.usage.cache_write_tokens > 0
    assert result.rebuilt == ""


async def test_half_a_character_in_an_answer_is_replaced_for_it_cannot_be_stored(talk: Talk, api: LoopbackAPI) -> None:
    api.answer(Answer(pieces=("<a\ud800b", "\U0001f600>")))
    assert (await talk.ask("one")).text == "<a\ufffdb\U0001f600>"


async def test_a_second_question_sends_only_itself_to_the_session_that_holds_the_first(
    talk: Talk, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    before = descendants()
    await talk.ask("two")
    assert said(api.requests.messages[-1]) == [("user", "one"), ("assistant", "Answer to one"), ("user", "two")]
    assert descendants() == before


async def test_a_new_conversation_on_a_warm_process_begins_empty_in_the_same_process(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    first = await talk.ask("one")
    before = descendants()
    other = await Talk(session).ask("something else")
    assert said(api.requests.messages[-1]) == [("user", "something else")]
    assert other.session_handle != first.session_handle
    assert descendants() == before
    assert other.usage.output_tokens == -(-len("Answer to something else") // 4)


async def test_two_conversations_take_turns_on_one_instance_without_mixing(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    other = Talk(session)
    await other.ask("alpha")
    await talk.ask("two")
    assert said(api.requests.messages[-1])[0::2] == [("user", "one"), ("user", "two")]
    await other.ask("beta")
    assert said(api.requests.messages[-1])[0::2] == [("user", "alpha"), ("user", "beta")]


async def test_three_turns_killed_and_a_fourth_from_a_new_process_continue_one_thread(
    talk: Talk, session: ClaudeCodeSession, backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    for question in ("one", "two", "three"):
        await talk.ask(question)
    assert session._connection is not None
    session._connection.abandon()
    fourth = await talk.on(await backend.open(spec)).ask("four")
    assert said(api.requests.messages[-1])[0::2] == [("user", q) for q in ("one", "two", "three", "four")]
    assert fourth.rebuilt == ""


async def test_a_session_is_found_again_when_the_module_has_moved(
    talk: Talk, session: ClaudeCodeSession, backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    await session.close()
    assert spec.directory is not None
    moved = spec.directory.rename(spec.directory.with_name("moved"))
    await talk.on(await backend.open(replace(spec, directory=moved))).ask("two")
    assert said(api.requests.messages[-1])[0::2] == [("user", "one"), ("user", "two")]


async def test_in_another_home_the_conversation_is_built_anew_from_the_stored_thread_once(
    talk: Talk, session: ClaudeCodeSession, spec: InstanceSpec, api: LoopbackAPI, tmp_path: Path
) -> None:
    await talk.ask("one")
    await session.close()
    elsewhere = ClaudeCodeBackend(tmp_path / "other-home", variables=api.environment())
    try:
        there = talk.on(await elsewhere.open(spec))
        second = await there.ask("two")
        assert said(api.requests.messages[-1]) == [("user", "one"), ("assistant", "Answer to one"), ("user", "two")]
        assert second.rebuilt == "the session's file is gone"
        third = await there.ask("three")
        assert third.rebuilt == ""
    finally:
        await elsewhere.close()


async def test_a_thread_of_another_backend_is_continued_from_its_messages(
    session: ClaudeCodeSession, talk: Talk, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    talk.handle = None
    second = await talk.ask("two")
    assert said(api.requests.messages[-1]) == [("user", "one"), ("assistant", "Answer to one"), ("user", "two")]
    assert "no session" in second.rebuilt


async def test_a_session_that_the_api_refuses_is_built_anew_once(talk: Talk, api: LoopbackAPI) -> None:
    await talk.ask("one")
    poisoned = talk.handle
    assert poisoned is not None
    api.fail(_poison(poisoned.partition("@")[0]), 50)
    second = await talk.ask("two")
    assert second.text == "Answer to two"
    assert second.rebuilt == "the API refused what the session held"
    assert second.session_handle is not None
    assert second.session_handle.partition("@")[0] != poisoned.partition("@")[0]


async def test_few_idle_processes_stay_warm_and_the_others_resume(
    backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    backend.warm.most_idle = 2
    before = descendants()
    talks = [Talk(await backend.open(spec)) for _ in range(4)]
    for number, talk in enumerate(talks):
        await talk.ask(f"talk {number}")
    assert len(descendants() - before) == 4
    again = await talks[0].ask("again")
    assert said(api.requests.messages[-1])[0::2] == [("user", "talk 0"), ("user", "again")]
    assert again.rebuilt == ""
    assert len(descendants() - before) == 4


async def test_what_was_asked_after_the_stored_answer_is_left_out_of_a_resumed_session(
    talk: Talk, session: ClaudeCodeSession, backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    stored = talk.on(session)
    await talk.ask("never stored")
    await session.close()
    await stored.on(await backend.open(spec)).ask("two")
    assert said(api.requests.messages[-1])[0::2] == [("user", "one"), ("user", "two")]


async def test_a_changed_system_prompt_starts_a_new_process_for_the_same_conversation(
    talk: Talk, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    talk.system = "You are the module, and it has changed."
    await talk.ask("two")
    assert any("it has changed" in text for text in api.requests.messages[-1].system)
    assert said(api.requests.messages[-1])[0::2] == [("user", "one"), ("user", "two")]


async def test_each_question_has_the_output_limit_that_it_was_asked_with(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    for question, limit in (("one", 8192), ("two", 181), ("three", 8192)):
        request = replace(talk.request(question), max_output_tokens=limit)
        result = await session.ask(request, talk.emit)
        assert result.rebuilt == ""
        talk.handle = result.session_handle
        talk.history += [HistoryMessage(Role.QUESTION, question), HistoryMessage(Role.ANSWER, result.text)]
    assert [request.body["max_tokens"] for request in api.requests.messages] == [8192, 181, 8192]
    assert said(api.requests.messages[-1])[0::2] == [("user", "one"), ("user", "two"), ("user", "three")]


def _delete(transcript: Path) -> None:
    transcript.unlink()


def _tear(transcript: Path) -> None:
    """Leave the first answer's row half written."""
    content = transcript.read_bytes()
    transcript.write_bytes(content[: content.rindex(b'"Answer to one"') + 5] + b"\n")


def _change(transcript: Path) -> None:
    transcript.write_bytes(transcript.read_bytes().replace(b'"Answer to one"', b'"Answer to someone"'))


@pytest.mark.parametrize("harm", [_delete, _tear, _change])
async def test_a_session_whose_file_was_harmed_while_warm_is_built_anew_once(
    harm: Callable[[Path], None],
    talk: Talk,
    session: ClaudeCodeSession,
    backend: ClaudeCodeBackend,
    api: LoopbackAPI,
) -> None:
    await talk.ask("one")
    [transcript] = (backend.workspace.config / "projects").glob("*/*.jsonl")
    harm(transcript)
    assert (await talk.ask("two")).rebuilt == ""
    await session.rest()
    third = await talk.ask("three")
    assert third.rebuilt == "the session's file lacks a part of the conversation"
    await session.rest()
    fourth = await talk.ask("four")
    assert fourth.rebuilt == ""
    assert said(api.requests.messages[-1])[0::2] == [("user", q) for q in ("one", "two", "three", "four")]


async def test_tools_paragraphs_and_odd_characters_do_not_make_a_session_look_harmed(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI, module_path: Path
) -> None:
    read = ToolUse("Read", {"file_path": str(module_path / "pages.py")})
    find = ToolUse("Glob", {"pattern": "*.py"})
    api.answer(Answer(blocks=(Thinking("Hm."), Text("First."), read, Text("Then this:\n\n"), find)))
    await talk.ask('  what\tis \u2028 in\r\n\n"pages.py"? \\ \x0b\x07\u200b\U0001f642 \u00a0/clear @x  ')
    await session.rest()
    assert (await talk.ask("and now?")).rebuilt == ""


async def test_turns_that_failed_or_are_left_out_of_the_history_do_not_make_a_session_look_harmed(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    api.answer(Answer("half an answer", stop_reason="max_tokens"))
    with pytest.raises(TurnFailedError):
        await talk.ask("cut off")
    await talk.ask("two")
    await talk.ask("three")
    talk.history = talk.history[2:]
    await session.rest()
    assert (await talk.ask("four")).rebuilt == ""


async def test_a_module_deleted_while_its_process_is_warm_is_said_at_once_and_found_again_when_it_is_back(
    talk: Talk, api: LoopbackAPI, module_path: Path
) -> None:
    await talk.ask("one")
    before = len(api.requests.messages)
    shutil.rmtree(module_path)
    with pytest.raises(BackendUnavailableError, match=f"is not a directory: {module_path}.*register-module arangodb"):
        await talk.ask("two")
    assert len(api.requests.messages) == before
    module_path.mkdir()
    (module_path / "new.py").write_text("found = True\n")
    api.answer(Answer(blocks=(ToolUse("Read", {"file_path": str(module_path / "new.py")}),)))
    assert (await talk.ask("two")).sources == (Source("file", "new.py"),)


async def test_thinking_is_no_text_and_tools_are_events_with_shortened_arguments(
    talk: Talk, api: LoopbackAPI, module_path: Path
) -> None:
    call = ToolUse("Read", {"file_path": str(module_path / "pages.py"), "limit": 10})
    api.answer(Answer(blocks=(Thinking("secret thoughts"), Text("Let me look."), call)))
    result = await talk.ask("what is in pages.py?")
    assert "secret thoughts" not in result.text
    assert result.text.startswith("Let me look.\n\n")
    [used] = [event for event in talk.events if isinstance(event, ToolUsed)]
    assert used.tool == "Read"
    assert "pages.py" in used.arguments
    assert result.tools == (used,)


async def test_an_answer_says_which_files_and_which_revision_it_rests_on(
    talk: Talk, api: LoopbackAPI, module_path: Path
) -> None:
    (module_path / ".git").mkdir()
    (module_path / ".git" / "HEAD").write_text("a" * 40)
    api.answer(
        Answer(
            blocks=(
                ToolUse("Read", {"file_path": str(module_path / "pages.py")}),
                ToolUse("Read", {"file_path": str(module_path / "missing.py")}),
            )
        )
    )
    result = await talk.ask("what is in pages.py?")
    assert result.sources == (Source("file", "pages.py"), Source("revision", "a" * 40))


async def test_usage_stays_per_turn_across_clears_resumes_and_rebuilds(
    talk: Talk, session: ClaudeCodeSession, backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    usages: list[Usage] = []
    for question in ("one", "two"):
        usages.append((await talk.ask(question)).usage)
    other = Talk(session)
    for question in ("three", "four"):
        usages.append((await other.ask(question)).usage)
    usages.append((await talk.ask("five")).usage)
    await session.close()
    shutil.rmtree(backend.workspace.config / "projects")
    rebuilt = talk.on(await backend.open(spec))
    for question in ("six", "seven"):
        usages.append((await rebuilt.ask(question)).usage)
    answers = ["Answer to one", "Answer to two", "Answer to three", "Answer to four", "Answer to five"]
    answers += ["Answer to six", "Answer to seven"]
    assert [usage.output_tokens for usage in usages] == [-(-len(answer) // 4) for answer in answers]
