from __future__ import annotations

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from claude_comms.cli._app import app

COMMANDS = {
    "query-module": "Ask",
    "continue-conversation": "Ask",
    "register-module": "Modules",
    "list-modules": "Modules",
    "show-module": "Modules",
    "find-module": "Modules",
    "unregister-module": "Modules",
    "list-conversations": "Conversations",
    "show-conversation": "Conversations",
    "search-conversations": "Conversations",
    "export-conversation": "Conversations",
    "archive-conversation": "Conversations",
    "start-instance": "Instances",
    "list-instances": "Instances",
    "query-instance": "Instances",
    "monitor-instance": "Instances",
    "listen-module": "Instances",
    "pause-instance": "Instances",
    "resume-instance": "Instances",
    "interrupt-instance": "Instances",
    "attach-instance": "Instances",
    "stop-instance": "Instances",
    "list-jobs": "Background questions",
    "show-job": "Background questions",
    "wait-job": "Background questions",
    "cancel-job": "Background questions",
    "daemon": "This machine",
    "mcp": "This machine",
    "install": "This machine",
    "usage": "This machine",
    "monitor": "This machine",
    "demo": "This machine",
    "doctor": "This machine",
    "config": "This machine",
}
DAEMON = ("start", "stop", "restart", "status", "logs", "run", "install", "uninstall")
INNER = ["config show", *(f"daemon {name}" for name in DAEMON)]
GROUPS = ("config", "daemon")


def help_of(*arguments: str, columns: int = 80) -> str:
    result = CliRunner(env={"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)}).invoke(
        app, [*arguments, "--help"]
    )
    assert result.exit_code == 0
    return result.output


def test_help_lists_every_command_in_its_panel_and_no_other() -> None:
    panel, found = "", dict[str, str]()
    for line in help_of().splitlines():
        if line.endswith(":") and not line.startswith(" "):
            panel = line.removesuffix(":")
        elif panel not in ("", "Options") and line[:2] == "  " and line[2:3].isalpha() and "Begin with" not in line:
            found[line.split()[0]] = panel
    assert found == COMMANDS


@pytest.mark.parametrize("command", [*COMMANDS, *INNER])
def test_help_fits_80_columns_and_cuts_nothing(command: str) -> None:
    text = help_of(*command.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "..." not in text.replace("[ARGS]...", "")


@pytest.mark.parametrize(
    "command", [*(name for name in COMMANDS if name not in (*GROUPS, "attach-instance", "mcp", "monitor")), *INNER]
)
def test_every_command_can_answer_as_json(command: str) -> None:
    assert "--json" in help_of(*command.split())


@pytest.mark.parametrize("command", ["query-module", "continue-conversation"])
def test_commands_that_ask_take_the_contracts_options(command: str) -> None:
    text = help_of(*command.split())
    for option in ("--backend", "--model", "--data", "--schema", "--template", "--param", "--deadline", "--max-cost"):
        assert option in text
    assert "--show-prompt" in text
    assert "--no-daemon" in text


@pytest.mark.parametrize("command", [name for name in COMMANDS if name.endswith(("-instance", "-job"))])
def test_an_id_is_the_first_argument_or_an_option(command: str) -> None:
    if command != "start-instance":
        assert "[ID]" in help_of(command)
        assert "--id ID" in help_of(command)


def test_what_has_little_to_do_without_a_daemon_takes_no_daemon_and_does_not_offer_it() -> None:
    assert "--no-daemon" not in help_of("start-instance")
    assert CliRunner().invoke(app, ["start-instance", "--name", "x", "--no-daemon"]).exit_code == 2


def test_shell_completion_is_offered() -> None:
    parameters = {option for parameter in get_command(app).params for option in parameter.opts}
    assert {"--install-completion", "--show-completion", "--version"} <= parameters
