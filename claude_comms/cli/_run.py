"""One run of the command line: from arguments to an exit code. Every failure is told here, and only here."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._interrupted import Interrupted, streams
from claude_comms.cli._standard_streams import OutputError, forget_stdout
from claude_comms.errors import ClaudeCommsError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DONE", "FAILED", "INTERRUPTED", "MISUSE", "exit_code", "run"]

DONE, FAILED, MISUSE, INTERRUPTED = 0, 1, 2, 130

_EXIT_CODES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], int], ...] = (
    # The command line itself, a file or a value named on it, a setting: correct it and try again.
    (typer.TyperException, MISUSE),
    (ConfigError, MISUSE),  # and DescriptorError
    # The user asked for an end.
    ((KeyboardInterrupt, Interrupted), INTERRUPTED),
    # What was asked was clear and did not come about: unknown module or conversation, backend, store, deadline, ...
    (Exception, FAILED),
)


def exit_code(error: BaseException) -> int:
    """The exit code that `error` ends a command with: the first kind in the table that it is."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)


def run(argv: Sequence[str]) -> int:
    """Carry out `argv`, tell what failed, and return the exit code."""
    try:
        console.prepare()
        code = _invoke(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read stdout is gone
        forget_stdout()
        return FAILED
    except OutputError as error:
        forget_stdout()
        console.problem(str(error))
        return FAILED
    return code


def _invoke(argv: Sequence[str]) -> int:
    as_json = _wants_json(argv)
    try:
        from claude_comms.cli._app import app_for

        code = app_for(argv)(list(argv), prog_name="claude-comms", standalone_mode=False) or DONE
        if code == INTERRUPTED:  # Typer has swallowed a Ctrl-C
            raise KeyboardInterrupt
        return code
    except (BrokenPipeError, OutputError):
        raise
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - the last place that can tell it
        if not (as_json and isinstance(error, KeyboardInterrupt) and streams(argv)):
            _tell(error, as_json=as_json)
        return exit_code(error)


def _wants_json(argv: Sequence[str]) -> bool:
    """Whether failures are to be told as JSON, known even where the arguments make no sense."""
    options = argv[: argv.index("--")] if "--" in argv else argv
    return "--json" in options


def _tell(error: BaseException, *, as_json: bool) -> None:
    if as_json:
        console.document({"error": _facts(error)})
    if isinstance(error, (ClaudeCommsError, typer.TyperException, KeyboardInterrupt, Interrupted, typer.Abort)):
        if not as_json:
            _tell_people(error)
        return
    traceback.print_exception(error)


def _facts(error: BaseException) -> dict[str, object]:
    if isinstance(error, ClaudeCommsError):
        return error.as_dict()
    if isinstance(error, typer.TyperException):
        return {"type": "UsageError", "message": error.format_message()}
    if isinstance(error, Interrupted):
        return dict(error.facts)
    if isinstance(error, KeyboardInterrupt):
        return {"type": "KeyboardInterrupt", "message": "interrupted"}
    return {"type": type(error).__name__, "message": str(error)}


def _tell_people(error: BaseException) -> None:
    context = getattr(error, "ctx", None)
    if context is not None:
        console.note(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n")
    text = error.format_message() if isinstance(error, typer.TyperException) else str(error)
    if isinstance(error, (KeyboardInterrupt, Interrupted)):
        console.note(text or "Interrupted.")
    else:
        console.problem(text or "Aborted.")
