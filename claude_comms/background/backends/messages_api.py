"""Backend `api`: the Messages API through the anthropic SDK, whose own retries and credentials are off.

Ours retry under the question's deadline, never after text was shown, and only complete answers are returned.
"""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, cast

import anyio
import anyio.to_thread

from claude_comms.background.backends._messages_errors import Problem, Wording
from claude_comms.background.backends._messages_turn import Turn
from claude_comms.background.backends._messages_wire import messages_of, system_of
from claude_comms.background.backends.protocol import BackendHealth
from claude_comms.errors import (
    BackendError,
    BackendUnavailableError,
    DeadlineExceededError,
    PermissionDeniedError,
    TurnFailedError,
)
from claude_comms.types import BackendFeatures, RetryPolicy, TokenCount

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from anthropic import AsyncAnthropic, AsyncStream

    from claude_comms.types import Emit, InstanceSpec, Prompt, TurnRequest, TurnResult

__all__ = ["MessagesApiBackend", "MessagesApiSession"]

_BASE_URL = "https://api.anthropic.com"
_PATH = "/v1/messages"
_KEY = re.compile(r"[\x21-\x7e]+")
_CLOSE_S = 1.0
_CLIENTS = 8
_ROOM = 8
"""httpcore2 2.16 asks the system about each idle connection of a client for every request: with 64 of them that takes
longer than all that we do for a turn. So a client has room for a few turns at once, and more of them need more."""


class MessagesApiBackend:
    """Asks the Messages API. One HTTP client serves all sessions, made when the first one opens; when many ask at
    once, up to eight do.

    Key and address are those given here, never ones from the environment. `idle_s` bounds how long the
    API may send nothing, not even a ping; `connect_s` how long a connection may take. `sleep` waits between tries.
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None = None,
        retry: RetryPolicy | None = None,
        idle_s: float = 120.0,
        connect_s: float = 10.0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._retry = retry or RetryPolicy()
        self._idle_s = idle_s
        self._sleep = sleep
        self._connect_s = connect_s
        self._key = (api_key or "").strip()
        self._base_url = base_url or _BASE_URL
        self._wording = Wording(self._base_url, self._key)
        self._clients: dict[int, AsyncAnthropic] = {}
        self._under_way = [0] * _CLIENTS
        """How many turns each client is serving."""
        self._opening = anyio.Lock()

    @property
    def name(self) -> str:
        """``api``."""
        return "api"

    @property
    def features(self) -> BackendFeatures:
        """No tools and no sessions of its own: the thread is sent each time."""
        return BackendFeatures(streaming=True, interrupt=True, structured=True)

    async def open(self, spec: InstanceSpec) -> MessagesApiSession:
        """A session. BackendUnavailableError without a usable key; PermissionDeniedError for any grant."""
        if spec.grants:
            grant = spec.grants[0]
            raise PermissionDeniedError(
                f"backend api has no tools, so it cannot grant {grant!r}. Use backend claude-code.", grant=grant
            )
        await self._opened(0)
        return MessagesApiSession(self)

    async def health(self) -> BackendHealth:
        """Whether there is a key; no request is made."""
        problem = self._key_problem()
        facts = {"base_url": self._wording.address, "api_key": "missing" if not self._key else "set"}
        if problem:
            return BackendHealth(usable=False, reason=problem, hint="Set ANTHROPIC_API_KEY.", facts=facts)
        return BackendHealth(usable=True, reason=f"an API key is set, for {self._wording.address}", facts=facts)

    async def close(self) -> None:
        """Close the connections, within a second."""
        clients, self._clients = self._clients, {}
        with anyio.move_on_after(_CLOSE_S, shield=True):
            for client in clients.values():
                await client.close()

    async def count_tokens(self, prompt: Prompt, model: str, *, timeout_s: float = 10.0) -> TokenCount:
        """The API's own count of the prompt's tokens. One try, at most `timeout_s`; errors as `ask` raises them."""
        client = await self._opened(0)
        asked: Any = {"model": model, "messages": messages_of(prompt), **_system(prompt)}
        with anyio.move_on_after(timeout_s):
            try:
                counted = await client.messages.count_tokens(**asked)
            except Exception as error:  # noqa: BLE001 - the library's edge: whatever it raises becomes ours
                self._fail(self._problem(error, model).error, error)
            return self._tokens(getattr(counted, "input_tokens", None))
        raise DeadlineExceededError(
            f"the Messages API did not count the tokens within {timeout_s:g} s. Use an estimate.", deadline_s=timeout_s
        )

    @contextmanager
    def client(self) -> Generator[int]:
        """The number of the client for one turn: the first that has room, so that few turns share connections."""
        number = next((at for at, turns in enumerate(self._under_way) if turns < _ROOM), None)
        if number is None:
            number = self._under_way.index(min(self._under_way))
        self._under_way[number] += 1
        try:
            yield number
        finally:
            self._under_way[number] -= 1

    def turn(self, request: TurnRequest, emit: Emit, client_number: int) -> Turn:
        """The way of one question through that client, ready to run."""
        options: Any = {
            "model": request.model,
            **_system(request.prompt),
        }

        async def send(messages: Any, max_tokens: int) -> AsyncStream[object]:
            client = await self._opened(client_number)
            from anthropic import AsyncStream

            # What `messages.create` does, save making a pydantic model of each event: that takes a sixth of the turn.
            body = {**options, "messages": messages, "max_tokens": max_tokens, "stream": True}
            return await client.post(_PATH, cast_to=object, body=body, stream=True, stream_cls=AsyncStream[object])

        return Turn(
            request,
            emit,
            policy=self._retry,
            sleep=self._sleep,
            send=send,
            problem_of=self._problem,
            wording=self._wording,
        )

    async def _opened(self, number: int) -> AsyncAnthropic:
        """The SDK's client of that number, made in a worker thread: importing the SDK takes about a second."""
        if number not in self._clients:
            problem = self._key_problem()
            if problem:
                raise BackendUnavailableError(
                    f"backend api: {problem}. Set ANTHROPIC_API_KEY, or use backend offline.", backend="api"
                )
            async with self._opening:
                if number not in self._clients:
                    self._clients[number] = await anyio.to_thread.run_sync(self._new_client, abandon_on_cancel=True)
        return self._clients[number]

    def _fail(self, error: BackendError, cause: BaseException | None) -> NoReturn:
        """Raise `error`; its cause is dropped where a traceback of it would print the key."""
        raise error from (None if cause is None or self._wording.tells_key(cause) else cause)

    def _problem(self, error: Exception, model: str) -> Problem:
        """What an exception of the SDK, of the HTTP library below it, or of a socket means."""
        import anthropic
        import httpx2

        match error:
            case anthropic.APIStatusError():
                after = error.response.headers.get("retry-after")
                said = error.api_message or error.message
                return self._wording.status(error.status_code, error.type, said, model=model, retry_after=after)
            case anthropic.APIConnectionError() if isinstance(error.__cause__, Exception):
                return self._problem(error.__cause__, model)
            case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.UnsupportedProtocol() | httpx2.ProxyError():
                return self._wording.unreachable(str(error) or type(error).__name__)
            case ExceptionGroup():  # from the tasks that try a host's addresses side by side
                inner = _innermost(error)
                return self._wording.unreachable(f"{type(inner).__name__}: {inner}")
            case anthropic.APITimeoutError() | httpx2.TimeoutException():
                return self._wording.stalled(self._idle_s)
            case anthropic.APIConnectionError() | httpx2.TransportError() | OSError():
                return self._wording.cut(str(error) or type(error).__name__)
            case _:
                return self._wording.nonsense(f"{type(error).__name__}: {error}")

    def _new_client(self) -> AsyncAnthropic:
        import anthropic

        timeout = anthropic.Timeout(self._idle_s, connect=self._connect_s)
        try:
            http = anthropic.DefaultAsyncHttpxClient(base_url=self._base_url, timeout=timeout, follow_redirects=False)
            return anthropic.AsyncAnthropic(
                api_key=self._key, base_url=self._base_url, max_retries=0, timeout=timeout, http_client=http
            )
        except Exception as error:  # noqa: BLE001 - a bad address or proxy shows in many kinds of exception here
            self._fail(self._wording.unreachable(f"{type(error).__name__}: {error}").error, error)

    def _key_problem(self) -> str:
        if not self._key:
            return "no API key is set"
        return "" if _KEY.fullmatch(self._key) else "the API key has characters that no key has"

    def _tokens(self, value: object) -> TokenCount:
        if isinstance(value, int) and value >= 0:
            return TokenCount(value, estimated=False)
        raise self._wording.nonsense("a count of tokens that is no number").error


def _innermost(error: Exception) -> Exception:
    """What went wrong first: a group's own text only counts what is in it."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error


def _system(prompt: Prompt) -> dict[str, Any]:
    blocks = system_of(prompt)
    return {"system": blocks} if blocks else {}


class MessagesApiSession:
    """One instance's use of the API. It holds nothing between turns, so a thousand of them are small."""

    __slots__ = ("_backend", "_closed", "_interrupted", "_scope")

    def __init__(self, backend: MessagesApiBackend) -> None:
        self._backend = backend
        self._scope: anyio.CancelScope | None = None
        self._interrupted = False
        self._closed = False

    async def ask(self, request: TurnRequest, emit: Emit) -> TurnResult:
        """See `Session.ask`. Errors carry `partial`, `usage` and `retries`."""
        if self._closed:
            raise BackendUnavailableError("this session of backend api is closed. Open another.", backend="api")
        with self._backend.client() as number:
            return await self._run(self._backend.turn(request, emit, number), request)

    async def _run(self, turn: Turn, request: TurnRequest) -> TurnResult:
        began = anyio.current_time()
        self._interrupted = False
        try:
            with anyio.CancelScope(deadline=math.inf if request.deadline is None else request.deadline) as self._scope:
                return await turn.run()
            raise self._stopped(request, began)
        except (BackendError, DeadlineExceededError) as error:
            turn.mark(error)
            raise
        finally:
            self._scope = None

    async def interrupt(self) -> None:
        """Stop the running turn, if there is one."""
        if self._scope is not None:
            self._interrupted = True
            self._scope.cancel()

    async def close(self) -> None:
        """Refuse further questions. The connections belong to the backend."""
        self._closed = True

    def _stopped(self, request: TurnRequest, began: float) -> BackendError | DeadlineExceededError:
        """Why the scope was cancelled."""
        if self._interrupted:
            return TurnFailedError(
                "the turn was interrupted. Ask again for a whole answer.", reason="interrupted", backend="api"
            )
        allowed = max(0.0, (request.deadline or began) - began)
        return DeadlineExceededError(
            f"no complete answer came within {allowed:.3g} s. Allow more time, or ask for less.", deadline_s=allowed
        )
