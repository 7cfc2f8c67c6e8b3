"""Who asks whom, in which conversation, over which backend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from claude_comms.background.backends import choose_backend
from claude_comms.descriptors import ModuleDescriptor, draft_descriptor
from claude_comms.errors import ConfigError, PermissionDeniedError, UnknownModuleError
from claude_comms.mcp_servers import changed_servers, granted_server
from claude_comms.types import ANONYMOUS, OFFLINE, InstanceSpec, Pair, Question

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.conversations import ConversationStore, Thread
    from claude_comms.descriptors import BaseDescriptor, Module, Registry
    from claude_comms.settings import Settings
    from claude_comms.types import BackendFeatures, Conversation

__all__ = ["Route", "Router"]

_NOBODY = ModuleDescriptor(
    name=ANONYMOUS,
    summary="A developer or a program that is not registered as a module.",
)


@dataclass(frozen=True, slots=True)
class Route:
    """The way of one question."""

    source: BaseDescriptor
    target: BaseDescriptor
    thread: Thread | None
    """The conversation that the question continues, as it is stored; None: a new one is to be started."""
    backend: str
    reason: str
    """Why this backend."""
    model: str
    directory: Path | None
    """The target module's path."""
    grants: tuple[str, ...] = ()
    """The tools that the target's instances may use; none where the backend has none."""
    instance_id: str | None = None
    """The very instance that is asked, if it must be one."""

    @property
    def pair(self) -> Pair:
        """Who asks whom."""
        return Pair(self.source.name, self.target.name)

    @property
    def thread_id(self) -> str | None:
        """The stored conversation that the question continues."""
        return self.thread.conversation.thread_id if self.thread else None

    @property
    def spec(self) -> InstanceSpec:
        """The instance that may answer."""
        return InstanceSpec(self.pair, self.backend, self.model, self.grants, self.directory)


class Router:
    """Finds the way of a question from the registry, the store and the settings."""

    def __init__(
        self, settings: Settings, registry: Registry, store: ConversationStore, backends: Callable[[str], Backend]
    ) -> None:
        self._backends = backends
        self._settings = settings
        self._registry = registry
        self._store = store
        self._drafts: dict[Path, ModuleDescriptor] = {}

    def spec(self, pair: Pair, *, backend: str | None, model: str | None) -> InstanceSpec:
        """The instance of a pair of known modules that a new conversation would go to."""
        source, target = self._source(Question(pair.source, pair.target, "")), self._registry.get(pair.target)
        chosen, _ = self._backend(backend, None, target)
        return InstanceSpec(
            Pair(source.name, target.name),
            chosen,
            self._model(model, None, chosen),
            self._grants(chosen, target),
            target.path,
        )

    def features(self, backend: str) -> BackendFeatures:
        """What the backend of that name can do."""
        return self._backends(backend).features

    def check(self, pair: Pair) -> None:
        """UnknownModuleError where the target is not known; a source may have a path of its own to be drafted from."""
        self._registry.get(pair.target)

    async def route(self, question: Question) -> Route:
        """The way of `question`. Raises before anything is stored: UnknownModuleError, DescriptorError,
        ConversationNotFoundError, ConfigError where the conversation is another pair's.
        """
        with self._registry.one_look():
            target = self._registry.get(question.target)
            source = self._source(question)
        thread = await self._thread(question, source)
        conversation = thread.conversation if thread else None
        choose = partial(self._backend, question.backend, conversation, target, of_instance=question.instance_id)
        if conversation is None and {question.backend, self._settings.backend} <= {None, "auto"}:
            # Off the loop: Claude Code may have to be asked for its version.
            backend, reason = await to_thread.run_sync(choose, abandon_on_cancel=True)
        else:
            backend, reason = choose()
        return Route(
            source=source,
            target=target.descriptor,
            thread=thread,
            backend=backend,
            reason=reason,
            model=self._model(question.model, conversation, backend),
            directory=target.path,
            grants=self._grants(backend, target),
            instance_id=question.instance_id,
        )

    def _source(self, question: Question) -> BaseDescriptor:
        if question.source == ANONYMOUS:
            return _NOBODY
        try:
            return self._registry.get(question.source).descriptor
        except UnknownModuleError:
            if question.source_path is None:
                raise
        path = question.source_path
        if path not in self._drafts:
            self._drafts[path] = draft_descriptor(question.source, path)
        return self._drafts[path]

    async def _thread(self, question: Question, source: BaseDescriptor) -> Thread | None:
        if question.thread_id is None:
            return None
        thread = await self._store.thread(question.thread_id)
        conversation = thread.conversation
        if (conversation.source, conversation.target) != (source.name, question.target):
            raise ConfigError(
                f"conversation {conversation.thread_id} is between {conversation.source} and {conversation.target},"
                f" not {source.name} and {question.target}. Continue it with its own pair, or start a new one."
            )
        return thread

    def _backend(
        self,
        asked: str | None,
        conversation: Conversation | None,
        target: Module,
        *,
        of_instance: str | None = None,
    ) -> tuple[str, str]:
        if asked is not None and asked != "auto":
            return asked, "it was asked for" if of_instance is None else "it is the instance's own"
        if conversation is not None and conversation.backend is not None:
            return conversation.backend, "it is the conversation's own"
        choice = choose_backend(self._settings, target_path=target.path)
        return choice.backend, choice.reason

    def _grants(self, backend: str, target: Module) -> tuple[str, ...]:
        if not self._backends(backend).features.tools:
            return ()
        for name in changed_servers(target.grants, target.agreed_servers, self._settings.mcp_servers):
            raise PermissionDeniedError(
                f"the MCP server {name!r} is not defined as it was when {target.name} was granted it. If it is meant to"
                f" be so, grant it again: {target.register_again}",
                grant=next(grant for grant in target.grants if granted_server(grant) == name),
            )
        return target.grants

    def _model(self, asked: str | None, conversation: Conversation | None, backend: str) -> str:
        if backend == OFFLINE:
            return OFFLINE
        if asked is not None:
            return asked
        if conversation is not None and conversation.backend == backend and conversation.model is not None:
            return conversation.model
        return self._settings.model
