from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text as sql

from claude_comms.types import MessageState, Pair, Role

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from claude_comms.conversations import ConversationStore, SearchHit
    from claude_comms.storage import Database

pytestmark = pytest.mark.anyio

PAIR = Pair("marker", "arangodb")


async def turn(store: ConversationStore, question: str, reply: str, pair: Pair = PAIR) -> str:
    asked = await store.begin_turn(thread_id=None, pair=pair, text=question, sent_text=question)
    await store.complete_turn(asked.message_id, text=reply, model="m", backend="offline")
    return asked.thread_id


def places(hits: list[SearchHit]) -> set[tuple[str, int]]:
    return {(hit.thread_id, hit.position) for hit in hits}


async def test_a_hit_says_where_it_is_and_shows_the_words_in_an_excerpt(store: ConversationStore) -> None:
    long = "filler " * 200
    thread_id = await turn(store, "How?", f"{long} Store the page blocks as vertices. {long}")
    (hit,) = await store.search("block")
    stored = (await store.get(thread_id)).messages[1]
    assert (hit.thread_id, hit.message_id, hit.position) == (thread_id, stored.message_id, 1)
    assert (hit.role, hit.speaker, hit.state) == (Role.ANSWER, "arangodb", MessageState.COMPLETE)
    assert (hit.source, hit.target, hit.created_at) == ("marker", "arangodb", stored.created_at)
    assert "page «blocks» as vertices" in hit.excerpt
    assert hit.excerpt.startswith("…")
    assert len(hit.excerpt) < 300


async def test_words_are_found_in_other_forms_and_inside_identifiers(store: ConversationStore) -> None:
    thread_id = await turn(store, "What stores pages?", "extract_pdf does")
    assert places(await store.search("storing page")) == {(thread_id, 0)}
    assert places(await store.search("PDF")) == {(thread_id, 1)}
    assert places(await store.search("extract_pdf")) == {(thread_id, 1)}


async def test_all_words_must_match_where_they_can_and_any_where_they_cannot(store: ConversationStore) -> None:
    both = await turn(store, "red apples", "-")
    red = await turn(store, "red bricks", "-")
    assert places(await store.search("red apple")) == {(both, 0)}
    assert places(await store.search("red unicorn")) == {(both, 0), (red, 0)}
    assert await store.search("unicorn") == []


async def test_common_words_do_not_stand_in_the_way_of_telling_ones(store: ConversationStore) -> None:
    thread_id = await turn(store, "vertices", "edges")
    assert places(await store.search("what are the vertices")) == {(thread_id, 0)}
    await turn(store, "the who", "-")
    assert [hit.excerpt for hit in await store.search("The Who")] == ["«the» «who»"]


async def test_the_message_that_says_it_more_densely_comes_first(store: ConversationStore) -> None:
    loose = await turn(store, "graph " + "of many other words " * 20, "-")
    dense = await turn(store, "graph graph", "-")
    newer = await turn(store, "graph " + "of many other words " * 30, "-")
    hits = await store.search("graph")
    assert [hit.thread_id for hit in hits] == [dense, loose, newer]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(await store.search("graph", limit=2)) == 2


async def test_a_search_can_be_narrowed_to_a_source_and_a_target(store: ConversationStore) -> None:
    one = await turn(store, "blocks", "-", Pair("claude_mcp", "arangodb"))
    other = await turn(store, "blocks", "-", Pair("claude-mcp", "marker"))
    # The index stems names, too: "markers" must not be taken for "marker".
    third = await turn(store, "blocks", "-", Pair("mcp_claude", "markers"))
    assert places(await store.search("blocks", source="claude_mcp")) == {(one, 0)}
    assert places(await store.search("blocks", target="marker")) == {(other, 0)}
    assert places(await store.search("blocks", source="mcp_claude", target="markers")) == {(third, 0)}
    assert await store.search("blocks", source="claude_mcp", target="marker") == []
    assert await store.search("marker") == [], "a module's name alone is not what was said"


async def test_archived_conversations_are_found_unless_they_are_left_out(store: ConversationStore) -> None:
    thread_id = await turn(store, "blocks", "-")
    await store.archive(thread_id)
    assert places(await store.search("blocks")) == {(thread_id, 0)}
    assert await store.search("blocks", include_archived=False) == []


async def test_partial_answers_are_found_and_say_what_they_are(store: ConversationStore) -> None:
    asked = await store.begin_turn(thread_id=None, pair=PAIR, text="how", sent_text="how")
    await store.fail_turn(asked.message_id, error={"message": "cut"}, partial="vertices and")
    (hit,) = await store.search("vertices")
    assert hit.state is MessageState.PARTIAL


@pytest.mark.parametrize(
    "text",
    ["", "   ", '"', "NEAR(a b)", "text:blocks", "blocks*", "-blocks", "^blocks", "{text}: x", "a AND", "((", "\x00"],
)
async def test_nothing_acts_as_search_syntax(store: ConversationStore, text: str) -> None:
    await turn(store, "unrelated", "-")
    assert await store.search(text) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40), name=st.text(max_size=10))
async def test_any_text_can_be_searched_for(store: ConversationStore, text: str, name: str) -> None:
    await store.search(text, source=name or None)


async def test_the_tail_of_a_huge_text_is_not_searched_and_its_head_is(store: ConversationStore) -> None:
    await turn(store, "How?", "head " + "filler " * 50_000 + " tail")
    assert len(await store.search("head")) == 1
    assert await store.search("tail") == []


def _fill(connection: Connection, thread_id: str, messages: int) -> None:
    """Many messages with one common word, behind what the thread holds."""
    connection.execute(
        sql(
            "INSERT INTO messages (message_id, thread_id, position, role, speaker, text, state, created_at)"
            " VALUES (:id, :thread, :position, 'answer', 'arangodb', 'common filler', 'complete',"
            " '2026-11-21T06:30:00.000000+00:00')"
        ),
        [{"id": f"m_{number}", "thread": thread_id, "position": number} for number in range(2, messages + 2)],
    )


async def test_of_common_words_the_newest_come_first_and_a_telling_word_outweighs_them(
    store: ConversationStore, database: Database
) -> None:
    thread_id = await turn(store, "common unicorn", "-")
    await database.write(lambda connection: _fill(connection, thread_id, 1_100))
    newest = await store.search("common", limit=3)
    assert [hit.position for hit in newest] == [1101, 1100, 1099]
    assert places(await store.search("common unicorn")) == {(thread_id, 0)}
    any_word = await store.search("common unicorn missing", limit=2)
    assert [hit.position for hit in any_word] == [0, 1101]
    assert any_word[0].score > any_word[1].score == 0.0
