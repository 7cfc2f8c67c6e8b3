"""The store of conversations: what was asked, what was answered, and what was not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from anyio import to_thread
from sqlalchemy import select, update

from claude_comms.conversations import _search, _turns, _usage
from claude_comms.conversations._faults import PendingQuestionError
from claude_comms.conversations._owed import OwedEnds
from claude_comms.conversations._rows import conversation_from, message_from
from claude_comms.conversations._tables import conversations, messages
from claude_comms.errors import ConversationNotFoundError, InstanceStateError, StoreError
from claude_comms.text import mended
from claude_comms.types import (
    Conversation,
    ConversationState,
    HistoryMessage,
    Message,
    MessageState,
    Role,
    new_id,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Select

    from claude_comms.protocols import UsageBy
    from claude_comms.storage import Database, OwnerLock
    from claude_comms.types import Pair, Refused, Retried, SearchHit, Source, ToolUsed, Usage, UsageRow

__all__ = ["ConversationStore", "KeyedTurn", "Thread"]

_MOST_MATCHES = 10


def _abandoned(thread_id: str) -> dict[str, object]:
    """Why a question of that conversation has no answer, when whoever was to bring it is dead."""
    return {
        "type": "BackendError",
        "message": (
            "the daemon, or whichever process asked, died before the answer came. The question is stored as failed;"
            f' ask again: claude-comms continue-conversation {thread_id} "..."'
        ),
        "retryable": True,
        "thread_id": thread_id,
    }


class KeyedTurn(NamedTuple):
    """A question that was found by its key or turn, and its answer once it is complete."""

    question: Message
    answer: Message | None
    request_digest: str | None


class Thread(NamedTuple):
    """A conversation as the next question finds it: without its messages, and what a model is to see of them."""

    conversation: Conversation
    history: tuple[HistoryMessage, ...]
    """The complete turns, oldest first: question as it was sent, answer, question, ..."""


class ConversationStore:
    """Conversations in `database`. What a method has returned is on disk, and survives a loss of power.

    `owner` is whose name pending questions are stored in: alive, and no other store's. Ids may be given as any
    unique prefix. Every method raises StoreError where the database cannot be used, and ConversationNotFoundError
    for an id that is unknown or fits several.
    """

    def __init__(self, database: Database, owner: OwnerLock) -> None:
        self._database = database
        self._owner = owner
        self._owed = OwedEnds(database)

    # --- conversations -------------------------------------------------------------------------

    async def create(self, pair: Pair, title: str | None = None) -> Conversation:
        """A new conversation without messages. Without a title it takes that of its first question."""
        thread_id, now = new_id("c"), datetime.now(UTC)

        def add(connection: Connection) -> Conversation:
            _turns.add_conversation(connection, thread_id, pair, title or "", now)
            return _load(connection, thread_id)

        return await self._database.write(add)

    async def resolve(self, id_or_prefix: str) -> str:
        """The whole `thread_id` that `id_or_prefix` begins."""
        return await self._database.read(lambda connection: _resolve(connection, id_or_prefix))

    async def get(self, id_or_prefix: str, *, messages: bool = True) -> Conversation:
        """The conversation with all its messages, or without them."""

        def read(connection: Connection) -> Conversation:
            return _load(connection, _resolve(connection, id_or_prefix), with_messages=messages)

        return await self._database.read(read)

    async def thread(self, id_or_prefix: str) -> Thread:
        """The conversation and its history, both as of one moment."""

        def read(connection: Connection) -> Thread:
            head = _turns.head(connection, id_or_prefix) or _load(connection, _resolve(connection, id_or_prefix))
            return Thread(head, _turns.history(connection, head.thread_id))

        return await self._database.read(read)

    async def list(
        self,
        source: str | None = None,
        target: str | None = None,
        state: ConversationState | None = ConversationState.ACTIVE,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Conversation]:
        """Conversations without their messages, the last changed first.

        A `state` of None means all. `before` is the id of the last one seen: what follows it is listed.
        """

        def read(connection: Connection) -> list[Conversation]:
            query = select(conversations).limit(limit)
            for column, value in (("source", source), ("target", target), ("state", state)):
                if value is not None:
                    query = query.where(conversations.c[column] == str(value))
            if before is not None:
                last = _load(connection, _resolve(connection, before))
                changed, thread_id = conversations.c.updated_at, conversations.c.thread_id
                same_moment = (changed == last.updated_at) & (thread_id < last.thread_id)
                query = query.where((changed < last.updated_at) | same_moment)
            query = query.order_by(conversations.c.updated_at.desc(), conversations.c.thread_id.desc())
            return [conversation_from(row) for row in connection.execute(query)]

        return await self._database.read(read)

    async def latest(self, pair: Pair) -> Conversation | None:
        """The active conversation of the pair that changed last."""
        found = await self.list(pair.source, pair.target, limit=1)
        return found[0] if found else None

    async def archive(self, id_or_prefix: str) -> Conversation:
        """Hide the conversation from lists, and refuse questions in it, until it is restored."""
        return await self._set_state(id_or_prefix, ConversationState.ARCHIVED)

    async def restore(self, id_or_prefix: str) -> Conversation:
        """Undo `archive`."""
        return await self._set_state(id_or_prefix, ConversationState.ACTIVE)

    async def history(self, thread_id: str) -> tuple[HistoryMessage, ...]:
        """The complete turns of a thread, oldest first: question as it was sent, answer, question, ...

        Takes the whole id, and is empty for an unknown one.
        """
        return await self._database.read(lambda connection: _turns.history(connection, thread_id))

    async def search(
        self,
        text: str,
        *,
        source: str | None = None,
        target: str | None = None,
        limit: int = 20,
        include_archived: bool = True,
    ) -> list[SearchHit]:
        """The messages that have all words of `text`, or, where there are none, any of them. Best first.

        Words are stemmed as English; nothing in `text` acts as a search syntax. Of words that are in 1,000 messages
        or more, the newest 1,000 matches are looked at. Of a text, the first 200,000 characters are searched.
        """

        def read(connection: Connection) -> list[SearchHit]:
            return _search.search(
                connection, text, source=source, target=target, archived=include_archived, limit=limit
            )

        return await self._database.read(read)

    async def usage(
        self,
        by: UsageBy = "pair",
        *,
        source: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> builtins.list[UsageRow]:
        """What turns have cost, from `since` on and before `until`: complete ones, and failed ones that spent tokens.

        The dearest group first, those of unknown cost last; days (in UTC) in their order. Groups are named
        ``SOURCE/TARGET``, by the module, backend or model (``unknown`` where none was noted), ``2026-11-21``, or
        ``all``. ConfigError for another `by`, and for moments without a time zone.
        """
        return await self._database.read(
            lambda connection: _usage.usage(connection, by, source=source, target=target, since=since, until=until)
        )

    # --- turns ---------------------------------------------------------------------------------

    async def begin_turn(
        self,
        *,
        thread_id: str | None,
        pair: Pair,
        text: str,
        sent_text: str,
        data: Any = None,
        backend: str | None = None,
        model: str | None = None,
        context_version: str | None = None,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
        expected_messages: int | None = None,
        title: str | None = None,
        turn_id: str | None = None,
    ) -> Message:
        """Store a question as pending; where `thread_id` is None, in a new conversation.

        `sent_text` is the whole user message, which history replays. Refuses with InstanceStateError while
        another question of the thread waits for its answer, ConversationChangedError when the thread has not
        `expected_messages`, IdempotencyKeyTakenError, and StoreError for an archived conversation or another
        pair's. When the call is cancelled, the question is taken back.
        """
        message = Message(
            message_id=new_id("m"),
            thread_id=thread_id or new_id("c"),
            position=0,
            role=Role.QUESTION,
            speaker=pair.source,
            text=text,
            state=MessageState.PENDING,
            created_at=datetime.now(UTC),
            backend=backend,
            model=model,
            data=data,
            context_version=context_version,
            turn_id=turn_id,
        )
        return await self._begin(
            _turns.NewQuestion(
                message=message,
                pair=pair,
                is_new_thread=thread_id is None,
                sent_text=sent_text,
                owner=self._owner.owner_id,
                title=title or "",
                idempotency_key=idempotency_key,
                request_digest=request_digest,
                expected_messages=expected_messages,
            )
        )

    async def complete_turn(
        self,
        question_id: str,
        *,
        text: str,
        model: str,
        backend: str,
        instance_id: str | None = None,
        usage: Usage | None = None,
        price_date: str | None = None,
        stop_reason: str | None = None,
        duration_ms: float | None = None,
        data: Any = None,
        sources: Sequence[Source] = (),
        retries: Sequence[Retried] = (),
        tools: Sequence[ToolUsed] = (),
        refusals: Sequence[Refused] = (),
        rebuilt: str | None = None,
        session_handle: str | None = None,
    ) -> Message:
        """Store the complete answer and return it. StoreError if the question is no longer pending.

        `session_handle` finds the backend's session that holds the thread up to this answer; see `session`.
        """
        answer = Message(
            message_id=new_id("m"),
            thread_id="",
            position=0,
            role=Role.ANSWER,
            speaker="",
            text=text,
            state=MessageState.COMPLETE,
            created_at=datetime.now(UTC),
            backend=backend,
            model=model,
            instance_id=instance_id,
            data=data,
            usage=usage,
            price_date=price_date,
            stop_reason=stop_reason,
            duration_ms=duration_ms,
            sources=tuple(sources),
            retries=tuple(retries),
            tools=tuple(tools),
            refusals=tuple(refusals),
            rebuilt=rebuilt,
        )
        try:
            return await self._database.write(
                lambda connection: _turns.complete(connection, question_id, answer, session_handle)
            )
        except (StoreError, anyio.get_cancelled_exc_class()):
            self._owed.add(question_id, _turns.unstored(answer))
            raise

    async def session(self, thread_id: str, backend: str) -> str | None:
        """The handle of the backend's session of a thread; None where there is none, or it lacks later turns."""
        return await self._database.read(lambda connection: _turns.session(connection, thread_id, backend))

    async def fail_turn(
        self,
        question_id: str,
        *,
        error: Mapping[str, Any],
        partial: str = "",
        usage: Usage | None = None,
        price_date: str | None = None,
        backend: str | None = None,
        model: str | None = None,
        instance_id: str | None = None,
        duration_ms: float | None = None,
        retries: Sequence[Retried] = (),
        tools: Sequence[ToolUsed] = (),
        refusals: Sequence[Refused] = (),
    ) -> Message | None:
        """Mark the question failed. Text that had come is kept as a partial answer, which is returned.

        What the turn cost stands on the partial answer, or else on the question. Any text can be stored: half
        characters are replaced. StoreError if the question is no longer pending.
        """
        ending = _turns.Ending(
            error=error,
            partial=mended(partial),
            partial_id=new_id("m"),
            at=datetime.now(UTC),
            usage=usage,
            price_date=price_date,
            backend=backend,
            model=model,
            instance_id=instance_id,
            duration_ms=duration_ms,
            retries=tuple(retries),
            tools=tuple(tools),
            refusals=tuple(refusals),
        )
        try:
            return await self._database.write(lambda connection: _turns.fail(connection, question_id, ending))
        except (StoreError, anyio.get_cancelled_exc_class()):
            self._owed.add(question_id, ending)
            raise

    async def keep_settling(self) -> None:
        """Mark turns whose end the store could not take as failed, as soon as it can. Never ends.

        Without it they are marked when the next question is asked.
        """
        await self._owed.keep_settling()

    async def mark_abandoned(self) -> list[Message]:
        """Mark what dead processes left pending as failed, and return it. Done when an engine opens."""
        query = select(messages.c.owner).where(messages.c.state == "pending").distinct()
        owners = await self._database.read(lambda connection: connection.execute(query).scalars().all())
        dead = await to_thread.run_sync(self._owner.dead_owners, owners)
        await to_thread.run_sync(self._owner.sweep)
        return await self._abandon(dead) if dead else []

    async def by_key(self, idempotency_key: str) -> KeyedTurn | None:
        """The turn that was begun with `idempotency_key`."""
        asked = select(messages).where(messages.c.idempotency_key == idempotency_key)
        return await self._database.read(lambda connection: _turn_of(connection, asked))

    async def by_turn(self, turn_id: str) -> KeyedTurn | None:
        """The turn with this id, as it stands; of one that was repaired, the repair."""
        asked = select(messages).where(messages.c.turn_id == turn_id).order_by(messages.c.position.desc()).limit(1)
        return await self._database.read(lambda connection: _turn_of(connection, asked))

    # --- how -----------------------------------------------------------------------------------

    async def _begin(self, question: _turns.NewQuestion) -> Message:
        if self._owed:
            await self._owed.settle()
        while True:
            try:
                return await self._database.write(lambda connection: _turns.begin(connection, question))
            except PendingQuestionError as pending:
                if not await to_thread.run_sync(self._owner.dead_owners, (pending.owner,)):
                    busy = InstanceStateError(pending.message, state="busy", wanted="idle")
                    busy.thread_id = pending.thread_id
                    raise busy from pending
                await self._abandon({pending.owner})
            except anyio.get_cancelled_exc_class():
                # It may be on disk all the same, and nobody would ever end it: the thread would stay busy.
                self._database.post(lambda connection: _turns.withdraw(connection, question))
                raise

    async def _abandon(self, owners: set[str]) -> list[Message]:
        now = datetime.now(UTC)
        return await self._database.write(lambda connection: _turns.abandon(connection, owners, _abandoned, now))

    async def _set_state(self, id_or_prefix: str, state: ConversationState) -> Conversation:
        def change(connection: Connection) -> Conversation:
            thread_id = _resolve(connection, id_or_prefix)
            changed = update(conversations).where(conversations.c.thread_id == thread_id)
            connection.execute(changed, {"state": str(state), "updated_at": datetime.now(UTC)})
            return _load(connection, thread_id)

        return await self._database.write(change)


def _turn_of(connection: Connection, asked: Select[Any]) -> KeyedTurn | None:
    """The question that `asked` finds, and the complete answer behind it."""
    row = connection.execute(asked).one_or_none()
    if row is None:
        return None
    answered = select(messages).where(
        messages.c.thread_id == row.thread_id,
        messages.c.position == row.position + 1,
        messages.c.role == "answer",
        messages.c.state == "complete",
    )
    answer = connection.execute(answered).one_or_none()
    return KeyedTurn(message_from(row), message_from(answer) if answer else None, row.request_digest)


def _resolve(connection: Connection, wanted: str) -> str:
    thread_id = conversations.c.thread_id
    if connection.execute(select(thread_id).where(thread_id == wanted)).scalar_one_or_none() is not None:
        return wanted
    if not wanted:
        raise ConversationNotFoundError(wanted)
    fits = select(thread_id).where(thread_id >= wanted, thread_id < wanted + "\U0010ffff")
    matches = connection.execute(fits.order_by(thread_id).limit(_MOST_MATCHES)).scalars().all()
    if len(matches) != 1:
        raise ConversationNotFoundError(wanted, matches=matches)
    return matches[0]


def _load(connection: Connection, thread_id: str, *, with_messages: bool = False) -> Conversation:
    head = _turns.head(connection, thread_id)
    assert head is not None  # noqa: S101 - its id was looked up, or it was just written, in this transaction
    if not with_messages:
        return head
    said = select(messages).where(messages.c.thread_id == thread_id).order_by(messages.c.position)
    return replace(head, messages=tuple(message_from(message) for message in connection.execute(said)))
