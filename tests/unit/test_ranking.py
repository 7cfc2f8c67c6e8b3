"""Which texts speak about a question."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.ranking import TextIndex, fts_query

DOCUMENTS = [
    ("extract_pdf", "Turns a file into text."),
    ("storeBlocks", "Stores page blocks in a collection."),
    ("search", "Finds stored pages again by their words."),
]


@pytest.fixture(scope="module")
def index() -> TextIndex:
    return TextIndex(DOCUMENTS)


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("How do I get text out of a PDF?", 0),
        ("storing a block", 1),
        ("blocks", 1),
        ("which words did I search?", 2),
        ("EXTRACT", 0),
    ],
)
def test_the_text_about_the_question_comes_first(index: TextIndex, question: str, first: int) -> None:
    assert index.rank(question)[0][0] == first


def test_scores_are_positive_and_fall(index: TextIndex) -> None:
    scores = [score for _, score in index.rank("store pages or search words in a file")]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0


def test_a_word_in_the_title_weighs_more() -> None:
    index = TextIndex([("other", "graph and more"), ("graph", "other and more")])
    assert [position for position, _ in index.rank("graph")] == [1, 0]


def test_a_limit_keeps_the_best(index: TextIndex) -> None:
    assert index.rank("store page blocks", limit=1) == index.rank("store page blocks")[:1]


def test_a_question_without_words_of_its_own_finds_nothing(index: TextIndex) -> None:
    assert index.rank("what can you do for me?") == []
    assert index.rank("?!") == []
    assert index.rank("zebra") == []


def test_a_lone_surrogate_in_a_text_does_not_keep_the_rest_from_being_found() -> None:
    assert TextIndex([("half", "of an emoji \ud83d in text")]).rank("emoji")[0][0] == 0


@given(st.text(st.characters(exclude_categories=())))
def test_no_question_acts_as_search_syntax(question: str) -> None:
    TextIndex(DOCUMENTS).rank(question)


@pytest.mark.parametrize("question", ['"pdf', "pdf OR", "pdf AND NOT", "title:pdf", "pdf*", "NEAR(pdf", "pdf^", "(pdf"])
def test_search_syntax_in_a_question_is_only_words(index: TextIndex, question: str) -> None:
    assert index.rank(question)[0][0] == 0


def test_stop_words_are_kept_on_demand() -> None:
    assert fts_query("what is it") == ""
    assert fts_query("what is it", keep_stop_words=True) == '"what" OR "is" OR "it"'


def test_one_index_serves_several_threads(index: TextIndex) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(index.rank("pdf")[0][0] for _ in range(50))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 200


def test_a_text_that_is_no_unicode_hides_no_other() -> None:
    index = TextIndex([("broken \ud800", "pages"), ("whole", "pages")])
    assert {number for number, _ in index.rank("pages")} == {0, 1}
