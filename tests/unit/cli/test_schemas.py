from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from typer.main import get_command

from claude_comms.cli._app import app
from claude_comms.cli.schemas import ERROR, schema_names, schema_of
from claude_comms.cli.schemas.__main__ import make_schemas
from claude_comms.errors import ConfigError

WITHOUT_JSON = {"attach-instance", "mcp", "monitor"}


def commands() -> set[str]:
    """All of them, those of groups as ``group command``."""
    found: set[str] = set()
    for name, command in commands_of(get_command(app)).items():
        found |= {f"{name} {one}" for one in commands_of(command)} or {name}
    return found


def commands_of(command: Any) -> dict[str, Any]:
    return getattr(command, "commands", {})


def test_every_command_that_prints_json_has_a_schema_and_no_other() -> None:
    assert set(schema_names()) == {*(commands() - WITHOUT_JSON), ERROR}


@pytest.mark.parametrize("command", schema_names())
def test_the_files_say_what_the_types_say(command: str) -> None:
    made = make_schemas()[command]
    assert schema_of(command) == made, "run: python -m claude_comms.cli.schemas"


@pytest.mark.parametrize("command", schema_names())
def test_a_schema_is_one_and_refuses_what_the_command_does_not_print(command: str) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema_of(command))
    assert not validator.is_valid({"no": "such document"})
    assert not validator.is_valid(None)


def test_a_command_without_documents_has_no_schema() -> None:
    with pytest.raises(ConfigError, match="list-jobs"):
        schema_of("attach-instance")
