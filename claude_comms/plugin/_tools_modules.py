"""Tools about modules: which there are, and what they can do."""

# No postponed annotations here: the SDK reads them.
import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult
from pydantic import Field

from claude_comms.plugin._desk import Desk
from claude_comms.plugin._offering import answered, offer
from claude_comms.plugin._shapes import ModuleCard, ModuleLine, Modules

if TYPE_CHECKING:
    from claude_comms.descriptors import BaseDescriptor, Match

__all__ = ["add_module_tools", "descriptor_values"]

_NONE_FITS = "No module fits. Call list_modules without arguments to see all of them."
_Filter = Annotated[str | None, Field(description="Only modules that have this.")]


def add_module_tools(server: MCPServer[Any], desk: Desk) -> None:
    """Offer list_modules and describe_module."""

    async def list_modules(
        context: Context[Any, Any],
        text: Annotated[
            str | None, Field(description="A question or topic; modules are ranked by how well they fit it.")
        ] = None,
        capability: _Filter = None,
        tag: _Filter = None,
        data_type: _Filter = None,
        limit: Annotated[int, Field(ge=1, le=200, description="At most so many.")] = 50,
    ) -> Annotated[CallToolResult, Modules]:
        """List the software modules that can be asked, each with a summary and the names of its capabilities.

        Call it before query_module when you do not know which module owns a matter; give the matter as text to have
        the modules ranked. It asks no model and costs nothing.
        """
        text, capability, tag, data_type = map(_given, (text, capability, tag, data_type))
        matches = await to_thread.run_sync(partial(desk.registry.find_modules, text, capability, tag, data_type))
        asker = await desk.asker(context)
        shown = [_line(match, scored=text is not None) for match in matches[:limit]]
        result = Modules(modules=shown, total=len(matches), asking_as=asker.name)
        lines = [f"{module.name}: {module.summary}" for module in result.modules] or [_NONE_FITS]
        if len(matches) > limit:
            lines.append(f"{len(matches) - limit} more fit. Give a text, or a greater limit.")
        return answered("\n".join([*lines, f"A question from here is asked as {asker.name}: {asker.reason}."]), result)

    async def describe_module(
        name: Annotated[str, Field(description="A name from list_modules.")],
    ) -> Annotated[CallToolResult, ModuleCard]:
        """Show one module's whole descriptor: capabilities with schemas and examples, data types, relationships.

        Use it to put a precise question, or when the descriptor itself may hold the answer. It asks no model.
        """
        module = await to_thread.run_sync(desk.registry.get, name)
        values = descriptor_values(module.descriptor)
        return answered(json.dumps(values, ensure_ascii=False), ModuleCard(name=module.name, descriptor=values))

    offer(server, list_modules, title="List modules", effect="reads")
    offer(server, describe_module, title="Describe a module", effect="reads")


def _given(text: str | None) -> str | None:
    """Some models fill in every argument: a blank one is none."""
    return text if text and text.strip() else None


def _line(match: "Match", *, scored: bool) -> ModuleLine:
    module = match.module
    return ModuleLine(
        name=module.name,
        summary=module.descriptor.summary,
        capabilities=[capability.name for capability in module.descriptor.capabilities],
        path=None if module.path is None else str(module.path),
        score=match.score if scored else None,
    )


def descriptor_values(card: "BaseDescriptor") -> dict[str, Any]:
    """A descriptor as JSON values, as in its file; of an own class what it tells a model."""
    from claude_comms.descriptors import ModuleDescriptor, dump_descriptor

    if isinstance(card, ModuleDescriptor):
        return json.loads(dump_descriptor(card, "json"))
    return {"prompt": card.to_prompt("target")}
