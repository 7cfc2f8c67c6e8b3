"""What the event bus is told of a turn, of its messages, and of instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.errors import ClaudeCommsError, TurnFailedError
from claude_comms.events import NewEvent, Priority
from claude_comms.types import Delta, MessageState, Pair, Refused, Retried, Started, ToolUsed

if TYPE_CHECKING:
    from claude_comms.engine._outlet import Outlet
    from claude_comms.types import Conversation, InstanceInfo, Message, Reply, TurnEvent, Usage

__all__ = ["TurnNews", "about_conversation", "about_instance", "facts_of"]


_INSTANCE_PRIORITIES = {"instance.failed": Priority.CRITICAL, "instance.restarted": Priority.HIGH}


class TurnNews:
    """Tells the bus of one turn: what the caller sees of it, its messages, and one end.

    `thread_id` and `instance_id` stand in each event once they are known.
    """

    def __init__(self, outlet: Outlet, turn_id: str, pair: Pair) -> None:
        self.turn_id = turn_id
        self.thread_id: str | None = None
        self._outlet = outlet
        self._pair = pair
        self._known: dict[str, Any] = {"turn_id": turn_id, "source": pair.source, "target": pair.target}
        self._ended = False
        self.spent: Usage | None = None
        """What a turn that ends without a whole answer has cost all the same."""

    def event(self, event: TurnEvent) -> None:
        """What happens while the answer is made."""
        match event:
            case Started():
                self.thread_id = event.thread_id
                self._known |= {"thread_id": event.thread_id, "instance_id": event.instance_id}
                self._tell("turn.started", event.as_dict())
            case Delta():
                self._tell("turn.delta", {"text": event.text}, Priority.LOW)
            case ToolUsed():
                self._tell("turn.tool_used", event.as_dict())
            case Refused():
                # `target` is the pair's in every event of a turn, so what the tool was aimed at stands beside it.
                self._tell(
                    "turn.tool_refused",
                    {"tool": event.tool, "aimed_at": event.target, "reason": event.reason},
                    Priority.HIGH,
                )
            case Retried():
                self._tell("turn.retried", event.as_dict(), Priority.HIGH)

    def is_known(self, thread_id: str, instance_id: str | None) -> None:
        """Of a turn that began in another process: where, and who was answering."""
        self.thread_id = thread_id
        self._known["thread_id"] = thread_id
        if instance_id is not None:
            self._known["instance_id"] = instance_id

    def message(self, message: Message, *, instance_id: str | None = None) -> None:
        """A message is on disk; the event carries its whole text."""
        self.is_known(message.thread_id, instance_id)
        self._tell(
            "message.stored",
            {
                "message_id": message.message_id,
                "role": str(message.role),
                "speaker": message.speaker,
                "state": str(message.state),
                "text": message.text,
            },
            Priority.HIGH if message.state is MessageState.PARTIAL else Priority.NORMAL,
        )

    def began(self, conversation_title: str) -> None:
        """The question has begun a new conversation."""
        self._tell("conversation.created", {"title": conversation_title})

    def stalled(self, silent_s: float) -> None:
        """Nothing has come for so long."""
        self._tell("turn.stalled", {"silent_s": silent_s}, Priority.HIGH)

    def completed(self, reply: Reply) -> None:
        """The end: the whole answer."""
        self._known |= {"thread_id": reply.thread_id, "instance_id": reply.instance_id}
        self.thread_id = reply.thread_id
        self._end("turn.completed", {"reply": reply.as_dict()}, Priority.NORMAL)

    def failed(self, error: BaseException) -> None:
        """The end: why there is no answer."""
        facts: dict[str, Any] = {"error": facts_of(error)}
        if self.spent is not None:
            facts["usage"] = self.spent.as_dict()
        if isinstance(error, TurnFailedError) and error.reason == "interrupted":
            self._end("turn.interrupted", facts, Priority.NORMAL)
        else:
            self._end("turn.failed", facts, Priority.CRITICAL)

    def _end(self, kind: str, data: dict[str, Any], priority: Priority) -> None:
        if not self._ended:
            self._ended = True
            self._tell(kind, data, priority)

    def _tell(self, kind: str, data: dict[str, Any], priority: Priority = Priority.NORMAL) -> None:
        if self._outlet.heard:
            namespace = f"{self._pair.source}/{self._pair.target}"
            self._outlet.tell(
                NewEvent(kind, self.thread_id or self.turn_id, namespace, {**data, **self._known}, priority)
            )


def about_conversation(kind: str, conversation: Conversation) -> NewEvent:
    """``conversation.created``, ``archived`` or ``restored``."""
    facts = conversation.as_dict()
    del facts["messages"]
    return NewEvent(kind, conversation.thread_id, f"{conversation.source}/{conversation.target}", facts)


def about_instance(kind: str, info: InstanceInfo, **facts: Any) -> NewEvent:
    """What happened to an instance, with all that is known of it."""
    priority = _INSTANCE_PRIORITIES.get(kind, Priority.NORMAL)
    return NewEvent(kind, info.instance_id, f"{info.source}/{info.target}", {**info.as_dict(), **facts}, priority)


def facts_of(error: BaseException) -> dict[str, object]:
    """An error as events and the store keep it."""
    if isinstance(error, ClaudeCommsError):
        return error.as_dict()
    if isinstance(error, Exception):
        return {"type": type(error).__name__, "message": str(error)}
    return {"type": "TurnFailedError", "reason": "interrupted", "message": "the caller went away, or its time was up"}
