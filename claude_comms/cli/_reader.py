"""Whether anybody still reads stdout: known at once, where a command waits for long before it writes again."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

__all__ = ["while_read"]

_STDOUT = 1


@contextmanager
def while_read() -> Generator[None]:
    """BrokenPipeError in the main thread, which this is for, as soon as stdout's reader has gone.

    A terminal that goes says so by SIGHUP.
    """
    if threading.current_thread() is not threading.main_thread() or os.isatty(_STDOUT):
        yield
        return
    gone = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        # Else it was a connection of ours that broke: whoever wrote to it is told by the system's own error.
        if gone.is_set():
            gone.clear()
            raise BrokenPipeError("whoever read stdout has gone")

    before = signal.signal(signal.SIGPIPE, end)
    told, tell = os.pipe()
    watching = threading.Thread(target=_watch, args=(told, gone), name="stdout's reader", daemon=True)
    watching.start()
    try:
        yield
    finally:
        os.close(tell)
        watching.join()
        os.close(told)
        signal.signal(signal.SIGPIPE, before)


def _watch(ended: int, gone: threading.Event) -> None:
    """Wait until stdout's reader has gone, or the other end of `ended` is closed."""
    both = select.poll()
    both.register(_STDOUT, 0)
    both.register(ended, 0)
    if any(descriptor == ended for descriptor, _ in both.poll()):
        return
    gone.set()
    # Not `interrupt_main`: it would not wake the main thread, which waits for the next event.
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGPIPE)
