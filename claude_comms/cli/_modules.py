"""The commands around the registry: register, list, show, find, unregister."""

# No postponed annotations here: Typer reads them.
from pathlib import Path
from typing import Annotated

import typer

from claude_comms.cli import _options as options

__all__ = ["find_module", "list_modules", "register_module", "show_module", "unregister_module"]


def _path(text: str) -> Path:
    if not text:  # Path("") would be the working directory
        raise typer.BadParameter("it is empty. Name the module's directory; . is this one.")
    return Path(text)


def register_module(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it is called: lower case letters, digits, - and _.")
    ],
    path: Annotated[
        Path | None, typer.Option("--path", metavar="DIR", parser=_path, help="Where the module's code is.")
    ] = None,
    desc: Annotated[
        Path | None,
        typer.Option("--desc", metavar="FILE", help="Its descriptor, YAML or JSON; drafted from DIR when left out."),
    ] = None,
    from_card: Annotated[
        str | None, typer.Option("--from-card", metavar="FILE|URL", help="Take it from an A2A agent card instead.")
    ] = None,
    from_mcp: Annotated[
        str | None,
        typer.Option("--from-mcp", metavar="COMMAND|URL", help="Draft it from an MCP server's tools instead."),
    ] = None,
    pass_env: Annotated[
        list[str] | None,
        typer.Option("--pass-env", metavar="NAME", help="With --from-mcp: a variable that the server gets, too."),
    ] = None,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a module known, so that it can ask and be asked."""
    from claude_comms.cli._registering import Source, register

    register(name, path, Source(desc, from_card, from_mcp, tuple(pass_env or ())), yes=yes, as_json=as_json)


def list_modules(
    capability: Annotated[str | None, typer.Option("--capability", help="Only modules with this capability.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only modules with a capability tagged so.")] = None,
    data_type: Annotated[str | None, typer.Option("--data-type", help="Only modules that know this data type.")] = None,
    related_to: Annotated[
        str | None, typer.Option("--related-to", metavar="NAME", help="Only modules that name this one as related.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the modules that are known."""
    from claude_comms.cli._registry import show_modules

    show_modules(capability=capability, tag=tag, data_type=data_type, related_to=related_to, as_json=as_json)


def show_module(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The module.", autocompletion=options.complete_module)
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of descriptor files instead.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Print it as an A2A agent card instead.")] = False,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="With --card: where an A2A server answers for it.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show a module's descriptor and where it came from."""
    from claude_comms.cli._registry import show_card, show_descriptor, show_format

    if url is not None and not card:
        raise typer.BadParameter("it goes with --card.", param_hint="--url")
    if schema and card:
        raise typer.BadParameter("give only one of --schema and --card.", param_hint="--card")
    if schema:
        show_format(as_json=as_json)
    elif name is None:
        raise typer.BadParameter("name a module, or ask for --schema.", param_hint="NAME")
    elif card:
        show_card(name, url, as_json=as_json)
    else:
        show_descriptor(name, as_json=as_json)


def find_module(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What you want to know, in words.")],
    limit: options.Limit = 10,
    as_json: options.AsJson = False,
) -> None:
    """Find the module to ask about something."""
    from claude_comms.cli._registry import show_matches

    show_matches(question, limit, as_json=as_json)


def unregister_module(name: options.ModuleName, as_json: options.AsJson = False) -> None:
    """Forget a module. Its conversations stay."""
    from claude_comms.cli._registering import unregister

    unregister(name, as_json=as_json)
