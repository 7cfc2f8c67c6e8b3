"""Backend `api` with the real SDK over real sockets, against the loopback API."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_comms.background.backends.messages_api import MessagesApiBackend, MessagesApiSession
from claude_comms.errors import (
    BackendError,
    BackendProtocolError,
    BackendUnavailableError,
    ClaudeCommsError,
    DeadlineExceededError,
    PermissionDeniedError,
    TurnFailedError,
)
from claude_comms.testing import FAULTS, Answer, Fault, LoopbackAPI, Text, Thinking
from claude_comms.testing._wire import Exchange, Send, Step, Wait, chunk
from claude_comms.types import (
    Delta,
    HistoryMessage,
    InstanceSpec,
    Pair,
    Prompt,
    Retried,
    RetryPolicy,
    Role,
    SystemBlock,
    TokenCount,
    TurnEvent,
    TurnRequest,
    TurnResult,
    Usage,
)

if TYPE_CHECKING:
    from claude_comms.background.backends.protocol import Backend

pytestmark = pytest.mark.anyio

PAIR = Pair("marker", "arangodb")
SPEC = InstanceSpec(PAIR, "api")
QUESTION = "How should I store my page blocks?"


def prompt(*turns: tuple[str, str], question: str = QUESTION) -> Prompt:
    """A prompt after the given turns."""
    history = [
        message
        for asked, answered in turns
        for message in (HistoryMessage(Role.QUESTION, asked), HistoryMessage(Role.ANSWER, answered))
    ]
    return Prompt(
        pair=PAIR,
        system=(SystemBlock("target", "You speak for arangodb."), SystemBlock("source", "marker asks.")),
        history=tuple(history),
        message=f"What follows is data.\n\n{question}",
        question=question,
        template="query",
        version="v",
        tokens=TokenCount(20),
    )


@dataclass
class Asker:
    """A backend with one session, and what came of asking it."""

    backend: MessagesApiBackend
    session: MessagesApiSession
    slept: list[float]
    events: list[TurnEvent] = field(default_factory=list[TurnEvent])

    async def emit(self, event: TurnEvent) -> None:
        self.events.append(event)

    async def ask(
        self, asked: Prompt | None = None, *, within_s: float | None = 60.0, max_output_tokens: int = 1000
    ) -> TurnResult:
        deadline = None if within_s is None else anyio.current_time() + within_s
        request = TurnRequest(asked or prompt(), "c_1", "claude-sonnet-5-5", max_output_tokens, deadline=deadline)
        return await self.session.ask(request, self.emit)

    async def failure(self, *, within_s: float | None = 60.0) -> ClaudeCommsError:
        with pytest.raises(ClaudeCommsError) as caught:
            await self.ask(within_s=within_s)
        return caught.value

    @property
    def shown(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))


@pytest.fixture
def api() -> Iterator[LoopbackAPI]:
    with LoopbackAPI() as api:
        yield api


Open = Callable[..., Awaitable[Asker]]


@pytest.fixture
async def opened(api: LoopbackAPI) -> AsyncIterator[Open]:
    """Makes askers of `api`, whose waits between tries take no time but are noted."""
    backends: list[MessagesApiBackend] = []

    async def open_one(*, policy: RetryPolicy | None = None, idle_s: float = 30.0, key: str | None = None) -> Asker:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        backend = MessagesApiBackend(
            api_key=key or api.key, base_url=api.base_url, retry=policy, idle_s=idle_s, sleep=sleep
        )
        backends.append(backend)
        return Asker(backend, await backend.open(SPEC), slept)

    yield open_one
    for backend in backends:
        await backend.close()


@pytest.fixture
async def asker(opened: Open) -> Asker:
    return await opened()


# --- what is sent and what comes back ---


async def test_an_answer_comes_in_pieces_and_whole(api: LoopbackAPI, asker: Asker) -> None:
    api.answer(Answer(pieces=("Use a ", "document ", "collection.")))
    result = await asker.ask()
    assert asker.events == [Delta("Use a "), Delta("document "), Delta("collection.")]
    assert (result.text, result.stop_reason, result.model) == (
        "Use a document collection.",
        "end_turn",
        "claude-sonnet-5-5",
    )
    assert result.usage.input_tokens > 0
    assert result.usage.output_tokens > 0
    assert result.usage.cost_usd is None
    assert result.retries == ()


async def test_the_system_and_the_history_end_in_cache_breakpoints_and_the_question_does_not(
    api: LoopbackAPI, asker: Asker
) -> None:
    await asker.ask(prompt(("q1", "a1"), ("q2", "a2")))
    [request] = api.requests
    ephemeral = {"type": "ephemeral"}
    assert request.key_matches
    assert request.body["max_tokens"] == 1000
    assert request.body["stream"] is True
    assert request.body["system"] == [
        {"type": "text", "text": "You speak for arangodb.", "cache_control": ephemeral},
        {"type": "text", "text": "marker asks.", "cache_control": ephemeral},
    ]
    assert request.body["messages"] == [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "q2"},
        {"role": "assistant", "content": [{"type": "text", "text": "a2", "cache_control": ephemeral}]},
        {"role": "user", "content": f"What follows is data.\n\n{QUESTION}"},
    ]


async def test_more_system_blocks_than_breakpoints_are_still_a_valid_request(api: LoopbackAPI, asker: Asker) -> None:
    asked = replace(prompt(("q1", "a1")), system=tuple(SystemBlock(name, name) for name in "abcdef"))
    await asker.ask(asked)
    assert ["cache_control" in block for block in api.requests[0].body["system"]] == [False] * 3 + [True] * 3


async def test_a_prompt_without_system_blocks_sends_none(api: LoopbackAPI, asker: Asker) -> None:
    await asker.ask(replace(prompt(), system=()))
    assert "system" not in api.requests[0].body


async def test_a_growing_thread_reads_its_unchanged_prefix_from_the_cache(api: LoopbackAPI, asker: Asker) -> None:
    first = await asker.ask()
    second = await asker.ask(prompt(("q1", "a1")))
    third = await asker.ask(prompt(("q1", "a1"), ("q2", "a2")))
    assert first.usage.cache_read_tokens == 0
    assert second.usage.cache_read_tokens == first.usage.cache_write_tokens
    assert third.usage.cache_read_tokens == second.usage.cache_read_tokens + second.usage.cache_write_tokens


async def test_thinking_is_not_part_of_the_answer_but_is_counted(api: LoopbackAPI, asker: Asker) -> None:
    api.answer(Answer(blocks=(Thinking("what might they mean by blocks, I wonder"), Text("As documents."))))
    result = await asker.ask()
    assert result.text == asker.shown == "As documents."
    assert result.usage.output_tokens > 10


async def test_a_paused_turn_goes_on_where_it_paused(api: LoopbackAPI, asker: Asker) -> None:
    api.answer(Answer(blocks=(Thinking("hm"), Text("Part one, ")), stop_reason="pause_turn"))
    api.answer("part two.")
    result = await asker.ask()
    assert result.text == asker.shown == "Part one, part two."
    assert result.stop_reason == "end_turn"
    assert api.requests[1].thread[-1] == ("assistant", "Part one, ")
    assert [block["type"] for block in api.requests[1].body["messages"][-1]["content"]] == ["thinking", "text"]
    assert result.usage.output_tokens == 1 + 3 + 3


async def test_a_turn_that_pauses_for_ever_ends(api: LoopbackAPI, asker: Asker) -> None:
    api.fail(FAULTS["stop_pause_turn"], times=20)
    error = await asker.failure()
    assert isinstance(error, TurnFailedError)
    assert error.reason == "paused"
    assert len(api.requests) == 5


async def test_sessions_share_connections(api: LoopbackAPI, asker: Asker) -> None:
    other = Asker(asker.backend, await asker.backend.open(SPEC), [])
    for _ in range(3):
        await asker.ask()
        await other.ask()
    assert api.open_connections == 1


async def test_many_turns_at_once_are_spread_over_clients_and_few_share_the_first(
    api: LoopbackAPI, asker: Asker
) -> None:
    with contextlib.ExitStack() as turns:
        numbers = [turns.enter_context(asker.backend.client()) for _ in range(70)]
    assert numbers[:9] == [0] * 8 + [1]
    assert [numbers.count(number) for number in range(8)] == [9] * 6 + [8] * 2
    with asker.backend.client() as number:
        assert number == 0
    sessions = [await asker.backend.open(SPEC) for _ in range(9)]
    async with anyio.create_task_group() as asking:
        for session in sessions:
            asking.start_soon(Asker(asker.backend, session, []).ask)
    assert len(api.requests) == 9
    await asker.backend.close()
    await anyio.to_thread.run_sync(api.wait_for_connections, 0)


async def test_nothing_is_taken_from_the_environment(
    api: LoopbackAPI, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from-outside")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "from-outside")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    backend = MessagesApiBackend(api_key=api.key, base_url=api.base_url)
    await Asker(backend, await backend.open(SPEC), []).ask()
    await backend.close()
    assert api.requests[0].key_matches
    with pytest.raises(BackendUnavailableError):
        await MessagesApiBackend(api_key=None, base_url=api.base_url).open(SPEC)


async def test_without_an_address_it_is_the_public_one() -> None:
    health = await MessagesApiBackend(api_key="sk-x").health()
    assert health.facts["base_url"] == "https://api.anthropic.com"


# --- every fault ends in the right typed error ---

PARTIAL, NOTHING = True, False
UNAVAILABLE = BackendUnavailableError
PROTOCOL = BackendProtocolError
LATE = DeadlineExceededError

EXPECTED: dict[str, tuple[type[ClaudeCommsError] | str, bool]] = {
    "status_400": ("invalid_request", NOTHING),
    "status_401": (UNAVAILABLE, NOTHING),
    "status_402": (UNAVAILABLE, NOTHING),
    "status_403": (UNAVAILABLE, NOTHING),
    "status_404": (UNAVAILABLE, NOTHING),
    "status_408": ("server_error", NOTHING),
    "status_409": ("server_error", NOTHING),
    "status_413": ("too_large", NOTHING),
    "status_429": ("rate_limited", NOTHING),
    "status_500": ("server_error", NOTHING),
    "status_502": ("server_error", NOTHING),
    "status_503": ("server_error", NOTHING),
    "status_504": ("server_error", NOTHING),
    "status_529": ("overloaded", NOTHING),
    "stop_max_tokens": ("max_tokens", PARTIAL),
    "stop_refusal": ("refusal", PARTIAL),
    "stop_pause_turn": ("paused", PARTIAL),
    "stop_model_context_window_exceeded": ("context_window", PARTIAL),
    "stop_tool_use": (PROTOCOL, PARTIAL),
    "stop_made_up": (PROTOCOL, PARTIAL),
    "overloaded_error": ("overloaded", PARTIAL),
    "api_error": ("server_error", PARTIAL),
    "rate_limit_error": ("rate_limited", PARTIAL),
    "made_up_error": ("server_error", PARTIAL),
    "html": (PROTOCOL, NOTHING),
    "redirect": (UNAVAILABLE, NOTHING),
    "empty_body": ("cut", NOTHING),
    "hang_up": ("cut", NOTHING),
    "cut": ("cut", PARTIAL),
    "cut_unclean": ("cut", PARTIAL),
    "reset": ("cut", PARTIAL),
    "bad_json": (PROTOCOL, PARTIAL),
    "torn_event": ("cut", PARTIAL),
    "stall": (LATE, PARTIAL),
    "stall_before_headers": (LATE, NOTHING),
    "pings_only": (LATE, PARTIAL),
    "drip": (LATE, NOTHING),
    "garbage": ("cut", PARTIAL),
    "not_utf8": (PROTOCOL, PARTIAL),
    "odd_event": (PROTOCOL, PARTIAL),
    "duplicate_start": (PROTOCOL, PARTIAL),
    "huge": (PROTOCOL, PARTIAL),
    "empty_answer": ("empty", NOTHING),
}
SLOW = {"stall", "stall_before_headers", "pings_only", "drip"}


def test_every_fault_there_is_has_its_error() -> None:
    assert EXPECTED.keys() == FAULTS.keys()


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_fault_ends_in_its_typed_error(kind: str, api: LoopbackAPI, asker: Asker) -> None:
    wanted, partial = EXPECTED[kind]
    api.fail(FAULTS[kind], times=10)
    error = await asker.failure(within_s=0.2 if kind in SLOW else 60.0)
    assert isinstance(error, (BackendError, DeadlineExceededError))
    if isinstance(wanted, str):
        assert isinstance(error, TurnFailedError)
        assert error.reason == wanted
    else:
        assert type(error) is wanted
    assert error.partial == asker.shown
    assert bool(error.partial) is partial
    assert isinstance(error.usage, Usage)
    if partial:
        assert error.usage.input_tokens > 0


@pytest.mark.parametrize("kind", FAULTS)
async def test_after_any_fault_the_session_answers_again(kind: str, api: LoopbackAPI, asker: Asker) -> None:
    api.fail(FAULTS[kind])
    api.answer("Use documents.")
    deadline = 0.1 if kind in SLOW else 60.0
    try:
        first = await asker.ask(within_s=deadline)
    except ClaudeCommsError:
        first = await asker.ask()
    assert first.text in ("Use documents.", "Use documents.Use documents.")


MIDSTREAM: list[tuple[Fault, str]] = [
    (Fault.cut(after=0), "cut"),
    (Fault.cut(after=0, clean=False), "cut"),
    (Fault.reset(after=0), "cut"),
    (Fault.torn_event(after=0), "cut"),
    (Fault.garbage(after=0), "cut"),
    (Fault.error_event("overloaded_error", after=0), "overloaded"),
    (Fault.error_event("api_error", after=0), "server_error"),
    (Fault.hang_up(), "cut"),
    (Fault.empty_body(), "cut"),
    *((Fault.status(code), reason) for code, reason in [(408, "server_error"), (429, "rate_limited")]),
    *((Fault.status(code), "server_error") for code in (409, 500, 502, 503, 504)),
    (Fault.status(529), "overloaded"),
]


@pytest.mark.parametrize(("fault", "reason"), MIDSTREAM, ids=lambda value: getattr(value, "kind", value))
async def test_a_passing_fault_before_any_text_is_ridden_out(
    fault: Fault, reason: str, api: LoopbackAPI, asker: Asker
) -> None:
    api.fail(fault, times=2)
    api.answer("Use documents.")
    result = await asker.ask()
    assert result.text == asker.shown == "Use documents."
    assert [(retry.attempt, retry.reason) for retry in result.retries] == [(1, reason), (2, reason)]
    assert [event for event in asker.events if isinstance(event, Retried)] == list(result.retries)
    assert [retry.wait_s for retry in result.retries] == asker.slept
    assert 0.5 <= asker.slept[0] <= 0.75
    assert 1.0 <= asker.slept[1] <= 1.25
    assert len(api.requests) == 3


@pytest.mark.parametrize(
    "fault",
    [Fault.cut(), Fault.cut(clean=False), Fault.reset(), Fault.garbage(), Fault.error_event("overloaded_error")],
    ids=lambda fault: fault.kind,
)
async def test_after_text_was_shown_nothing_is_asked_again(fault: Fault, api: LoopbackAPI, asker: Asker) -> None:
    api.fail(fault)
    error = await asker.failure()
    assert isinstance(error, TurnFailedError)
    assert error.retryable
    assert error.partial == asker.shown != ""
    assert len(api.requests) == 1
    assert asker.slept == []


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413])
async def test_a_fault_that_stays_is_not_retried(code: int, api: LoopbackAPI, asker: Asker) -> None:
    api.fail(Fault.status(code))
    error = await asker.failure()
    assert isinstance(error, BackendError)
    assert not error.retryable
    assert len(api.requests) == 1


async def test_the_policy_says_which_statuses_and_how_often(api: LoopbackAPI, opened: Open) -> None:
    asker = await opened(policy=RetryPolicy(attempts=3, retry_on=(529,)))
    api.fail(Fault.status(529), times=3)
    error = await asker.failure()
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.retryable, len(api.requests)) == ("overloaded", True, 3)
    assert [retry.attempt for retry in error.retries] == [1, 2]
    api.fail(Fault.status(500))
    assert isinstance(await asker.failure(), TurnFailedError)
    assert len(api.requests) == 4


async def test_waits_double_up_to_the_longest(api: LoopbackAPI, opened: Open) -> None:
    asker = await opened(policy=RetryPolicy(attempts=6, initial_wait_s=1.0, max_wait_s=5.0))
    api.fail(Fault.status(500), times=5)
    await asker.ask()
    assert [int(seconds) for seconds in asker.slept] == [1, 2, 4, 5, 5]


async def test_the_tokens_of_failed_tries_are_counted(api: LoopbackAPI, asker: Asker) -> None:
    api.answer(Answer("Use documents.", usage={"input_tokens": 100, "output_tokens": 7}))
    api.fail(Fault.cut(after=0))
    result = await asker.ask()
    assert result.usage.input_tokens == 200
    assert result.usage.output_tokens == 1 + 7


# --- retry-after ---


@pytest.mark.parametrize("header", [2, "2", "2.0"])
async def test_retry_after_is_obeyed(header: float | str, api: LoopbackAPI, asker: Asker) -> None:
    api.fail(Fault.status(429, retry_after=header))
    await asker.ask()
    assert asker.slept == [2.0]


async def test_retry_after_may_be_a_date(api: LoopbackAPI, asker: Asker) -> None:
    api.fail(Fault.status(529, retry_after=format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)))
    await asker.ask()
    assert 10 < asker.slept[0] <= 20


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2015 07:28:00 GMT", -5, 0, 0.01])
async def test_a_retry_after_never_shortens_our_own_wait(header: float | str, api: LoopbackAPI, asker: Asker) -> None:
    api.fail(Fault.status(529, retry_after=header), times=2)
    await asker.ask()
    assert 0.5 <= asker.slept[0] <= 0.75
    assert 1.0 <= asker.slept[1] <= 1.25


@pytest.mark.parametrize("header", ["soon", "nan", "inf", "", "1e999", "Wed, 99 Foo 2015"])
async def test_a_retry_after_that_is_nonsense_is_as_none(header: str, api: LoopbackAPI, asker: Asker) -> None:
    api.fail(Fault.status(429, retry_after=header))
    await asker.ask()
    assert 0.5 <= asker.slept[0] <= 0.75


@pytest.mark.parametrize("within_s", [60.0, None])
async def test_a_retry_after_beyond_the_deadline_fails_at_once(
    within_s: float | None, api: LoopbackAPI, asker: Asker
) -> None:
    api.fail(Fault.status(429, retry_after=3600))
    error = await asker.failure(within_s=within_s)
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.retryable) == ("rate_limited", True)
    assert "3600 s" in str(error)
    assert len(api.requests) == 1
    assert asker.slept == []


async def test_a_wait_of_ours_beyond_the_deadline_is_not_begun(api: LoopbackAPI, opened: Open) -> None:
    asker = await opened(policy=RetryPolicy(initial_wait_s=20.0))
    api.fail(Fault.status(500))
    error = await asker.failure(within_s=10.0)
    assert isinstance(error, TurnFailedError)
    assert asker.slept == []


# --- time ---


async def test_an_api_that_sends_nothing_stalls_and_before_text_is_asked_again(api: LoopbackAPI, opened: Open) -> None:
    asker = await opened(idle_s=0.1)
    api.fail(Fault.stall(after=None))
    api.fail(Fault.stall(after=0))
    api.answer("Use documents.")
    result = await asker.ask()
    assert result.text == "Use documents."
    assert [retry.reason for retry in result.retries] == ["stalled", "stalled"]


async def test_a_stall_after_text_is_an_error_with_the_text(api: LoopbackAPI, opened: Open) -> None:
    asker = await opened(idle_s=0.1)
    api.fail(Fault.stall())
    error = await asker.failure()
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.retryable) == ("stalled", True)
    assert error.partial == asker.shown != ""


async def test_pings_keep_a_turn_alive_until_its_deadline(api: LoopbackAPI, opened: Open) -> None:
    asker = await opened(idle_s=0.1)
    api.fail(Fault.stall(ping_every_s=0.02))
    error = await asker.failure(within_s=0.4)
    assert isinstance(error, DeadlineExceededError)
    assert error.deadline_s == pytest.approx(0.4, abs=0.05)
    assert error.partial == asker.shown != ""


async def test_a_receiver_that_waits_is_under_the_deadline_too(asker: Asker) -> None:
    async def never(_: TurnEvent) -> None:
        await anyio.sleep_forever()

    assert isinstance(await failure_with(asker, never, within_s=0.2), DeadlineExceededError)


async def test_a_deadline_that_has_passed_asks_nothing(api: LoopbackAPI, asker: Asker) -> None:
    error = await asker.failure(within_s=-5.0)
    assert isinstance(error, DeadlineExceededError)
    assert error.deadline_s == 0.0
    assert len(api.requests) == 0


async def test_a_whole_answer_counts_even_if_the_connection_does_not_end(api: LoopbackAPI, asker: Asker) -> None:
    def steps(exchange: Exchange) -> Iterator[Step]:
        yield Send(exchange.head)
        for piece in exchange.pieces():
            yield Send(chunk(piece.data))
        yield Wait(60)

    api.fail(Fault("no_end", steps))
    api.answer("Use documents.")
    assert (await asker.ask(within_s=30.0)).text == "Use documents."


# --- stopping ---


ENDLESS = Answer(pieces=("One ", "two "), pause_s=(0.0, 3600.0))


async def test_an_interrupt_ends_the_turn_with_what_had_come(api: LoopbackAPI, asker: Asker) -> None:
    api.answer(ENDLESS)

    async def interrupt(event: TurnEvent) -> None:
        asker.events.append(event)
        await asker.session.interrupt()

    error = await failure_with(asker, interrupt)
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.partial) == ("interrupted", "One ")
    assert error.usage is not None
    assert error.usage.input_tokens > 0
    assert (await asker.ask()).text
    await anyio.to_thread.run_sync(api.wait_for_connections, 1)


async def test_an_interrupt_ends_the_wait_between_tries(api: LoopbackAPI, opened: Open) -> None:
    asker = await opened()
    api.fail(Fault.status(529))

    async def interrupt(event: TurnEvent) -> None:
        assert isinstance(event, Retried)
        await asker.session.interrupt()

    error = await failure_with(asker, interrupt)
    assert isinstance(error, TurnFailedError)
    assert error.reason == "interrupted"
    assert len(error.retries) == 1
    assert len(api.requests) == 1


async def test_an_interrupt_without_a_turn_does_nothing(asker: Asker) -> None:
    await asker.session.interrupt()
    assert (await asker.ask()).text


async def test_cancellation_passes_and_leaves_no_connection(api: LoopbackAPI, asker: Asker) -> None:
    api.answer(ENDLESS)
    with anyio.CancelScope() as scope:

        async def cancel(_: TurnEvent) -> None:
            scope.cancel()

        await asker.session.ask(TurnRequest(prompt(), "c_1", "m", 100), cancel)
    assert scope.cancelled_caught
    await anyio.to_thread.run_sync(api.wait_for_connections, 0)


async def test_an_error_of_the_receiver_passes_unchanged_and_leaves_no_connection(
    api: LoopbackAPI, asker: Asker
) -> None:
    api.answer(ENDLESS)

    async def broken(_: TurnEvent) -> None:
        raise KeyError("the receiver's own")

    with pytest.raises(KeyError, match="the receiver's own") as caught:
        await asker.session.ask(TurnRequest(prompt(), "c_1", "m", 100), broken)
    # The error's traceback holds the stream, so it is not the garbage collector that closes it.
    await anyio.to_thread.run_sync(api.wait_for_connections, 0, 2.0)
    assert caught.traceback


async def failure_with(
    asker: Asker, emit: Callable[[TurnEvent], Awaitable[None]], *, within_s: float = 60.0
) -> ClaudeCommsError:
    request = TurnRequest(prompt(), "c_1", "m", 100, deadline=anyio.current_time() + within_s)
    with pytest.raises(ClaudeCommsError) as caught:
        await asker.session.ask(request, emit)
    return caught.value


async def test_a_closed_backend_has_no_connections_and_a_closed_session_refuses(api: LoopbackAPI, asker: Asker) -> None:
    await asker.ask()
    await asker.session.close()
    await asker.session.close()
    assert isinstance(await asker.failure(), BackendUnavailableError)
    await asker.backend.close()
    await asker.backend.close()
    await anyio.to_thread.run_sync(api.wait_for_connections, 0)


# --- the key, and what the server says ---

KEY = "sk-ant-a-secret-that-stays"


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(401, message=f"{KEY} is wrong"),
        Fault.status(400, message=f"bad header x-api-key: {KEY}"),
        Fault.error_event("api_error", message=f"no account for {KEY}"),
        Fault.html(),
    ],
    ids=lambda fault: fault.kind,
)
async def test_the_key_is_in_no_error_even_if_the_server_repeats_it(
    fault: Fault, api: LoopbackAPI, opened: Open
) -> None:
    asker = await opened(key=KEY)
    api.fail(fault)
    error = await asker.failure()
    assert KEY not in "".join(traceback.format_exception(error))
    assert KEY not in repr(error.as_dict())


async def test_a_refused_key_is_called_one(api: LoopbackAPI, opened: Open) -> None:
    api.keys = {"another"}
    asker = await opened()
    error = await asker.failure()
    assert isinstance(error, BackendUnavailableError)
    assert "API key" in str(error)


async def test_an_unknown_model_is_named(api: LoopbackAPI, asker: Asker) -> None:
    api.fail(Fault.status(404, message="model: claude-sonnet-5-5"))
    assert "claude-sonnet-5-5" in str(await asker.failure())


async def test_the_servers_words_are_one_short_line_without_control_characters(api: LoopbackAPI, asker: Asker) -> None:
    api.fail(Fault.status(400, message="\x1b[31mred\n" + "x" * 10_000))
    text = str(await asker.failure())
    assert "red" in text
    assert text.isprintable()
    assert len(text) < 500


async def test_a_redirect_is_not_followed(api: LoopbackAPI, asker: Asker) -> None:
    with LoopbackAPI() as elsewhere:
        api.fail(Fault.redirect(f"{elsewhere.base_url}/v1/messages"))
        assert isinstance(await asker.failure(), BackendUnavailableError)
        assert len(elsewhere.requests) == 0


async def test_text_of_lone_surrogates_can_be_stored(api: LoopbackAPI, asker: Asker) -> None:
    api.answer(Answer(pieces=("a\ud800b", "\U0001f600")))
    text = (await asker.ask()).text
    assert text == asker.shown == "a\ufffdb\U0001f600"
    text.encode()


@pytest.mark.parametrize("index", [1, 7, None])
async def test_a_piece_of_a_block_that_never_began_is_refused(
    index: int | None, api: LoopbackAPI, asker: Asker
) -> None:
    piece = {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": "stray"}}
    api.fail(Fault.odd_event(piece))
    error = await asker.failure()
    assert isinstance(error, BackendProtocolError)
    assert "stray" not in asker.shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["content_block_delta", "content_block_start", "message_delta", "message_stop", "x"])
        | JSON,
        "index": JSON,
        "delta": JSON
        | st.fixed_dictionaries({"type": st.sampled_from(["text_delta", "thinking_delta"]), "text": JSON}),
        "content_block": JSON,
        "usage": JSON,
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS | JSON)
async def test_any_event_ends_in_an_answer_or_a_typed_error(api: LoopbackAPI, asker: Asker, event: object) -> None:
    asker.events.clear()
    api.fail(Fault.odd_event(event))
    text = ""
    try:
        text = (await asker.ask()).text
    except (BackendError, DeadlineExceededError) as error:
        text = error.partial
    assert text == asker.shown != ""


# --- opening ---


async def test_without_a_key_it_says_what_to_set() -> None:
    backend = MessagesApiBackend(api_key=None)
    with pytest.raises(BackendUnavailableError, match="ANTHROPIC_API_KEY"):
        await backend.open(SPEC)
    health = await backend.health()
    assert not health.usable
    assert "ANTHROPIC_API_KEY" in health.hint


@pytest.mark.parametrize("key", ["with space", "new\nline", "kéy", " "])
async def test_a_key_that_cannot_be_one_is_refused_before_it_is_sent(key: str) -> None:
    with pytest.raises(BackendUnavailableError, match="ANTHROPIC_API_KEY") as caught:
        await MessagesApiBackend(api_key=key).open(SPEC)
    assert key.strip() == "" or key not in str(caught.value)


async def test_grants_are_refused(api: LoopbackAPI) -> None:
    backend = MessagesApiBackend(api_key=api.key, base_url=api.base_url)
    with pytest.raises(PermissionDeniedError) as caught:
        await backend.open(replace(SPEC, grants=("Read",)))
    assert caught.value.grant == "Read"


async def test_an_address_where_nobody_listens_is_named_after_the_tries(api: LoopbackAPI, asker: Asker) -> None:
    api.close()
    error = await asker.failure()
    assert isinstance(error, BackendUnavailableError)
    assert error.retryable
    assert api.base_url in str(error)
    assert [retry.reason for retry in error.retries] == ["unreachable"] * 4


@pytest.mark.parametrize("address", ["not an address", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://[::1"])
async def test_an_address_that_is_none_is_a_typed_error(address: str) -> None:
    backend = MessagesApiBackend(api_key="sk-x", base_url=address, retry=RetryPolicy(attempts=1))
    with pytest.raises(BackendError):
        await Asker(backend, await backend.open(SPEC), []).ask()
    await backend.close()


async def test_a_connection_that_fails_in_a_group_is_told_in_the_words_of_its_cause() -> None:
    backend = MessagesApiBackend(api_key="sk-x", base_url="http://127.0.0.1:99999", retry=RetryPolicy(attempts=1))
    error = await Asker(backend, await backend.open(SPEC), []).failure()
    assert isinstance(error, BackendUnavailableError)
    assert "port must be 0-65535" in str(error)
    assert "TaskGroup" not in str(error)
    await backend.close()


async def test_health_asks_nothing_and_shows_no_secret(api: LoopbackAPI) -> None:
    address = api.base_url.replace("//", "//user:hidden@")
    health = await MessagesApiBackend(api_key=KEY, base_url=address).health()
    assert health.usable
    assert health.facts == {"base_url": api.base_url, "api_key": "set"}
    assert len(api.requests) == 0


async def test_it_is_a_backend_that_declares_what_it_can(asker: Asker) -> None:
    backend: Backend = asker.backend
    features = backend.features
    assert backend.name == "api"
    assert (features.streaming, features.interrupt, features.structured) == (True, True, True)
    assert (features.resume, features.tools) == (False, False)


# --- counting ---


async def test_the_apis_count_of_tokens_is_no_estimate(api: LoopbackAPI, asker: Asker) -> None:
    asked = prompt(("q1", "a1"))
    counted = await asker.backend.count_tokens(asked, "claude-sonnet-5-5")
    usage = (await asker.ask(asked)).usage
    assert counted == TokenCount(usage.input_tokens + usage.cache_write_tokens, estimated=False)
    assert "max_tokens" not in api.requests[0].body


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if not kind.startswith("stop_")])
async def test_counting_answers_or_fails_in_our_errors(kind: str, api: LoopbackAPI, asker: Asker) -> None:
    api.fail(FAULTS[kind], path="/v1/messages/count_tokens")
    with pytest.raises((BackendError, DeadlineExceededError)):
        await asker.backend.count_tokens(prompt(), "m", timeout_s=0.2 if kind in SLOW else 30.0)
