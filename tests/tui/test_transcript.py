"""What an instance said: in bounds, whole where it is stored, and each thing once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from claude_comms.tui.model import EntryKind, Transcript, World, entries_of, last_answer
from claude_comms.types import Conversation, MessageState
from tui.support import answer, conversation, event, info, question, turn


def test_pieces_make_one_answer_and_a_tool_parts_it() -> None:
    said = Transcript()
    for piece in ("Let ", "me look."):
        said.piece(piece, speaker="arangodb", turn_id="t_1")
    said.add(EntryKind.TOOL, "Read README.md", turn_id="t_1")
    said.piece("Yes.", speaker="arangodb", turn_id="t_1")
    assert [entry.text for entry in said.entries] == ["Let me look.", "Read README.md", "Yes."]
    assert said.last_answer == "Let me look.Yes."
    assert [entry.open for entry in said.entries] == [False, False, True]


def test_the_stored_whole_takes_the_place_of_pieces_that_lack_something() -> None:
    said = Transcript()
    said.piece("the end.", speaker="arangodb", turn_id="t_1")
    said.whole("The beginning and the end.", speaker="arangodb", turn_id="t_1", partial=False)
    assert [entry.text for entry in said.entries] == ["The beginning and the end."]
    said.whole("The beginning and the end.", speaker="arangodb", turn_id="t_1", partial=False)
    assert len(said.entries) == 1


@given(st.lists(st.tuples(st.sampled_from(("add", "piece", "whole")), st.integers(0, 900)), max_size=60))
@example([("add", 90)] * 10)
@example([("piece", 90)] * 10)
@example([("whole", 900), ("add", 90), ("add", 90), ("add", 90)])
@example([("add", 1)] * 250)
def test_a_transcript_is_bounded_whatever_is_said(pieces: list[tuple[str, int]]) -> None:
    said = Transcript(most_characters=200)
    answered = False
    for at, (how, size) in enumerate(pieces):
        if how == "add":
            said.add(EntryKind.QUESTION, "q" * size, turn_id=f"t_{at}")
        elif how == "piece":
            said.piece("p" * size, speaker="x", turn_id="t_1")
        else:
            said.whole("w" * size, speaker="x", turn_id=f"t_{at}", partial=False)
        answered = answered or (how != "add" and size > 0)
        assert sum(len(entry.text) for entry in said.entries) <= 200 + 3
        assert sum(entry.size for entry in said.entries) == said._characters
        assert len(said.entries) <= 200
        assert bool(said.last_answer) >= answered


def test_the_end_of_a_very_long_answer_stays_when_its_turn_ends() -> None:
    said = Transcript()
    said.add(EntryKind.QUESTION, "Why?", turn_id="t")
    said.whole("x " * 35_000 + "the end.", speaker="a", turn_id="t", partial=True)
    said.add(EntryKind.COST, "$0.01", turn_id="t")
    kinds = [entry.kind for entry in said.entries]
    assert kinds == [EntryKind.QUESTION, EntryKind.ANSWER, EntryKind.NOTE, EntryKind.COST]
    assert said.last_answer.startswith("…")
    assert said.last_answer.endswith("the end.")
    assert said.cut


def test_the_newest_answer_outlives_whatever_comes_after_it() -> None:
    said = Transcript()
    said.whole("x " * 35_000 + "the end.", speaker="a", turn_id="t", partial=False)
    for number in range(300):
        said.add(EntryKind.QUESTION, "y" * 9_000, turn_id=f"t_{number}")
    assert said.last_answer.endswith("the end.")


def test_a_stored_conversation_has_tools_refusals_and_cost_inline() -> None:
    kinds = [entry.kind for entry in entries_of(conversation(0))]
    assert kinds == [EntryKind.QUESTION, EntryKind.TOOL, EntryKind.TROUBLE, EntryKind.ANSWER, EntryKind.COST]


# --- what the store says, and what events say --------------------------------------------------


def events_of_turn(*kinds: str) -> list[Any]:
    ids = {"turn_id": "t_0"}
    asked = turn(0, role="question", speaker="marker", text="Why?", state="pending", message_id="m_c_00_q", **ids)
    told = turn(0, role="answer", speaker="arangodb", text="Since.", state="complete", message_id="m_c_00_a", **ids)
    reply = {"usage": {"output_tokens": 5}, "duration_ms": 5.0}
    known = {
        "asked": event("message.stored", asked),
        "piece": event("turn.delta", turn(0, text="nce.", **ids)),
        "stored": event("message.stored", told),
        "completed": event("turn.completed", turn(0, reply=reply, **ids)),
    }
    return [known[kind] for kind in kinds]


def stored(*, ended: bool = True) -> Conversation:
    asked = question("c_00", "Why?")
    if ended:
        return replace(conversation(0), messages=(asked, answer("c_00", "Since.", tools=(), refusals=())))
    return replace(conversation(0), messages=(replace(asked, state=MessageState.PENDING),))


def watched(*first: Any) -> tuple[World, Transcript]:
    world = World(lambda: 0.0)
    world.board.listed([info(0)])
    for one in first:
        world.take(one)
    return world, world.board.known["i_00"].transcript


def texts(said: Transcript) -> list[str]:
    return [entry.text for entry in said.entries if entry.kind in (EntryKind.QUESTION, EntryKind.ANSWER)]


def test_what_the_store_has_told_is_not_told_again_by_the_events_of_it() -> None:
    world, said = watched()
    said.seed(stored())
    for one in events_of_turn("asked", "piece", "stored", "completed"):
        world.take(one)
    assert [entry.kind for entry in said.entries] == [EntryKind.QUESTION, EntryKind.ANSWER, EntryKind.COST]


def test_what_events_have_told_is_not_told_again_by_the_store() -> None:
    _, said = watched(*events_of_turn("asked", "piece", "stored", "completed"))
    said.seed(stored())
    assert [entry.kind for entry in said.entries] == [EntryKind.QUESTION, EntryKind.ANSWER, EntryKind.COST]


def test_the_store_may_be_ahead_of_the_events_in_the_middle_of_a_turn() -> None:
    world, said = watched(*events_of_turn("asked", "piece"))
    said.seed(stored())
    for one in events_of_turn("stored", "completed"):
        world.take(one)
    assert texts(said) == ["Why?", "Since."]


def test_whoever_comes_in_the_middle_of_an_answer_sees_the_question_and_that_something_is_missing() -> None:
    world, said = watched(*events_of_turn("piece"))
    said.seed(stored(ended=False))
    assert texts(said) == ["Why?", "…nce."]
    for one in events_of_turn("stored", "completed"):
        world.take(one)
    assert texts(said) == ["Why?", "Since."]


def test_pieces_that_come_after_the_store_was_read_are_said_to_be_the_rest() -> None:
    world, said = watched()
    said.seed(stored(ended=False))
    for one in events_of_turn("piece"):
        world.take(one)
    assert texts(said) == ["Why?", "…nce."]


def test_nothing_is_missing_of_an_answer_whose_question_is_heard_after_it_was_read() -> None:
    world, said = watched()
    said.seed(stored(ended=False))
    for one in events_of_turn("asked", "piece"):
        world.take(one)
    assert texts(said) == ["Why?", "nce."]


def test_an_answer_that_has_come_as_a_whole_is_not_said_to_be_a_rest() -> None:
    _, said = watched(*events_of_turn("piece", "stored"))
    said.seed(stored(ended=False))
    assert texts(said) == ["Why?", "Since."]


def test_a_long_stored_answer_is_cut_to_the_room_there_is() -> None:
    said = Transcript(most_characters=1_000)
    said.seed(replace(stored(), messages=(question("c_00", "Why?"), answer("c_00", "x" * 5_000 + "end", tools=()))))
    assert said.cut
    assert said.last_answer.startswith("…")
    assert said.last_answer.endswith("xend")
    assert sum(entry.size for entry in said.entries) <= 1_000


def test_a_failed_question_in_the_store_says_what_it_cost() -> None:
    asked = question("c_00", "Why?", error={"type": "X", "message": "no"}, usage=answer("c_00", "").usage)
    kinds = [entry.kind for entry in entries_of(replace(stored(), messages=(asked,)))]
    assert kinds == [EntryKind.QUESTION, EntryKind.TROUBLE, EntryKind.COST]
    assert last_answer(entries_of(stored())) == "Since."
