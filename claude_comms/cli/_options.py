"""Arguments and options that several commands share, so that each reads and completes alike everywhere."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from claude_comms.cli._complete import (
    complete_backend,
    complete_conversation,
    complete_instance,
    complete_job,
    complete_module,
)

__all__ = [
    "AsJson",
    "AsJsonLines",
    "AskOne",
    "Backend",
    "ConversationId",
    "Data",
    "Deadline",
    "FirstId",
    "FirstInstance",
    "FirstJob",
    "Focus",
    "FocusLevel",
    "FromFilter",
    "InstanceId",
    "JobId",
    "Limit",
    "MaxCost",
    "Model",
    "ModuleName",
    "NoDaemon",
    "NoDaemonAtAll",
    "Parameters",
    "Schema",
    "ShowPrompt",
    "Since",
    "SinceNow",
    "Target",
    "Template",
    "ToFilter",
    "Yes",
    "above_zero",
]


def above_zero(value: float | None) -> float | None:
    """A bound as given. nan and inf would bound nothing, and nothing could keep within zero."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value:g} is not a number above 0. Leave the option out for no such bound.")
    return value


AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document on one line.")]
AsJsonLines = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document a line.")]
AskOne = Annotated[bool, typer.Option("--ask", metavar="", help="Prove one short turn; a model is asked.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Answer every question with yes.")]
NoDaemon = Annotated[bool, typer.Option("--no-daemon", metavar="", help="Keep everything in this process.")]
NoDaemonAtAll = Annotated[bool, typer.Option("--no-daemon", hidden=True)]
"""For commands that there is little or nothing to do for without a daemon."""

Target = Annotated[str, typer.Argument(metavar="TARGET", help="The module to ask.", autocompletion=complete_module)]
ModuleName = Annotated[str, typer.Argument(metavar="NAME", help="The module.", autocompletion=complete_module)]
FromFilter = Annotated[
    str | None,
    typer.Option("--from", metavar="SOURCE", help="Only what this module asked.", autocompletion=complete_module),
]
ToFilter = Annotated[
    str | None,
    typer.Option("--to", metavar="TARGET", help="Only what this module was asked.", autocompletion=complete_module),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")]

FirstId = Annotated[
    str | None,
    typer.Argument(
        metavar="ID", help="The conversation, or the start of its id.", autocompletion=complete_conversation
    ),
]
ConversationId = Annotated[
    str | None,
    typer.Option("--id", metavar="ID", help="The same, as an option.", autocompletion=complete_conversation),
]

FirstInstance = Annotated[
    str | None,
    typer.Argument(
        metavar="ID", help="The instance: its id, the start of it, or its name.", autocompletion=complete_instance
    ),
]
InstanceId = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="The same, as an option.", autocompletion=complete_instance)
]
FirstJob = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="The job, or the start of its id.", autocompletion=complete_job),
]
JobId = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="The same, as an option.", autocompletion=complete_job)
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="WHEN", help="From there on: a cursor, 10m, 2h, 7d, or a time; all that is kept if left out."
    ),
]
SinceNow = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="What is kept from there on, too: a cursor, 10m, 2h, 7d, or a time."),
]


class FocusLevel(StrEnum):
    """What is shown at once; the same as `claude_comms.events.FocusLevel`, which costs an import."""

    EVERYTHING = "everything"
    ATTENTION = "attention"
    CRITICAL = "critical"


Focus = Annotated[
    FocusLevel,
    typer.Option("--focus", help="Show at once what calls for that; count the rest."),
]


class Least(StrEnum):
    """Of what priority an event has to be; the same as `claude_comms.events.Priority`."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


Priority = Annotated[
    Least,
    typer.Option("--priority", help="Only what matters so much, or more."),
]

Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="B",
        help="auto, offline, api, claude-code, or an installed one; the conversation's own when left out.",
        autocompletion=complete_backend,
    ),
]
Model = Annotated[str | None, typer.Option("--model", metavar="M", help="The model to ask.")]
Data = Annotated[Path | None, typer.Option("--data", metavar="FILE", help="JSON to send along; - reads stdin.")]
Schema = Annotated[
    Path | None, typer.Option("--schema", metavar="FILE", help="JSON Schema that the answer must match.")
]
Template = Annotated[str, typer.Option("--template", metavar="T", help="How the question is put to the model.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the template; may be repeated."),
]
Deadline = Annotated[
    float | None,
    typer.Option("--deadline", metavar="S", callback=above_zero, help="Seconds that it may take in all."),
]
MaxCost = Annotated[
    float | None, typer.Option("--max-cost", metavar="USD", callback=above_zero, help="Most that it may cost.")
]
ShowPrompt = Annotated[
    bool, typer.Option("--show-prompt", metavar="", help="Print what would be sent, and ask nothing.")
]
