"""What is refused, and in which words, before any server is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from claude_code_mcp_support import allow_bypass, stock_settings
from claude_code_support import Talk

from claude_comms.background.backends.mcp_bridge._stock import StockBridge
from claude_comms.errors import BackendUnavailableError, BudgetExceededError, ConfigError, PermissionDeniedError
from claude_comms.types import InstanceSpec, Pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from claude_code_mcp_support import TinyServer

    from claude_comms.testing import LoopbackAPI

pytestmark = pytest.mark.anyio
_ALLOWED = ("claude-code-mcp",)


async def refused(settings: Any, spec: InstanceSpec) -> PermissionDeniedError:
    backend = StockBridge(settings)
    with pytest.raises(PermissionDeniedError) as caught:
        await backend.open(spec)
    health = await backend.health()
    assert not health.usable
    assert "permission bypass" in health.reason
    assert "allow_permission_bypass" in health.hint
    return caught.value


async def test_it_is_refused_until_the_settings_allow_it_and_says_why_and_what_to_do(
    api: LoopbackAPI, tmp_path: Path, spec: InstanceSpec
) -> None:
    error = await refused(stock_settings(tmp_path / "home", api), spec)
    assert error.grant == "permission bypass"
    for part in (
        "it may read, change and run anything that your user may",
        'bridge_server = "claude-comms-bridge"',
        str(tmp_path / "home" / "config.toml"),
        'allow_permission_bypass = ["claude-code-mcp"]',
    ):
        assert part in str(error)


async def test_an_argument_cannot_allow_it(api: LoopbackAPI, tmp_path: Path, spec: InstanceSpec) -> None:
    settings = stock_settings(tmp_path / "home", api, allow_permission_bypass=_ALLOWED)
    assert "An argument cannot allow that" in str(await refused(settings, spec))
    settings = stock_settings(tmp_path / "home", api).with_overrides(allow_permission_bypass=_ALLOWED)
    assert "An argument cannot allow that" in str(await refused(settings, spec))


async def test_another_server_that_is_allowed_does_not_allow_it(
    api: LoopbackAPI, tmp_path: Path, spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_COMMS_ALLOW_PERMISSION_BYPASS", '["claude-code-mcp-2"]')
    await refused(stock_settings(tmp_path / "home", api), spec)


async def test_the_environment_allows_it_as_the_file_does(
    api: LoopbackAPI, tmp_path: Path, spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_COMMS_ALLOW_PERMISSION_BYPASS", '["claude-code-mcp"]')
    backend = StockBridge(stock_settings(tmp_path / "home", api, ("cat",)))
    await (await backend.open(spec)).close()
    health = await backend.health()
    assert health.usable
    assert health.facts["server"].endswith("/cat (bridge_command)")
    assert health.facts["Claude Code"].startswith("2.")
    assert health.facts["grants"].startswith("not enforced")


async def test_grants_are_refused_because_nothing_keeps_it_to_them(
    tiny: Callable[[str], TinyServer], module_path: Path
) -> None:
    spec = InstanceSpec(Pair("marker", "arangodb"), "bridge", grants=("Read",), directory=module_path)
    with pytest.raises(PermissionDeniedError, match="cannot keep Claude Code to 'Read'"):
        await tiny("answers").backend.open(spec)


async def test_a_question_whose_cost_is_limited_is_refused_and_not_asked(
    tiny: Callable[[str], TinyServer], spec: InstanceSpec
) -> None:
    def check(_: Any) -> None:
        raise BudgetExceededError("too much", budget="max_cost_usd", limit=0.0, spent=1.0)

    server = tiny("answers")
    talk = Talk(await server.backend.open(spec))
    for limit in ({"max_cost_usd": 1.0}, {"check_spent": check}):
        with pytest.raises(ConfigError, match="its cost cannot be capped"):
            await talk.ask("How much?", **limit)
    assert server.calls == []
    assert (await talk.ask("How much?")).text


async def test_a_module_without_its_path_is_refused(
    tiny: Callable[[str], TinyServer], spec: InstanceSpec, module_path: Path
) -> None:
    server = tiny("answers")
    talk = Talk(await server.backend.open(spec))
    module_path.rmdir()
    with pytest.raises(BackendUnavailableError, match="is not a directory") as caught:
        await talk.ask("Where?")
    assert caught.value.backend == "bridge"
    assert server.calls == []


# --- where it is -------------------------------------------------------------------------------


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def looked_for(tmp_path: Path, api: LoopbackAPI, **more: Any) -> StockBridge:
    allow_bypass(tmp_path / "home")
    return StockBridge(stock_settings(tmp_path / "home", api, **more))


async def test_where_it_is_not_installed_it_says_how(
    api: LoopbackAPI, tmp_path: Path, spec: InstanceSpec, bare_path: Path
) -> None:
    backend = looked_for(tmp_path, api)
    with pytest.raises(BackendUnavailableError) as caught:
        await backend.open(spec)
    prefix = tmp_path / "home" / "claude-code-mcp"
    wanted = f"npm install --omit=optional --prefix {prefix} @steipete/claude-code-mcp@1.10.12"
    assert wanted in str(caught.value)
    health = await backend.health()
    assert not health.usable
    assert wanted in health.hint


async def test_it_is_found_on_path_then_in_the_home(
    api: LoopbackAPI, tmp_path: Path, claude_code_mcp: tuple[str, ...], bare_path: Path
) -> None:
    node, script = claude_code_mcp
    modules = tmp_path / "home" / "claude-code-mcp" / "node_modules"
    modules.parent.mkdir(parents=True)
    modules.symlink_to(script.rpartition("/@steipete")[0])
    allowed = looked_for(tmp_path, api, node_binary=node)
    facts = (await allowed.health()).facts
    assert facts["server"].endswith("dist/server.js (home)")
    assert f"at {node} (setting)" in facts["Node"]
    (bare_path / "claude-code-mcp").symlink_to(script)
    health = await allowed.health()
    assert health.usable
    assert health.facts["server"] == f"{node} {script} (PATH)"


async def test_without_node_it_says_so(
    api: LoopbackAPI, tmp_path: Path, spec: InstanceSpec, claude_code_mcp: tuple[str, ...], bare_path: Path
) -> None:
    (bare_path / "claude-code-mcp").symlink_to(claude_code_mcp[1])
    with pytest.raises(BackendUnavailableError, match="no-node is no program") as caught:
        await looked_for(tmp_path, api, node_binary=tmp_path / "no-node").open(spec)
    assert caught.value.backend == "bridge"


async def test_a_command_that_is_none_is_named(api: LoopbackAPI, tmp_path: Path, spec: InstanceSpec) -> None:
    backend = looked_for(tmp_path, api, bridge_command=("no-such-program",))
    with pytest.raises(BackendUnavailableError, match="bridge_command: no-such-program"):
        await backend.open(spec)


async def test_without_claude_code_it_says_so(api: LoopbackAPI, tmp_path: Path, spec: InstanceSpec) -> None:
    backend = looked_for(tmp_path, api, bridge_command=("cat",), claude_code_binary=tmp_path / "no-claude")
    with pytest.raises(BackendUnavailableError, match="no Claude Code binary at") as caught:
        await backend.open(spec)
    assert caught.value.backend == "bridge"
