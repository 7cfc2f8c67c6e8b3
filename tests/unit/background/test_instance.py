from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from claude_comms.background.backends.protocol import BackendHealth
from claude_comms.background.instance import Instance
from claude_comms.errors import (
    BackendCrashedError,
    BackendProtocolError,
    BackendUnavailableError,
    DeadlineExceededError,
    InstanceStateError,
    TurnFailedError,
)
from claude_comms.testing.scripted import (
    ALL_FEATURES,
    Answer,
    Crash,
    Garbage,
    IgnoreCancellation,
    ScriptedBackend,
    Stall,
)
from claude_comms.types import (
    BackendFeatures,
    Delta,
    Emit,
    InstanceSpec,
    InstanceState,
    Pair,
    Prompt,
    TokenCount,
    TurnEvent,
    TurnRequest,
    TurnResult,
    Usage,
)

pytestmark = pytest.mark.anyio

PAIR = Pair("marker", "arangodb")
SPEC = InstanceSpec(PAIR, "scripted", "m")


def request(question: str = "How?", *, thread_id: str = "c_1", within_s: float | None = None) -> TurnRequest:
    prompt = Prompt(PAIR, (), (), question, question, "query", "v1", TokenCount(1))
    deadline = None if within_s is None else anyio.current_time() + within_s
    return TurnRequest(prompt, thread_id, "m", 1000, deadline=deadline)


async def nowhere(_event: TurnEvent) -> None:
    pass


def ready(backend: Any, **more: Any) -> Instance:
    instance = Instance(SPEC, backend, **more)
    instance.ready()
    instance.reserve()
    return instance


class Custom:
    """A backend made of one function, for misbehaviour that no script should know."""

    def __init__(self, ask: Callable[[TurnRequest, Emit], Awaitable[TurnResult]], *, features: BackendFeatures) -> None:
        self.name = "custom"
        self.features = features
        self.ask = ask
        self.opened = 0
        self.closed = 0

    async def open(self, spec: InstanceSpec) -> Custom:
        self.opened += 1
        return self

    async def interrupt(self) -> None:
        await anyio.sleep_forever()

    async def health(self) -> BackendHealth:
        return BackendHealth(usable=True, reason="")

    async def close(self) -> None:
        self.closed += 1


async def test_a_turn_returns_the_answer_and_emits_its_pieces() -> None:
    pieces: list[TurnEvent] = []

    async def emit(event: TurnEvent) -> None:
        pieces.append(event)

    instance = ready(ScriptedBackend("one two three"))
    result = await instance.ask(request(), emit)
    assert result.text == "one two three" == "".join(piece.text for piece in pieces if isinstance(piece, Delta))
    assert len(pieces) == 3
    assert (instance.turns, instance.thread_id) == (1, "c_1")
    await instance.stop()


async def test_the_session_is_opened_by_the_first_turn_kept_for_the_next_and_closed_by_stop() -> None:
    backend = ScriptedBackend("yes")
    instance = ready(backend)
    assert not backend.sessions
    await instance.ask(request(), nowhere)
    await instance.ask(request(), nowhere)
    assert len(backend.sessions) == 1
    assert backend.sessions[0].closed == 0
    await instance.stop()
    assert backend.sessions[0].closed == 1
    assert instance.state is InstanceState.STOPPED


@pytest.mark.parametrize(
    ("fault", "error"), [(Crash("ha"), BackendCrashedError), (Garbage(after="ha"), BackendProtocolError)]
)
async def test_after_a_crash_the_next_turn_gets_a_fresh_session(fault: Any, error: type[Exception]) -> None:
    backend = ScriptedBackend([fault, "well"])
    instance = ready(backend)
    with pytest.raises(error) as caught:
        await instance.ask(request(), nowhere)
    assert (caught.value.partial, caught.value.instance_id) == ("ha", instance.instance_id)  # type: ignore[attr-defined]
    assert (await instance.ask(request(), nowhere)).text == "well"
    assert len(backend.sessions) == 2
    await instance.stop()
    assert [session.closed for session in backend.sessions] == [1, 1]


async def test_a_turn_that_failed_for_the_models_reasons_keeps_its_session() -> None:
    backend = ScriptedBackend([TurnFailedError("no", reason="refusal"), "well"])
    instance = ready(backend)
    with pytest.raises(TurnFailedError):
        await instance.ask(request(), nowhere)
    assert (await instance.ask(request(), nowhere)).text == "well"
    assert len(backend.sessions) == 1
    await instance.stop()


async def test_an_exception_that_no_backend_should_raise_becomes_a_crash_with_its_cause() -> None:
    async def ask(_request: TurnRequest, _emit: Emit) -> TurnResult:
        raise KeyError("oops")

    backend = Custom(ask, features=ALL_FEATURES)
    instance = ready(backend)
    with pytest.raises(BackendCrashedError, match=r"KeyError.*oops") as caught:
        await instance.ask(request(), nowhere)
    assert isinstance(caught.value.__cause__, KeyError)
    await instance.stop()
    assert backend.closed == 1


async def test_what_the_callers_emit_raises_comes_back_unchanged() -> None:
    async def emit(_event: TurnEvent) -> None:
        raise ZeroDivisionError

    instance = ready(ScriptedBackend("text"))
    with pytest.raises(ZeroDivisionError):
        await instance.ask(request(), emit)
    await instance.stop()


async def test_an_instance_that_cannot_open_its_session_has_failed() -> None:
    told: list[str] = []
    backend = ScriptedBackend("x", open_error=BackendUnavailableError("no API key"))
    instance = ready(backend, notify=lambda event, _instance, **_facts: told.append(event))
    with pytest.raises(BackendUnavailableError):
        await instance.ask(request(), nowhere)
    instance.release()
    assert instance.state is InstanceState.FAILED
    assert told[-1] == "instance.failed"
    assert isinstance(instance.failure, BackendUnavailableError)


async def test_open_opens_the_session_at_once() -> None:
    backend = ScriptedBackend("x")
    instance = Instance(SPEC, backend)
    await instance.open()
    assert instance.state is InstanceState.IDLE
    assert len(backend.sessions) == 1
    await instance.stop()


async def test_open_that_fails_raises_and_leaves_it_failed() -> None:
    instance = Instance(SPEC, ScriptedBackend("x", open_error=BackendUnavailableError("no API key")))
    with pytest.raises(BackendUnavailableError):
        await instance.open()
    assert instance.state is InstanceState.FAILED


async def test_open_that_hangs_ends_at_its_deadline() -> None:
    class Hanging(ScriptedBackend):
        async def open(self, spec: InstanceSpec) -> Any:
            await anyio.sleep_forever()

    instance = Instance(SPEC, Hanging())
    with pytest.raises(DeadlineExceededError):
        await instance.open(anyio.current_time() + 0.01)
    assert instance.state is InstanceState.FAILED


async def test_interrupt_ends_the_turn_with_what_had_come_and_keeps_the_session() -> None:
    backend = ScriptedBackend([Stall("half an"), "well"])
    instance = ready(backend)
    heard = anyio.Event()

    async def emit(_event: TurnEvent) -> None:
        heard.set()

    async def interrupt() -> None:
        await heard.wait()
        assert await instance.interrupt()

    async with anyio.create_task_group() as group:
        group.start_soon(interrupt)
        with pytest.raises(TurnFailedError) as caught:
            await instance.ask(request(), emit)
    assert (caught.value.reason, caught.value.partial) == ("interrupted", "half an")
    assert (await instance.ask(request(), nowhere)).text == "well"
    assert len(backend.sessions) == 1
    await instance.stop()


async def test_interrupt_without_a_turn_says_that_there_was_none() -> None:
    assert not await ready(ScriptedBackend()).interrupt()


async def test_a_backend_that_cannot_interrupt_is_cancelled_and_the_asker_is_told_interrupted() -> None:
    backend = ScriptedBackend(Stall("half"), features=BackendFeatures(streaming=True))
    instance = ready(backend)
    heard = anyio.Event()

    async def emit(_event: TurnEvent) -> None:
        heard.set()

    async def interrupt() -> None:
        await heard.wait()
        await instance.interrupt()

    async with anyio.create_task_group() as group:
        group.start_soon(interrupt)
        with pytest.raises(TurnFailedError) as caught:
            await instance.ask(request(), emit)
    assert (caught.value.reason, caught.value.partial) == ("interrupted", "half")
    await instance.stop()
    assert backend.sessions[0].closed == 1


async def test_a_late_turn_ends_with_its_partial_text_and_a_session_that_obeyed_is_kept() -> None:
    backend = ScriptedBackend([Stall("half"), "well"])
    instance = ready(backend)
    with pytest.raises(DeadlineExceededError) as caught:
        await instance.ask(request(within_s=0.02), nowhere)
    assert caught.value.partial == "half"
    assert (await instance.ask(request(), nowhere)).text == "well"
    assert len(backend.sessions) == 1
    await instance.stop()


async def test_a_turn_whose_deadline_has_passed_asks_nothing() -> None:
    backend = ScriptedBackend("x")
    instance = ready(backend)
    with pytest.raises(DeadlineExceededError):
        await instance.ask(request(within_s=-1), nowhere)
    assert not backend.requests


async def swallow_everything(_request: TurnRequest, emit: Emit) -> TurnResult:
    await emit(Delta("deaf"))
    while True:
        try:
            await anyio.sleep_forever()
        except BaseException:
            continue


async def shielded(_request: TurnRequest, emit: Emit) -> TurnResult:
    await emit(Delta("deaf"))
    with anyio.CancelScope(shield=True):
        while True:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                continue


async def task_group(_request: TurnRequest, emit: Emit) -> TurnResult:
    await emit(Delta("deaf"))
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        await shielded(_request, nowhere)
    raise AssertionError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it ignores GeneratorExit, too
@pytest.mark.parametrize("ask", [swallow_everything, shielded, task_group])
@pytest.mark.parametrize("interrupt", [True, False])
async def test_a_session_that_will_not_stop_is_abandoned_and_replaced(ask: Any, interrupt: bool) -> None:
    backend = Custom(ask, features=BackendFeatures(interrupt=interrupt))
    instance = ready(backend)
    with anyio.fail_after(5), pytest.raises(DeadlineExceededError) as caught:
        await instance.ask(request(within_s=0.02), nowhere)
    assert caught.value.partial == "deaf"

    async def well(_request: TurnRequest, _emit: Emit) -> TurnResult:
        return TurnResult("well", "m", "end_turn", Usage())

    backend.ask = well
    assert (await instance.ask(request(), nowhere)).text == "well"
    assert backend.opened == 2
    await instance.stop()


async def test_a_caller_that_is_cancelled_stops_the_turn() -> None:
    stopped = anyio.Event()

    async def ask(_request: TurnRequest, _emit: Emit) -> TurnResult:
        try:
            scope.cancel()
            await anyio.sleep_forever()
        finally:
            stopped.set()
        raise AssertionError

    backend = Custom(ask, features=ALL_FEATURES)
    instance = ready(backend)
    with anyio.CancelScope() as scope:
        await instance.ask(request(), nowhere)
    assert scope.cancelled_caught
    assert stopped.is_set()
    instance.release()
    assert instance.state is InstanceState.IDLE
    await instance.stop()
    assert backend.closed == 1


async def test_stop_in_the_middle_of_a_turn_interrupts_it() -> None:
    backend = ScriptedBackend(Stall("half"))
    instance = ready(backend)
    heard = anyio.Event()

    async def emit(_event: TurnEvent) -> None:
        heard.set()

    async def stop() -> None:
        await heard.wait()
        await instance.stop()

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        with pytest.raises(TurnFailedError) as caught:
            await instance.ask(request(), emit)
    assert caught.value.reason == "interrupted"
    instance.release()
    assert instance.state is InstanceState.STOPPED
    assert backend.sessions[0].closed == 1


async def test_stop_is_bounded_also_with_a_session_that_never_closes() -> None:
    async def ask(_request: TurnRequest, _emit: Emit) -> TurnResult:
        return TurnResult("", "m", "end_turn", Usage())

    class Stuck(Custom):
        async def close(self) -> None:
            await shielded(request(), nowhere)

    instance = ready(Stuck(ask, features=ALL_FEATURES))
    await instance.ask(request(), nowhere)
    with anyio.fail_after(5):
        await instance.stop()
    assert instance.state is InstanceState.STOPPED


async def test_a_pause_lets_the_running_turn_finish() -> None:
    told: list[str] = []
    gate = anyio.Event()
    backend = ScriptedBackend(Answer("ab", pieces=("a", "b"), gates=(gate,)))
    instance = ready(backend, notify=lambda event, _instance, **_facts: told.append(event))

    async def emit(event: TurnEvent) -> None:
        if event == Delta("a"):
            instance.pause()
            gate.set()

    assert (await instance.ask(request(), emit)).text == "ab"
    assert instance.state is InstanceState.BUSY
    instance.release()
    assert instance.state is InstanceState.PAUSED
    with pytest.raises(InstanceStateError):
        instance.reserve()
    instance.resume()
    assert told == ["instance.started", "instance.busy", "instance.paused", "instance.resumed"]
    await instance.stop()


async def test_a_turn_needs_a_reservation_and_only_one_runs_at_a_time() -> None:
    backend = ScriptedBackend(Stall("x"))
    instance = Instance(SPEC, backend)
    instance.ready()
    with pytest.raises(InstanceStateError):
        await instance.ask(request(), nowhere)
    instance.reserve()

    async def emit(_event: TurnEvent) -> None:
        with pytest.raises(InstanceStateError):
            await instance.ask(request(), nowhere)
        backend.sessions[0]._interrupted.set()  # type: ignore[union-attr]

    with pytest.raises(TurnFailedError):
        await instance.ask(request(), emit)
    await instance.stop()
