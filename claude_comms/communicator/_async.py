"""The asynchronous communicator."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast

import anyio

from claude_comms.background.backends.protocol import Backend
from claude_comms.communicator._holder import EngineHolder
from claude_comms.communicator._shape import ResponseShape
from claude_comms.communicator._streams import AsyncMessageStream
from claude_comms.errors import ConfigError, DeadlineExceededError
from claude_comms.settings import Settings
from claude_comms.types import ANONYMOUS, ConversationState, Pair, Question

if TYPE_CHECKING:
    from claude_comms.context import ContextGenerator
    from claude_comms.conversations import SearchHit
    from claude_comms.descriptors import Match
    from claude_comms.protocols import Turn
    from claude_comms.types import Check, Conversation, Preview, Reply, RetryPolicy

__all__ = ["AsyncCommunicator"]

StateFilter = Literal["active", "archived", "all"]


class MessageOptions(TypedDict, total=False):
    """What may be said with a question; `AsyncCommunicator.send_message` explains each."""

    thread_id: str | None
    data: Any
    response_model: type[Any] | Mapping[str, Any] | None
    template: str
    context: Mapping[str, Any] | None
    deadline_s: float | None
    max_cost_usd: float | None
    idempotency_key: str | None


class AsyncCommunicator(EngineHolder):
    """Asks other modules on behalf of `source`, on asyncio.

    It opens with the first call and holds a store and instances until `close`; use it as an async context manager.
    It keeps one current conversation for each target.

    - `source`: the module that asks; None for somebody who is no registered module.
    - `module_path`: overrides the source's registered path; a source that is not registered gets a descriptor
      drafted from it.
    - `use_background`: True asks over the daemon, and starts it where none runs; False keeps everything in this
      process; None takes a daemon that is running, else this process.
    - `backend`: a name, or a backend object such as `claude_comms.testing.ScriptedBackend`.
    - `settings`: a `Settings`, or a mapping of the ones to override.
    - `retry`: overrides `settings.retry`. A daemon that runs already has its own, so this stays in this process
      unless `use_background` is True.

    A `backend` or `context_generator` that is an object stays in this process: ConfigError with `use_background=True`.
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
            Settings.load(settings).with_overrides(retry=retry),
            # How to try again is the engine's own matter: another policy needs an engine of one's own.
            use_background=False if use_background is None and retry is not None else use_background,
            generator=context_generator,
            backends=[backend] if isinstance(backend, Backend) else [],
        )
        self.source = source or ANONYMOUS
        self._path = _directory(module_path)
        self._backend = backend.name if isinstance(backend, Backend) else backend
        self._model = model
        self._current: dict[str, str] = {}
        self._starting: defaultdict[str, anyio.Lock] = defaultdict(lambda: anyio.Lock(fast_acquire=True))

    # --- asking --------------------------------------------------------------------------------

    async def send_message(
        self,
        target: str,
        prompt: str,
        *,
        thread_id: str | None = None,
        data: Any = None,
        response_model: type[Any] | Mapping[str, Any] | None = None,
        template: str = "query",
        context: Mapping[str, Any] | None = None,
        deadline_s: float | None = None,
        max_cost_usd: float | None = None,
        idempotency_key: str | None = None,
    ) -> Reply:
        """Ask `target` and wait for the complete answer; anything less is raised.

        - `thread_id`: continue that conversation (any unique prefix of its id) and make it the current one.
        - `data`: goes with the question. JSON values, pydantic models, dataclasses, datetime, Decimal, UUID, Enum.
        - `response_model`: a type that pydantic can validate, or a JSON Schema. The answer must match, after at
          most one repair turn, else ReplyValidationError; `reply.data` holds the value.
        - `template`, `context`: which template makes the prompt; its parameters and overridden components.
        - `deadline_s`: seconds for everything, waiting and repair included; then DeadlineExceededError.
        - `max_cost_usd`: refuses what would cost more, repair included, and stops a turn whose tool calls go beyond
          it, with BudgetExceededError.
        - `idempotency_key`: a question with the same key is answered from the store and never asked twice.

        Cancelling stops the turn; what had come is stored as partial.
        """
        shape = ResponseShape.of(response_model)
        turn = await self._ask(
            self._question(
                target,
                prompt,
                shape,
                thread_id=thread_id,
                data=data,
                template=template,
                context=context,
                deadline_s=deadline_s,
                max_cost_usd=max_cost_usd,
                idempotency_key=idempotency_key,
            )
        )
        try:
            return shape.applied(await turn.reply())
        finally:
            with anyio.CancelScope(shield=True):
                await turn.close()

    def stream_message(self, target: str, prompt: str, **options: Unpack[MessageOptions]) -> AsyncMessageStream:
        """Like `send_message`, but the answer comes in pieces: iterate, then read `stream.reply`.

        The question is asked when the stream is awaited, entered or iterated. An answer with `response_model` comes
        in one piece, once it is valid.
        """
        shape = ResponseShape.of(options.get("response_model"))
        question = self._question(target, prompt, shape, **options)
        return AsyncMessageStream(lambda: self._ask(question), shape)

    async def preview(self, target: str, prompt: str, **options: Unpack[MessageOptions]) -> Preview:
        """What `send_message` would send, and to which backend; asks nothing and stores nothing."""
        engine = await self._opened()
        shape = ResponseShape.of(options.get("response_model"))
        question = self._question(target, prompt, shape, **options)
        return await engine.preview(self._continued(question))

    def _question(self, target: str, prompt: str, shape: ResponseShape, **options: Unpack[MessageOptions]) -> Question:
        return question_from(
            self.source,
            target,
            prompt,
            shape,
            options,
            source_path=self._path,
            backend=self._backend,
            model=self._model,
        )

    async def _ask(self, question: Question) -> Turn:
        """Start a turn in the conversation it belongs to; the first ones to a target start it one at a time.

        The deadline counts from here: opening the store and waiting for one's turn are part of it.
        """
        deadline_s = question.deadline_s if question.deadline_s is not None else self.settings.deadline_s
        deadline = anyio.current_time() + deadline_s
        engine = await self._opened(max(0.0, deadline_s))
        starting = self._starting[question.target]
        with anyio.move_on_at(deadline) as waiting:
            await starting.acquire()
        if waiting.cancelled_caught:
            raise DeadlineExceededError(
                f"an earlier question to {question.target} was not stored within {deadline_s:g} s. Ask again later.",
                deadline_s=deadline_s,
            )
        try:
            question = self._continued(replace(question, deadline_s=deadline - anyio.current_time()))
            turn = await engine.ask(question)
            if question.thread_id is None or question.thread_id != self._current.get(question.target):
                thread_id = await turn.thread_id()
                if thread_id is not None:
                    self._current[question.target] = thread_id
        finally:
            starting.release()
        return turn

    def _continued(self, question: Question) -> Question:
        """The question in the target's current conversation, where it names none."""
        if question.thread_id is not None:
            return question
        return replace(question, thread_id=self._current.get(question.target))

    # --- conversations -------------------------------------------------------------------------

    async def create_conversation(self, target: str, *, title: str = "") -> str:
        """Start a new conversation with `target`, the current one from now on; its `thread_id`."""
        engine = await self._opened()
        conversation = await engine.create_conversation(Pair(self.source, target), title=title)
        self._current[target] = conversation.thread_id
        return conversation.thread_id

    async def get_conversation(self, thread_id: str) -> Conversation:
        """A conversation with all its messages, by its id or any unique prefix; ConversationNotFoundError."""
        return await (await self._opened()).get_conversation(thread_id)

    async def list_conversations(
        self, target: str | None = None, *, any_source: bool = False, state: StateFilter = "active", limit: int = 50
    ) -> list[Conversation]:
        """The module's own conversations, or with `any_source` everybody's; without messages, the newest first."""
        return await (await self._opened()).list_conversations(
            source=None if any_source else self.source,
            target=target,
            state=_state(state),
            limit=limit,
        )

    async def search_conversations(
        self, text: str, *, target: str | None = None, any_source: bool = False, limit: int = 20
    ) -> list[SearchHit]:
        """Messages that hold the words of `text`, each with an excerpt, the best first."""
        return await (await self._opened()).search_conversations(
            text, source=None if any_source else self.source, target=target, limit=limit
        )

    async def export_conversation(self, thread_id: str, format: str = "json") -> str:  # noqa: A002 - the public name
        """A conversation as a document: ``json`` (everything that is kept) or ``markdown``."""
        from claude_comms.conversations import export_conversation

        return export_conversation(await self.get_conversation(thread_id), format)

    async def archive_conversation(self, thread_id: str) -> Conversation:
        """Hide a conversation from lists and end its being current; `restore_conversation` brings it back."""
        conversation = await (await self._opened()).archive_conversation(thread_id)
        if self._current.get(conversation.target) == conversation.thread_id:
            del self._current[conversation.target]
        return conversation

    async def restore_conversation(self, thread_id: str) -> Conversation:
        """Take a conversation out of the archive."""
        return await (await self._opened()).restore_conversation(thread_id)

    # --- around it -----------------------------------------------------------------------------

    async def find_modules(
        self,
        text: str | None = None,
        capability: str | None = None,
        tag: str | None = None,
        data_type: str | None = None,
    ) -> list[Match]:
        """Modules that fit all that is given; with `text`, ranked for that question."""
        return await (await self._opened()).find_modules(text, capability=capability, tag=tag, data_type=data_type)

    async def diagnose(self, *, ask: bool = False) -> list[Check]:
        """What is reachable, how fast, what is wrong. Asks a model only with `ask`: one short turn, to prove it."""
        return await (await self._opened()).diagnose(ask=ask)


def _state(wanted: str) -> ConversationState | None:
    if wanted == "all":
        return None
    try:
        return ConversationState(wanted)
    except ValueError as error:
        raise ConfigError(f"no conversations are {wanted!r}. Choose active, archived or all.") from error


def question_from(
    source: str, target: str, prompt: str, shape: ResponseShape, options: MessageOptions, **fixed: Any
) -> Question:
    """A question with a caller's options; `fixed` are the fields that the caller has no say in."""
    deadline_s, most_usd = options.get("deadline_s"), options.get("max_cost_usd")
    context = cast("object", options.get("context") or {})
    template = options.get("template", "query")
    optional = {"thread_id": options.get("thread_id"), "idempotency_key": options.get("idempotency_key")}
    texts: dict[str, object] = {"source": source, "target": target, "prompt": prompt, "template": template}
    texts |= {name: value for name, value in optional.items() if value is not None}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise ConfigError(f"{name} is of type {type(value).__name__}. Pass text.")
    for name, value in (("deadline_s", deadline_s), ("max_cost_usd", most_usd)):
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"{name} is {value!r}. Pass a number, or leave it out.")
    if not isinstance(context, Mapping):
        raise ConfigError(f"context is of type {type(context).__name__}. Pass a mapping of names to values.")
    return Question(
        source=source,
        target=target,
        prompt=prompt,
        thread_id=options.get("thread_id"),
        data=options.get("data"),
        schema=shape.schema,
        check=shape.check,
        template=template,
        context=cast("Mapping[str, Any]", context),
        deadline_s=deadline_s,
        max_cost_usd=most_usd,
        idempotency_key=options.get("idempotency_key"),
        **fixed,
    )


def _directory(path: str | Path | None) -> Path | None:
    if path is None:
        return None
    if not isinstance(path, (str, Path)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"module_path is of type {type(path).__name__}. Give the module's own directory.")
    directory = Path(path).expanduser().absolute()
    if not directory.is_dir():
        raise ConfigError(f"module_path {directory} is not a directory. Give the module's own directory.")
    return directory
