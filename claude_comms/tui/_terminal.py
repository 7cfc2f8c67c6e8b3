"""The terminal's end: Textual does not notice it, and would read on from nothing for ever."""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["when_gone"]


def when_gone(descriptor: int, call: Callable[[], object]) -> None:
    """Call `call`, in a thread of its own, once the terminal behind `descriptor` is closed at its other end.

    A terminal that controls the process also sends SIGHUP, which ends it at once; one that does not, as under some
    supervisors and after ``nohup``, is only found so.
    """
    poll = select.poll()
    poll.register(descriptor, 0)  # nothing is asked for: that the other side is gone is always told

    def wait() -> None:
        poll.poll()
        call()

    threading.Thread(target=wait, name="claude-comms terminal", daemon=True).start()
