from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text as sql

from claude_comms.conversations import (
    ConversationChangedError,
    ConversationStore,
    IdempotencyKeyTakenError,
)
from claude_comms.conversations._tables import METADATA
from claude_comms.errors import ConversationNotFoundError, InstanceStateError, StoreError
from claude_comms.storage import Database, OwnerLock
from claude_comms.types import (
    ConversationState,
    HistoryMessage,
    MessageState,
    Pair,
    Retried,
    Role,
    Source,
    Usage,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from claude_comms.types import Message

pytestmark = pytest.mark.anyio

PAIR = Pair("marker", "arangodb")
USAGE = Usage(100, 20, 30, 40, 0.0125)


async def ask(store: ConversationStore, text: str = "How?", thread_id: str | None = None, **more: Any) -> Message:
    values: dict[str, Any] = {"pair": PAIR, "sent_text": f"[sent] {text}", "backend": "api", "model": "claude-x"}
    return await store.begin_turn(thread_id=thread_id, text=text, **{**values, **more})


async def answer(store: ConversationStore, question: Message, text: str = "So.", **more: Any) -> Message:
    values: dict[str, Any] = {"model": "claude-x", "backend": "api", "usage": USAGE, "price_date": "2026-10-24"}
    return await store.complete_turn(question.message_id, text=text, **{**values, **more})


async def turn(store: ConversationStore, question: str, reply: str, thread_id: str | None = None) -> str:
    asked = await ask(store, question, thread_id)
    await answer(store, asked, reply)
    return asked.thread_id


# --- turns -------------------------------------------------------------------------------------


async def test_a_turn_keeps_everything_that_was_said_about_it(store: ConversationStore) -> None:
    asked = await ask(store, "How?", data={"n": [1, None, "é"]}, context_version="v1")
    replied = await answer(
        store,
        asked,
        "So.",
        instance_id="i_1",
        stop_reason="end_turn",
        duration_ms=12.5,
        data={"ok": True},
        sources=(Source("file", "a.py"),),
        retries=(Retried(1, "429", 0.5),),
    )
    conversation = await store.get(asked.thread_id)
    question, stored = conversation.messages
    assert stored == replied
    assert (question.role, question.state, question.speaker, question.position) == (
        Role.QUESTION,
        MessageState.COMPLETE,
        "marker",
        0,
    )
    assert (question.text, question.data, question.context_version) == ("How?", {"n": [1, None, "é"]}, "v1")
    assert (stored.role, stored.state, stored.speaker, stored.position) == (
        Role.ANSWER,
        MessageState.COMPLETE,
        "arangodb",
        1,
    )
    assert (stored.usage, stored.price_date, stored.stop_reason) == (USAGE, "2026-10-24", "end_turn")
    assert (stored.duration_ms, stored.data, stored.instance_id) == (12.5, {"ok": True}, "i_1")
    assert (stored.sources, stored.retries) == ((Source("file", "a.py"),), (Retried(1, "429", 0.5),))
    assert (conversation.backend, conversation.model, conversation.message_count) == ("api", "claude-x", 2)
    assert conversation.title == "How?"
    assert conversation.updated_at == stored.created_at


async def test_times_are_aware_and_in_utc(store: ConversationStore) -> None:
    thread_id = await turn(store, "How?", "So.")
    conversation = await store.get(thread_id)
    times = [conversation.created_at, conversation.updated_at, *(item.created_at for item in conversation.messages)]
    assert {time.utcoffset() for time in times} == {timedelta(0)}
    assert {time.tzinfo for time in times} == {UTC}


async def test_a_question_is_stored_as_pending_before_it_is_answered(store: ConversationStore) -> None:
    asked = await ask(store)
    conversation = await store.get(asked.thread_id)
    assert [message.state for message in conversation.messages] == [MessageState.PENDING]
    assert (conversation.backend, conversation.model) == (None, None)
    assert await store.history(asked.thread_id) == ()


async def test_a_thread_is_its_conversation_and_history_as_of_one_moment(store: ConversationStore) -> None:
    thread_id = await turn(store, "How?", "So.")
    await ask(store, "And then?", thread_id)
    whole = await store.get(thread_id, messages=False)
    for wanted in (thread_id, thread_id[:-2]):
        thread = await store.thread(wanted)
        assert thread.conversation == whole
        assert thread.conversation.message_count == 3
        assert thread.history == await store.history(thread_id)
        assert [entry.text for entry in thread.history] == ["[sent] How?", "So."]
    with pytest.raises(ConversationNotFoundError):
        await store.thread("c_unknown")


async def test_history_is_the_complete_turns_with_questions_as_they_were_sent(store: ConversationStore) -> None:
    thread_id = await turn(store, "one", "1")
    failed = await ask(store, "two", thread_id)
    await store.fail_turn(failed.message_id, error={"type": "BackendError", "message": "cut"}, partial="half")
    await turn(store, "three", "3", thread_id)
    await ask(store, "four", thread_id)
    assert await store.history(thread_id) == (
        HistoryMessage(Role.QUESTION, "[sent] one"),
        HistoryMessage(Role.ANSWER, "1"),
        HistoryMessage(Role.QUESTION, "[sent] three"),
        HistoryMessage(Role.ANSWER, "3"),
    )


async def test_a_failed_turn_keeps_its_partial_text_as_partial_and_counts_its_cost_once(
    store: ConversationStore,
) -> None:
    asked = await ask(store)
    error = {"type": "TurnFailedError", "message": "cut", "reason": "cut"}
    partial = await store.fail_turn(asked.message_id, error=error, partial="half an", usage=USAGE, instance_id="i_1")
    question, stored = (await store.get(asked.thread_id)).messages
    assert stored == partial
    assert (question.state, question.error, question.usage) == (MessageState.FAILED, error, None)
    assert (stored.state, stored.text, stored.usage, stored.error) == (MessageState.PARTIAL, "half an", USAGE, error)
    assert (stored.backend, stored.model, stored.instance_id) == ("api", "claude-x", "i_1")


async def test_a_turn_that_failed_without_text_counts_its_cost_on_the_question(store: ConversationStore) -> None:
    asked = await ask(store)
    retries = (Retried(1, "529", 1.0),)
    none = await store.fail_turn(asked.message_id, error={"message": "no"}, usage=USAGE, retries=retries)
    conversation = await store.get(asked.thread_id)
    (question,) = conversation.messages
    assert none is None
    assert (question.usage, question.retries, conversation.message_count) == (USAGE, retries, 1)


async def test_a_question_that_is_no_longer_pending_takes_no_answer(store: ConversationStore) -> None:
    asked = await ask(store)
    await answer(store, asked)
    before = await store.get(asked.thread_id)
    with pytest.raises(StoreError, match="is complete, not pending") as caught:
        await answer(store, asked, "again")
    assert caught.value.thread_id == asked.thread_id
    with pytest.raises(StoreError, match="not pending"):
        await store.fail_turn(asked.message_id, error={})
    with pytest.raises(StoreError, match="no question m_unknown"):
        await store.complete_turn("m_unknown", text="", model="m", backend="b")
    assert await store.get(asked.thread_id) == before


async def test_a_second_question_is_refused_while_the_first_waits(store: ConversationStore) -> None:
    asked = await ask(store)
    with pytest.raises(InstanceStateError) as caught:
        await ask(store, "and?", asked.thread_id)
    assert (caught.value.state, caught.value.wanted, caught.value.thread_id) == ("busy", "idle", asked.thread_id)
    await answer(store, asked)
    assert (await ask(store, "and?", asked.thread_id)).position == 2


async def test_of_questions_asked_at_once_in_one_thread_one_is_stored(store: ConversationStore) -> None:
    thread_id = (await store.create(PAIR)).thread_id
    refused: list[InstanceStateError] = []

    async def try_to_ask() -> None:
        try:
            await ask(store, "me!", thread_id)
        except InstanceStateError as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(try_to_ask)
    assert len(refused) == 4
    assert (await store.get(thread_id)).message_count == 1


async def test_a_thread_that_has_grown_meanwhile_is_noticed(store: ConversationStore) -> None:
    thread_id = await turn(store, "one", "1")
    with pytest.raises(ConversationChangedError) as caught:
        await ask(store, "two", thread_id, expected_messages=0)
    assert (caught.value.expected, caught.value.found) == (0, 2)
    assert (await ask(store, "two", thread_id, expected_messages=2)).position == 2


async def test_a_thread_belongs_to_its_pair(store: ConversationStore) -> None:
    thread_id = await turn(store, "one", "1")
    with pytest.raises(StoreError, match="marker → arangodb, not other → arangodb"):
        await ask(store, "two", thread_id, pair=Pair("other", "arangodb"))


async def test_a_question_in_an_unknown_thread_is_refused(store: ConversationStore) -> None:
    with pytest.raises(ConversationNotFoundError):
        await ask(store, thread_id="c_unknown")


async def test_an_idempotency_key_finds_its_turn_and_is_taken_once(store: ConversationStore) -> None:
    assert await store.by_key("k") is None
    asked = await ask(store, idempotency_key="k", request_digest="d")
    found = await store.by_key("k")
    assert found is not None
    assert (found.question.message_id, found.answer, found.request_digest) == (asked.message_id, None, "d")
    with pytest.raises(IdempotencyKeyTakenError):
        await ask(store, idempotency_key="k")
    replied = await answer(store, asked)
    found = await store.by_key("k")
    assert found is not None
    assert found.answer == replied
    assert len(await store.list()) == 1, "the refused question left no conversation behind"


async def test_a_partial_answer_is_not_the_answer_of_a_key(store: ConversationStore) -> None:
    asked = await ask(store, idempotency_key="k")
    await store.fail_turn(asked.message_id, error={"message": "cut"}, partial="half")
    found = await store.by_key("k")
    assert found is not None
    assert (found.question.state, found.answer) == (MessageState.FAILED, None)


async def test_a_question_whose_asker_gave_up_is_taken_back(store: ConversationStore, database: Database) -> None:
    thread_id = await turn(store, "one", "1")
    gate, at_gate = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        at_gate.set()
        assert gate.wait(10)

    async with anyio.create_task_group() as outer:
        outer.start_soon(database.write, hold)
        await anyio.to_thread.run_sync(at_gate.wait)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, store, "in the thread", thread_id)
            tasks.start_soon(ask, store, "in a new one")
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        gate.set()
    again = await ask(store, "two", thread_id, expected_messages=2)
    assert again.position == 2
    assert len(await store.list()) == 1


# --- owners ------------------------------------------------------------------------------------


async def test_what_a_dead_process_left_pending_is_marked_failed(store: ConversationStore, database: Database) -> None:
    gone = OwnerLock(database.path)
    gone.acquire()
    asked = await ask(ConversationStore(database, gone))
    mine = await ask(store)
    assert await store.mark_abandoned() == []
    gone.release()
    (marked,) = await store.mark_abandoned()
    (question,) = (await store.get(asked.thread_id)).messages
    assert marked == question
    assert question.state is MessageState.FAILED
    assert question.error is not None
    assert "the daemon" in question.error["message"]
    assert "ask again" in question.error["message"]
    assert asked.thread_id in question.error["message"]
    assert question.error["thread_id"] == asked.thread_id
    assert [message.state for message in (await store.get(mine.thread_id)).messages] == [MessageState.PENDING]
    assert await store.mark_abandoned() == []


async def test_a_thread_that_a_dead_process_left_pending_can_be_asked_at_once(
    store: ConversationStore, database: Database
) -> None:
    gone = OwnerLock(database.path)
    gone.acquire()
    left = await ask(ConversationStore(database, gone))
    with pytest.raises(InstanceStateError):
        await ask(store, "and?", left.thread_id)
    gone.release()
    asked = await ask(store, "and?", left.thread_id)
    states = [message.state for message in (await store.get(asked.thread_id)).messages]
    assert states == [MessageState.FAILED, MessageState.PENDING]


@pytest.mark.parametrize("end", ["answered", "failed", "failed, and given up"])
async def test_an_end_that_the_store_could_not_take_is_kept_and_frees_the_thread(tmp_path: Path, end: str) -> None:
    path = tmp_path / "store.db"
    owner = OwnerLock(path)
    async with Database(path, busy_timeout_s=0.05) as database:
        owner.acquire()
        store = ConversationStore(database, owner)
        asked = await ask(store)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            if end == "answered":
                with pytest.raises(StoreError, match="locked"):
                    await answer(store, asked, "So.")
            elif end == "failed":
                with pytest.raises(StoreError, match="locked"):
                    await store.fail_turn(asked.message_id, error={"type": "BackendError"}, partial="So.")
            else:
                with anyio.move_on_after(0):
                    await store.fail_turn(asked.message_id, error={"type": "BackendError"}, partial="So.")
            with pytest.raises(StoreError, match="locked"):
                await ask(store, "And?", asked.thread_id)
            other.execute("ROLLBACK")
        await answer(store, await ask(store, "And?", asked.thread_id))
        told = [(said.text, str(said.state)) for said in (await store.get(asked.thread_id)).messages]
        owner.release()
    assert told == [("How?", "failed"), ("So.", "partial"), ("And?", "complete"), ("So.", "complete")]


async def test_an_end_that_was_kept_is_written_without_another_question(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    owner = OwnerLock(path)
    async with Database(path, busy_timeout_s=0.05) as database:
        owner.acquire()
        store = ConversationStore(database, owner)
        asked = await ask(store)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                await answer(store, asked, "So.")
        async with anyio.create_task_group() as settling:
            settling.start_soon(store.keep_settling)
            with anyio.fail_after(10):
                while (await store.get(asked.thread_id)).messages[0].state is MessageState.PENDING:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
            settling.cancel_scope.cancel()
        owner.release()


# --- conversations -----------------------------------------------------------------------------


async def test_any_unique_prefix_of_an_id_serves(store: ConversationStore) -> None:
    one, two = await store.create(PAIR), await store.create(PAIR)
    assert await store.resolve(one.thread_id) == one.thread_id
    assert await store.resolve(two.thread_id[:-1]) == two.thread_id
    assert (await store.get(two.thread_id[:-2])).thread_id == two.thread_id
    with pytest.raises(ConversationNotFoundError, match="fits several") as caught:
        await store.resolve("c_")
    assert set(caught.value.matches) == {one.thread_id, two.thread_id}
    for unknown in ("c_zzzz", "", "%", "_", "c%"):
        with pytest.raises(ConversationNotFoundError, match="no conversation"):
            await store.resolve(unknown)


async def test_lists_are_newest_first_and_go_on_where_the_last_one_ended(store: ConversationStore) -> None:
    ids = [await turn(store, f"question {number}", "so") for number in range(5)]
    await turn(store, "again", "so", ids[0])
    newest_first = [ids[0], ids[4], ids[3], ids[2], ids[1]]
    assert [item.thread_id for item in await store.list()] == newest_first
    assert [item.thread_id for item in await store.list(limit=2)] == newest_first[:2]
    assert [item.thread_id for item in await store.list(before=newest_first[1])] == newest_first[2:]
    assert all(item.messages == () for item in await store.list())


async def test_lists_can_be_narrowed_to_a_source_a_target_and_a_state(store: ConversationStore) -> None:
    one = await store.create(PAIR)
    other = await store.create(Pair("web", "arangodb"))
    await store.archive(other.thread_id)
    assert [item.thread_id for item in await store.list()] == [one.thread_id]
    assert [item.thread_id for item in await store.list(state=ConversationState.ARCHIVED)] == [other.thread_id]
    assert len(await store.list(state=None)) == 2
    assert [item.thread_id for item in await store.list(source="web", state=None)] == [other.thread_id]
    assert await store.list(target="marker", state=None) == []


async def test_the_latest_conversation_of_a_pair_is_the_one_that_changed_last(store: ConversationStore) -> None:
    assert await store.latest(PAIR) is None
    first = await turn(store, "one", "1")
    second = await turn(store, "two", "2")
    await turn(store, "more", "so", first)
    latest = await store.latest(PAIR)
    assert latest is not None
    assert latest.thread_id == first
    await store.archive(first)
    latest = await store.latest(PAIR)
    assert latest is not None
    assert latest.thread_id == second
    assert await store.latest(Pair("arangodb", "marker")) is None


async def test_an_archived_conversation_takes_no_question_until_it_is_restored(store: ConversationStore) -> None:
    thread_id = await turn(store, "one", "1")
    assert (await store.archive(thread_id[:-1])).state is ConversationState.ARCHIVED
    with pytest.raises(StoreError, match=r"archived. Restore it first"):
        await ask(store, "two", thread_id)
    assert (await store.restore(thread_id)).state is ConversationState.ACTIVE
    assert (await ask(store, "two", thread_id)).position == 2


async def test_a_title_is_kept_and_else_taken_from_the_first_question(store: ConversationStore) -> None:
    titled = await store.create(PAIR, title="Pages")
    await turn(store, "How?", "So.", titled.thread_id)
    assert (await store.get(titled.thread_id)).title == "Pages"
    given = await ask(store, "How?", title="Blocks")
    assert (await store.get(given.thread_id)).title == "Blocks"
    long = await turn(store, "line\none " * 40, "So.")
    await turn(store, "another", "So.", long)
    title = (await store.get(long)).title
    assert title.startswith("line one line")
    assert title.endswith("…")
    assert len(title) <= 80


@pytest.mark.parametrize(
    "text", ["", "\x00", "a\x00b\x00", "\x1b[31m red", "'; DROP TABLE messages; --", "\U0001f4be é"]
)
async def test_any_text_comes_back_as_it_was(store: ConversationStore, text: str) -> None:
    thread_id = await turn(store, text, text)
    assert [message.text for message in (await store.get(thread_id)).messages] == [text, text]
    assert [message.text for message in await store.history(thread_id)] == [f"[sent] {text}", text]


async def test_an_answer_with_half_a_character_does_not_keep_later_questions_from_being_asked(
    store: ConversationStore,
) -> None:
    asked = await ask(store)
    with pytest.raises(StoreError, match="lone surrogate"):
        await answer(store, asked, "half \ud83d")
    await turn(store, "another", "answered")
    question, stored = (await store.get(asked.thread_id)).messages
    assert (question.state, stored.state) == (MessageState.FAILED, MessageState.PARTIAL)
    assert stored.text == "half \ufffd"


async def test_half_characters_are_refused_in_answers_and_mended_in_failures(store: ConversationStore) -> None:
    with pytest.raises(StoreError, match="lone surrogate"):
        await ask(store, "half \ud83d")
    asked = await ask(store)
    with pytest.raises(StoreError, match="lone surrogate"):
        await answer(store, asked, "half \ud83d")
    partial = await store.fail_turn(asked.message_id, error={"message": "bad \ud83d"}, partial="half \ud83d")
    assert partial is not None
    question, stored = (await store.get(asked.thread_id)).messages
    assert stored.text == "half \ufffd"
    assert question.error == {"message": "bad \ufffd"}


async def test_a_huge_answer_is_stored_whole(store: ConversationStore) -> None:
    huge = "word " * 2_000_000
    thread_id = await turn(store, "How?", huge)
    assert (await store.get(thread_id)).messages[1].text == huge


def _is_table_of_ours(item: Any, name: str | None, kind: str, *_: object) -> bool:
    return str(name if kind == "table" else item.table.name) in METADATA.tables


async def test_the_tables_are_what_the_migrations_make(store: ConversationStore, database: Database) -> None:
    def compare(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"include_object": _is_table_of_ours})
        return compare_metadata(context, METADATA)

    assert await database.read(compare) == []


async def test_the_index_follows_the_messages(store: ConversationStore, database: Database) -> None:
    await turn(store, "How are pages stored?", "In collections.")

    def change(connection: Connection) -> None:
        connection.execute(sql("UPDATE messages SET text = 'In buckets.' WHERE role = 'answer'"))
        connection.execute(sql("DELETE FROM messages WHERE role = 'question'"))

    await database.write(change)
    assert await store.search("collections") == []
    assert await store.search("pages") == []
    assert len(await store.search("buckets")) == 1
    check = sql("INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)")
    await database.write(lambda connection: connection.execute(check).rowcount)
