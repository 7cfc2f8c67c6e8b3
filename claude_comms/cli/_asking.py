"""A question's way from the command line to a communicator, and its answer's way back."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from claude_comms.background.backends import choose_backend
from claude_comms.cli._access import managing, uses_daemon
from claude_comms.cli._preview import show_preview
from claude_comms.cli._sources import asking_module, open_registry, read_data, read_parameters, read_prompt, read_schema
from claude_comms.cli._stream import show_turn
from claude_comms.communicator import create_communicator
from claude_comms.errors import ClaudeCommsError, ConversationNotFoundError
from claude_comms.settings import Settings
from claude_comms.types import ANONYMOUS

if TYPE_CHECKING:
    from claude_comms.cli._question import QuestionOptions
    from claude_comms.communicator import ModuleCommunicator
    from claude_comms.types import InstanceInfo

__all__ = ["LAST", "Asking", "ask_in_conversation", "ask_instance", "ask_module", "latest_thread"]

LAST = "last"
"""``--thread last``: the pair's latest conversation."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What a command says about a question, apart from who asks whom and where."""

    prompt: str
    data: Any
    response_model: dict[str, Any] | None
    context: dict[str, str]
    options: QuestionOptions

    @classmethod
    def of(cls, prompt: str, options: QuestionOptions) -> Self:
        """The same from a command line: stdin and files read, parameters split."""
        return cls(
            prompt=read_prompt(prompt),
            data=read_data(options.data),
            response_model=read_schema(options.schema),
            context=read_parameters(options.param),
            options=options,
        )

    def message(self, target: str, thread_id: str | None) -> dict[str, Any]:
        """The arguments of `send_message`, `stream_message` and `preview`."""
        return {
            "target": target,
            "prompt": self.prompt,
            "thread_id": thread_id,
            "data": self.data,
            "response_model": self.response_model,
            "template": self.options.template,
            "context": self.context or None,
            "deadline_s": self.options.deadline,
            "max_cost_usd": self.options.max_cost,
        }


def ask_module(asking: Asking, target: str, source: str | None, thread: str | None) -> None:
    """Ask `target`; `source` None: the module of this directory; `thread` None: a new conversation."""
    settings = Settings.load()
    asker = source if source is not None else asking_module(None, open_registry(settings))
    with _communicator(asking, settings, asker) as comm:
        thread_id = _latest(comm, asker, target) if thread == LAST else thread
        _ask(asking, comm, target, thread_id, other=_other_backend(asking, settings, target, thread_id))


def ask_in_conversation(asking: Asking, wanted: str) -> None:
    """Ask the next question of the stored conversation that `wanted` names."""
    settings = Settings.load()
    with _communicator(asking, settings, ANONYMOUS) as reader:
        conversation = reader.get_conversation(wanted)
    with _communicator(asking, settings, conversation.source) as comm:
        target, thread_id = conversation.target, conversation.thread_id
        _ask(asking, comm, target, thread_id, other=_other_backend(asking, settings, target, thread_id))


def _ask(asking: Asking, comm: ModuleCommunicator, target: str, thread_id: str | None, *, other: str | None) -> None:
    message = asking.message(target, thread_id)
    if asking.options.show_prompt:
        show_preview(comm.preview(**message), as_json=asking.options.as_json)
    else:
        structured = asking.response_model is not None
        stream = comm.stream_message(**message)
        show_turn(stream, target, structured=structured, as_json=asking.options.as_json, other_backend=other)


def _other_backend(asking: Asking, settings: Settings, target: str, thread_id: str | None) -> str | None:
    """The backend that a new conversation would get, where this one may keep its own; None where that is no matter."""
    if thread_id is None or asking.options.backend not in (None, "auto"):
        return None
    try:
        path = open_registry(settings).get(target).path
        return choose_backend(settings, target_path=path).backend
    except ClaudeCommsError:  # the question itself fails of it, or does not need it
        return None


def _communicator(asking: Asking, settings: Settings, source: str) -> ModuleCommunicator:
    """Through the daemon, which is started if need be; a prompt that is only shown needs none to be."""
    no_daemon = asking.options.no_daemon
    if asking.options.show_prompt:
        use_background = False if no_daemon else None
    else:
        use_background = uses_daemon(settings, no_daemon=no_daemon)
    return create_communicator(
        None if source == ANONYMOUS else source,
        use_background=use_background,
        backend=asking.options.backend,
        model=asking.options.model,
        settings=settings,
    )


def ask_instance(asking: Asking, wanted: str, *, no_daemon: bool) -> None:
    """Ask the instance that `wanted` names, in the conversation that it holds."""
    with managing(no_daemon=no_daemon) as instances:
        info = instances.get(wanted)
        message = asking.message(info.target, None)
        del message["target"], message["thread_id"]
        stream = instances.stream(info.instance_id, **message)
        structured = asking.response_model is not None
        show_turn(stream, info.target, structured=structured, as_json=asking.options.as_json, go_on=_go_on(info))


def _go_on(info: InstanceInfo) -> str:
    return f"query-instance {shlex.quote(info.name or info.instance_id)}"


def latest_thread(settings: Settings, source: str, target: str) -> str:
    """The id of the pair's latest conversation; ConversationNotFoundError says what to do where there is none."""
    with create_communicator(None if source == ANONYMOUS else source, settings=settings) as comm:
        return _latest(comm, source, target)


def _latest(comm: ModuleCommunicator, source: str, target: str) -> str:
    newest = comm.list_conversations(target, limit=1)
    if newest:
        return newest[0].thread_id
    missing = ConversationNotFoundError(LAST)
    missing.message = (
        f"{source} → {target} has no conversation yet, so there is no {LAST} one. Leave out --thread to start one."
        " See: claude-comms list-conversations"
    )
    missing.args = (missing.message,)
    raise missing
