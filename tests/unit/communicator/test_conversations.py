"""Which conversation a message belongs to, and what the store says of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_comms import AsyncCommunicator
from claude_comms.errors import ConfigError, ConversationNotFoundError, StoreError, TemplateError, UnknownModuleError
from claude_comms.testing.scripted import ScriptedBackend
from claude_comms.types import ConversationState, MessageState, Role, TurnRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Open = Callable[..., AbstractAsyncContextManager[AsyncCommunicator]]

pytestmark = pytest.mark.anyio


async def test_the_first_message_starts_a_conversation_and_later_ones_continue_it(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    async with communicator() as comm:
        first = await comm.send_message(target="arangodb", prompt="one")
        second = await comm.send_message(target="arangodb", prompt="two")
    assert second.thread_id == first.thread_id
    assert second.instance_id == first.instance_id
    assert scripted.requests[1].prompt.history[1].text == first.response


async def test_targets_have_conversations_of_their_own(communicator: Open) -> None:
    async with communicator() as comm:
        first = await comm.send_message(target="arangodb", prompt="one")
        other = await comm.send_message(target="claude_mcp", prompt="one")
    assert other.thread_id != first.thread_id


async def test_messages_sent_at_once_share_the_conversation_that_the_first_one_starts(communicator: Open) -> None:
    threads: set[str] = set()
    async with communicator() as comm:

        async def ask(prompt: str) -> None:
            threads.add((await comm.send_message(target="arangodb", prompt=prompt)).thread_id)

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(ask, f"question {number}")
        assert len(threads) == 1
        stored = await comm.get_conversation(threads.pop())
    assert [message.role for message in stored.messages] == [Role.QUESTION, Role.ANSWER] * 5


async def test_create_conversation_starts_a_new_one(communicator: Open, scripted: ScriptedBackend) -> None:
    async with communicator() as comm:
        first = await comm.send_message(target="arangodb", prompt="one")
        fresh = await comm.create_conversation("arangodb")
        second = await comm.send_message(target="arangodb", prompt="two")
    assert second.thread_id == fresh != first.thread_id
    assert scripted.requests[1].prompt.history == ()


async def test_thread_id_picks_a_stored_conversation_and_makes_it_the_current_one(communicator: Open) -> None:
    async with communicator() as comm:
        first = await comm.send_message(target="arangodb", prompt="one")
        await comm.create_conversation("arangodb")
        picked = await comm.send_message(target="arangodb", prompt="two", thread_id=first.thread_id)
        after = await comm.send_message(target="arangodb", prompt="three")
    assert picked.thread_id == after.thread_id == first.thread_id


async def test_a_prefix_of_an_id_serves(communicator: Open) -> None:
    async with communicator() as comm:
        first = await comm.send_message(target="arangodb", prompt="one")
        again = await comm.send_message(target="arangodb", prompt="two", thread_id=first.thread_id[:-3])
        assert again.thread_id == first.thread_id
        with pytest.raises(ConversationNotFoundError):
            await comm.send_message(target="arangodb", prompt="three", thread_id="c_nothing")


async def test_another_pairs_conversation_is_refused(communicator: Open, scripted: ScriptedBackend) -> None:
    async with communicator() as comm:
        other = await comm.send_message(target="claude_mcp", prompt="one")
        with pytest.raises(ConfigError, match="between marker and claude_mcp"):
            await comm.send_message(target="arangodb", prompt="two", thread_id=other.thread_id)
    assert len(scripted.requests) == 1


async def test_another_communicator_continues_a_conversation(communicator: Open) -> None:
    async with communicator() as comm:
        first = await comm.send_message(target="arangodb", prompt="one")
    async with communicator(backend=ScriptedBackend()) as comm:
        again = await comm.send_message(target="arangodb", prompt="two", thread_id=first.thread_id)
        stored = await comm.get_conversation(again.thread_id)
    assert [message.text for message in stored.messages] == ["one", "one", "two", "two"]


async def test_the_question_is_on_disk_before_anything_is_sent(
    communicator: Open, scripted: ScriptedBackend, claude_comms_home: Path
) -> None:
    seen: list[tuple[str, str]] = []

    def look(_: TurnRequest) -> str:
        with closing(sqlite3.connect(claude_comms_home / "claude-comms.db")) as database:
            seen.extend(database.execute("select state, text from messages"))
        return "answer"

    scripted.add(look)
    async with communicator() as comm:
        await comm.send_message(target="arangodb", prompt="Is this kept?")
    assert seen == [("pending", "Is this kept?")]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"target": "nowhere", "prompt": "x"}, UnknownModuleError),
        ({"target": "arangodb", "prompt": "x", "template": "nothing"}, TemplateError),
        ({"target": "arangodb", "prompt": "x", "context": {"surplus": 1}}, TemplateError),
        ({"target": "arangodb", "prompt": "x", "response_model": {"type": "nonsense"}}, ConfigError),
    ],
)
async def test_what_is_wrong_is_told_before_anything_is_stored(
    communicator: Open, arguments: dict[str, Any], error: type[Exception]
) -> None:
    async with communicator() as comm:
        with pytest.raises(error):
            await comm.send_message(**arguments)
        assert await comm.list_conversations(any_source=True, state="all") == []


async def test_an_archived_conversation_is_hidden_found_and_restored(communicator: Open) -> None:
    async with communicator() as comm:
        first = await comm.send_message(target="arangodb", prompt="walrus")
        archived = await comm.archive_conversation(first.thread_id)
        assert archived.state is ConversationState.ARCHIVED
        assert await comm.list_conversations() == []
        assert (await comm.search_conversations("walrus"))[0].thread_id == first.thread_id
        with pytest.raises(StoreError, match="restore"):
            await comm.send_message(target="arangodb", prompt="two", thread_id=first.thread_id)
        await comm.restore_conversation(first.thread_id)
        assert len(await comm.list_conversations()) == 1


async def test_archiving_the_current_conversation_lets_the_next_message_start_a_new_one(communicator: Open) -> None:
    async with communicator() as comm:
        first = await comm.send_message(target="arangodb", prompt="one")
        await comm.archive_conversation(first.thread_id)
        assert (await comm.send_message(target="arangodb", prompt="two")).thread_id != first.thread_id


async def test_lists_and_searches_are_the_modules_own_unless_asked_for_all(communicator: Open) -> None:
    async with communicator() as comm:
        await comm.send_message(target="arangodb", prompt="about walruses")
    async with communicator("claude_mcp") as comm:
        assert await comm.list_conversations() == []
        assert await comm.search_conversations("walruses") == []
        assert len(await comm.list_conversations(any_source=True)) == 1
        assert await comm.search_conversations("walruses", any_source=True)


async def test_exports_hold_what_was_said(communicator: Open) -> None:
    async with communicator() as comm:
        reply = await comm.send_message(target="arangodb", prompt="about walruses")
        assert "about walruses" in await comm.export_conversation(reply.thread_id)
        assert "about walruses" in await comm.export_conversation(reply.thread_id, format="markdown")
        with pytest.raises(ConfigError, match="markdown"):
            await comm.export_conversation(reply.thread_id, format="papyrus")


async def test_two_communicators_on_one_store_take_turns_in_one_conversation(communicator: Open) -> None:
    async with communicator() as one, communicator(backend=ScriptedBackend()) as other:
        first = await one.send_message(target="arangodb", prompt="zero")

        async def ask(number: int) -> None:
            comm = one if number % 2 else other
            await comm.send_message(target="arangodb", prompt=f"q{number}", thread_id=first.thread_id)

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(ask, number)
        stored = await one.get_conversation(first.thread_id)
    assert [message.role for message in stored.messages] == [Role.QUESTION, Role.ANSWER] * 7
    assert {message.state for message in stored.messages} == {MessageState.COMPLETE}


async def test_a_source_that_is_only_a_path_gets_a_drafted_descriptor(
    communicator: Open, scripted: ScriptedBackend, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "walrus"\ndescription = "Counts tusks."\n')
    async with communicator("walrus", module_path=tmp_path) as comm:
        reply = await comm.send_message(target="arangodb", prompt="one")
    assert reply.source == "walrus"
    assert "Counts tusks." in scripted.requests[0].prompt.system[1].text


async def test_a_source_that_nobody_knows_is_told_so(communicator: Open) -> None:
    async with communicator("walrus") as comm:
        with pytest.raises(UnknownModuleError, match="walrus"):
            await comm.send_message(target="arangodb", prompt="one")


async def test_without_a_source_the_question_is_anonymous(communicator: Open) -> None:
    async with communicator(None) as comm:
        assert (await comm.send_message(target="arangodb", prompt="one")).source == "anonymous"


def test_a_module_path_of_another_type_is_refused_by_name(claude_comms_home: Path) -> None:
    with pytest.raises(ConfigError, match="module_path is of type int"):
        AsyncCommunicator("marker", 3, settings={"home": claude_comms_home})  # pyright: ignore[reportArgumentType]
