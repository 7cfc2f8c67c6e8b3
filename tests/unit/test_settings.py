"""Where settings come from, which source wins, and how a wrong one is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_comms.errors import ConfigError
from claude_comms.settings import Settings
from claude_comms.types import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "sk-ant-very-secret"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and an environment without any of our variables."""
    for name in list(os.environ):
        if name.startswith(("CLAUDE_COMMS_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CLAUDE_COMMS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def toml(home: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = home / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_nothing_set_means_the_defaults(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.delenv("CLAUDE_COMMS_HOME")
    monkeypatch.setenv("HOME", str(home))
    settings = Settings.load()
    assert settings.home == home / ".claude-comms"
    assert settings.database_path == home / ".claude-comms" / "claude-comms.db"
    assert (settings.backend, settings.daemon, settings.database_url) == ("auto", "auto", None)
    assert settings.anthropic_api_key is None
    assert {settings.origin(name) for name in Settings.model_fields} == {"default"}


def test_arguments_win_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], Path]
) -> None:
    path = toml('backend = "api"\nmodel = "from-file"\ndeadline_s = 5\n')
    monkeypatch.setenv("CLAUDE_COMMS_MODEL", "from-environment")
    monkeypatch.setenv("CLAUDE_COMMS_DEADLINE_S", "7")
    settings = Settings.load({"deadline_s": 9, "max_instances": None})
    assert (settings.backend, settings.origin("backend")) == ("api", str(path))
    assert (settings.model, settings.origin("model")) == ("from-environment", "CLAUDE_COMMS_MODEL")
    assert (settings.deadline_s, settings.origin("deadline_s")) == (9, "argument")
    assert (settings.max_instances, settings.origin("max_instances")) == (64, "default")


def test_settings_pass_through_load_as_they_are() -> None:
    settings = Settings.load({"backend": "offline"})
    assert Settings.load(settings) is settings


def test_an_empty_variable_is_as_if_unset(monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], Path]) -> None:
    toml('model = "from-file"')
    monkeypatch.setenv("CLAUDE_COMMS_MODEL", "")
    monkeypatch.setenv("CLAUDE_COMMS_DESCRIPTORS", "")
    assert Settings.load().model == "from-file"
    assert Settings.load().descriptors == ()


def test_the_home_given_decides_which_file_is_read(tmp_path: Path, toml: Callable[[str], Path]) -> None:
    toml('model = "of-the-environments-home"')
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.toml").write_text('model = "of-the-arguments-home"')
    assert Settings.load({"home": other}).model == "of-the-arguments-home"


def test_descriptor_directories_are_separated_as_path_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLAUDE_COMMS_DESCRIPTORS", os.pathsep.join(["/a", "", "b c", "~/d"]))
    settings = Settings.load()
    assert settings.descriptors == (Path("/a"), tmp_path / "b c", Path.home() / "d")
    assert settings.origin("descriptors") == "CLAUDE_COMMS_DESCRIPTORS"


def test_descriptor_directories_in_the_file_are_a_list(toml: Callable[[str], Path]) -> None:
    toml('descriptors = ["/a", "/b"]')
    assert Settings.load().descriptors == (Path("/a"), Path("/b"))


def test_retry_settings_come_from_table_and_variables_together(
    monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], Path]
) -> None:
    toml("[retry]\nattempts = 2\nmax_wait_s = 3.0\n")
    monkeypatch.setenv("CLAUDE_COMMS_RETRY__ATTEMPTS", "4")
    assert Settings.load().retry == RetryPolicy(attempts=4, max_wait_s=3.0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLAUDE_COMMS_DAEMON", "sometimes"),
        ("CLAUDE_COMMS_DEADLINE_S", "-1"),
        ("CLAUDE_COMMS_DEADLINE_S", "soon"),
        ("CLAUDE_COMMS_MAX_INSTANCES", "0"),
        ("CLAUDE_COMMS_CONTEXT_BUDGET_TOKENS", "10"),
        ("CLAUDE_COMMS_DATABASE_URL", "postgresql://localhost/x"),
        ("CLAUDE_COMMS_RETRY__ATTEMPTS", "many"),
        ("CLAUDE_COMMS_RETRY__ATTEMPTS", "0"),
        ("CLAUDE_COMMS_RETRY__INITIAL_WAIT_S", "-1"),
        ("CLAUDE_COMMS_RETRY__MAX_WAIT_S", "nan"),
        ("CLAUDE_COMMS_RETRY", "many"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"^{variable}: "):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('daemon = "sometimes"', "daemon: "),
        ("max_instances = 0", "max_instances: "),
        ('mdoel = "x"', "mdoel: no such setting. Known settings: .*model"),
        ('anthropic_base_urls = "x"', "anthropic_base_urls: no such setting"),
        ('anthropic_api_key = "sk"', "anthropic_api_key cannot be set in this file"),
        ('home = "/x"', "home cannot be set in this file"),
        ("[retry]\nattempts = 'x'", r"retry\.attempts: "),
        ("[retry]\nattempt = 1", r"retry\.attempt: "),
        ("[retry]\nattempts = 0", r"config\.toml: retry\.attempts: 0 cannot be\. Set a number from 1 up"),
        ("[retry]\ninitial_wait_s = -0.5", r"config\.toml: retry\.initial_wait_s: -0\.5 cannot be"),
        ("[retry]\nmax_wait_s = inf", r"config\.toml: retry\.max_wait_s: inf cannot be"),
        ("model = ", "not TOML"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(toml: Callable[[str], Path], text: str, says: str) -> None:
    path = toml(text)
    with pytest.raises(ConfigError, match=says) as caught:
        Settings.load()
    assert str(path) in str(caught.value)


def test_of_a_table_from_two_sources_the_one_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], Path]
) -> None:
    path = toml("[retry]\nattempts = 0\n")
    monkeypatch.setenv("CLAUDE_COMMS_RETRY__MAX_WAIT_S", "3")
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"{path}: retry.attempts: ")


def test_a_wrong_argument_inside_a_table_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^argument: retry\.attempts: -1 cannot be"):
        Settings.load({"retry": {"attempts": -1}})


def test_a_file_that_cannot_be_read_is_told(home: Path) -> None:
    (home / "config.toml").write_bytes(b"model = '\xff'")
    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read"):
        Settings.load()
    (home / "config.toml").unlink()
    (home / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read"):
        Settings.load()


def test_an_unknown_argument_is_told() -> None:
    with pytest.raises(ConfigError, match="argument: modle: no such setting"):
        Settings.load({"modle": "x"})


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch, toml: Callable[[str], Path]) -> None:
    path = toml("max_instances = 0")
    monkeypatch.setenv("CLAUDE_COMMS_DAEMON", "sometimes")
    with pytest.raises(ConfigError) as caught:
        Settings.load({"deadline_s": -1})
    text = str(caught.value)
    assert f"{path}: max_instances" in text
    assert "CLAUDE_COMMS_DAEMON: daemon" in text
    assert "argument: deadline_s" in text


def test_the_key_is_read_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    settings = Settings.load()
    assert settings.anthropic_api_key is not None
    assert settings.anthropic_api_key.get_secret_value() == SECRET
    assert settings.anthropic_base_url == "http://127.0.0.1:1"
    assert settings.origin("anthropic_api_key") == "ANTHROPIC_API_KEY"
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in shown


def test_a_secret_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    with pytest.raises(ConfigError) as caught:
        Settings.load({"anthropic_base_url": [SECRET], "max_instances": 0})
    assert SECRET not in str(caught.value)


def test_overrides_make_a_copy_that_remembers_them() -> None:
    settings = Settings.load()
    other = settings.with_overrides(model="x", backend=None)
    assert (other.model, other.origin("model")) == ("x", "argument")
    assert (other.backend, other.origin("backend")) == ("auto", "default")
    assert other.origin("home") == "CLAUDE_COMMS_HOME"
    assert settings.model != "x"
    assert settings.origin("model") == "default"


def test_wrong_overrides_are_told() -> None:
    with pytest.raises(ConfigError, match="argument: deadline_s"):
        Settings.load().with_overrides(deadline_s=-1)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings.load().model = "x"


def test_the_database_is_where_the_url_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLAUDE_COMMS_DATABASE_URL", f"sqlite:///{tmp_path}/x.db?mode=rw")
    assert Settings.load().database_path == tmp_path / "x.db"


def test_mcp_servers_are_tables_of_the_file(toml: Callable[[str], Path]) -> None:
    toml(f'[mcp_servers.rows]\ncommand = "rows"\nargs = ["-v"]\nenv = {{ KEY = "{SECRET}" }}\n')
    settings = Settings.load()
    server = settings.mcp_servers["rows"]
    assert (server.command, server.args, server.env["KEY"].get_secret_value()) == ("rows", ("-v",), SECRET)
    assert SECRET not in repr(settings)
    assert settings.with_overrides(model="x").mcp_servers == settings.mcp_servers


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('[mcp_servers.a__b]\ncommand = "x"', "mcp_servers.a__b"),
        ('[mcp_servers."a b"]\ncommand = "x"', "mcp_servers.a b"),
        ("[mcp_servers.a]\nargs = []", "either command"),
        ('[mcp_servers.a]\ncommand = "x"\nurl = "https://127.0.0.1/"', "either command"),
        ('[mcp_servers.a]\nurl = "https://127.0.0.1/"\nenv = {A = "b"}', "env go with command"),
        ('[mcp_servers.a]\ncommand = "x"\nheaders = {A = "b"}', "headers go with url"),
        ('[mcp_servers.a]\nurl = "https://me:key@127.0.0.1/"', "login"),
        ('[mcp_servers.a]\nurl = "file:///etc"', "http"),
        ('[mcp_servers.a]\ncommand = "x"\nenv = {A = "${ANTHROPIC_API_KEY}"}', "not replaced"),
        ('[mcp_servers.a]\ncommand = "x"\nheadersHelper = "x"', "mcp_servers.a.headersHelper"),
    ],
)
def test_a_wrong_mcp_server_is_told_with_its_file(table: str, told: str, toml: Callable[[str], Path]) -> None:
    path = toml(table)
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


def test_secrets_of_a_wrong_mcp_server_are_in_no_error(toml: Callable[[str], Path]) -> None:
    toml(f'[mcp_servers.a]\ncommand = "x"\nheaders = {{ A = "{SECRET}" }}\nenv = {{ B = ["{SECRET}"] }}\n')
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"


def test_a_server_that_the_bridge_cannot_be_is_told(toml: Callable[[str], Path]) -> None:
    path = toml('bridge_server = "other"\n')
    with pytest.raises(ConfigError, match="Set claude-comms-bridge or claude-code-mcp") as caught:
        Settings.load()
    assert str(path) in str(caught.value)


def test_how_the_bridge_starts_comes_from_file_and_environment(
    toml: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    toml('bridge_command = ["node", "mine.mjs"]\nallow_permission_bypass = ["claude-code-mcp"]\n')
    assert Settings.load().bridge_command == ("node", "mine.mjs")
    monkeypatch.setenv("CLAUDE_COMMS_BRIDGE_COMMAND", '["other"]')
    assert (Settings.load().bridge_command, Settings.load().allow_permission_bypass) == (
        ("other",),
        ("claude-code-mcp",),
    )
    monkeypatch.setenv("CLAUDE_COMMS_BRIDGE_COMMAND", "other")
    with pytest.raises(ConfigError, match="CLAUDE_COMMS_BRIDGE_COMMAND: not JSON"):
        Settings.load()
