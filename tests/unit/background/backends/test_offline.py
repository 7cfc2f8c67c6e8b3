from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.background.backends.offline import OfflineBackend, OfflineSession
from claude_comms.types import (
    Delta,
    InstanceSpec,
    Pair,
    Passage,
    Prompt,
    TokenCount,
    TurnEvent,
    TurnRequest,
    TurnResult,
    Usage,
)

pytestmark = pytest.mark.anyio

PASSAGES = (
    Passage("summary", "arangodb", "A multi-model database: documents, graphs and search."),
    Passage("capability", "store_documents", "Store many documents in one collection.\nTags: write, documents"),
    Passage("schema", "store_documents: input", "collection: string\ndocuments: list of objects"),
    Passage("example", "store_documents: example", 'input: {"collection": "blocks"}\noutput: {"stored": 2}'),
    Passage("capability", "traverse_graph", "Follow edges from a start vertex."),
    Passage("capability", "create_index", "Make lookups by a field fast."),
    Passage("data_type", "Page", "One page of blocks, with its blocks in reading order."),
    Passage("relationship", "marker", "arangodb consumes marker: it keeps what marker reads from a PDF."),
    Passage("relationship", "dashboard", "arangodb feeds dashboard."),
)


async def answer(question: str, passages: tuple[Passage, ...] = PASSAGES) -> tuple[TurnResult, list[str]]:
    pieces: list[str] = []

    async def emit(event: TurnEvent) -> None:
        assert isinstance(event, Delta)
        pieces.append(event.text)

    prompt = Prompt(
        Pair("marker", "arangodb"), (), (), question, question, "query", "v1", TokenCount(1), passages=passages
    )
    return await OfflineSession().ask(TurnRequest(prompt, "c_1", "m", 1000), emit), pieces


async def test_the_first_line_says_that_no_model_was_asked_and_what_is_quoted() -> None:
    for question in ("How should I store my page blocks?", "xyzzy", ""):
        text = (await answer(question))[0].text
        assert text.splitlines()[0] == "[offline] No model was asked. These are quotes from the descriptor of arangodb."


async def test_it_quotes_what_speaks_about_the_question_each_under_its_title_and_kind() -> None:
    text = (await answer("How should I store my page blocks?"))[0].text
    assert "store_documents (capability)\n> Store many documents in one collection.\n> Tags: write, documents\n" in text
    assert "Page (data type)\n> One page of blocks, with its blocks in reading order.\n" in text
    assert "traverse_graph (capability)" not in text
    assert "Other capabilities of arangodb: traverse_graph, create_index.\n" in text


async def test_an_example_that_matches_stands_under_its_capability_also_if_that_does_not_match_itself() -> None:
    text = (await answer("blocks"))[0].text
    assert text.index("store_documents (capability)") < text.index('example:\n> input: {"collection": "blocks"}')


async def test_how_the_target_relates_to_the_one_who_asks_is_quoted_and_to_others_is_not() -> None:
    text = (await answer("How should I store my page blocks?"))[0].text
    assert "marker (relationship)\n> arangodb consumes marker" in text
    assert "dashboard" not in text


async def test_when_nothing_speaks_about_the_question_it_says_so_and_lists_what_there_is() -> None:
    text = (await answer("xyzzy"))[0].text
    assert "Nothing in the descriptor of arangodb speaks about this question." in text
    assert "Capabilities of arangodb: store_documents, traverse_graph, create_index.\n" in text
    assert "> " not in text


async def test_a_descriptor_without_capabilities_is_said_to_have_none() -> None:
    assert "lists no capabilities" in (await answer("anything", ()))[0].text


async def test_it_comes_in_pieces_costs_nothing_and_is_the_same_each_time() -> None:
    first, pieces = await answer("How should I store my page blocks?")
    second, _ = await answer("How should I store my page blocks?")
    assert first == second
    assert len(pieces) > 2
    assert "".join(pieces) == first.text
    assert first.usage == Usage(cost_usd=0.0)
    assert (first.model, first.stop_reason) == ("offline", "end_turn")


async def test_a_very_long_passage_is_cut_and_says_by_how_much() -> None:
    text = (await answer("blocks", (Passage("capability", "store", "blocks " * 1000),)))[0].text
    assert "…\n(5499 more characters)" in text
    assert len(text) < 2_500


@given(st.text(), st.text(), st.text())
async def test_what_a_descriptor_says_stays_in_its_quotation_and_cannot_act_on_a_terminal(
    title: str, body: str, question: str
) -> None:
    hostile = Passage("capability", f"store {title}\n# heading", f"store\x1b[2J {body}\n[offline] a model was asked")
    text = (await answer(f"store {question}", (hostile,)))[0].text
    assert "\x1b" not in text
    assert "\n# heading" not in text
    assert [line for line in text.splitlines() if line.startswith("[offline]")] == [text.splitlines()[0]]
    assert "\n> [offline] a model was asked" in text


async def test_a_backend_that_is_closed_opens_no_session() -> None:
    backend = OfflineBackend()
    spec = InstanceSpec(Pair("a", "b"), "offline")
    assert await backend.open(spec)
    await backend.close()
    with pytest.raises(Exception, match="closed"):
        await backend.open(spec)
