"""The life of an instance: starting → idle ⇄ busy → paused → stopped, or failed; hibernated while it has no process."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from claude_comms.errors import InstanceStateError
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRANSITIONS", "Action", "Lifecycle"]


class Action(StrEnum):
    """What can happen to an instance."""

    READY = "get ready"
    RESERVE = "take a question"
    RELEASE = "finish a question"
    PAUSE = "pause"
    RESUME = "resume"
    HIBERNATE = "hibernate"
    STOP = "stop"
    FAIL = "fail"


TRANSITIONS: Mapping[InstanceState, Mapping[Action, InstanceState]] = {
    InstanceState.STARTING: {
        Action.READY: InstanceState.IDLE,
        Action.HIBERNATE: InstanceState.HIBERNATED,
        Action.STOP: InstanceState.STOPPED,
        Action.FAIL: InstanceState.FAILED,
    },
    InstanceState.IDLE: {
        Action.RESERVE: InstanceState.BUSY,
        Action.PAUSE: InstanceState.PAUSED,
        Action.HIBERNATE: InstanceState.HIBERNATED,
        Action.STOP: InstanceState.STOPPED,
        Action.FAIL: InstanceState.FAILED,
    },
    InstanceState.HIBERNATED: {
        Action.RESERVE: InstanceState.BUSY,
        Action.PAUSE: InstanceState.PAUSED,
        Action.HIBERNATE: InstanceState.HIBERNATED,
        Action.STOP: InstanceState.STOPPED,
        Action.FAIL: InstanceState.FAILED,
    },
    InstanceState.BUSY: {
        Action.RELEASE: InstanceState.IDLE,
        Action.PAUSE: InstanceState.BUSY,
        Action.RESUME: InstanceState.BUSY,
        Action.STOP: InstanceState.STOPPED,
        Action.FAIL: InstanceState.FAILED,
    },
    InstanceState.PAUSED: {
        Action.RESUME: InstanceState.IDLE,
        Action.HIBERNATE: InstanceState.PAUSED,
        Action.STOP: InstanceState.STOPPED,
        Action.FAIL: InstanceState.FAILED,
    },
    InstanceState.STOPPED: {Action.STOP: InstanceState.STOPPED},
    InstanceState.FAILED: {Action.STOP: InstanceState.STOPPED},
}
"""Where each action leads. What is not here is refused.

A pause of a busy instance is kept as `Lifecycle.pausing` until its question is finished: RELEASE then leads to
paused. PAUSE is refused while `pausing`, and RESUME of a busy instance unless `pausing`.
STARTING leads to hibernated where an instance is taken back from a former process. A paused one that hibernates gives
up its process and stays paused.
"""

_HINTS: Mapping[InstanceState, str] = {
    InstanceState.STARTING: "Wait until it is idle.",
    InstanceState.IDLE: "It waits for questions.",
    InstanceState.HIBERNATED: "It waits for questions.",
    InstanceState.BUSY: "Wait for its answer, or interrupt it.",
    InstanceState.PAUSED: "Resume it first.",
    InstanceState.STOPPED: "Start another one.",
    InstanceState.FAILED: "Start another one.",
}


class Lifecycle:
    """One instance's place in `TRANSITIONS`."""

    __slots__ = ("instance_id", "pausing", "state")

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self.state = InstanceState.STARTING
        self.pausing = False
        """Whether a busy instance will be paused once its question is finished."""

    @property
    def ended(self) -> bool:
        """Whether it will never answer again."""
        return self.state in (InstanceState.STOPPED, InstanceState.FAILED)

    def allows(self, action: Action) -> bool:
        """Whether `apply` would accept `action` now."""
        if self.state is InstanceState.BUSY and action in (Action.PAUSE, Action.RESUME):
            return self.pausing is (action is Action.RESUME)
        return action in TRANSITIONS[self.state]

    def apply(self, action: Action) -> InstanceState:
        """Take `action` and return the new state; InstanceStateError if it is refused, which changes nothing."""
        if not self.allows(action):
            state = "busy and about to pause" if self.pausing else str(self.state)
            raise InstanceStateError(
                f"instance {self.instance_id} is {state} and cannot {action}. {_HINTS[self.state]}",
                state=str(self.state),
                wanted=str(action),
                instance_id=self.instance_id,
            )
        was_pausing, self.pausing = self.pausing, self.state is InstanceState.BUSY and action is Action.PAUSE
        self.state = TRANSITIONS[self.state][action]
        if action is Action.RELEASE and was_pausing:
            self.state = InstanceState.PAUSED
        return self.state
