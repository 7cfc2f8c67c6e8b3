"""A question's way from the command line to a communicator, and its answer's way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from claude_comms.cli._preview import show_preview
from claude_comms.cli._sources import asking_module, open_registry, read_data, read_parameters, read_prompt, read_schema
from claude_comms.cli._stream import show_turn
from claude_comms.communicator import create_communicator
from claude_comms.errors import ConversationNotFoundError
from claude_comms.settings import Settings
from claude_comms.types import ANONYMOUS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from claude_comms.communicator import ModuleCommunicator

__all__ = ["Asking", "ask_in_conversation", "ask_module"]

LAST = "last"
"""``--thread last``: the pair's latest conversation."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What a command says about a question, apart from who asks whom and where."""

    prompt: str
    data: Any = None
    response_model: dict[str, Any] | None = None
    template: str = "query"
    context: dict[str, str] = field(default_factory=dict[str, str])
    backend: str | None = None
    model: str | None = None
    deadline_s: float | None = None
    max_cost_usd: float | None = None
    no_daemon: bool = False
    show_prompt: bool = False
    as_json: bool = False

    @classmethod
    def of(
        cls, prompt: str, *, data: Path | None, schema: Path | None, param: Sequence[str] | None, **others: Any
    ) -> Self:
        """The same from a command's options: stdin and files read, parameters split."""
        return cls(
            prompt=read_prompt(prompt),
            data=read_data(data),
            response_model=read_schema(schema),
            context=read_parameters(param),
            **others,
        )

    def message(self, target: str, thread_id: str | None) -> dict[str, Any]:
        """The arguments of `send_message`, `stream_message` and `preview`."""
        return {
            "target": target,
            "prompt": self.prompt,
            "thread_id": thread_id,
            "data": self.data,
            "response_model": self.response_model,
            "template": self.template,
            "context": self.context or None,
            "deadline_s": self.deadline_s,
            "max_cost_usd": self.max_cost_usd,
        }


def ask_module(asking: Asking, target: str, source: str | None, thread: str | None) -> None:
    """Ask `target`; `source` None: the module of this directory; `thread` None: a new conversation."""
    settings = Settings.load()
    asker = asking_module(source, open_registry(settings))
    with _communicator(asking, settings, asker) as comm:
        thread_id = _latest(comm, asker, target) if thread == LAST else thread
        _ask(asking, comm, target, thread_id)


def ask_in_conversation(asking: Asking, wanted: str) -> None:
    """Ask the next question of the stored conversation that `wanted` names."""
    settings = Settings.load()
    with _communicator(asking, settings, ANONYMOUS) as reader:
        conversation = reader.get_conversation(wanted)
    with _communicator(asking, settings, conversation.source) as comm:
        _ask(asking, comm, conversation.target, conversation.thread_id)


def _ask(asking: Asking, comm: ModuleCommunicator, target: str, thread_id: str | None) -> None:
    message = asking.message(target, thread_id)
    if asking.show_prompt:
        show_preview(comm.preview(**message), as_json=asking.as_json)
    else:
        structured = asking.response_model is not None
        show_turn(comm.stream_message(**message), target, structured=structured, as_json=asking.as_json)


def _communicator(asking: Asking, settings: Settings, source: str) -> ModuleCommunicator:
    return create_communicator(
        None if source == ANONYMOUS else source,
        use_background=False if asking.no_daemon else None,
        backend=asking.backend,
        model=asking.model,
        settings=settings,
    )


def _latest(comm: ModuleCommunicator, source: str, target: str) -> str:
    newest = comm.list_conversations(target, limit=1)
    if not newest:
        raise ConversationNotFoundError(f"{LAST} of {source} → {target}")
    return newest[0].thread_id
