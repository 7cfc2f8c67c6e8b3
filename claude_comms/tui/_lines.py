"""What scrolls over lines that come all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LineView"]


class LineView(ScrollView):
    """A view whose lines become more or fewer without the whole screen being laid out again."""

    def set_lines(self, count: int) -> bool:
        """There are `count` lines to scroll over now; whether the screen has to be laid out for that.

        Until it was, the new lines are not yet part of what can be scrolled over.
        """
        # Nothing scrolls sideways. With the real width, each change of it would lay the screen out twice.
        before, now = self.virtual_size, Size(1, count)
        if now == before:
            return False
        if self._stays(before.height, count):
            self.set_reactive(Widget.virtual_size, now)  # pyright: ignore[reportArgumentType] - of the class, it is no Size
            if self.show_vertical_scrollbar:
                self.vertical_scrollbar.window_virtual_size = count
            self.scroll_y = min(self.scroll_y, self.max_scroll_y)
            return False
        self.virtual_size = now
        return True

    def _stays(self, before: int, now: int) -> bool:
        """Whether nothing changes its place with so many lines: it scrolled and scrolls, or there was and is room."""
        room = self.container_size.height
        if self.show_vertical_scrollbar:
            return min(before, now) > room
        return max(before, now) <= room and not self.styles.is_auto_height

    def draw_lines(self, before: Sequence[object], now: Sequence[object]) -> None:
        """Draw those lines of the screen again that say something else than before."""
        if len(before) != len(now):
            self.refresh()
            return
        for y, (new, old) in enumerate(zip(now, before, strict=True)):
            if new is not old and new != old:
                self.refresh_line(y + self.scroll_offset.y)
