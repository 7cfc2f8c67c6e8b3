"""Per-turn figures from cumulative ones."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_comms.background.backends.claude_code._usage import UsageMeter
from claude_comms.types import Usage

COUNTS = st.tuples(*[st.integers(0, 10_000)] * 4)


def totals(counts: tuple[int, ...]) -> dict[str, Any]:
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    return {"claude-sonnet-5-5": dict(zip(names, counts, strict=True))}


def stream(meter: UsageMeter, counts: tuple[int, ...], name: str = "m") -> None:
    usage = dict(
        zip(
            ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
            counts,
            strict=True,
        )
    )
    meter.saw_event({"type": "message_start", "message": {"id": name, "usage": {**usage, "output_tokens": 1}}})
    meter.saw_event({"type": "message_delta", "usage": {"output_tokens": counts[1]}})


@given(st.lists(COUNTS, min_size=1, max_size=10), st.booleans())
def test_the_turns_of_a_process_add_up_to_its_totals(turns: list[tuple[int, ...]], resumed: bool) -> None:
    meter = UsageMeter(resumed=resumed)
    running = [700, 700, 700, 700] if resumed else [0, 0, 0, 0]
    for counts in turns:
        meter.begin_turn()
        stream(meter, counts)
        running = [total + count for total, count in zip(running, counts, strict=True)]
        usage = meter.take(totals(tuple(running)), 0.0, complete=True)
        assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == counts


def test_a_clear_starts_the_totals_from_zero() -> None:
    meter = UsageMeter(resumed=False)
    meter.take(totals((5, 5, 5, 5)), 1.0, complete=True)
    meter.cleared()
    assert meter.take(totals((7, 8, 9, 10)), 0.25, complete=True) == Usage(7, 8, 9, 10, 0.25)


def test_totals_of_several_models_count_together() -> None:
    both = {"a": {"inputTokens": 1, "outputTokens": 2}, "b": {"inputTokens": 10, "cacheReadInputTokens": 3}}
    assert UsageMeter(resumed=False).take(both, 0.5, complete=True) == Usage(11, 2, 3, 0, 0.5)


def test_a_turn_without_a_result_costs_what_the_stream_said() -> None:
    meter = UsageMeter(resumed=False)
    meter.begin_turn()
    stream(meter, (1, 2, 3, 4), "m1")
    stream(meter, (10, 20, 30, 40), "m2")
    assert meter.streamed == Usage(11, 22, 33, 44, None)
    meter.begin_turn()
    assert meter.streamed == Usage(cost_usd=0.0)


def test_an_interrupted_turn_has_the_streams_tokens_and_the_totals_price() -> None:
    meter = UsageMeter(resumed=False)
    meter.begin_turn()
    stream(meter, (1, 2, 3, 4))
    assert meter.take(totals((1, 99, 3, 4)), 0.5, complete=False) == Usage(1, 2, 3, 4, 0.5)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_odd_figures_count_as_none_at_all(value: Any) -> None:
    meter = UsageMeter(resumed=False)
    meter.saw_event({"type": "message_start", "message": value})
    meter.saw_event({"type": "message_delta", "usage": value})
    usage = meter.take({"model": value}, None, complete=True)
    assert usage.input_tokens >= 0
