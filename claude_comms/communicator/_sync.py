"""The synchronous communicator: the asynchronous one, in a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from claude_comms.communicator._async import AsyncCommunicator, MessageOptions
from claude_comms.communicator._streams import MessageStream
from claude_comms.portal import Portal, blocking

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.context import ContextGenerator
    from claude_comms.settings import Settings
    from claude_comms.types import RetryPolicy

__all__ = ["ModuleCommunicator", "create_communicator"]


class ModuleCommunicator(Portal[AsyncCommunicator]):
    """Asks other modules on behalf of a source, and waits for what comes.

    Takes the arguments of `AsyncCommunicator` and has its methods. Use it as a context manager, or `close` it.
    May be used from several threads; questions in one conversation wait for each other.
    """

    def __init__(
        self,
        source: str | None,
        module_path: str | Path | None = None,
        *,
        use_background: bool | None = None,
        backend: str | Backend | None = None,
        model: str | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        context_generator: ContextGenerator | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        super().__init__(
            AsyncCommunicator(
                source,
                module_path,
                use_background=use_background,
                backend=backend,
                model=model,
                settings=settings,
                context_generator=context_generator,
                retry=retry,
            )
        )

    @property
    def source(self) -> str:
        """The module that asks."""
        return self._inner.source

    @property
    def settings(self) -> Settings:
        """What it runs with."""
        return self._inner.settings

    def stream_message(self, target: str, prompt: str, **options: Unpack[MessageOptions]) -> MessageStream:
        """Like `send_message`, but the answer comes in pieces: iterate, then read `stream.reply`.

        The question is asked at once. An answer with `response_model` comes in one piece, once it is valid.
        """
        stream = self._inner.stream_message(target, prompt, **options)
        self.run(stream.started)
        return MessageStream(stream, self)

    send_message = blocking(AsyncCommunicator.send_message)
    preview = blocking(AsyncCommunicator.preview)
    create_conversation = blocking(AsyncCommunicator.create_conversation)
    get_conversation = blocking(AsyncCommunicator.get_conversation)
    list_conversations = blocking(AsyncCommunicator.list_conversations)
    search_conversations = blocking(AsyncCommunicator.search_conversations)
    export_conversation = blocking(AsyncCommunicator.export_conversation)
    archive_conversation = blocking(AsyncCommunicator.archive_conversation)
    restore_conversation = blocking(AsyncCommunicator.restore_conversation)
    find_modules = blocking(AsyncCommunicator.find_modules)
    diagnose = blocking(AsyncCommunicator.diagnose)


def create_communicator(
    source: str | None,
    module_path: str | Path | None = None,
    *,
    use_background: bool | None = None,
    backend: str | Backend | None = None,
    model: str | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    context_generator: ContextGenerator | None = None,
    retry: RetryPolicy | None = None,
) -> ModuleCommunicator:
    """A communicator for `source`; `AsyncCommunicator` explains the arguments. Nothing is opened before it is used."""
    return ModuleCommunicator(
        source,
        module_path,
        use_background=use_background,
        backend=backend,
        model=model,
        settings=settings,
        context_generator=context_generator,
        retry=retry,
    )
