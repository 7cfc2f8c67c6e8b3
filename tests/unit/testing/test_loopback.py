"""The loopback Messages API, as the real SDK and raw sockets see it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anthropic
import pytest

import claude_comms
from claude_comms.testing import FAULTS, Answer, Fault, LoopbackAPI, RecordedRequest, Text, Thinking, ToolUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODEL = "claude-sonnet-5-5"
EPHEMERAL: dict[str, Any] = {"type": "ephemeral"}


@pytest.fixture
def api() -> Iterator[LoopbackAPI]:
    with LoopbackAPI() as api:
        yield api


@pytest.fixture
def client(api: LoopbackAPI) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key=api.key, base_url=api.base_url, max_retries=0, timeout=10) as client:
        yield client


def ask(client: anthropic.Anthropic, text: str = "Why?", **options: Any) -> anthropic.types.Message:
    request: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
    message = cast("Callable[..., object]", client.messages.create)(**{**request, **options})
    assert isinstance(message, anthropic.types.Message)
    return message


def stream(client: anthropic.Anthropic, text: str = "Why?") -> tuple[list[str], anthropic.types.Message]:
    messages: Any = [{"role": "user", "content": text}]
    with client.messages.stream(model=MODEL, max_tokens=100, messages=messages) as opened:
        return list(opened.text_stream), opened.get_final_message()


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


# --- answers ---


def test_streamed_or_not_an_answer_is_the_same(api: LoopbackAPI, client: anthropic.Anthropic) -> None:
    said = "Use a document collection, since blocks are read together."
    api.script = Answer(said)
    pieces, streamed = stream(client)
    whole = ask(client)
    assert len(pieces) > 1
    assert "".join(pieces) == text_of(streamed) == text_of(whole) == said
    assert (streamed.stop_reason, whole.stop_reason) == ("end_turn", "end_turn")
    assert streamed.usage.output_tokens == whole.usage.output_tokens == 15


def test_by_default_an_answer_says_which_question_it_answers(client: anthropic.Anthropic) -> None:
    assert text_of(ask(client, "Much context.\n\nWhy blocks?")).endswith("You asked: Why blocks?")


def test_queued_answers_come_first_and_in_order_then_the_script(api: LoopbackAPI, client: anthropic.Anthropic) -> None:
    def script(request: RecordedRequest) -> str:
        return f"scripted: {request.question}"

    api.script = script
    api.answer("one")
    api.answer("two", stop_reason="max_tokens")
    answers = [ask(client) for _ in range(3)]
    assert [text_of(answer) for answer in answers] == ["one", "two", "scripted: Why?"]
    assert answers[1].stop_reason == "max_tokens"


def test_a_script_that_fails_is_told_to_the_client(api: LoopbackAPI, client: anthropic.Anthropic) -> None:
    def script(_: RecordedRequest) -> str:
        raise LookupError("no answer written")

    api.script = script
    with pytest.raises(anthropic.InternalServerError, match="LookupError: no answer written"):
        ask(client)


def test_pieces_are_streamed_as_given(api: LoopbackAPI, client: anthropic.Anthropic) -> None:
    api.answer(Answer(pieces=("a", "", "bc "), pause_s=(0.0, 0.001)))
    assert [piece for piece in stream(client)[0] if piece] == ["a", "bc "]


@pytest.mark.parametrize("streamed", [True, False])
def test_thinking_and_tool_calls_are_blocks(api: LoopbackAPI, client: anthropic.Anthropic, streamed: bool) -> None:
    api.answer(Answer(blocks=(Thinking("hm, well"), Text("Let me see."), ToolUse("Read", {"file_path": "a.py"}))))
    message = stream(client)[1] if streamed else ask(client)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.stop_reason == "tool_use"
    call = message.content[-1]
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("Read", {"file_path": "a.py"})


def test_usage_can_be_said(api: LoopbackAPI, client: anthropic.Anthropic) -> None:
    api.answer("x", usage={"input_tokens": 1234, "output_tokens": 99})
    usage = ask(client).usage
    assert (usage.input_tokens, usage.output_tokens) == (1234, 99)


def test_a_prefix_that_was_marked_is_read_from_the_cache_until_reset(
    api: LoopbackAPI, client: anthropic.Anthropic
) -> None:
    system = [{"type": "text", "text": "s" * 400, "cache_control": EPHEMERAL}]
    counts: list[tuple[int, int | None, int | None]] = []
    for text in ("Why?", "How so?"):
        usage = ask(client, text, system=system).usage
        counts.append((usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens))
    assert counts == [(1, 100, 0), (2, 0, 100)]
    api.reset()
    assert ask(client, system=system).usage.cache_creation_input_tokens == 100
    changed = [{"type": "text", "text": "t" * 400, "cache_control": EPHEMERAL}]
    assert ask(client, system=changed).usage.cache_read_input_tokens == 0
    assert ask(client, system=system, model="another").usage.cache_read_input_tokens == 0


def test_tokens_are_counted_and_models_listed(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "12345678"}]
    assert client.messages.count_tokens(model=MODEL, messages=messages).input_tokens == 2
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("none-such")


# --- what it refuses ---

USER = {"role": "user", "content": "Why?"}
MARKED = {"type": "text", "text": "x", "cache_control": EPHEMERAL}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 'must use the "user" role'),
        ({"messages": [USER, USER]}, "must alternate"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " \n"}]}]}, "non-whitespace"),
        ({"system": [{"type": "text", "text": ""}]}, "system: text content blocks"),
        ({"system": [MARKED] * 4, "messages": [{"role": "user", "content": [MARKED]}]}, "maximum of 4 blocks"),
    ],
)
def test_a_wrong_request_is_refused_as_the_api_does(
    client: anthropic.Anthropic, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=said) as caught:
        ask(client, **change)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id


def test_a_wrong_key_is_refused_only_where_keys_are_set(api: LoopbackAPI, client: anthropic.Anthropic) -> None:
    other = anthropic.Anthropic(api_key="sk-other", base_url=api.base_url, max_retries=0)
    ask(other)
    api.keys = {api.key}
    ask(client)
    with other, pytest.raises(anthropic.AuthenticationError):
        ask(other)
    assert [request.key_matches for request in api.requests] == [False, True, False]


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("HEAD / HTTP/1.1", "200"),
        ("GET /nowhere HTTP/1.1", "404"),
        ("GET /v1/nowhere HTTP/1.1", "404"),
        ("GET /v1/messages HTTP/1.1", "405"),
        ("NO HTTP AT ALL", "400"),
    ],
)
def test_other_routes_and_other_talk_get_a_plain_no(api: LoopbackAPI, request_line: str, status: str) -> None:
    with socket.create_connection(("127.0.0.1", int(api.base_url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(f"{request_line}\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_requests_that_arrive_together_are_answered_one_after_the_other(api: LoopbackAPI) -> None:
    with socket.create_connection(("127.0.0.1", int(api.base_url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\nHEAD /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP")] == [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 404 Not Found",
    ]


# --- faults ---


def test_faults_strike_the_next_requests_in_order_and_spare_the_queued_answer(
    api: LoopbackAPI, client: anthropic.Anthropic
) -> None:
    api.answer("kept")
    api.fail(Fault.status(529), times=2)
    api.fail(Fault.status(429, retry_after=7))
    seen: list[tuple[int, str | None]] = []
    for _ in range(3):
        with pytest.raises(anthropic.APIStatusError) as caught:
            ask(client)
        seen.append((caught.value.status_code, caught.value.response.headers.get("retry-after")))
    assert seen == [(529, None), (529, None), (429, "7")]
    assert text_of(ask(client)) == "kept"


def test_a_fault_may_be_for_another_route(api: LoopbackAPI, client: anthropic.Anthropic) -> None:
    api.fail(Fault.status(500), path="/v1/messages/count_tokens")
    ask(client)
    messages: Any = [USER]
    with pytest.raises(anthropic.InternalServerError):
        client.messages.count_tokens(model=MODEL, messages=messages)


def raw_answer(api: LoopbackAPI, *, streamed: bool = True) -> tuple[bytes, bool]:
    """The bytes of one answer, and whether the connection was reset."""
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Why?"}],"stream":%s}'
    body %= b"true" if streamed else b"false"
    head = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    received = b""
    with socket.create_connection(("127.0.0.1", int(api.base_url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(head + body)
        try:
            while data := raw.recv(65_536):
                received += data
        except ConnectionResetError:
            return received, True
    return received, False


def test_a_healthy_answer_is_a_whole_chunked_body(api: LoopbackAPI) -> None:
    data, reset = raw_answer(api)
    assert data.endswith(b"0\r\n\r\n")
    assert b"event: message_stop" in data
    assert not reset


@pytest.mark.parametrize(
    ("fault", "has", "lacks", "ends", "reset"),
    [
        (Fault.cut(2), b"answer, from no", b"message_stop", b"\r\n0\r\n\r\n", False),
        (Fault.cut(0), b"message_start", b"_delta", b"\r\n0\r\n\r\n", False),
        (Fault.cut(clean=False), b"This is", b"message_stop", b"}\n\n\r\n", False),
        (Fault.torn_event(), b"half a", b"message_stop", b"\r\n0\r\n\r\n", False),
        (Fault.garbage(), b"this is no chunk", b"message_stop", b"\r\n", False),
        (Fault.bad_json(), b"bl!!", b"nothing", b"\r\n0\r\n\r\n", False),
        (Fault.error_event("api_error"), b"event: error", b"message_stop", b"\r\n0\r\n\r\n", False),
        (Fault.empty_body(), b"text/event-stream", b"event:", b"\r\n\r\n0\r\n\r\n", False),
        (Fault.html(), b"text/html", b"event:", b"</p>", False),
        (Fault.redirect("http://127.0.0.1:9/"), b"location: http://127.0.0.1:9/", b"event:", b"\r\n\r\n", False),
        (Fault.stall(seconds=0.01), b"This is", b"message_stop", b"}\n\n\r\n", False),
        (Fault.stall(seconds=0.03, ping_every_s=0.01), b"event: ping", b"message_stop", b"}\n\n\r\n", False),
        (Fault.duplicate_start(), b"message_stop", b"nothing", b"\r\n0\r\n\r\n", False),
        (Fault.stop("refusal"), b'"refusal"', b"end_turn", b"\r\n0\r\n\r\n", False),
        (Fault.drip(0.0), b"\r\n1\r\ne\r\n", b"nothing", b"\r\n0\r\n\r\n", False),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_fault_on_the_wire(
    api: LoopbackAPI, fault: Fault, has: bytes, lacks: bytes, ends: bytes, reset: bool
) -> None:
    api.fail(fault)
    data, was_reset = raw_answer(api)
    assert has in data
    assert lacks not in data
    assert data.endswith(ends)
    assert was_reset is reset


def test_a_reset_is_one(api: LoopbackAPI) -> None:
    api.fail(Fault.reset())
    data, reset = raw_answer(api)
    assert reset
    assert b"message_stop" not in data


def test_hanging_up_sends_nothing(api: LoopbackAPI) -> None:
    api.fail(Fault.hang_up())
    assert raw_answer(api) == (b"", False)


def test_a_huge_answer_is_as_large_as_it_says(api: LoopbackAPI, client: anthropic.Anthropic) -> None:
    api.fail(Fault.huge(1_234_567))
    assert len(text_of(stream(client)[1])) == 1_234_567


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if not kind.startswith("stall") and kind != "drip"])
def test_faults_strike_answers_that_are_not_streamed_too(kind: str, api: LoopbackAPI) -> None:
    healthy, _ = raw_answer(api, streamed=False)
    api.fail(Fault.stall(seconds=0.01, ping_every_s=0.01) if kind == "pings_only" else FAULTS[kind])
    spoiled, _ = raw_answer(api, streamed=False)
    assert spoiled.partition(b"\r\n\r\n")[2] != healthy.partition(b"\r\n\r\n")[2]


# --- the log ---


def test_the_log_tells_what_was_asked_and_not_the_key(api: LoopbackAPI, client: anthropic.Anthropic) -> None:
    turns: Any = [USER, {"role": "assistant", "content": [{"type": "text", "text": "So."}]}, USER]
    tool = {"name": "Read", "description": "reads", "input_schema": {"type": "object"}}
    ask(client, messages=turns, system="Be brief.", tools=[tool])
    [request] = api.requests
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.thread == [("user", "Why?"), ("assistant", "So."), ("user", "Why?")]
    assert (request.system, request.tools, request.question) == (["Be brief."], ["Read"], "Why?")
    assert request.key_matches
    assert api.key not in repr(request)
    assert api.requests.messages == [request]


def test_waiting_for_requests_ends_when_they_are_there_or_says_what_came(
    api: LoopbackAPI, client: anthropic.Anthropic
) -> None:
    ask(client)
    assert len(api.wait_for_requests(1)) == 1
    with pytest.raises(TimeoutError, match="POST /v1/messages"):
        api.wait_for_requests(2, timeout_s=0.01)


def test_connections_are_counted_and_a_closed_server_refuses_new_ones(client: anthropic.Anthropic) -> None:
    with LoopbackAPI() as api:
        client = client.with_options(base_url=api.base_url)
        ask(client)
        assert api.open_connections == 1
        with pytest.raises(TimeoutError, match="there are 1"):
            api.wait_for_connections(0, timeout_s=0.01)
    api.wait_for_connections(0)
    api.close()
    with pytest.raises(anthropic.APIConnectionError):
        ask(client)


def test_a_server_may_be_closed_before_it_was_asked() -> None:
    for _ in range(20):
        LoopbackAPI().start().close()


def test_a_script_may_be_a_text() -> None:
    with LoopbackAPI("Always this.") as api, anthropic.Anthropic(api_key="x", base_url=api.base_url) as client:
        assert text_of(ask(client)) == "Always this."


# --- by hand ---


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    root = str(Path(claude_comms.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    return [sys.executable, "-W", "error", "-m", "claude_comms.testing.loopback"]


def test_run_by_hand_it_prints_its_address_and_stops_on_ctrl_c(by_hand: list[str]) -> None:
    with subprocess.Popen([*by_hand, "--answer", "By hand."], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdout is not None
        address = server.stdout.readline().decode().strip()
        with anthropic.Anthropic(api_key="x", base_url=address) as client:
            assert text_of(ask(client)) == "By hand."
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0
        assert server.stderr is not None
        told = server.stderr.read().decode()
    assert f"ANTHROPIC_BASE_URL={address}" in told
    assert "Traceback" not in told


def test_run_by_hand_it_ends_by_itself(by_hand: list[str]) -> None:
    assert subprocess.run([*by_hand, "--max-seconds", "0"], capture_output=True, timeout=10, check=True).stdout


def test_run_by_hand_it_says_when_the_port_is_taken(api: LoopbackAPI, by_hand: list[str]) -> None:
    port = api.base_url.rpartition(":")[2]
    ended = subprocess.run([*by_hand, "--port", port], capture_output=True, text=True, timeout=10, check=False)
    assert ended.returncode == 1
    assert f"cannot listen on port {port}" in ended.stderr


def test_a_child_process_is_told_where_to_ask(api: LoopbackAPI) -> None:
    variables = api.environment()
    assert variables["ANTHROPIC_BASE_URL"] == api.base_url
    assert variables["ANTHROPIC_API_KEY"] == api.key
    assert variables["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == variables["DISABLE_AUTOUPDATER"] == "1"
