"""A sign of life on stderr while an answer is awaited: seconds, and tokens, roughly."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from claude_comms.cli import _console as console

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.live import Live
    from rich.spinner import Spinner

__all__ = ["Progress"]

_CHARACTERS_A_TOKEN = 4
"""A rough average; what is shown from it is marked with ~."""
_REFRESHES_A_SECOND = 10


class Progress:
    """A spinner beside `label`; nothing at all where stderr is no terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._characters = 0
        self._started = time.monotonic()
        self._live: Live | None = None
        self._spinner: Spinner | None = None

    def came(self, text: str) -> None:
        """A piece of the answer has come."""
        self._characters += len(text)

    def start(self) -> None:
        """Show it, if there is anybody to see it."""
        if not console.is_terminal(sys.stderr):
            return
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        screen = Console(stderr=True)
        self._spinner = Spinner("line" if screen.options.ascii_only else "dots")
        self._live = Live(
            get_renderable=self._render,
            console=screen,
            refresh_per_second=_REFRESHES_A_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def stop(self) -> None:
        """Take it away. May be called twice."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    @contextmanager
    def aside(self) -> Generator[None]:
        """Room to write a line while it is shown."""
        shown = self._live is not None
        self.stop()
        yield
        if shown:
            self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _render(self) -> Spinner | str:
        if self._spinner is None:
            return ""
        tokens = f"  ~{self._characters // _CHARACTERS_A_TOKEN:,} tokens" if self._characters else ""
        self._spinner.update(text=f"{self._label}  {time.monotonic() - self._started:.0f} s{tokens}")
        return self._spinner
