"""Stored conversations as lists, threads and search hits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from claude_comms.cli import _console as console
from claude_comms.cli._short_ids import short_ids
from claude_comms.cli._wording import local_time, plural, usage
from claude_comms.communicator import create_communicator
from claude_comms.types import MessageState, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.communicator import ModuleCommunicator
    from claude_comms.conversations import SearchHit
    from claude_comms.types import Conversation, Message

__all__ = ["archive", "reading", "show_hits", "show_list", "show_thread"]


def reading(source: str | None = None) -> ModuleCommunicator:
    """A communicator for looking things up: nothing is asked, no daemon is started."""
    return create_communicator(source, use_background=False)


def show_list(source: str | None, target: str | None, state: str, limit: int, *, as_json: bool) -> None:
    """Conversations, the newest first."""
    with reading(source) as comm:
        wanted = cast("Literal['active', 'archived', 'all']", state)
        found = comm.list_conversations(target, any_source=source is None, state=wanted, limit=limit)
    if as_json:
        console.document([_without_messages(conversation) for conversation in found])
        return
    if not found:
        console.note('No conversations. Start one: claude-comms query-module TARGET "PROMPT"')
        return
    columns = [console.Column("LAST"), console.Column("MSGS", right=True), console.Column("TITLE", flexible=True)]
    _table(found, columns, [_list_row(conversation) for conversation in found])


def show_thread(wanted: str, *, as_json: bool) -> None:
    """A conversation with its messages."""
    with reading() as comm:
        conversation = comm.get_conversation(wanted)
    if as_json:
        console.document(conversation.as_dict())
    else:
        print_thread(conversation)


def print_thread(conversation: Conversation) -> None:
    """A conversation for people to read."""
    console.heading(conversation.title or "(no title)")
    console.result(
        f"{conversation.source} → {conversation.target} · {conversation.state}"
        f" · {plural(conversation.message_count, 'message')} · {conversation.backend or 'not answered yet'}"
        f"\n{conversation.thread_id}"
    )
    for message in conversation.messages:
        console.result()
        console.heading(_message_heading(message))
        if message.text:
            console.result(message.text)
        if message.error:
            console.result(f"[{message.error.get('type', 'error')}: {message.error.get('message', '')}]")


def show_hits(text: str, source: str | None, target: str | None, limit: int, *, as_json: bool) -> None:
    """Messages that hold the words of `text`, the best first."""
    with reading(source) as comm:
        hits = comm.search_conversations(text, target=target, any_source=source is None, limit=limit)
    if as_json:
        console.document([hit.as_dict() for hit in hits])
        return
    if not hits:
        console.note("Nothing found.")
        return
    columns = [console.Column("SAID BY"), console.Column("EXCERPT", flexible=True)]
    _table(hits, columns, [[hit.speaker, hit.excerpt] for hit in hits])


def archive(wanted: str, *, restore: bool, as_json: bool) -> None:
    """Hide a conversation, or bring it back."""
    with reading() as comm:
        conversation = comm.restore_conversation(wanted) if restore else comm.archive_conversation(wanted)
    if as_json:
        console.document(_without_messages(conversation))
    else:
        console.result(f"{conversation.thread_id} is {conversation.state}")


def _without_messages(conversation: Conversation) -> dict[str, Any]:
    facts = conversation.as_dict()
    del facts["messages"]
    return facts


def _table(
    found: Sequence[Conversation | SearchHit], columns: Sequence[console.Column], cells: Sequence[Sequence[str]]
) -> None:
    """A row for each that was found: the conversation's id, its pair, and `cells` under `columns`."""
    ids = short_ids([one.thread_id for one in found])
    console.table(
        [console.Column("ID"), console.Column("FROM → TO", flexible=True), *columns],
        [[short, f"{one.source} → {one.target}", *more] for short, one, more in zip(ids, found, cells, strict=True)],
    )


def _list_row(conversation: Conversation) -> list[str]:
    archived = " (archived)" if conversation.state == "archived" else ""
    return [
        local_time(conversation.updated_at),
        str(conversation.message_count),
        f"{conversation.title or '(no title)'}{archived}",
    ]


def _message_heading(message: Message) -> str:
    does = "asks" if message.role is Role.QUESTION else "answers"
    parts = [f"{message.speaker} {does}", local_time(message.created_at)]
    if message.backend and message.role is Role.ANSWER:
        parts.append(message.backend)
    if message.usage is not None:
        parts.append(usage(message.usage))
    if message.state is not MessageState.COMPLETE:
        parts.append(message.state.upper())
    return " · ".join(parts)
