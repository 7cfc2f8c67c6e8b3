"""The fixtures that ship, as a user's own project sees them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import claude_comms

pytestmark = pytest.mark.usefixtures("package_on_path")


@pytest.fixture
def package_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(claude_comms.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))


def run(pytester: pytest.Pytester, test: str) -> pytest.RunResult:
    """Run `test` in a project of its own, in a process of its own."""
    pytester.makepyfile(test)
    found = entry_points(group="pytest11", name="claude_comms")
    plugin = [] if found else ["-p", "claude_comms.testing.plugin"]
    return pytester.runpytest_subprocess(*plugin)


def test_a_users_project_gets_an_api_settings_and_a_home_without_a_key(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-real-one")
    monkeypatch.setenv("CLAUDE_COMMS_MODEL", "from-outside")
    result = run(
        pytester,
        """
        import os
        import urllib.request

        def test_settings_point_at_the_loopback(loopback_settings, loopback_api, claude_comms_home):
            assert loopback_settings.backend == "api"
            assert loopback_settings.anthropic_base_url == loopback_api.base_url
            assert loopback_settings.anthropic_api_key.get_secret_value() == loopback_api.key
            assert loopback_settings.home == claude_comms_home

        def test_nothing_of_the_outside_is_left(claude_comms_home):
            assert "ANTHROPIC_API_KEY" not in os.environ
            assert "CLAUDE_COMMS_MODEL" not in os.environ
            assert os.environ["CLAUDE_COMMS_HOME"] == str(claude_comms_home)
            assert claude_comms_home.stat().st_mode & 0o777 == 0o700

        def test_the_api_answers_and_starts_empty(loopback_api):
            assert len(loopback_api.requests) == 0
            assert urllib.request.urlopen(loopback_api.base_url + "/v1/models").status == 200
            assert len(loopback_api.requests) == 1

        def test_tests_that_ask_for_nothing_keep_their_environment():
            assert os.environ["ANTHROPIC_API_KEY"] == "a-real-one"
        """,
    )
    result.assert_outcomes(passed=4)


def test_a_test_that_leaves_the_machine_fails_even_if_it_catches_the_refusal(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import contextlib
        import socket
        import pytest

        @pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.invalid"])
        def test_outside(loopback_only, host):
            with contextlib.suppress(OSError):
                socket.create_connection((host, 80), timeout=0.2)

        def test_raw_socket(loopback_only):
            with socket.socket() as raw, contextlib.suppress(OSError):
                raw.connect_ex(("192.0.2.1", 80))

        def test_inside(loopback_only, loopback_api):
            socket.create_connection(("127.0.0.1", int(loopback_api.base_url.rpartition(":")[2]))).close()
            socket.create_connection(("localhost", int(loopback_api.base_url.rpartition(":")[2]))).close()
        """,
    )
    result.assert_outcomes(passed=5, errors=4)
    result.stdout.fnmatch_lines(["*tried to reach*192.0.2.1*Let it ask a server on 127.0.0.1.*"])


def test_loading_the_plugin_loads_nothing_heavy() -> None:
    heavy = ["anthropic", "pydantic", "sqlalchemy", "h11", "claude_comms.testing.loopback", "claude_comms.settings"]
    code = f"import sys, claude_comms.testing.plugin; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
