"""docs/cli.md names the commands, options and settings that there are: all of them, and no others."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from claude_comms.cli._run import run
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from tests.docs.conftest import Document

_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
_HELP = {"--help", "-h"}
_GROUPS = ("config", "daemon")


def options_in_help(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The options that stand at the beginning of a line of ``command --help``."""
    assert run([*command.split(), "--help"]) == 0
    shown = re.findall(r"^  (-[^ ,]+(?:, --[^ ]+)?)", capsys.readouterr().out, re.MULTILINE)
    return set(_OPTION.findall(" ".join(shown)))


def commands_in_help(capsys: pytest.CaptureFixture[str], *group: str) -> set[str]:
    assert run([*group, "--help"]) == 0
    shown = capsys.readouterr().out
    found: set[str] = set()
    for name in re.findall(r"^  ([a-z][a-z-]+)  +\S", shown[shown.index("-h, --help") :], re.MULTILINE):
        inner = commands_in_help(capsys, *group, name) if not group and name in _GROUPS else set[str]()
        found |= {f"{name} {command}" for command in inner} or {name}
    return found


@pytest.fixture
def reference(documents: dict[str, Document]) -> Document:
    return documents["cli.md"]


@pytest.fixture
def sections(reference: Document) -> dict[str, str]:
    """The text of each command's section, without its examples."""
    prose = re.sub(r"^```.*?^```$", "", reference.text, flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"^##+ (.*)$", prose, flags=re.MULTILINE)
    return {title.strip("`"): text for title, text in zip(parts[1::2], parts[2::2], strict=True) if "`" in title}


def test_every_command_is_described_and_no_other(sections: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert set(sections) == commands_in_help(capsys)


def test_every_option_is_described_with_its_command_and_no_other(
    sections: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for command, text in sections.items():
        named = set(_OPTION.findall(" ".join(re.findall(r"`([^`\n]+)`", text))))
        assert named == options_in_help(command, capsys) - _HELP, command


def test_the_options_of_the_whole_program_are_described(
    reference: Document, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in options_in_help("", capsys):
        assert option in reference.text, option


def test_the_settings_are_those_that_there_are(reference: Document) -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| `([A-Z_]+)`.*? \| (.*?) \|", reference.text, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(Settings.model_fields)
    for name, variable, default in rows:
        expected = name.upper() if name.startswith("anthropic_") else f"CLAUDE_COMMS_{name.upper()}"
        assert variable.removesuffix("__ATTEMPTS") == expected
        value = Settings.model_fields[name].get_default()
        if isinstance(value, bool):
            assert default == str(value).lower(), name
        elif isinstance(value, (int, float)):
            assert float(default) == value, name
        elif isinstance(value, str):
            assert default == f"`{value}`", name
        elif value is None and name not in ("home", "database_url"):
            assert default == "none", name


def test_the_config_file_can_be_read(reference: Document) -> None:
    [text] = [block.text for block in reference.blocks if block.file == "config.toml"]
    settings = Settings.load(tomllib.loads(text))
    assert settings.deadline_s == 120
    assert settings.retry == Settings.model_fields["retry"].get_default()
