"""A Messages API on 127.0.0.1: real HTTP for the real SDK and the real Claude Code, without a key or a network.

    with LoopbackAPI() as api:
        api.answer("Use a document collection.")
        api.fail(Fault.status(529))                  # the next request only; the answer waits for the one after
        ...                                          # anything that talks to api.base_url with api.key
        assert api.requests[0].question == "How should I store my page blocks?"

By hand: ``python -m claude_comms.testing.loopback --answer TEXT`` prints its address and serves until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Self

from claude_comms.testing._answers import Answer, Block, Text, Thinking, ToolUse
from claude_comms.testing._faults import FAULTS, Fault
from claude_comms.testing._prompt_cache import PromptCache
from claude_comms.testing._requests import RecordedRequest, RequestLog
from claude_comms.testing._routes import Routes
from claude_comms.testing._server import serve

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "FAULTS",
    "Answer",
    "Block",
    "Fault",
    "LoopbackAPI",
    "RecordedRequest",
    "Script",
    "Text",
    "Thinking",
    "ToolUse",
]

Script = Callable[[RecordedRequest], "Answer | str"]
"""Answers each question by looking at it. Runs on the server's thread."""

_STOP_S = 5.0


class LoopbackAPI:
    """The Messages API as far as clients need it, scripted, with faults on demand and a log of what was asked.

    It serves ``POST /v1/messages`` (streamed or not), ``/v1/messages/count_tokens``, ``GET /v1/models`` and
    ``HEAD /``, on its own thread, from `start` (or ``with``) to `close`. For each question the first of these
    answers: a fault set with `fail`, an answer queued with `answer`, the `script`. All methods may be called
    from any thread; those that wait block theirs.

    `script` may be a text or an Answer, for every question, or a function; by default the answer says which
    question it answers. With `keys`, any other key gets a 401; without, every key is taken.
    """

    def __init__(
        self, script: Script | Answer | str | None = None, *, keys: Collection[str] | None = None, port: int = 0
    ) -> None:
        self.key = "sk-ant-loopback-0000"
        """A key for clients. It opens nothing."""
        self.keys = keys
        self._script = _scripted(script)
        self.requests = RequestLog()
        self.base_url = ""
        """Where it listens, from `start` on; after `close` a connection there is refused."""
        self._port = port
        self._answers: deque[Answer] = deque()
        self._faults: deque[tuple[str, Fault]] = deque()
        self._lock = threading.Lock()
        self._cache = PromptCache()
        self._connections = 0
        self._connections_changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # --- life ---

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Listen. OSError when the port is taken."""
        if self._thread is not None:
            return self
        listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._port = listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self._port}"
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        arguments = (self._loop, listener, ready)
        self._thread = threading.Thread(target=self._run, args=arguments, name="loopback-api", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def close(self) -> None:
        """Stop listening and drop all connections. May be called twice."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)
        self._thread = self._loop = None

    def reset(self) -> None:
        """Forget queued answers and faults, the log and the prompt cache; the script stays."""
        with self._lock:
            self._answers.clear()
            self._faults.clear()
        self.requests.clear()
        self._cache.clear()

    # --- what it answers ---

    @property
    def script(self) -> Script:
        """What answers when nothing is queued. Set it to a function, an Answer, a text, or None for the default."""
        return self._script

    @script.setter
    def script(self, script: Script | Answer | str | None) -> None:
        self._script = _scripted(script)

    def answer(self, text: str | Answer = "", **options: Any) -> None:
        """Queue one answer: a text with the options of `Answer`, or an Answer."""
        answer = text if isinstance(text, Answer) else Answer(text, **options)
        with self._lock:
            self._answers.append(answer)

    def fail(self, fault: Fault, times: int = 1, *, path: str = "/v1/messages") -> None:
        """Let the next `times` POST requests to `path` go wrong, after those already set to."""
        with self._lock:
            self._faults.extend([(path, fault)] * times)

    # --- what it was asked ---

    def environment(self) -> dict[str, str]:
        """Variables for a child process, so that it asks here and nowhere else."""
        return {
            "ANTHROPIC_BASE_URL": self.base_url,
            "ANTHROPIC_API_KEY": self.key,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def wait_for_requests(self, count: int, timeout_s: float = 10.0) -> list[RecordedRequest]:
        """Block until there were `count` requests in all, and return them; else TimeoutError."""
        return self.requests.wait_for(count, timeout_s)

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return self._connections

    def wait_for_connections(self, count: int, timeout_s: float = 10.0) -> None:
        """Block until exactly `count` clients are connected; else TimeoutError."""
        with self._connections_changed:
            if not self._connections_changed.wait_for(lambda: self._connections == count, timeout_s):
                raise TimeoutError(f"{count} connections were awaited for {timeout_s} s; there are {self._connections}")

    # --- the server's thread ---

    def _run(self, loop: asyncio.AbstractEventLoop, listener: socket.socket, ready: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        routes = Routes(self.requests, self._cache, self._key_matches, self._next_fault, self._next_answer)
        server = loop.run_until_complete(serve(listener, routes.respond, self._connected))
        loop.call_soon(ready.set)  # only a running loop can be stopped
        try:
            loop.run_forever()
        finally:
            server.close()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.close()

    def _connected(self, change: int) -> None:
        with self._connections_changed:
            self._connections += change
            self._connections_changed.notify_all()

    def _key_matches(self, key: str) -> tuple[bool, bool]:
        """Whether the key is the right one, and whether it is let in."""
        right = key in self.keys if self.keys is not None else key == self.key
        return right, right or self.keys is None

    def _next_fault(self, path: str) -> Fault | None:
        with self._lock:
            for index, (wanted, fault) in enumerate(self._faults):
                if wanted == path:
                    del self._faults[index]
                    return fault
        return None

    def _next_answer(self, request: RecordedRequest, *, keep: bool) -> Answer:
        with self._lock:
            if self._answers:
                return self._answers[0] if keep else self._answers.popleft()
        answer = self._script(request)
        return answer if isinstance(answer, Answer) else Answer(answer)


def _scripted(script: Script | Answer | str | None) -> Script:
    if script is None:
        return lambda request: f"This is a scripted answer, from no model. You asked: {request.question}"
    if isinstance(script, (Answer, str)):
        return lambda _: script
    return script


def main(arguments: Iterable[str] | None = None) -> int:
    """Serve until Ctrl-C, or for ``--max-seconds``; the address goes to stdout, alone on its line."""
    from argparse import ArgumentParser

    parser = ArgumentParser(
        prog="python -m claude_comms.testing.loopback", description="A Messages API without a model."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--answer", metavar="TEXT", help="the answer to every question")
    parser.add_argument("--max-seconds", type=float, default=3600.0, help="end by itself after so long")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        with LoopbackAPI(options.answer, port=options.port) as api:
            print(api.base_url, flush=True)  # noqa: T201
            print("For a client: " + " ".join(f"{k}={v}" for k, v in api.environment().items()), file=sys.stderr)  # noqa: T201
            threading.Event().wait(options.max_seconds)
    except OSError as error:
        print(f"cannot listen on port {options.port}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
