"""Instances started, watched and steered by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from claude_comms.communicator._async import MessageOptions, question_from
from claude_comms.communicator._holder import EngineHolder
from claude_comms.communicator._shape import ResponseShape
from claude_comms.communicator._streams import AsyncMessageStream, MessageStream
from claude_comms.errors import ConfigError
from claude_comms.portal import Portal, blocking
from claude_comms.settings import Settings
from claude_comms.types import InstanceLimits, Pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.protocols import Turn
    from claude_comms.types import InstanceInfo, Reply

__all__ = ["AsyncInstanceManager", "InstanceManager"]


class AsyncInstanceManager(EngineHolder):
    """Starts instances, asks them, and steers them, on asyncio.

    An instance may be named by its id, any unique beginning of it, or its name. In this process it lives until `stop`
    or `close`, in the daemon until `stop`. `use_background` decides between them as for `AsyncCommunicator`.
    `settings` is a `Settings` or a mapping of the ones to override; `backends` are backend objects of your own.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        use_background: bool | None = None,
        backends: Iterable[Backend] = (),
    ) -> None:
        super().__init__(Settings.load(settings), use_background=use_background, backends=backends)

    async def start(
        self,
        source: str,
        target: str,
        *,
        name: str | None = None,
        backend: str | None = None,
        model: str | None = None,
        grants: Sequence[str] | None = None,
        limits: InstanceLimits | Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> InstanceInfo:
        """A new instance that answers for `target` when `source` asks, its session open.

        - `grants`: fewer tools than its descriptor was granted; more are refused with PermissionDeniedError.
        - `limits`: `claude_comms.types.InstanceLimits`, or a mapping of its fields.
        - `environment`: variables that its process gets beside the usual ones.

        ConfigError if the name is taken, PoolExhaustedError if there is no room, and what the backend raises.
        """
        return await (await self._opened()).instances.start(
            Pair(source, target),
            name=name,
            backend=backend,
            model=model,
            grants=grants,
            limits=_limits(limits),
            environment=environment,
        )

    async def list(self) -> list[InstanceInfo]:
        """The living instances, and those that failed and were not stopped since, oldest first."""
        return await (await self._opened()).instances.list()

    async def get(self, instance: str) -> InstanceInfo:
        """One instance; also one that ended a while ago. InstanceNotFoundError."""
        return await (await self._opened()).instances.get(instance)

    async def query(self, instance: str, prompt: str, **options: Unpack[MessageOptions]) -> Reply:
        """Ask it, and wait for the complete answer.

        It goes on with the conversation in which it was last asked so, whatever others have asked the pair meanwhile;
        the first time with the one it holds.

        The options are those of `AsyncCommunicator.send_message`.
        """
        async with self.stream(instance, prompt, **options) as stream:
            return await stream.wait()

    def stream(self, instance: str, prompt: str, **options: Unpack[MessageOptions]) -> AsyncMessageStream:
        """Like `query`, but the answer comes in pieces."""
        shape = ResponseShape.of(options.get("response_model"))

        async def ask() -> Turn:
            engine = await self._opened()
            info = await engine.instances.get(instance)
            options.setdefault("thread_id", info.thread_id)
            return await engine.ask(
                question_from(
                    info.source,
                    info.target,
                    prompt,
                    shape,
                    options,
                    backend=info.backend,
                    model=info.model,
                    instance_id=info.instance_id,
                )
            )

        return AsyncMessageStream(ask, shape)

    async def pause(self, instance: str) -> InstanceInfo:
        """Let the running turn finish; later questions wait, until `resume` or their deadline."""
        return await (await self._opened()).instances.pause(instance)

    async def resume(self, instance: str) -> InstanceInfo:
        """Undo `pause`."""
        return await (await self._opened()).instances.resume(instance)

    async def interrupt(self, instance: str) -> InstanceInfo:
        """Stop the running turn; what had come is stored as partial. Without a running turn nothing happens."""
        return await (await self._opened()).instances.interrupt(instance)

    async def hibernate(self, instance: str) -> InstanceInfo:
        """Have it give up its process and keep its session, which its next question opens again.

        InstanceStateError for one that is busy. A paused one stays paused.
        """
        return await (await self._opened()).instances.hibernate(instance)

    async def stop(self, instance: str) -> InstanceInfo:
        """End it, its running turn interrupted. Its conversation stays stored and goes on elsewhere."""
        return await (await self._opened()).instances.stop(instance)


def _limits(given: InstanceLimits | Mapping[str, Any] | None) -> InstanceLimits | None:
    if given is None or isinstance(given, InstanceLimits):
        return given
    unknown = sorted(set(given) - set(InstanceLimits()))
    if unknown:
        raise ConfigError(f"limits: no {unknown[0]!r}. Known: {', '.join(InstanceLimits())}.")
    return InstanceLimits(**given)


class InstanceManager(Portal[AsyncInstanceManager]):
    """Starts instances, asks them, and steers them, and waits for what comes.

    Takes the arguments of `AsyncInstanceManager` and has its methods. Use it as a context manager, or `close` it.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        use_background: bool | None = None,
        backends: Iterable[Backend] = (),
    ) -> None:
        super().__init__(AsyncInstanceManager(settings, use_background=use_background, backends=backends))

    def stream(self, instance: str, prompt: str, **options: Unpack[MessageOptions]) -> MessageStream:
        """Like `query`, but the answer comes in pieces: iterate, then read `stream.reply`."""
        stream = self._inner.stream(instance, prompt, **options)
        self.run(stream.started)
        return MessageStream(stream, self)

    start = blocking(AsyncInstanceManager.start)
    list = blocking(AsyncInstanceManager.list)
    get = blocking(AsyncInstanceManager.get)
    query = blocking(AsyncInstanceManager.query)
    pause = blocking(AsyncInstanceManager.pause)
    resume = blocking(AsyncInstanceManager.resume)
    interrupt = blocking(AsyncInstanceManager.interrupt)
    hibernate = blocking(AsyncInstanceManager.hibernate)
    stop = blocking(AsyncInstanceManager.stop)
