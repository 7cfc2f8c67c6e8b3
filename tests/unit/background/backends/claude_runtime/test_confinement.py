"""Which calls of tools may go ahead."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.background.backends.claude_runtime.confinement import Confinement
from claude_comms.background.backends.claude_runtime.secret_names import SECRET_NAMES, deny_rules, secret_in
from claude_comms.errors import PermissionDeniedError
from claude_comms.mcp_servers import McpServer
from claude_comms.types import InstanceSpec, Pair

PAIR = Pair("marker", "arangodb")


def confined(directory: Path | None, *grants: str) -> Confinement:
    return Confinement(InstanceSpec(PAIR, "claude-code", None, grants, directory))


def test_without_grants_nothing_is_allowed(tmp_path: Path) -> None:
    decision = confined(tmp_path).decide("Read", {"file_path": str(tmp_path / "a")}, tmp_path)
    assert not decision.allowed
    assert decision.reason == "Read is not granted"


def test_a_granted_read_inside_the_path_is_allowed_with_its_target(tmp_path: Path) -> None:
    decision = confined(tmp_path, "Read").decide("Read", {"file_path": "sub/a.py"}, tmp_path)
    assert (decision.allowed, decision.target) == (True, "sub/a.py")


@pytest.mark.parametrize("path", ["..", "../x", "/etc/passwd", "~/x", "~root/x", "sub/../../x", "/proc/self/environ"])
def test_a_path_outside_is_refused_however_it_is_written(path: str, tmp_path: Path) -> None:
    for tool, arguments in (
        ("Read", {"file_path": path}),
        ("Grep", {"pattern": "x", "path": path}),
        ("Glob", {"pattern": path}),
        ("Grep", {"pattern": "x", "glob": path}),
    ):
        decision = confined(tmp_path, tool).decide(tool, arguments, tmp_path)
        assert not decision.allowed
        assert "outside" in decision.reason


def test_links_are_followed_before_the_decision(tmp_path: Path) -> None:
    module = tmp_path / "module"
    module.mkdir()
    (tmp_path / "outside.txt").write_text("x")
    (module / ".env").write_text("x")
    (module / "out").symlink_to(tmp_path / "outside.txt")
    (module / "hidden").symlink_to(module / ".env")
    (module / "loop").symlink_to(module / "loop")
    reading = confined(module, "Read")
    reasons = {name: reading.decide("Read", {"file_path": name}, module).reason for name in ("out", "hidden", "loop")}
    assert reasons["out"] == "outside the module's path"
    assert reasons["hidden"] == "looks like a secret (.env)"
    assert not reading.decide("Read", {"file_path": "loop"}, module).allowed


def test_a_module_that_is_reached_over_a_link_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.py").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    reading = confined(tmp_path / "link", "Read")
    for name in ("link", "real"):
        assert reading.decide("Read", {"file_path": str(tmp_path / name / "a.py")}, tmp_path / "link").allowed


def test_what_is_neither_file_nor_directory_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "neither" in confined(tmp_path, "Read").decide("Read", {"file_path": "pipe"}, tmp_path).reason


@pytest.mark.parametrize("arguments", [{}, {"file_path": ""}, {"file_path": 7}, {"file_path": "a\0b"}, {"path": None}])
def test_odd_arguments_are_decided_without_an_error(arguments: dict[str, object], tmp_path: Path) -> None:
    decision = confined(tmp_path, "Read").decide("Read", arguments, tmp_path)
    assert decision.reason


@given(st.text(max_size=60))
def test_no_text_is_a_path_that_leads_out(text: str) -> None:
    root = Path("/nowhere/module")
    decision = confined(root, "Read").decide("Read", {"file_path": text}, root)
    if decision.allowed:
        assert (root / text).resolve().is_relative_to(root)


@pytest.mark.parametrize(
    "name",
    [".env", ".ENV", ".env.local", "prod.env", "server.pem", "ID_RSA", "id_ed25519.pub", "a/.ssh/config", "b/.aws/x",
     "credentials.json", ".git", ".git/config", "sub/.GIT/HEAD", ".git/config.worktree",
     ".git/modules/lib/config", "terraform.tfstate", "my_api_key.txt",
     "secrets/db.yaml", ".npmrc"],
)  # fmt: skip
def test_what_looks_like_a_secret_is_one(name: str) -> None:
    assert secret_in(PurePosixPath(name)) is not None


@pytest.mark.parametrize(
    "name",
    [
        "pages.py",
        "keyboard.py",
        "src/tokens.py",
        "environment.yml",
        "config/git.py",
        ".gitignore",
        ".github/x.yml",
        "keys.md",
    ],
)
def test_what_is_ordinary_is_none(name: str) -> None:
    assert secret_in(PurePosixPath(name)) is None


def test_every_pattern_is_a_rule_for_claude_code_too_and_so_is_all_below_it() -> None:
    rules = set(deny_rules())
    assert {f"Read(**/{pattern}{below})" for pattern in SECRET_NAMES for below in ("", "/**")} == rules
    assert "Read(**/.git/**)" in rules


def test_no_pattern_spans_directories_where_its_star_would_mean_two_things() -> None:
    assert not [pattern for pattern in SECRET_NAMES if "/" in pattern]


def test_a_name_that_the_system_cannot_look_up_is_refused(tmp_path: Path) -> None:
    decision = confined(tmp_path, "Read").decide("Read", {"file_path": "a" * 300}, tmp_path)
    assert (decision.allowed, decision.reason) == (False, "the path cannot be followed")


def test_a_decision_that_fails_is_a_refusal(tmp_path: Path) -> None:
    unreadable: Any = ["no", "mapping"]
    decision = confined(tmp_path, "Read").rule("Read", unreadable, tmp_path)
    assert not decision.allowed
    assert "could not be decided" in decision.reason


def test_an_allowed_read_says_where_it_goes_with_links_followed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    decision = confined(tmp_path, "Read").decide("Read", {"file_path": "link.py"}, tmp_path)
    assert decision.path == (tmp_path / "a.py").resolve()


def test_reading_cannot_be_granted_without_a_path() -> None:
    with pytest.raises(PermissionDeniedError, match="has no path"):
        confined(None, "Read")


def test_bash_is_not_confined_by_paths_and_says_that_it_is_granted(tmp_path: Path) -> None:
    decision = confined(tmp_path, "Bash").decide("Bash", {"command": "ls /"}, tmp_path)
    assert (decision.allowed, decision.target, decision.reason) == (True, "ls /", "Bash is granted")


SERVERS = {name: McpServer(command="x") for name in ("rows", "rows-old", "web")}


def with_servers(directory: Path | None, *grants: str) -> Confinement:
    return Confinement(InstanceSpec(PAIR, "claude-code", None, grants, directory), SERVERS)


def test_a_grant_of_a_server_is_one_of_all_its_tools_and_of_no_other_server(tmp_path: Path) -> None:
    confinement = with_servers(tmp_path, "mcp:rows")
    assert confinement.servers == {"rows": SERVERS["rows"]}
    assert confinement.tools == ()
    calls = ["mcp__rows__count", "mcp__rows__a__b", "mcp__rows-old__count", "mcp__web__get", "mcp__rows", "rows__count"]
    assert [confinement.decide(tool, {}, tmp_path).allowed for tool in calls] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_a_grant_of_one_tool_is_of_that_tool_alone(tmp_path: Path) -> None:
    confinement = with_servers(tmp_path, "mcp:rows/count", "mcp:web/get")
    assert set(confinement.servers) == {"rows", "web"}
    assert confinement.decide("mcp__rows__count", {"table": "a"}, tmp_path).allowed
    for tool in ("mcp__rows__wipe", "mcp__rows__count_all", "mcp__web__count", "MCP__rows__count"):
        decision = confinement.decide(tool, {}, tmp_path)
        assert (decision.allowed, decision.reason) == (False, f"{tool} is not granted")


def test_servers_need_no_path() -> None:
    assert set(with_servers(None, "mcp:web").servers) == {"web"}


@pytest.mark.parametrize("grant", ["mcp:", "mcp:nowhere", "mcp:nowhere/x", "mcp:rows/", "mcp:rows/a b", "mcp:rows/a.b"])
def test_a_grant_that_names_no_server_or_no_tool_is_refused_by_its_name(grant: str) -> None:
    with pytest.raises(PermissionDeniedError) as raised:
        with_servers(None, grant)
    assert raised.value.grant == grant


def test_a_program_inherits_no_login_unless_it_is_given_one() -> None:
    server = McpServer.model_validate({"command": "x", "env": {"TOKEN": "t", "ANTHROPIC_API_KEY": "its own"}})
    assert server.told(withheld=("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"))["env"] == {
        "ANTHROPIC_API_KEY": "its own", "CLAUDE_CODE_OAUTH_TOKEN": "", "TOKEN": "t",
    }  # fmt: skip


def test_an_address_is_told_with_its_headers() -> None:
    server = McpServer.model_validate({"url": "https://127.0.0.1/mcp", "headers": {"Authorization": "Bearer t"}})
    assert server.told(withheld=("A",)) == {
        "type": "http", "url": "https://127.0.0.1/mcp", "headers": {"Authorization": "Bearer t"},
    }  # fmt: skip
