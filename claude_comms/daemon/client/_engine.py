"""The engine that a daemon hosts, for a program elsewhere on the machine."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakSet

import anyio
from anyio import to_thread

from claude_comms.daemon.client._channel import Channel
from claude_comms.daemon.client._finding import Finder
from claude_comms.daemon.client._parts import RemoteInstances, RemoteJobs, checked, one, read
from claude_comms.daemon.client._rest import Rest
from claude_comms.daemon.client._subscription import RemoteSubscription
from claude_comms.daemon.client._turn import RemoteTurn
from claude_comms.daemon.wire import (
    CheckModel,
    ConversationModel,
    NewConversationModel,
    PreviewModel,
    QuestionModel,
    SearchHitModel,
    UsageRowModel,
)
from claude_comms.errors import ClaudeCommsError
from claude_comms.types import Check, ConversationState, new_id

if TYPE_CHECKING:
    from asyncio import Task
    from datetime import datetime

    from claude_comms.descriptors import Match
    from claude_comms.events import EventFilter
    from claude_comms.protocols import UsageBy
    from claude_comms.settings import Settings
    from claude_comms.types import Conversation, Pair, Preview, Question, SearchHit, UsageRow

__all__ = ["RemoteEngine"]

_RECONNECT_S = 10.0
_PROOF_WITHIN_S = 120.0


class RemoteEngine:
    """Implements `protocols.Engine` over the daemon of a home.

    Backend, model, deadline and cost limit of `settings` go with each question; the others must be the daemon's own,
    unless `adopts` says that the daemon's hold, whatever is set here.
    With `starts` the daemon is started where none runs, also when it has died meanwhile. One that went away has
    `reconnect_s` seconds to come back; then calls end with DaemonNotRunningError, and turns with a DaemonError that
    names their conversation.
    """

    def __init__(
        self, settings: Settings, *, starts: bool = False, adopts: bool = False, reconnect_s: float = _RECONNECT_S
    ) -> None:
        self.settings = settings
        self._finder = Finder(settings, starts=starts, adopts=adopts)
        self._channel = Channel(self._finder, reconnect_s)
        self._rest = Rest(self._finder, reconnect_s)
        self.instances = RemoteInstances(self._rest, settings)
        self.jobs = RemoteJobs(self._rest, self._complete)
        self._turns: dict[Task[None], RemoteTurn] = {}
        self._subscriptions: WeakSet[RemoteSubscription] = WeakSet()

    # --- life ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect. DaemonNotRunningError without a daemon, DaemonVersionError and DaemonError where it is another."""
        await self._finder.find()
        await self._channel.connection()

    async def close(self) -> None:
        """Interrupt what this client asked and nobody has read, and disconnect, in bounded time. May be called twice.

        Instances and jobs live on.
        """
        async with anyio.create_task_group() as closing:
            for turn in tuple(self._turns.values()):
                closing.start_soon(turn.close)
            for subscription in tuple(self._subscriptions):
                closing.start_soon(subscription.close)
        await self._channel.close()
        await self._rest.close()

    # --- asking --------------------------------------------------------------------------------

    async def ask(self, question: Question) -> RemoteTurn:
        """Start a question on its way."""
        question = self._complete(question)
        deadline_s = self.settings.deadline_s if question.deadline_s is None else question.deadline_s
        named = replace(question, turn_id=question.turn_id or new_id("t"))
        turn = RemoteTurn(self._channel, named, deadline_s, new=question.turn_id is None)
        self._turns[turn.task] = turn
        turn.task.add_done_callback(lambda task: self._turns.pop(task, None))
        return turn

    async def preview(self, question: Question) -> Preview:
        """What `ask` would send."""
        asked = checked(lambda: QuestionModel.of(replace(self._complete(question), check=None)))
        return read(PreviewModel, await self._rest.post("/v1/messages/preview", asked.as_json())).inner()

    def _complete(self, question: Question) -> Question:
        """`question` with what the settings of this side say of it.

        A conversation keeps its backend and model, and an instance its own, so only a new one is given these.
        """
        settings = self.settings
        new = question.thread_id is None and question.instance_id is None
        given: dict[str, object] = {}
        if new and question.backend is None and settings.backend != "auto":
            given["backend"] = settings.backend
        if new and question.model is None and settings.origin("model") != "default":
            given["model"] = settings.model
        if question.deadline_s is None and question.instance_id is None:
            given["deadline_s"] = settings.deadline_s
        if question.max_cost_usd is None and settings.max_cost_usd is not None:
            given["max_cost_usd"] = settings.max_cost_usd
        return replace(question, **given) if given else question

    # --- what is kept --------------------------------------------------------------------------

    async def create_conversation(self, pair: Pair, *, title: str = "") -> Conversation:
        """A new, empty conversation of a known pair."""
        new = checked(lambda: NewConversationModel(source=pair.source, target=pair.target, title=title))
        told = await self._rest.post("/v1/conversations", new.model_dump())
        return read(ConversationModel, told).inner()

    async def get_conversation(self, wanted: str) -> Conversation:
        """One with its messages, by its id or any unique beginning of it."""
        return read(ConversationModel, await self._rest.get(f"/v1/conversations/{one(wanted)}")).inner()

    async def list_conversations(
        self,
        *,
        source: str | None = None,
        target: str | None = None,
        state: ConversationState | None = ConversationState.ACTIVE,
        limit: int = 50,
    ) -> list[Conversation]:
        """Without messages, the newest first; a `state` of None means all."""
        found = await self._rest.get(
            "/v1/conversations", source=source, target=target, state=state or "all", limit=limit
        )
        return [read(ConversationModel, told).inner() for told in found]

    async def search_conversations(
        self, text: str, *, source: str | None = None, target: str | None = None, limit: int = 20
    ) -> list[SearchHit]:
        """Messages that hold the words of `text`, the best first."""
        found = await self._rest.get("/v1/conversations/search", text=text, source=source, target=target, limit=limit)
        return [read(SearchHitModel, told).inner() for told in found]

    async def archive_conversation(self, wanted: str) -> Conversation:
        """Hide it from lists."""
        return read(ConversationModel, await self._rest.post(f"/v1/conversations/{one(wanted)}/archive")).inner()

    async def restore_conversation(self, wanted: str) -> Conversation:
        """Take it out of the archive."""
        return read(ConversationModel, await self._rest.post(f"/v1/conversations/{one(wanted)}/restore")).inner()

    async def find_modules(
        self,
        text: str | None = None,
        *,
        capability: str | None = None,
        tag: str | None = None,
        data_type: str | None = None,
    ) -> list[Match]:
        """Modules that fit all that is given, ranked where there is a text.

        Read here: home and descriptors are the daemon's own, and a descriptor may be of a class that no wire carries.
        """
        from claude_comms.descriptors import Registry

        registry = Registry(self.settings.home, self.settings.descriptors)
        return await to_thread.run_sync(
            lambda: registry.find_modules(text, capability=capability, tag=tag, data_type=data_type)
        )

    # --- around it -----------------------------------------------------------------------------

    def follow(self, wanted: EventFilter | None = None, *, after: int | None = None) -> RemoteSubscription:
        """What happens, as it happens: from the cursor `after` on (0: all that is kept), or from now on."""
        subscription = RemoteSubscription(self._channel, wanted, after)
        self._subscriptions.add(subscription)
        return subscription

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
        found = await self._rest.get("/v1/usage", by=by, source=source, target=target, since=since, until=until)
        return [read(UsageRowModel, told).inner() for told in found]

    async def diagnose(self, *, ask: bool = False) -> list[Check]:
        """What the daemon finds, and before it how the daemon itself is, seen from here."""
        daemon = await self._diagnose_daemon()
        if not daemon.ok:
            return [daemon]
        found = await self._rest.get("/v1/diagnose", ask=ask, within_s=_PROOF_WITHIN_S)
        return [daemon, *(read(CheckModel, told).inner() for told in found)]

    async def _diagnose_daemon(self) -> Check:
        try:
            info = await self._finder.find()
            await self._rest.get("/v1/daemon")  # the first one pays for the connection
            started = time.perf_counter()
            await self._rest.get("/v1/daemon")
        except ClaudeCommsError as error:
            return Check("daemon", ok=False, detail=str(error), hint="claude-comms daemon restart")
        took_ms = (time.perf_counter() - started) * 1000
        detail = f"pid {info.pid}, version {info.version}, {info.socket}, answers in {took_ms:.1f} ms"
        return Check("daemon", ok=True, detail=detail, duration_ms=took_ms)
