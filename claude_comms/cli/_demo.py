"""``demo``: the main job from start to end, offline, in a home that is removed afterwards."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_comms.cli import _console as console
from claude_comms.cli._wording import plural, usage
from claude_comms.cli._wrapping import hanging, paragraph
from claude_comms.communicator import create_communicator
from claude_comms.settings import Settings
from claude_comms.types import OFFLINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.conversations import SearchHit
    from claude_comms.types import Conversation, Reply

__all__ = ["run_demo"]

_SOURCE, _TARGET = "marker", "arangodb"
_QUESTIONS = (
    "How should I store my page blocks?",
    "Which query gives me the blocks of one page in order?",
    "How do I search the text of the blocks?",
)
_LOOKED_FOR = "blocks"
_INDENT = "   "
_ANSWER_LINES = 14


def run_demo(*, as_json: bool) -> None:
    """Two questions in one conversation; a third after a restart; the thread searched and shown."""
    with tempfile.TemporaryDirectory(prefix="claude-comms-demo-") as directory:
        settings = _settings(Path(directory))
        tell = _Silent() if as_json else _Storyteller()
        facts = _play(settings, tell)
    if as_json:
        console.document(facts)
    else:
        _what_next()


def _settings(home: Path) -> Settings:
    """Nothing of the user's: another home, no own descriptors, no model."""
    database = f"sqlite:///{home / 'claude-comms.db'}"
    return Settings.load(
        {"home": home, "database_url": database, "descriptors": (), "backend": OFFLINE, "daemon": "off"}
    )


def _play(settings: Settings, tell: _Silent) -> dict[str, Any]:
    first, second, third = _QUESTIONS
    tell.begin(settings.home)
    with create_communicator(_SOURCE, settings=settings, use_background=False) as comm:
        tell.step("One module asks another", *_query(first))
        replies = [comm.send_message(target=_TARGET, prompt=first)]
        tell.answer(replies[0])
        thread = replies[0].thread_id
        tell.step("It asks on, in the same conversation", *_continue(thread, second))
        replies.append(comm.send_message(target=_TARGET, prompt=second))
        tell.answer(replies[1])
    tell.closed()
    with create_communicator(_SOURCE, settings=settings, use_background=False) as later:
        tell.step("Later: the conversation is still there, and goes on", *_continue(thread, third, stored=True))
        replies.append(later.send_message(target=_TARGET, prompt=third, thread_id=thread))
        tell.answer(replies[2])
        tell.step("Everything that was said can be searched", *_search())
        hits = later.search_conversations(_LOOKED_FOR)
        tell.hits(hits)
        tell.step("And read again", *_show(thread))
        conversation = later.get_conversation(thread)
        tell.thread(conversation)
    return {
        "backend": OFFLINE,
        "model_asked": False,
        "kept": False,
        "thread_id": thread,
        "replies": [reply.as_dict() for reply in replies],
        "search": [hit.as_dict() for hit in hits],
        "conversation": conversation.as_dict(),
    }


def _query(prompt: str) -> tuple[str, str]:
    return (
        f'claude-comms query-module {_TARGET} "{prompt}" --from {_SOURCE}',
        f'comm = create_communicator("{_SOURCE}")\nreply = comm.send_message(target="{_TARGET}", prompt="{prompt}")',
    )


def _continue(thread: str, prompt: str, *, stored: bool = False) -> tuple[str, str]:
    named = f', thread_id="{thread}"' if stored else ""
    return (
        f'claude-comms continue-conversation {thread} "{prompt}"',
        f'reply = comm.send_message(target="{_TARGET}", prompt="{prompt}"{named})',
    )


def _search() -> tuple[str, str]:
    return f"claude-comms search-conversations {_LOOKED_FOR}", f'comm.search_conversations("{_LOOKED_FOR}")'


def _show(thread: str) -> tuple[str, str]:
    return f"claude-comms show-conversation {thread}", "comm.get_conversation(reply.thread_id)"


class _Silent:
    """Tells nothing: the document at the end says it all."""

    def begin(self, home: Path) -> None: ...

    def step(self, title: str, shell: str, python: str) -> None: ...

    def answer(self, reply: Reply) -> None: ...

    def closed(self) -> None: ...

    def hits(self, hits: Sequence[SearchHit]) -> None: ...

    def thread(self, conversation: Conversation) -> None: ...


class _Storyteller(_Silent):
    """Tells each step to a newcomer, with the command and the Python that do the same."""

    def __init__(self) -> None:
        self._step = 0

    def begin(self, home: Path) -> None:
        console.result(
            paragraph(
                f"{_SOURCE} (PDF to Markdown) has a question for {_TARGET} (a database)."
                " Both are modules: descriptor files say what they can do.\n"
                "This demo is offline. No model is asked and nothing leaves this machine: the answers are quotes from"
                f" {_TARGET}'s descriptor. It runs in {home}, which is removed at the end."
            )
        )

    def step(self, title: str, shell: str, python: str) -> None:
        self._step += 1
        console.result()
        console.heading(paragraph(f"{self._step}. {title}"))
        console.result(hanging(f"{_INDENT}shell   ", shell))
        console.result(hanging(f"{_INDENT}python  ", python))
        console.result()

    def answer(self, reply: Reply) -> None:
        lines = reply.response.splitlines()
        for line in lines[:_ANSWER_LINES]:
            console.result(_quoted(line))
        if len(lines) > _ANSWER_LINES:
            console.result(f"{_INDENT}| … ({plural(len(lines) - _ANSWER_LINES, 'more line')})")
        console.result(paragraph(f"({reply.backend}, {usage(reply.usage)}, thread {reply.thread_id})", _INDENT))

    def closed(self) -> None:
        console.result()
        console.result(paragraph("(The store was closed here, and is opened again as a new process would.)"))

    def hits(self, hits: Sequence[SearchHit]) -> None:
        for hit in hits[:3]:
            console.result(hanging(f"{_INDENT}- ", console.one_line(f"{hit.speaker}: {hit.excerpt}")))
        if len(hits) > 3:
            console.result(f"{_INDENT}- … ({len(hits) - 3} more)")

    def thread(self, conversation: Conversation) -> None:
        count = plural(conversation.message_count, "message")
        console.result(paragraph(f"{conversation.source} → {conversation.target}, {count}", _INDENT))
        for message in conversation.messages:
            console.result(
                hanging(f"{_INDENT}{message.position + 1}. {message.speaker}: ", console.shorten(message.text, 160))
            )


def _quoted(line: str) -> str:
    """A line of an answer beside a bar; wrapped, a quote keeps its mark."""
    mark = "> " if line.startswith("> ") else ""
    return paragraph(line.removeprefix(mark), f"{_INDENT}| {mark}")


def _what_next() -> None:
    console.result()
    console.heading("What next")
    for label, text in (
        ("Ask a model instead of quoting", "export ANTHROPIC_API_KEY=..."),
        ("Make your own modules known", "claude-comms register-module NAME --path DIR"),
        ("Ask them", 'claude-comms query-module NAME "PROMPT"'),
        ("Look around", "claude-comms list-modules, claude-comms doctor, claude-comms --help"),
    ):
        console.result(hanging(f"{_INDENT}", f"{label}:\n  {text}"))
