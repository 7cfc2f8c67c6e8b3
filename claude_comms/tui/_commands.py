"""All that keys do, to be searched by name in the command palette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.command import DiscoveryHit, Hit, Hits, Provider

from claude_comms.tui._table import ListTable
from claude_comms.tui._view import View

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["MonitorCommands"]


class MonitorCommands(Provider):
    """The keys that act where the focus is, and those that act everywhere."""

    def _found(self) -> Iterator[tuple[str, str, Callable[[], Awaitable[bool] | None]]]:
        for active in self.screen.active_bindings.values():
            binding = active.binding
            node: Any = active.node
            ours = isinstance(node, (View, App)) or (isinstance(node, ListTable) and binding.show)
            ours = ours and binding.action != "command_palette"
            if ours and binding.description:
                key = self.app.get_key_display(binding)

                async def run(action: str = binding.action, node: Any = node) -> bool:
                    return await self.app.run_action(action, node)

                yield binding.description, f"key {key}", run

    async def discover(self) -> Hits:
        """All of them."""
        for name, help_, run in self._found():
            yield DiscoveryHit(name, run, help=help_)

    async def search(self, query: str) -> Hits:
        """Those whose name fits."""
        matcher = self.matcher(query)
        for name, help_, run in self._found():
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), run, help=help_)
