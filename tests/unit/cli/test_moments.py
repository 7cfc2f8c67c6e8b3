from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.cli._moments import Since, read_moment, read_since
from claude_comms.events import Event, Priority

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


def event(seq: int, at: datetime) -> Event:
    data: dict[str, Any] = {}
    return Event(seq, f"e_{seq}", "turn.delta", "c_1", "marker/arangodb", Priority.LOW, at, data)


def test_nothing_said_means_all_that_is_kept() -> None:
    assert read_since(None).holds(event(1, datetime(1970, 1, 1, tzinfo=UTC)))


@given(st.integers(min_value=0, max_value=2**63))
def test_a_number_is_a_cursor_and_what_is_behind_it_is_wanted(cursor: int) -> None:
    since = read_since(str(cursor))
    assert since == Since(cursor=cursor)
    assert not since.holds(event(cursor, NOW))
    assert since.holds(event(cursor + 1, NOW))


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("1.5h", timedelta(hours=1.5)),
        ("7d", timedelta(days=7)),
        ("1w", timedelta(weeks=1)),
    ],
)
def test_a_duration_counts_back_from_now(text: str, back: timedelta) -> None:
    since = read_since(text, now=NOW)
    assert since.holds(event(1, NOW - back))
    assert not since.holds(event(1, NOW - back - timedelta(milliseconds=1)))


@pytest.mark.parametrize("text", ["2026-03-04T10:00:00Z", "2026-03-04T12:00:00+02:00", "2026-03-04 10:00+00:00"])
def test_a_time_with_its_zone_is_that_moment(text: str) -> None:
    assert read_moment(text, "--since", now=NOW) == datetime(2026, 3, 4, 10, tzinfo=UTC)


def test_a_time_without_zone_or_date_is_the_readers_own() -> None:
    here = NOW.astimezone()
    wanted = here.replace(hour=1, minute=2, second=0, microsecond=0)
    assert read_moment("01:02", "--since", now=NOW) == wanted
    assert read_moment(f"{here:%Y-%m-%d}", "--since", now=NOW) == wanted.replace(hour=0, minute=0)


@pytest.mark.parametrize("text", ["", "yesterday", "10", "10x", "-5m", "25:00", "2026-13-01", "9" * 400 + "d"])
def test_what_is_no_time_is_misuse_that_shows_what_is(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 10m"):
        read_moment(text, "--since", now=NOW)
