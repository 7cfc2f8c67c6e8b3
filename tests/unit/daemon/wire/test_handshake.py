"""A client of another version, or with other settings or credentials, is told so; secrets stay secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from claude_comms.daemon.wire import check_client, differing_settings, settings_digest
from claude_comms.errors import DaemonError, DaemonVersionError
from claude_comms.settings import Settings

_HOME = Path("/home/me/.claude-comms")
_KEY = "sk-canary-0123456789"


def _digest(environment: dict[str, str] | None = None, *, key: str = "token", **values: Any) -> str:
    return settings_digest(Settings.load({"home": _HOME, **values}), key, environment or {})


def test_equal_settings_have_equal_digests() -> None:
    assert differing_settings(_digest(), _digest()) == []


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"anthropic_api_key": _KEY}, "anthropic_api_key"),
        ({"anthropic_base_url": "http://127.0.0.1:1"}, "anthropic_base_url"),
        ({"max_instances": 3}, "max_instances"),
        ({"mcp_servers": {"docs": {"command": "serve", "env": {"TOKEN": _KEY}}}}, "mcp_servers"),
        ({"descriptors": ["/elsewhere"]}, "descriptors"),
        ({"retry": {"attempts": 1}}, "retry"),
    ],
)
def test_the_setting_that_differs_is_named(values: dict[str, Any], name: str) -> None:
    assert differing_settings(_digest(), _digest(**values)) == [name]


def test_a_secret_inside_a_table_counts() -> None:
    one = _digest(mcp_servers={"docs": {"command": "serve", "env": {"TOKEN": "a"}}})
    other = _digest(mcp_servers={"docs": {"command": "serve", "env": {"TOKEN": "b"}}})

    assert differing_settings(one, other) == ["mcp_servers"]


def test_a_login_in_the_environment_counts() -> None:
    assert differing_settings(_digest(), _digest({"CLAUDE_CODE_OAUTH_TOKEN": _KEY})) == ["CLAUDE_CODE_OAUTH_TOKEN"]


@pytest.mark.parametrize(
    "values", [{"model": "other"}, {"backend": "offline"}, {"deadline_s": 1}, {"max_cost_usd": 1}, {"daemon": "off"}]
)
def test_what_each_question_brings_along_may_differ(values: dict[str, Any]) -> None:
    assert _digest(**values) == _digest()


def test_a_digest_tells_no_secret_and_needs_the_token() -> None:
    digest = _digest(anthropic_api_key=_KEY)

    assert _KEY not in digest
    assert digest.isascii()
    assert digest != _digest(anthropic_api_key=_KEY, key="another token")
    assert set(json.loads(digest).values()).isdisjoint(json.loads(_digest(key="another token")).values())


def test_a_trailing_newline_of_the_tokens_file_does_not_matter() -> None:
    assert _digest(key="token\n") == _digest(key="token")


def test_another_version_is_told_what_to_do() -> None:
    with pytest.raises(DaemonVersionError, match="claude-comms daemon restart") as caught:
        check_client("0.2", None, our_version="0.1", our_settings="{}")

    assert (caught.value.daemon_version, caught.value.client_version) == ("0.1", "0.2")


def test_other_settings_are_named_with_what_to_do() -> None:
    with pytest.raises(DaemonError, match=r"max_instances.*claude-comms daemon restart"):
        check_client("0.1", _digest(max_instances=3), our_version="0.1", our_settings=_digest())


def test_a_client_that_says_nothing_is_let_in() -> None:
    check_client(None, None, our_version="0.1", our_settings=_digest())


@pytest.mark.parametrize("theirs", ["", "{", "[]", "3", "[" * 10_000])
def test_an_unreadable_digest_differs(theirs: str) -> None:
    assert differing_settings(_digest(), theirs) == ["settings (not readable)"]
