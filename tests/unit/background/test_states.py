from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from claude_comms.background.instance import Instance
from claude_comms.background.states import TRANSITIONS, Action, Lifecycle
from claude_comms.errors import InstanceStateError
from claude_comms.testing.scripted import ScriptedBackend
from claude_comms.types import InstanceSpec, InstanceState, Pair


def test_every_state_says_where_its_actions_lead() -> None:
    assert set(TRANSITIONS) == set(InstanceState)


def test_every_state_can_be_stopped() -> None:
    assert all(moves[Action.STOP] is InstanceState.STOPPED for moves in TRANSITIONS.values())


def test_a_refused_transition_names_the_state_and_what_was_wanted_and_changes_nothing() -> None:
    lifecycle = Lifecycle("i_1")
    with pytest.raises(InstanceStateError, match=r"i_1 is starting and cannot take a question\. Wait") as caught:
        lifecycle.apply(Action.RESERVE)
    assert (caught.value.state, caught.value.wanted) == ("starting", "take a question")
    assert caught.value.instance_id == "i_1"
    assert lifecycle.state is InstanceState.STARTING


def test_a_pause_of_a_busy_instance_comes_into_effect_when_its_question_is_finished() -> None:
    lifecycle = Lifecycle("i_1")
    for action in (Action.READY, Action.RESERVE, Action.PAUSE):
        lifecycle.apply(action)
    assert (lifecycle.state, lifecycle.pausing) == (InstanceState.BUSY, True)
    with pytest.raises(InstanceStateError, match="about to pause"):
        lifecycle.apply(Action.PAUSE)
    assert lifecycle.apply(Action.RELEASE) is InstanceState.PAUSED


def test_a_pause_of_a_busy_instance_can_be_taken_back() -> None:
    lifecycle = Lifecycle("i_1")
    for action in (Action.READY, Action.RESERVE, Action.PAUSE, Action.RESUME):
        lifecycle.apply(action)
    assert lifecycle.apply(Action.RELEASE) is InstanceState.IDLE


class InstanceLife(RuleBasedStateMachine):
    """A real instance beside the shortest description of what it should do."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, InstanceState]] = []
        spec = InstanceSpec(Pair("a", "b"), "scripted")
        self.instance = Instance(
            spec, ScriptedBackend(), notify=lambda event, i, **_: self.told.append((event, i.state))
        )
        self.state, self.pausing = "starting", False

    def attempt(self, action: str, allowed: bool, state: str, *reason: str) -> None:
        """Do it, and see that it is refused exactly when it should be."""
        if allowed:
            getattr(self.instance, action)(*reason)
            if state != self.state:
                self.state = state
                assert self.told[-1][1] == state
        else:
            before = len(self.told)
            with pytest.raises(InstanceStateError):
                getattr(self.instance, action)(*reason)
            assert len(self.told) == before

    @rule()
    def ready(self) -> None:
        self.attempt("ready", self.state == "starting", "idle")

    @rule()
    def reserve(self) -> None:
        self.attempt("reserve", self.state in ("idle", "hibernated"), "busy")

    @rule()
    def release(self) -> None:
        ended = self.state == "stopped"  # releasing what has ended is how a lease of it ends
        self.attempt(
            "release", ended or self.state == "busy", self.state if ended else "paused" if self.pausing else "idle"
        )
        self.pausing = self.pausing and self.state == "busy"

    @rule()
    def pause(self) -> None:
        busy = self.state == "busy"
        self.attempt(
            "pause", self.state in ("idle", "hibernated") or (busy and not self.pausing), "busy" if busy else "paused"
        )
        self.pausing = self.state == "busy"

    @rule()
    def resume(self) -> None:
        busy = self.state == "busy"
        self.attempt("resume", self.state == "paused" or (busy and self.pausing), "busy" if busy else "idle")
        self.pausing = False

    @rule()
    def hibernate(self) -> None:
        allowed = self.state in ("starting", "idle", "hibernated", "paused")
        after = "paused" if self.state == "paused" else "hibernated" if allowed else self.state
        self.attempt("hibernate", allowed, after, "for the test")

    @rule(sure=st.integers(0, 5))
    def dismiss(self, sure: int) -> None:
        if not sure:
            self.attempt("dismiss", True, "stopped", "for the test")
            self.pausing = False

    @invariant()
    def they_agree(self) -> None:
        assert (self.instance.state, self.instance.pausing) == (self.state, self.pausing)
        assert self.instance.ended is (self.state == "stopped")


TestInstanceLife = InstanceLife.TestCase
