"""How the MCP server on stdio ends: with its stdin, or at a signal, and what becomes of a question that runs then."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.testing import LoopbackAPI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.testing import RecordedRequest
    from tests.process.conftest import Cli

_WITHIN_S = 30.0


@pytest.fixture
def slow(background: Cli) -> Iterator[LoopbackAPI]:
    """A model that does not answer while the test runs."""
    over = threading.Event()

    def answer(request: RecordedRequest) -> str:
        del request
        over.wait(60)
        return "too late"

    with LoopbackAPI(answer) as api:
        background.environment |= {**api.environment(), "CLAUDE_COMMS_BACKEND": "api"}
        yield api
        over.set()


def started(cli: Cli) -> subprocess.Popen[bytes]:
    """The server, greeted."""
    server = subprocess.Popen(
        [*cli.command("mcp")], cwd=cli.directory, env=cli.environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    say(server, id=1, method="initialize", params=hello)
    assert server.stdout is not None
    assert b"serverInfo" in server.stdout.readline()
    say(server, method="notifications/initialized")
    return server


def say(server: subprocess.Popen[bytes], **message: Any) -> None:
    assert server.stdin is not None
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    server.stdin.flush()


def end(server: subprocess.Popen[bytes], how: signal.Signals | None) -> int:
    """Have it end; its exit code. Its pipes are open until it has ended, save stdin where that is how."""
    assert server.stdin is not None
    if how is None:
        server.stdin.close()
    else:
        server.send_signal(how)
    try:
        return server.wait(_WITHIN_S)
    finally:
        server.kill()
        server.stdin.close()
        for pipe in (server.stdout, server.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize("how", [None, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_ends_with_its_stdin_and_at_any_signal(cli: Cli, how: signal.Signals | None) -> None:
    assert end(started(cli), how) == (0 if how is None else -how)


@pytest.mark.parametrize("how", [None, signal.SIGTERM])
def test_a_question_that_runs_is_interrupted_and_marked(
    background: Cli, slow: LoopbackAPI, how: signal.Signals | None
) -> None:
    server = started(background)
    say(
        server,
        id=2,
        method="tools/call",
        params={"name": "query_module", "arguments": {"target": "arangodb", "prompt": "How?"}},
    )
    slow.wait_for_requests(1, _WITHIN_S)
    end(server, how)
    [listed] = background.json("list-conversations")
    [question] = background.json("show-conversation", listed["thread_id"])["messages"]
    assert question["state"] == "failed"
    assert question["error"]["reason"] == "interrupted"
