"""The engine of this process: registry, store, context and pool behind one door."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from claude_comms.accounting import PriceTable
from claude_comms.background.backends import backend_names, make_backend
from claude_comms.background.pool import Pool, close_backend
from claude_comms.context import ContextGenerator
from claude_comms.conversations import ConversationStore
from claude_comms.descriptors import Registry
from claude_comms.engine._asking import Asking, Parts
from claude_comms.engine._diagnosis import diagnose
from claude_comms.engine._instances import LocalInstances
from claude_comms.engine._prompts import PromptBuilder
from claude_comms.engine._route import Router
from claude_comms.engine._turn import RunningTurn
from claude_comms.errors import ConfigError
from claude_comms.files import private_dir
from claude_comms.storage import Database, OwnerLock
from claude_comms.types import ConversationState, Preview

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.conversations import SearchHit
    from claude_comms.descriptors import Match
    from claude_comms.settings import Settings
    from claude_comms.types import Check, Conversation, Pair, Question, Reply

__all__ = ["LocalEngine"]

_CLOSE_WAIT_S = 10.0


class LocalEngine:
    """Implements `protocols.Engine` in this process, on asyncio.

    One task of its own owns everything that runs: instances and turns live in its task group, so callers may come
    and go. `backends` stand in for the built-in ones of the same name, or add to them; whoever made them closes them.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        generator: ContextGenerator | None = None,
        backends: Mapping[str, Backend] | None = None,
    ) -> None:
        self.settings = settings
        self.registry = Registry(settings.home, settings.descriptors)
        self.generator = generator or _own_generator(settings.home / "templates")
        self.database = Database(settings.database_path)
        self._owner = OwnerLock(settings.database_path)
        self.store = ConversationStore(self.database, self._owner)
        self.pool = Pool(
            self.backend,
            max_instances=settings.max_instances,
            max_waiting=settings.max_waiting,
            queue_wait_s=settings.queue_wait_s,
        )
        self.prices = PriceTable.load()
        self._backends: dict[str, Backend] = dict(backends or {})
        self._made: list[Backend] = []
        self._router = Router(settings, self.registry, self.store, self.backend)
        self._prompts = PromptBuilder(settings, self.generator, self.backend)
        self._parts = Parts(
            settings=settings,
            router=self._router,
            prompts=self._prompts,
            store=self.store,
            pool=self.pool,
            prices=self.prices,
            backend=self.backend,
        )
        self.instances = LocalInstances(self.pool, self._router)
        self._turns: set[RunningTurn] = set()
        self._stopping = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._host: asyncio.Task[None] | None = None

    def backend(self, name: str) -> Backend:
        """The backend of that name, made when it is first asked for."""
        if name not in self._backends:
            self._backends[name] = make_backend(name, self.settings)
            self._made.append(self._backends[name])
        return self._backends[name]

    # --- life ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store, mark what a dead process left in flight, and be ready to serve.

        ConfigError for a backend that nobody knows; what fails leaves nothing open.
        """
        self._check_backend()
        private_dir(self.settings.home)
        try:
            await self.database.open()
            await anyio.to_thread.run_sync(self._owner.acquire)
            await self.store.mark_abandoned()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._let_go_of_store()
            raise
        ready = anyio.Event()
        self._host = asyncio.create_task(self._serve(ready), name="claude-comms engine")
        await ready.wait()

    async def _serve(self, ready: anyio.Event) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            ready.set()
            await self._stopping.wait()
            tasks.cancel_scope.cancel()

    async def close(self) -> None:
        """Interrupt what runs, store how it ended, let go of everything, in bounded time. May be called twice."""
        with anyio.move_on_after(_CLOSE_WAIT_S, shield=True):
            async with anyio.create_task_group() as closing:
                for turn in tuple(self._turns):
                    closing.start_soon(turn.close)
        self._stopping.set()
        if self._host is not None:
            _, late = await asyncio.wait({self._host}, timeout=_CLOSE_WAIT_S)
            for task in late:
                task.cancel()
        await self.pool.close()
        for backend in self._made:
            await close_backend(backend)
        await self._let_go_of_store()

    async def _let_go_of_store(self) -> None:
        await self.database.close()
        await anyio.to_thread.run_sync(self._owner.release)

    def _check_backend(self) -> None:
        name = self.settings.backend
        known = ["auto", *backend_names(), *self._backends]
        if name not in known:
            raise ConfigError(
                f"{self.settings.origin('backend')}: no backend {name!r}. Known: {', '.join(dict.fromkeys(known))}."
            )

    # --- asking --------------------------------------------------------------------------------

    async def ask(self, question: Question) -> RunningTurn:
        """Start a question on its way, in a task of the engine's."""
        assert self._tasks is not None, "open() first"  # noqa: S101 - communicators do
        turn = RunningTurn()
        self._turns.add(turn)
        self._tasks.start_soon(self._answer, question, turn)
        return turn

    async def _answer(self, question: Question, turn: RunningTurn) -> None:
        async def answer(turn: RunningTurn) -> Reply:
            return await Asking(self._parts, question, turn).answer()

        try:
            await turn.run(answer)
        finally:
            self._turns.discard(turn)

    async def preview(self, question: Question) -> Preview:
        """What `ask` would send. Tokens are counted by the API where there is a key."""
        route = await self._router.route(question)
        prompt = await self._prompts.build(route, question, exact=True)
        return Preview(prompt, route.backend, route.reason, route.model, route.thread_id)

    # --- what is kept --------------------------------------------------------------------------

    async def create_conversation(self, pair: Pair, *, title: str = "") -> Conversation:
        """A new, empty conversation. UnknownModuleError where a module of the pair is not known."""
        self._router.check(pair)
        return await self.store.create(pair, title=title)

    async def get_conversation(self, wanted: str) -> Conversation:
        """A conversation with its messages, by its id or any unique prefix of it."""
        return await self.store.get(wanted)

    async def list_conversations(
        self,
        *,
        source: str | None = None,
        target: str | None = None,
        state: ConversationState | None = ConversationState.ACTIVE,
        limit: int = 50,
    ) -> list[Conversation]:
        """Conversations without their messages, the newest first."""
        return await self.store.list(source=source, target=target, state=state, limit=limit)

    async def search_conversations(
        self, text: str, *, source: str | None = None, target: str | None = None, limit: int = 20
    ) -> list[SearchHit]:
        """Messages that hold the words of `text`, the best first."""
        return await self.store.search(text, source=source, target=target, limit=limit)

    async def archive_conversation(self, wanted: str) -> Conversation:
        """Hide a conversation from lists; it stays searchable."""
        return await self.store.archive(wanted)

    async def restore_conversation(self, wanted: str) -> Conversation:
        """Take a conversation out of the archive."""
        return await self.store.restore(wanted)

    async def find_modules(
        self,
        text: str | None = None,
        *,
        capability: str | None = None,
        tag: str | None = None,
        data_type: str | None = None,
    ) -> list[Match]:
        """Modules that fit all that is given; with `text`, ranked for that question."""
        return self.registry.find_modules(text, capability=capability, tag=tag, data_type=data_type)

    async def diagnose(self, *, ask: bool = False) -> list[Check]:
        """What is reachable, how fast, what is wrong. With `ask`, one turn is proved as well."""
        return await diagnose(self, ask=ask)


def _own_generator(templates: Path) -> ContextGenerator:
    """The default generator, with the user's templates where there are any."""
    return ContextGenerator(template_dirs=[templates] if templates.is_dir() else [])
