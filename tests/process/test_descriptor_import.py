"""Modules made known from MCP servers and agent cards: real servers as processes of their own, real HTTP."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from claude_comms.cli.schemas import schema_of
from claude_comms.descriptors import draft_from_mcp, load_agent_card, load_descriptor, to_agent_card
from claude_comms.errors import ClaudeCommsError, ConfigError, DeadlineExceededError, DescriptorError
from claude_comms.schemas import value_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.process.conftest import Cli

SERVER = Path(__file__).with_name("listed_mcp_server.py")
SHIPPED = Path(__file__).parents[2] / "descriptors"


def on_stdio(record: Path) -> list[str]:
    return [sys.executable, str(SERVER), "stdio", str(record)]


def told(name: str, *, timeout_s: float = 30.0, script: str) -> str:
    """What is said about a server that is a shell script."""
    with pytest.raises(ConfigError) as caught:
        draft_from_mcp(name, command=["sh", "-c", script], timeout_s=timeout_s)
    return str(caught.value)


# --- MCP servers -------------------------------------------------------------------------------


def test_each_tool_of_a_server_on_stdio_is_a_capability_and_none_is_called(tmp_path: Path) -> None:
    card = draft_from_mcp("rows", command=on_stdio(tmp_path / "called"))
    assert (card.name, card.version, card.summary) == ("rows", "3.1", "Counts rows.")
    assert card.description == "Counts rows.\n\nAsk it before you delete."
    count, wipe = card.capabilities[:2]
    assert (count.name, count.description) == ("count", "How many rows a table has.")
    assert count.input_schema["required"] == ["table"]
    assert count.output_schema["type"] == "object"
    assert (count.tags, wipe.tags) == (("mcp", "read-only"), ("mcp", "destructive"))
    assert card.permissions.tools == ()
    assert not (tmp_path / "called").exists()


def test_a_server_sees_the_variables_on_the_list_and_those_it_is_given_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSH_KEY", "secret")
    card = draft_from_mcp("rows", command=on_stdio(tmp_path / "called"), environment={"GIVEN": "1"})
    seen = {item.name.removeprefix("saw_") for item in card.capabilities if item.name.startswith("saw_")}
    assert {"PATH", "GIVEN"} <= seen
    assert "HUSH_KEY" not in seen
    assert seen <= {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
                    "GIVEN"}  # fmt: skip


def test_what_ends_before_it_listed_its_tools_is_told_with_its_last_words() -> None:
    assert "no such table" in told("rows", script="echo no such table >&2; exit 3")


def test_what_cannot_be_run_is_told() -> None:
    with pytest.raises(ConfigError, match="no-such-server cannot be run"):
        draft_from_mcp("rows", command=["no-such-server"])


def test_a_server_that_never_answers_is_given_up_and_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 600 & echo $$ $! > {shlex.quote(str(pids))}; while :; do sleep 1; done"
    with pytest.raises(DeadlineExceededError) as caught:
        draft_from_mcp("rows", command=["sh", "-c", script], timeout_s=0.5)
    assert caught.value.deadline_s == 0.5
    assert not [pid for pid in pids.read_text().split() if is_running(int(pid))]


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_server_that_never_stops_talking_is_cut_off() -> None:
    script = "head -c 6000000 /dev/zero | tr '\\0' x; sleep 600"
    assert "said more than 4,096 KiB" in told("rows", script=script)


PAGES = """
import json, sys
last = int(sys.argv[1])
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] == "initialize":
        hello = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
        answer["result"] = {**hello, "serverInfo": {"name": "paged", "version": "1"}}
    elif asked["method"] == "tools/list":
        page = int((asked.get("params") or {}).get("cursor") or 0)
        answer["result"] = {"tools": [{"name": f"t{page}", "inputSchema": {"type": "object"}}]}
        if page != last:
            answer["result"]["nextCursor"] = str(page + 1)
    else:
        answer["error"] = {"code": -32601, "message": "not here"}
    print(json.dumps(answer), flush=True)
"""


@pytest.mark.parametrize(("last", "told"), [(2, 3), (-1, 50)])
def test_all_pages_of_a_list_are_read_and_an_endless_list_is_left(last: int, told: int) -> None:
    card = draft_from_mcp("rows", command=[sys.executable, "-c", PAGES, str(last)])
    assert [item.name for item in card.capabilities] == [f"t{number}" for number in range(told)]
    assert card.metadata["drafted_from"][1:] == ([] if last > 0 else ["the first 50 of 50 and more tools"])


def test_a_server_that_complains_a_lot_is_still_heard(tmp_path: Path) -> None:
    complaint = "head -c 6000000 /dev/zero | tr '\\0' x >&2"
    command = ["sh", "-c", f"{complaint}; exec {shlex.join(on_stdio(tmp_path / 'called'))}"]
    assert draft_from_mcp("rows", command=command).capabilities[0].name == "count"


def test_a_bad_name_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match="not a module's name"):
        draft_from_mcp("Bad Name", command=["touch", str(tmp_path / "ran")])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("given", [{}, {"command": ["a"], "url": "http://127.0.0.1/mcp"}, {"command": []}])
def test_a_command_or_an_address_is_needed_and_not_both(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="either"):
        draft_from_mcp("rows", **given)


def test_without_the_sdk_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError, match=r"claude-module-comms\[mcp\]"):
        draft_from_mcp("rows", command=["touch", str(tmp_path / "ran")])
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def over_http(tmp_path: Path) -> Iterator[str]:
    """The server's address."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with subprocess.Popen(
        [sys.executable, str(SERVER), "http", str(tmp_path / "called")], stdout=subprocess.PIPE, env=environment
    ) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/mcp"
        finally:
            server.kill()


def test_a_server_over_http_gives_the_same(over_http: str, tmp_path: Path) -> None:
    card = draft_from_mcp("rows", url=over_http)
    assert [item.name for item in card.capabilities[:2]] == ["count", "wipe"]
    assert card.version == "3.1"
    assert not (tmp_path / "called").exists()


# --- addresses ---------------------------------------------------------------------------------


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""

NO_CARDS: list[tuple[Answer, str]] = [
    ((302, {"Location": "http://localhost:9/card"}, b""), "redirects to another host, http://localhost:9/card"),
    ((302, {"Location": "http://u:p@127.0.0.1/card"}, b""), "redirects to another host"),
    ((302, {"Location": "http://u:p@THERE/card"}, b""), "redirects to another host"),
    ((302, {"Location": "https://THERE/card"}, b""), "redirects to another host"),
    ((302, {"Location": "HERE/card"}, b""), "redirects more than 3 times"),
    ((200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), "compressed"),
    ((200, {}, b" " * (1024 * 1024 + 1)), "more than 1,024 KiB"),
    ((500, {}, b"oops"), "answered 500"),
    ((200, {}, b"<html>"), "not JSON"),
    ((200, {}, b'{"name": 1, "name": 2}'), "is there twice"),
]
NO_SERVERS: list[tuple[Answer, str]] = [
    ((200, {"Content-Type": "application/json"}, b"x" * (4 * 1024 * 1024 + 1)), "said more than 4,096 KiB"),
    ((200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"\x1f\x8b"), "compressed"),
    ((302, {"Location": "http://localhost:9/mcp"}, b""), "gave no list of tools"),
    ((404, {}, b""), "gave no list of tools"),
]


@dataclass
class Site:
    """A web server: what it answers at each path, and what it was asked."""

    answers: dict[str, Answer]
    address: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list[tuple[str, dict[str, str]]])


@contextmanager
def site(**answers: Answer) -> Generator[Site]:
    """A site on loopback; `_` in a name stands for `/`."""
    here = Site({name.replace("_", "/"): answer for name, answer in answers.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.asked.append((self.path, dict(self.headers)))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = here.answers.get(self.path.partition("?")[0], (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                there = here.address.removeprefix("http://")
                self.send_header(name, value.replace("THERE", there).replace("HERE", here.address))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    here.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def marker_card() -> bytes:
    return json.dumps(to_agent_card(load_descriptor(SHIPPED / "marker.yaml"))).encode()


def test_a_card_is_fetched_without_credentials() -> None:
    with site(_card=(200, {}, marker_card())) as here:
        assert load_agent_card(f"{here.address}/card") == load_descriptor(SHIPPED / "marker.yaml")
        ((_, headers),) = here.asked
    assert not {"authorization", "cookie"} & {name.lower() for name in headers}


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_no_proxy_of_the_environment_is_asked_for_a_card(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with site(_card=(200, {}, marker_card())) as here, site() as proxy:
        monkeypatch.setenv(variable, proxy.address)
        assert load_agent_card(f"{here.address}/card").name == "marker"
    assert proxy.asked == []


def test_a_card_that_comes_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_comms.descriptors._card_place._WITHIN_S", 0.5)
    gone = threading.Event()

    def drip(listening: socket.socket) -> None:
        with listening.accept()[0] as taken, suppress(OSError):
            taken.recv(65536)
            taken.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not gone.wait(0.05):
                taken.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        try:
            with pytest.raises(DeadlineExceededError, match=r"sent no card within 0\.5 s"):
                load_agent_card(f"http://127.0.0.1:{listening.getsockname()[1]}/card")
        finally:
            gone.set()
            thread.join()


def test_an_address_without_a_path_means_the_well_known_one() -> None:
    with site() as here:
        here.answers["/.well-known/agent-card.json"] = (200, {}, marker_card())
        assert load_agent_card(here.address).name == "marker"


def test_a_redirect_on_the_same_host_is_followed() -> None:
    with site(_old=(301, {"Location": "/card"}, b""), _card=(200, {}, marker_card())) as here:
        assert load_agent_card(f"{here.address}/old").name == "marker"


@pytest.mark.parametrize(("answer", "said"), NO_CARDS)
def test_what_is_no_card_is_refused(answer: Answer, said: str) -> None:
    with site(_card=answer) as here, pytest.raises(ConfigError, match=said):
        load_agent_card(f"{here.address}/card?key=hush")


def test_a_redirecting_server_does_not_put_a_key_into_the_error() -> None:
    with site(_mcp=(302, {"Location": "HERE/mcp?key=hush"}, b"")) as here, pytest.raises(ConfigError) as caught:
        draft_from_mcp("rows", url=f"{here.address}/mcp?key=hush", timeout_s=20)
    assert f"{here.address}/mcp gave no list" in str(caught.value)
    assert "hush" not in str(caught.value)


def draft_from_address(address: str) -> object:
    return draft_from_mcp("rows", url=address)


@pytest.mark.parametrize("read", [load_agent_card, draft_from_address])
def test_an_error_shows_no_key_of_an_address(read: Callable[[str], object]) -> None:
    with site(_card=(500, {}, b"")) as here:
        for address in (f"{here.address}/card?key=hush", "http://user:hush@127.0.0.1/card", f"{here.address}/no#hush"):
            with pytest.raises(ClaudeCommsError) as caught:
                read(address)
            assert "hush" not in str(caught.value)


@pytest.mark.parametrize(("answer", "said"), NO_SERVERS)
def test_what_is_no_mcp_server_over_http_is_refused(answer: Answer, said: str) -> None:
    with site(_mcp=answer) as here, pytest.raises(ConfigError, match=said):
        draft_from_mcp("rows", url=f"{here.address}/mcp", timeout_s=20)


# --- the command line --------------------------------------------------------------------------


def test_a_module_is_registered_from_a_command_which_is_shown(cli: Cli, tmp_path: Path) -> None:
    command = shlex.join(on_stdio(tmp_path / "called"))
    done = cli.run("register-module", "rows", "--from-mcp", command)
    assert done.returncode == 0, done.stderr
    assert f"runs, to list its tools: {command}" in done.stderr
    assert "How many rows a table has." in done.stdout
    shown = cli.json("show-module", "rows")
    assert shown["path"] is None
    assert shown["origin"] == "registered"
    assert "count" in [item["name"] for item in shown["capabilities"]]
    assert not (tmp_path / "called").exists()


def test_a_variable_is_passed_on_by_name(cli: Cli, tmp_path: Path) -> None:
    arguments = ("register-module", "rows", "--from-mcp", shlex.join(on_stdio(tmp_path / "called")))
    environment = {"ROWS_KEY": "hush", "OTHER_KEY": "hush"}
    card = cli.json(*arguments, "--pass-env", "ROWS_KEY", environment=environment)
    seen = {item["name"] for item in card["capabilities"]}
    assert "saw_ROWS_KEY" in seen
    assert "saw_OTHER_KEY" not in seen
    assert "hush" not in json.dumps(card)
    assert "not set here: ROWS_KEY" in cli.run(*arguments, "--pass-env", "ROWS_KEY").stderr


def test_a_module_goes_out_as_a_card_and_comes_in_from_it_unchanged(cli: Cli) -> None:
    card = cli.json("show-module", "arangodb", "--card", "--url", "https://a.example/a2a")
    assert card["supportedInterfaces"][0]["url"] == "https://a.example/a2a"
    assert value_problems(schema_of("show-module"), card) == []
    printed = cli.run("show-module", "arangodb", "--card", "--url", "https://a.example/a2a")
    assert json.loads(printed.stdout) == card
    (cli.directory / "card.json").write_text(printed.stdout)
    before = cli.json("show-module", "arangodb")
    after = cli.json("register-module", "arangodb", "--from-card", "card.json", "--yes")
    assert after["origin"] == "registered"
    about_the_registry = {"origin", "file", "path", "hides", "granted"}
    assert {key: after[key] for key in after if key not in about_the_registry} == {
        key: before[key] for key in before if key not in about_the_registry
    }


def test_a_card_from_an_address_is_named_by_the_user_and_said_to_be_unchecked(cli: Cli) -> None:
    with site(_card=(200, {}, marker_card())) as here:
        done = cli.run("register-module", "papers", "--from-card", f"{here.address}/card")
    assert done.returncode == 0, done.stderr
    assert "nobody has checked" in done.stderr
    assert cli.json("show-module", "papers")["summary"].startswith("Converts PDFs")


def test_a_path_that_a_module_has_stays_when_its_descriptor_comes_from_elsewhere(cli: Cli) -> None:
    cli.json("register-module", "marker", "--path", ".", "--desc", SHIPPED / "marker.yaml")
    (cli.directory / "card.json").write_bytes(marker_card())
    assert cli.json("register-module", "marker", "--from-card", "card.json")["path"] == str(cli.directory)


def test_ctrl_c_ends_a_server_that_does_not_answer(cli: Cli) -> None:
    pid_file = cli.directory / "pid"
    script = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 600"
    running = cli.start("register-module", "rows", "--from-mcp", shlex.join(["sh", "-c", script]))
    until(pid_file.exists)
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130
    assert not is_running(int(pid_file.read_text()))


def until(happened: Callable[[], bool]) -> None:
    """Wait for it, for at most 30 s."""
    waiting = threading.Event()
    for _ in range(3_000):
        if happened():
            return
        waiting.wait(0.01)
    raise TimeoutError


def test_what_a_card_asks_for_is_granted_by_the_user_only(cli: Cli) -> None:
    card = json.loads(marker_card())
    params = card["capabilities"]["extensions"][0]["params"]
    params["fields"]["permissions"] = {"tools": ["Bash"]}
    (cli.directory / "card.json").write_text(json.dumps(card))
    arguments = ("register-module", "marker", "--from-card", "card.json")
    refused = cli.run(*arguments)
    assert refused.returncode == 2
    assert "Bash" in refused.stderr
    assert cli.json("show-module", "marker")["origin"] == "shipped"
    assert cli.json(*arguments, "--yes")["granted"] == ["Bash"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["register-module", "rows"], "--path"),
        (["register-module", "rows", "--desc", "a.yaml", "--from-card", "b.json", "--path", "."], "only one of"),
        (["register-module", "rows", "--from-card", "a.json", "--from-mcp", "b"], "only one of"),
        (["register-module", "rows", "--from-mcp", " "], "--from-mcp"),
        (["register-module", "rows", "--from-mcp", "'open"], "no command"),
        (["register-module", "rows", "--from-card", "none.json"], "cannot be read"),
        (["register-module", "rows", "--from-card", "x", "--pass-env", "A"], "--pass-env"),
        (["show-module", "marker", "--url", "https://a.example"], "--card"),
        (["show-module", "marker", "--card", "--schema"], "only one of"),
        (["show-module", "marker", "--card", "--url", "ftp://a.example"], "no http or https address"),
        (["show-module", "--card"], "NAME"),
    ],
)
def test_what_does_not_go_together_is_misuse(cli: Cli, arguments: list[str], said: str) -> None:
    done = cli.run(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
