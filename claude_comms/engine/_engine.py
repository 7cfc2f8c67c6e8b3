"""The engine of this process: registry, store, context and pool behind one door."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from claude_comms.accounting import PriceTable
from claude_comms.background.backends import backend_names, make_backend
from claude_comms.background.pool import Pool, Reclaiming, close_backend
from claude_comms.context import ContextGenerator
from claude_comms.conversations import ConversationStore
from claude_comms.descriptors import Registry
from claude_comms.engine._answers import check_schema
from claude_comms.engine._asking import Asking, Parts
from claude_comms.engine._diagnosis import diagnose
from claude_comms.engine._elsewhere import store_turns
from claude_comms.engine._hosting import Hosting, InstanceNews
from claude_comms.engine._instances import LocalInstances
from claude_comms.engine._jobs import NoJobs
from claude_comms.engine._lineage import Lineage
from claude_comms.engine._lost_turns import tell_of_lost_turns
from claude_comms.engine._news import TurnNews, about_conversation
from claude_comms.engine._outlet import Outlet
from claude_comms.engine._prompts import PromptBuilder
from claude_comms.engine._replay import replay
from claude_comms.engine._route import Router
from claude_comms.engine._turn import RunningTurn
from claude_comms.errors import ConfigError
from claude_comms.events import MemoryBus
from claude_comms.files import private_dir
from claude_comms.jobs import JobState
from claude_comms.storage import Database, OwnerLock
from claude_comms.types import ConversationState, Load, Pair, Preview, new_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.background.instance import Instance
    from claude_comms.conversations import SearchHit
    from claude_comms.descriptors import Match
    from claude_comms.events import EventBus, EventFilter, Subscription
    from claude_comms.protocols import Jobs, UsageBy
    from claude_comms.settings import Settings
    from claude_comms.types import Check, Conversation, InstanceInfo, Question, Reply, TerminalTurn, UsageRow

__all__ = ["LocalEngine"]

_CLOSE_WAIT_S = 10.0


class LocalEngine:
    """Implements `protocols.Engine` in this process, on asyncio.

    One task of its own owns everything that runs: instances and turns live in its task group, so callers may come
    and go. `backends` stand in for the built-in ones of the same name, or add to them; whoever made them closes them.
    `bus` is told what happens; whoever made it opens it before and closes it after. Without one, the latest events
    are kept in memory from the first `follow` on. `hosting` is for a daemon: instances are remembered and come back,
    some are kept ready, and background questions are answered.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        generator: ContextGenerator | None = None,
        backends: Mapping[str, Backend] | None = None,
        bus: EventBus | None = None,
        hosting: bool = False,
    ) -> None:
        self.settings = settings
        self.registry = Registry(settings.home, settings.descriptors)
        self.generator = generator or _own_generator(settings.home / "templates")
        self.database = Database(settings.database_path)
        self._owner = OwnerLock(settings.database_path)
        self.store = ConversationStore(self.database, self._owner)
        self.bus: EventBus = bus or MemoryBus()
        self._own_bus = bus is None
        self._outlet = Outlet(self.bus, heard=not self._own_bus)
        self._instance_news = InstanceNews(self._outlet, self._info, self._stalled)
        self.pool = Pool(
            self.backend,
            max_instances=settings.max_instances,
            max_waiting=settings.max_waiting,
            max_waiting_per_pair=settings.max_waiting_per_pair,
            queue_wait_s=settings.queue_wait_s,
            stall_s=settings.stall_s,
            reclaiming=Reclaiming(
                max_idle_s=settings.max_idle_s,
                max_age_s=settings.max_age_s,
                max_memory_mb=settings.max_memory_mb,
                max_warm=settings.max_warm,
            ),
            on_event=self._instance_news,
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
            lineage=Lineage(settings.max_hops),
            backend=self.backend,
        )
        self.instances = LocalInstances(self.pool, self._router, self._prompts, settings, self.prices)
        self.jobs: Jobs = NoJobs()
        self._turns: set[RunningTurn] = set()
        self._hosting = self._host_for_all() if hosting else None
        if self._hosting is not None:
            self.instances.settle = self._hosting.settle
        self._stopping = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._host: asyncio.Task[None] | None = None

    def _host_for_all(self) -> Hosting:
        from claude_comms.jobs.runner import JobRunner
        from claude_comms.jobs.store import JobStore
        from claude_comms.roster.store import RosterStore

        self.jobs = jobs = JobRunner(
            JobStore(self.database, self._owner),
            self._ask_for_later,
            post=self._outlet.tell,
            check=self._check,
            replay=self._answered_before,
            max_running=self.settings.max_jobs_running,
            allow_remote_callbacks=self.settings.allow_remote_callbacks,
        )
        return Hosting(RosterStore(self.database), jobs, self._instance_news)

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
            abandoned = await self.store.mark_abandoned()
            if self._own_bus:
                await self.bus.open()
            await tell_of_lost_turns(self.bus, self._outlet, self.store, abandoned)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._let_go_of_store()
            raise
        ready = anyio.Event()
        self._host = asyncio.create_task(self._serve(ready), name="claude-comms engine")
        await ready.wait()
        if self._hosting is not None and self._tasks is not None:
            await self._hosting.open(self.pool, self.instances, self.settings.prewarm, self._tasks)

    async def _serve(self, ready: anyio.Event) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self.pool.supervise)
            tasks.start_soon(self.store.keep_settling)
            ready.set()
            await self._stopping.wait()
            tasks.cancel_scope.cancel()

    async def close(self) -> None:
        """Interrupt what runs, store how it ended, let go of everything, in bounded time. May be called twice."""
        if self._hosting is not None:
            await self._hosting.close()
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
        if self._own_bus:
            await self.bus.close()
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
        return await self._start(question, outlives=False)

    async def _ask_for_later(self, question: Question) -> RunningTurn:
        """The same for a job: whoever started it, in whatever turn, does not wait for it."""
        return await self._start(question, outlives=True)

    async def _start(self, question: Question, *, outlives: bool) -> RunningTurn:
        assert self._tasks is not None, "open() first"  # noqa: S101 - communicators do
        pair = Pair(question.source, question.target)
        turn = RunningTurn(TurnNews(self._outlet, question.turn_id or new_id("t"), pair))
        self._turns.add(turn)
        self._tasks.start_soon(self._answer, question, turn, outlives)
        return turn

    async def _answer(self, question: Question, turn: RunningTurn, outlives: bool) -> None:
        async def answer(turn: RunningTurn) -> Reply:
            return await Asking(self._parts, question, turn, outlives=outlives).answer()

        try:
            await turn.run(answer)
        finally:
            self._turns.discard(turn)

    async def _answered_before(self, question: Question) -> Reply | None:
        return await replay(self.store, question, anyio.current_time())

    async def _check(self, question: Question) -> None:
        """Raise now what would be raised of the question before anything is stored."""
        check_schema(question)
        self._parts.lineage.chain(question)
        route = await self._router.route(question)
        await self._prompts.build(route, question)

    def _info(self, instance: Instance) -> InstanceInfo:
        return self.pool.info(instance)

    def _stalled(self, thread_id: str, silent_s: float) -> None:
        """Nothing has come for so long in the turn of that conversation."""
        for turn in self._turns:
            if turn.news.thread_id == thread_id:
                turn.news.stalled(silent_s)

    async def preview(self, question: Question) -> Preview:
        """What `ask` would send. Tokens are counted by the API where there is a key."""
        route = await self._router.route(question)
        prompt = await self._prompts.build(route, question, exact=True)
        return Preview(prompt, route.backend, route.reason, route.model, route.thread_id)

    async def store_turns(self, wanted: str, turns: Sequence[TerminalTurn]) -> str | None:
        """Store what was asked of an instance and answered in a terminal that was handed to it; the conversation."""
        thread_id = await store_turns(self._parts, self._outlet, self.pool.get(wanted), turns)
        await self.instances.settle()
        return thread_id

    # --- what is kept --------------------------------------------------------------------------

    async def create_conversation(self, pair: Pair, *, title: str = "") -> Conversation:
        """A new, empty conversation. UnknownModuleError where a module of the pair is not known."""
        self._router.check(pair)
        conversation = await self.store.create(pair, title=title)
        self._outlet.tell(about_conversation("conversation.created", conversation))
        return conversation

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
        conversation = await self.store.archive(wanted)
        self._outlet.tell(about_conversation("conversation.archived", conversation))
        return conversation

    async def restore_conversation(self, wanted: str) -> Conversation:
        """Take a conversation out of the archive."""
        conversation = await self.store.restore(wanted)
        self._outlet.tell(about_conversation("conversation.restored", conversation))
        return conversation

    async def load(self) -> Load:
        """How much waits and runs now."""
        if self._hosting is None:
            return Load(self.pool.waiting)
        jobs = await self._hosting.load()
        return Load(self.pool.waiting, jobs.get(JobState.QUEUED, 0), jobs.get(JobState.RUNNING, 0))

    async def drain(self, timeout_s: float) -> None:
        """Start no more background questions, and let those that run end, for so long."""
        if self._hosting is not None:
            await self._hosting.drain(timeout_s)

    def follow(self, wanted: EventFilter | None = None, *, after: int | None = None) -> Subscription:
        """What happens, as it happens; see `protocols.Engine.follow`."""
        self._outlet.heard = True
        return self.bus.subscribe(wanted, after=after)

    async def usage(
        self,
        by: UsageBy = "pair",
        *,
        source: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[UsageRow]:
        """What turns have cost, in groups, the dearest first; days in their order."""
        return await self.store.usage(by, source=source, target=target, since=since, until=until)

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

    @property
    def not_ready(self) -> Mapping[str, str]:
        """The pairs of ``[prewarm]`` of which none is kept ready, with the reason. Only who hosts keeps any."""
        if self._hosting is None:
            return {}
        failing = {f"{spec.pair.source}/{spec.pair.target}": why for spec, why in self.pool.not_ready.items()}
        return {**failing, **self._hosting.not_ready}

    async def diagnose(self, *, ask: bool = False) -> list[Check]:
        """What is reachable, how fast, what is wrong. With `ask`, one turn is proved as well."""
        return await diagnose(self, ask=ask)


def _own_generator(templates: Path) -> ContextGenerator:
    """The default generator, with the user's templates where there are any."""
    return ContextGenerator(template_dirs=[templates] if templates.is_dir() else [])
