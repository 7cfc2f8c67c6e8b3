"""The commands about this machine: ``doctor``, ``config show``, ``demo``."""

# No postponed annotations here: Typer reads them.
import typer

from claude_comms.cli import _options as options

__all__ = ["config", "demo", "doctor"]

config = typer.Typer(help="What is set, and where.", rich_markup_mode=None)


def doctor(ask: options.AskOne = False, as_json: options.AsJson = False) -> None:
    """Check versions, home, store, modules and backends; asks no model unless told to."""
    from claude_comms.cli._doctor import examine

    examine(as_json=as_json, ask=ask)


@config.command("show")
def config_show(as_json: options.AsJson = False) -> None:
    """Show each setting and where it came from; secrets are masked."""
    from claude_comms.cli._config import show

    show(as_json=as_json)


def demo(as_json: options.AsJson = False) -> None:
    """Let one module ask another: no key, no server, nothing kept."""
    from claude_comms.cli._demo import run_demo

    run_demo(as_json=as_json)
