"""Figures and times as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from claude_comms.types import TokenCount, Usage

__all__ = ["ago", "clock", "cost", "local_time", "memory", "plural", "seconds", "tokens", "usage"]


def tokens(count: TokenCount) -> str:
    """A count of tokens; an estimate is marked as one."""
    return f"{'~' if count.estimated else ''}{count.tokens:,} tokens{' (estimated)' if count.estimated else ''}"


def cost(usd: float | None) -> str:
    """Dollars, with as many places as small amounts need."""
    if usd is None:
        return "cost unknown"
    return f"${usd:.4f}" if usd else "no cost"


def seconds(duration_ms: float) -> str:
    """A duration in seconds."""
    return f"{duration_ms / 1000:.1f} s"


def usage(spent: Usage) -> str:
    """Tokens in and out, and what they cost."""
    read = spent.input_tokens + spent.cache_read_tokens + spent.cache_write_tokens
    if not read and not spent.output_tokens:
        return f"no tokens · {cost(spent.cost_usd)}"
    cached = f" ({spent.cache_read_tokens:,} cached)" if spent.cache_read_tokens else ""
    return f"{read:,}{cached} tokens in, {spent.output_tokens:,} out · {cost(spent.cost_usd)}"


def local_time(moment: datetime) -> str:
    """A moment on the reader's clock, to the minute."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def clock(moment: datetime) -> str:
    """A moment on the reader's clock, to the second; with its date where that is not today's."""
    from datetime import datetime

    here = moment.astimezone()
    return f"{here:%H:%M:%S}" if here.date() == datetime.now(here.tzinfo).date() else f"{here:%Y-%m-%d %H:%M:%S}"


def ago(moment: datetime | None) -> str:
    """How long ago a moment was, roughly; ``-`` for none."""
    from datetime import UTC, datetime

    if moment is None:
        return "-"
    past_s = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if past_s >= unit_s:
            return f"{past_s / unit_s:.0f} {unit} ago"
    return f"{past_s:.0f} s ago"


def memory(size_bytes: int | None) -> str:
    """Bytes as MiB; ``-`` for none."""
    return "-" if size_bytes is None else f"{size_bytes / 1024 / 1024:.0f} MiB"


def plural(count: int, noun: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
