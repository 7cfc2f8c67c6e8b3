from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast, get_args

import pytest
from sqlalchemy import update

from claude_comms.conversations._tables import messages
from claude_comms.conversations._usage import usage
from claude_comms.errors import ConfigError
from claude_comms.protocols import UsageBy
from claude_comms.storage import driver_of
from claude_comms.types import Pair, Usage

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from claude_comms.conversations import ConversationStore
    from claude_comms.storage import Database

pytestmark = pytest.mark.anyio

MARKER, NEWS = Pair("marker", "arangodb"), Pair("news", "arangodb")
EVERY = cast("tuple[UsageBy, ...]", get_args(UsageBy))


async def answered(
    store: ConversationStore, pair: Pair = MARKER, usage: Usage | None = None, *, model: str = "m", backend: str = "api"
) -> str:
    asked = await store.begin_turn(thread_id=None, pair=pair, text="?", sent_text="?")
    reply = await store.complete_turn(asked.message_id, text="!", model=model, backend=backend, usage=usage)
    return reply.message_id


async def failed(store: ConversationStore, usage: Usage | None, *, partial: str = "") -> None:
    asked = await store.begin_turn(thread_id=None, pair=MARKER, text="?", sent_text="?", model="m", backend="api")
    await store.fail_turn(asked.message_id, error={"message": "no"}, partial=partial, usage=usage)


async def dated(database: Database, message_id: str, at: datetime) -> None:
    moved = update(messages).where(messages.c.message_id == message_id).values(created_at=at)
    await database.write(lambda connection: connection.execute(moved))


async def groups(store: ConversationStore, by: UsageBy, **wanted: Any) -> list[tuple[str, int, float | None]]:
    return [(row.group, row.turns, row.usage.cost_usd) for row in await store.usage(by, **wanted)]


@pytest.mark.parametrize("by", EVERY)
async def test_nothing_was_spent_where_nothing_was_asked(store: ConversationStore, by: UsageBy) -> None:
    assert await store.usage(by) == []


async def test_tokens_and_money_are_added_up_by_pair_the_dearest_first(store: ConversationStore) -> None:
    await answered(store, MARKER, Usage(1, 2, 3, 4, 0.01))
    await answered(store, NEWS, Usage(10, 20, 30, 40, 0.5))
    await answered(store, MARKER, Usage(5, 6, 7, 8, 0.02))
    news, marker = await store.usage("pair")
    assert (news.group, news.turns, news.usage) == ("news/arangodb", 1, Usage(10, 20, 30, 40, 0.5))
    assert (marker.group, marker.turns) == ("marker/arangodb", 2)
    assert (marker.usage.input_tokens, marker.usage.output_tokens) == (6, 8)
    assert (marker.usage.cache_read_tokens, marker.usage.cache_write_tokens) == (10, 12)
    assert marker.usage.cost_usd == pytest.approx(0.03)


async def test_each_grouping_names_its_groups(store: ConversationStore) -> None:
    await answered(store, MARKER, Usage(1, 1, cost_usd=0.25), model="small", backend="api")
    await answered(store, NEWS, Usage(1, 1, cost_usd=0.5), model="large", backend="claude-code")
    assert await groups(store, "source") == [("news", 1, 0.5), ("marker", 1, 0.25)]
    assert await groups(store, "target") == [("arangodb", 2, 0.75)]
    assert await groups(store, "backend") == [("claude-code", 1, 0.5), ("api", 1, 0.25)]
    assert await groups(store, "model") == [("large", 1, 0.5), ("small", 1, 0.25)]
    assert await groups(store, "all") == [("all", 2, 0.75)]


async def test_days_stand_in_their_order(store: ConversationStore, database: Database) -> None:
    first, second, third = [await answered(store, usage=Usage(1, cost_usd=cost)) for cost in (0.25, 0.5, 1.0)]
    await dated(database, first, datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC))
    await dated(database, second, datetime(2026, 11, 21, tzinfo=UTC))
    await dated(database, third, datetime(2026, 11, 21, 23, tzinfo=UTC))
    assert await groups(store, "day") == [("2026-11-20", 1, 0.25), ("2026-11-21", 2, 1.5)]


async def test_a_cost_that_is_not_known_hides_none_that_is(store: ConversationStore) -> None:
    await answered(store, MARKER, Usage(10, cost_usd=None))
    await answered(store, MARKER, Usage(10, cost_usd=0.25))
    await answered(store, NEWS, Usage(99, cost_usd=None))
    assert await groups(store, "pair") == [("marker/arangodb", 2, 0.25), ("news/arangodb", 1, None)]


async def test_failed_turns_count_where_they_cost_something(store: ConversationStore) -> None:
    await failed(store, Usage(10, 1, cost_usd=0.25))
    await failed(store, Usage(10, 1, cost_usd=0.5), partial="Half of")
    await failed(store, Usage())
    await failed(store, None)
    await failed(store, None, partial="Half of")
    (row,) = await store.usage("backend")
    assert (row.group, row.turns, row.usage) == ("api", 2, Usage(20, 2, cost_usd=0.75))


async def test_an_answer_that_cost_nothing_is_a_turn(store: ConversationStore) -> None:
    await answered(store, usage=Usage(cost_usd=0.0), backend="offline")
    await answered(store, usage=None, backend="offline")
    assert await groups(store, "backend") == [("offline", 2, 0.0)]


@pytest.mark.parametrize("by", EVERY)
async def test_what_is_asked_for_is_what_is_added_up(store: ConversationStore, database: Database, by: UsageBy) -> None:
    begin = datetime(2026, 11, 21, tzinfo=UTC)
    for hours, pair in enumerate((MARKER, NEWS, MARKER, Pair("news", "git"))):
        message_id = await answered(store, pair, Usage(1, cost_usd=2.0**hours))
        await dated(database, message_id, begin + timedelta(hours=hours))

    async def spent(**wanted: Any) -> float:
        return sum(row.usage.cost_usd or 0.0 for row in await store.usage(by, **wanted))

    assert await spent() == 15.0
    assert await spent(source="marker") == 5.0
    assert await spent(target="arangodb") == 7.0
    assert await spent(source="news", target="git") == 8.0
    assert await spent(source="nobody") == 0.0
    assert await spent(since=begin + timedelta(hours=1)) == 14.0
    assert await spent(until=begin + timedelta(hours=1)) == 1.0
    assert await spent(since=begin + timedelta(hours=1), until=begin + timedelta(hours=3), source="marker") == 4.0


async def test_what_cannot_be_grouped_or_dated_is_refused(store: ConversationStore) -> None:
    with pytest.raises(ConfigError, match=r"by: .*'mood'.*Known: pair"):
        await store.usage(cast("UsageBy", "mood"))
    with pytest.raises(ConfigError, match=r"since: .*no time zone"):
        await store.usage(since=datetime(2026, 11, 21))  # noqa: DTZ001 - that is the mistake


@pytest.mark.parametrize("by", EVERY)
async def test_no_text_is_read_for_a_sum(store: ConversationStore, database: Database, by: UsageBy) -> None:
    """The messages are reached through an index that holds all that is added up."""
    asked: list[str] = []

    def plan(connection: Connection) -> list[str]:
        driver = driver_of(connection)
        driver.set_trace_callback(asked.append)
        usage(connection, by, source="marker", target=None, since=datetime.now(UTC), until=None)
        driver.set_trace_callback(None)
        (query,) = asked
        return [str(row[3]) for row in driver.execute(f"EXPLAIN QUERY PLAN {query}")]

    steps = [step for step in await database.read(plan) if "messages" in step]
    assert steps
    assert all("COVERING INDEX messages_usage" in step for step in steps), steps
