"""One filter, twice: in Python for what comes, in SQL for what is kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from claude_comms.events import EventFilter, NewEvent
from claude_comms.events._accepting import accept
from claude_comms.events._rows import bring_up_to_date, insert, read_page
from claude_comms.events._spans import Spans

_letters = st.text(alphabet="ab/*?[].\n", min_size=1, max_size=6)
_ids = st.sampled_from(["i_1", "i_2", "t_1"])
_patterns = st.lists(_letters, max_size=2).map(tuple)
_events = st.builds(
    NewEvent,
    type=_letters,
    subject=_letters,
    namespace=_letters,
    data=st.dictionaries(st.sampled_from(["turn_id", "instance_id"]), _ids | st.integers()),
)
_filters = st.builds(
    EventFilter,
    types=_patterns,
    subjects=_patterns,
    namespaces=_patterns,
    module=st.none() | st.text(alphabet="ab*?[", min_size=1, max_size=2),
    instance_id=st.none() | _ids,
    turn_id=st.none() | _ids,
)


@given(st.lists(_events, max_size=8), _filters, st.integers(0, 8), st.integers(1, 8))
def test_what_is_kept_is_chosen_as_what_comes(new: list[NewEvent], wanted: EventFilter, after: int, limit: int) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    bring_up_to_date(connection, Path("events.db"))
    accepted = [accept(event) for event in new]
    insert(connection, 1, accepted, 0.0)
    Spans().note(connection, 1, accepted)
    events = [event.numbered(seq) for seq, event in enumerate(accepted, 1)]
    page = read_page(connection, wanted, after=after, until=len(new), limit=limit)
    connection.close()
    assert page.events == [event for event in events if event.seq > after and wanted.fits(event)][:limit]
    assert page.end == (page.events[-1].seq if len(page.events) == limit else len(new))


def test_a_star_stands_for_anything_and_nothing_else_does() -> None:
    event = NewEvent("turn.delta", "c_1", "marker/arangodb")
    assert EventFilter(types=("turn.*",), namespaces=("*/arangodb",)).fits(event)
    assert EventFilter(types=("*",)).fits(event)
    assert not EventFilter(types=("turn",)).fits(event)
    assert not EventFilter(types=("turn?delta",)).fits(event)
    assert not EventFilter(types=("TURN.*",)).fits(event)
