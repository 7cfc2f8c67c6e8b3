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
    path: Annotated[Path, typer.Option("--path", metavar="DIR", parser=_path, help="Where the module's code is.")],
    desc: Annotated[
        Path | None,
        typer.Option("--desc", metavar="FILE", help="Its descriptor, YAML or JSON; drafted from DIR when left out."),
    ] = None,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a module known, so that it can ask and be asked."""
    from claude_comms.cli._registering import register

    register(name, path, desc, yes=yes, as_json=as_json)


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
    as_json: options.AsJson = False,
) -> None:
    """Show a module's descriptor and where it came from."""
    from claude_comms.cli._registry import show_descriptor, show_format

    if schema:
        show_format(as_json=as_json)
    elif name is None:
        raise typer.BadParameter("name a module, or ask for --schema.", param_hint="NAME")
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
