"""Whatever order turns begin, end, break off and die in, the store stays in order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from claude_comms.conversations import ConversationStore
from claude_comms.errors import InstanceStateError, StoreError
from claude_comms.storage import Database, OwnerLock
from claude_comms.types import MessageState, Pair, Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_comms.types import Message

PAIR = Pair("marker", "arangodb")
_NOTHING = cast("Any", multiple())
TEXTS = st.text(max_size=20).filter(lambda text: text.isprintable())


class Store(RuleBasedStateMachine):
    """Two processes on one store, each with its own database object and its own owner."""

    threads: Bundle[str] = Bundle("threads")
    questions: Bundle[Message] = Bundle("questions")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.portal_context = start_blocking_portal()
        self.portal = self.portal_context.__enter__()
        self.processes = [self._start(), self._start()]
        self.acknowledged: dict[str, tuple[str, MessageState]] = {}
        """What each message must be, by its id, after what was acknowledged."""
        self.pending: dict[str, int] = {}
        """Which process asked each pending question."""

    def _start(self) -> tuple[Database, OwnerLock, ConversationStore]:
        database = Database(self.directory / "store.db")
        self.portal.call(database.open)
        owner = OwnerLock(database.path)
        owner.acquire()
        return database, owner, ConversationStore(database, owner)

    def _store(self, process: int) -> ConversationStore:
        return self.processes[process][2]

    def teardown(self) -> None:
        for database, owner, _ in self.processes:
            self.portal.call(database.close)
            owner.release()
        self.portal_context.__exit__(None, None, None)
        shutil.rmtree(self.directory)

    @initialize(target=threads)
    def first_thread(self) -> str:
        return self.portal.call(self._store(0).create, PAIR).thread_id

    @rule(target=questions, process=st.integers(0, 1), thread=threads | st.none(), text=TEXTS)
    def begin(self, process: int, thread: str | None, text: str) -> Any:
        async def ask() -> Message:
            return await self._store(process).begin_turn(thread_id=thread, pair=PAIR, text=text, sent_text=f"> {text}")

        try:
            question = self.portal.call(ask)
        except InstanceStateError:
            assert thread is not None
            assert any(state is MessageState.PENDING for state in self._states(thread))
            return _NOTHING
        self.acknowledged[question.message_id] = (text, MessageState.PENDING)
        self.pending[question.message_id] = process
        return question

    @rule(question=consumes(questions), process=st.integers(0, 1), text=TEXTS)
    def complete(self, question: Message, process: int, text: str) -> None:
        async def answer() -> Message:
            return await self._store(process).complete_turn(question.message_id, text=text, model="m", backend="b")

        self._end(question, MessageState.COMPLETE, answer)

    @rule(question=consumes(questions), process=st.integers(0, 1), partial=TEXTS)
    def fail(self, question: Message, process: int, partial: str) -> None:
        async def give_up() -> Message | None:
            return await self._store(process).fail_turn(question.message_id, error={"message": "no"}, partial=partial)

        self._end(question, MessageState.FAILED, give_up)

    def _end(self, question: Message, state: MessageState, call: Callable[[], Awaitable[Message | None]]) -> None:
        was_pending = question.message_id in self.pending
        try:
            stored = self.portal.call(call)
        except StoreError:
            assert not was_pending
            return
        assert was_pending
        del self.pending[question.message_id]
        self.acknowledged[question.message_id] = (question.text, state)
        if stored is not None:
            self.acknowledged[stored.message_id] = (stored.text, stored.state)

    @rule(process=st.integers(0, 1))
    def crash_and_start_again(self, process: int) -> None:
        """The process dies with its questions in flight; a new one marks what it left, and only that."""
        database, owner, _ = self.processes[process]
        owner.release()
        self.portal.call(database.close)
        self.processes[process] = self._start()
        left = {message_id for message_id, asker in self.pending.items() if asker == process}
        marked = self.portal.call(self._store(process).mark_abandoned)
        assert {message.message_id for message in marked} == left
        for message_id in left:
            del self.pending[message_id]
            self.acknowledged[message_id] = (self.acknowledged[message_id][0], MessageState.FAILED)

    def _states(self, thread_id: str) -> list[MessageState]:
        return [message.state for message in self.portal.call(self._store(0).get, thread_id).messages]

    @invariant()
    def everything_acknowledged_is_there_and_in_order(self) -> None:
        found: dict[str, tuple[str, MessageState]] = {}
        store = self._store(1)
        for listed in self.portal.call(store.list, None, None, None, 1000):
            conversation = self.portal.call(store.get, listed.thread_id)
            messages = conversation.messages
            assert [message.position for message in messages] == list(range(conversation.message_count))
            found |= {message.message_id: (message.text, message.state) for message in messages}
            for before, message in zip((None, *messages), messages, strict=False):
                if message.role is Role.ANSWER:
                    assert before is not None
                    assert before.role is Role.QUESTION
                    expected = {"complete": "complete", "partial": "failed"}[message.state]
                    assert before.state == expected
            assert all(message.state is not MessageState.PENDING for message in messages[:-1])
            history = self.portal.call(store.history, conversation.thread_id)
            assert [entry.role for entry in history] == [Role.QUESTION, Role.ANSWER] * (len(history) // 2)
            complete = [message for message in messages if message.state is MessageState.COMPLETE]
            assert [entry.text.removeprefix("> ") for entry in history if entry.role is Role.QUESTION] == [
                message.text for message in complete if message.role is Role.QUESTION
            ]
        assert found == self.acknowledged


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=20, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)
