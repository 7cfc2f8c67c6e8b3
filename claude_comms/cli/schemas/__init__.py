"""JSON Schemas of what each command prints with ``--json``: a file for each command, and ``error.json``.

Of a command that streams, the schema is that of one line. A failure prints what ``error.json`` says, whatever the
command. ``python -m claude_comms.cli.schemas`` writes the files anew from the types.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from claude_comms.errors import ConfigError

__all__ = ["ERROR", "schema_names", "schema_of"]

ERROR = "error"
"""The name of the schema of failures."""

_SUFFIX = ".json"


def schema_names() -> list[str]:
    """The commands that have a schema, ``daemon status`` among them, and ``error``."""
    found = [file.name.removesuffix(_SUFFIX) for file in files(__name__).iterdir() if file.name.endswith(_SUFFIX)]
    return sorted(name.replace("_", " ") for name in found)


def schema_of(command: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the documents of `command`; ConfigError where it prints none."""
    file = files(__name__).joinpath(f"{command.replace(' ', '_')}{_SUFFIX}")
    if command not in schema_names():
        raise ConfigError(f"{command!r} has no schema. Known: {', '.join(schema_names())}.")
    return json.loads(file.read_text(encoding="utf-8"))
