"""The last line: the keys that do something here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.cells import cell_len
from rich.text import Text
from textual.widget import Widget

if TYPE_CHECKING:
    from textual import events
    from textual.app import App
    from textual.screen import Screen
    from textual.signal import Signal

__all__ = ["KeyLine"]

_ALWAYS = 2
"""So many of the last ones (help, quit) stay when there is no room for all."""


@dataclass(frozen=True, slots=True)
class _Key:
    key: str
    shown: str
    does: str
    enabled: bool

    @property
    def width(self) -> int:
        return cell_len(self.shown) + 1 + cell_len(self.does)


class KeyLine(Widget):
    """Says the keys of the screen and the focus; a click on one is like pressing it.

    Textual's `Footer` makes a widget of each key, anew with every change of the focus: that is most of what another
    screen takes, and what it made before is kept for ever (8.2.8: each leaves a watcher with the footer).
    """

    ALLOW_SELECT: ClassVar[bool] = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"keyline--key", "keyline--does"}

    def __init__(self) -> None:
        super().__init__()
        self._keys: tuple[_Key, ...] = ()

    def on_mount(self) -> None:
        """Be told when other keys work."""
        updated = cast("Signal[Any]", self.screen.bindings_updated_signal)  # pyright: ignore[reportUnknownMemberType]
        updated.subscribe(self, self._changed)

    def _changed(self, _: Screen[Any]) -> None:
        self.call_after_refresh(self._read)

    @property
    def _monitor(self) -> App[Any]:
        return cast("App[Any]", self.app)  # pyright: ignore[reportUnknownMemberType]

    def _read(self) -> None:
        keys: dict[str, _Key] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and binding.action not in keys:
                display = self._monitor.get_key_display(binding)
                keys[binding.action] = _Key(binding.key, display, binding.description, active.enabled)
        if self._keys != (now := tuple(keys.values())):
            self._keys = now
            self.refresh()

    def _fitting(self) -> list[_Key]:
        """Those that there is room for: all, or the first ones and the last."""
        left = self.size.width - sum(key.width + 1 for key in self._keys)
        shown = list(self._keys)
        while left + 1 < 0 and len(shown) > _ALWAYS:
            left += shown.pop(-_ALWAYS - 1).width + 1
        return shown

    def render(self) -> Text:
        """The keys between blanks."""
        key_style = self.get_component_rich_style("keyline--key")
        does_style = self.get_component_rich_style("keyline--does")
        text = Text(no_wrap=True, end="")
        for key in self._fitting():
            dim = "" if key.enabled else "dim"
            text.append(key.shown, key_style).append(f" {key.does}", does_style)
            text.stylize(dim, len(text) - key.width)
            text.append(" ")
        return text

    async def on_click(self, event: events.Click) -> None:
        """Press the key that was clicked on."""
        start = 0
        for key in self._fitting():
            if start <= event.x < start + key.width:
                self._monitor.simulate_key(key.key)
                return
            start += key.width + 1
