"""Nobody comes in without the token or the socket's owner: every route, the WebSocket included."""

from __future__ import annotations

import os
import pwd
import socket
import sys
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
from daemon_support import TOKEN, Running, running
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import InvalidStatus

from claude_comms.daemon.server import Limits
from claude_comms.daemon.server._connections import peer_uid

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.anyio

BEARER = {"Authorization": f"Bearer {TOKEN}"}
REFUSED: dict[str, tuple[dict[str, str], int]] = {
    "no token": ({}, 401),
    "a wrong token": ({"Authorization": f"Bearer {TOKEN}x"}, 401),
    "an empty token": ({"Authorization": "Bearer"}, 401),
    "another scheme": ({"Authorization": f"Basic {TOKEN}"}, 401),
    "a foreign Host": ({**BEARER, "Host": "evil.example"}, 403),
    "a Host without the port": ({**BEARER, "Host": "127.0.0.1"}, 403),
    "a Host with another port": ({**BEARER, "Host": "127.0.0.1:1"}, 403),
    "a foreign Origin": ({**BEARER, "Origin": "https://evil.example"}, 403),
    "a null Origin": ({**BEARER, "Origin": "null"}, 403),
    "another port's Origin": ({**BEARER, "Origin": "http://127.0.0.1:1"}, 403),
}


def routes(daemon: Running) -> list[tuple[str, str]]:
    """Every method and path, ids filled in."""
    found = [
        (method.upper(), path)
        for path, operations in daemon.server.app.openapi()["paths"].items()
        for method in operations
    ]
    filled = [(method, path.replace("{", "").replace("}", "")) for method, path in found]
    return [*filled, ("GET", "/openapi.json"), ("GET", "/nothing"), ("OPTIONS", "/v1/messages")]


@pytest.mark.parametrize("case", REFUSED)
async def test_no_route_is_served_over_tcp_to(case: str, tmp_path: Path) -> None:
    headers, status = REFUSED[case]
    async with running(tmp_path) as daemon, await daemon.over_tcp(headers=headers) as client:
        every = routes(daemon)
        for method, path in every:
            answer = await client.request(method, path)
            assert (method, path, answer.status_code) == (method, path, status)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
            assert not {"access-control-allow-origin", "set-cookie"} & set(answer.headers)
    assert len(every) > 30


@pytest.mark.parametrize("case", REFUSED)
async def test_no_websocket_is_opened_over_tcp_to(case: str, tmp_path: Path) -> None:
    headers, status = REFUSED[case]
    async with running(tmp_path) as daemon:
        address = await daemon.server.listen("127.0.0.1:0")
        answered = await _upgraded(address, headers)

    assert answered.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/problem+json" in answered


async def _upgraded(address: str, headers: Mapping[str, str]) -> bytes:
    """What a server says to a handshake with exactly these headers."""
    told = {
        "Host": address,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **headers,
    }
    lines = ["GET /v1/ws HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    host, _, port = address.rpartition(":")
    with anyio.fail_after(10):
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send("\r\n".join(lines).encode() + b"\r\n\r\n")
            return await stream.receive(65_536)


async def test_the_token_opens_every_door_of_tcp(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        async with await daemon.over_tcp() as client:
            assert (await client.get("/health")).status_code == 200
            own = {"Origin": f"http://{daemon.server.address}"}
            assert (await client.get("/v1/modules", headers=own)).status_code == 200
            localhost = {"Host": f"localhost:{client.base_url.port}"}
            assert (await client.get("/v1/modules", headers=localhost)).status_code == 200
        async with connect(f"ws://{daemon.server.address}/v1/ws", additional_headers=BEARER, proxy=None) as ws:
            await ws.send('{"jsonrpc":"2.0","id":1,"method":"hello"}')
            assert '"result"' in str(await ws.recv())


async def test_two_tokens_or_two_hosts_are_none(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        address = await daemon.server.listen("127.0.0.1:0")
        twice = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")]
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
            assert (await client.get("/health", headers=twice)).status_code == 401
        # The second Host in the place of a header that may be there more than once.
        assert (await _upgraded(address, {**BEARER, "X: y\r\nHost": "evil.example"})).startswith(b"HTTP/1.1 400 ")


async def test_the_socket_needs_no_token_but_refuses_web_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        assert (await client.get("/health")).status_code == 200
        for origin in ("https://evil.example", "http://daemon", "null"):
            answer = await client.get("/health", headers={"Origin": origin})
            assert answer.status_code == 403
        with pytest.raises(InvalidStatus) as caught:
            async with unix_connect(str(daemon.path), "ws://daemon/v1/ws", origin="http://daemon"):
                pass
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    "address", ["0.0.0.0:0", "10.0.0.1:80", "example.org:80", "[::]:0", "127.0.0.1", "127.0.0.1:x"]
)
async def test_only_this_machines_own_addresses_are_listened_on(address: str, tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        answer = await client.post("/v1/daemon/listen", json={"listen": address})
        status = (await client.get("/v1/daemon")).json()

    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "ConfigError")
    assert status["listen"] is None


async def test_a_taken_port_is_said_to_be_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with running(tmp_path) as daemon, daemon.client() as client:
            port = taken.getsockname()[1]
            answer = await client.post("/v1/daemon/listen", json={"listen": f"127.0.0.1:{port}"})

    assert answer.status_code == 422
    assert "Choose another port" in answer.json()["detail"]


async def test_a_running_daemon_is_told_to_listen_once(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        first = (await client.post("/v1/daemon/listen", json={"listen": "localhost:0"})).json()["listen"]
        again = (await client.post("/v1/daemon/listen", json={"listen": first})).json()["listen"]
        other = await client.post("/v1/daemon/listen", json={"listen": "127.0.0.1:1"})

    assert first == again
    assert first.startswith("127.0.0.1:")
    assert other.status_code == 409


_AS_NOBODY = """
import os, socket, sys
os.setgid({gid}); os.setuid({uid})
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(10)
    try:
        s.connect({path!r})
    except PermissionError:
        print("PERMISSION"); sys.exit()
    s.sendall(b"GET {route} HTTP/1.1\\r\\nHost: d\\r\\n{more}\\r\\n")
    print(s.recv(65536).decode())
"""
_UPGRADE = (
    "Upgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
    "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system does not tell the peer")
@pytest.mark.parametrize(("route", "more"), [("/health", ""), ("/v1/ws", _UPGRADE)])
async def test_another_user_is_refused_even_where_the_mode_lets_them_in(route: str, more: str, tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        as_it_is = await _as_nobody(daemon.path, route, more)
        daemon.path.parent.chmod(0o755)
        daemon.path.chmod(0o666)
        let_in = await _as_nobody(daemon.path, route, more)
        async with daemon.client() as client:
            assert (await client.get("/health")).status_code == 200

    assert as_it_is.strip() == "PERMISSION"
    assert let_in.startswith("HTTP/1.1 403 ")
    assert "application/problem+json" in let_in


async def _as_nobody(path: Path, route: str, more: str) -> str:
    nobody = pwd.getpwnam("nobody")
    code = _AS_NOBODY.format(uid=nobody.pw_uid, gid=nobody.pw_gid, path=str(path), route=route, more=more)
    # Of the whole environment it needs nothing; -I keeps it from looking around.
    with anyio.fail_after(30):
        done = await anyio.run_process([sys.executable, "-I", "-S", "-c", code], env={}, check=False, cwd="/")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system does not tell the peer")
def test_the_peer_of_a_socket_is_known() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()


# --- how much ------------------------------------------------------------------------------------

SMALL = Limits(body_bytes=1000, head_bytes=4096, connections=3)
QUESTION = {"source": "marker", "target": "arangodb", "prompt": "x" * 2000}


async def test_a_body_that_says_it_is_too_large_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, limits=SMALL) as daemon, daemon.client() as client:
        answer = await client.post("/v1/messages", json=QUESTION)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert (await client.get("/health")).status_code == 200
    assert daemon.engine.asked == []


async def test_a_body_that_grows_too_large_is_refused(tmp_path: Path) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    async with running(tmp_path, limits=SMALL) as daemon, daemon.client() as client:
        answer = await client.post("/v1/messages", content=pieces(), headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


async def test_a_message_that_is_too_large_ends_the_websocket(tmp_path: Path) -> None:
    from websockets.exceptions import ConnectionClosedError

    async with running(tmp_path, limits=SMALL) as daemon, unix_connect(str(daemon.path), "ws://daemon/v1/ws") as ws:
        await ws.send("x" * 2000)
        with pytest.raises(ConnectionClosedError) as caught:
            await ws.recv()

    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


async def test_too_much_of_a_head_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, limits=SMALL) as daemon, daemon.client() as client:
        answer = await client.get("/health", headers={"X": "x" * 10_000})

    assert (answer.status_code, answer.headers["content-type"]) == (431, "application/problem+json")


async def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, limits=SMALL) as daemon:
        with anyio.fail_after(10):
            async with await anyio.connect_unix(daemon.path) as stream:
                await stream.send(b"GET /health HTTP/1.1\r\nX: " + b"x" * 100_000)
                answer = await stream.receive()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


async def test_too_many_connections_are_refused_and_later_ones_served(tmp_path: Path) -> None:
    async with running(tmp_path, limits=SMALL) as daemon:
        held = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for sock in held:
            sock.connect(str(daemon.path))
        async with daemon.client() as client:
            refused = await client.get("/health")
        for sock in held:
            sock.close()
        async with daemon.client() as client:
            with anyio.fail_after(10):
                while (await client.get("/health")).status_code != 200:
                    await anyio.lowlevel.checkpoint()

    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    assert int(refused.headers["retry-after"]) > 0


async def test_too_many_requests_are_told_to_wait(tmp_path: Path) -> None:
    limits = Limits(requests_per_s=0.001, requests_burst=2)
    async with running(tmp_path, limits=limits) as daemon:
        async with daemon.client() as client:
            answers = [await client.get("/health") for _ in range(3)]
        async with daemon.client() as client:
            other = await client.get("/health")

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["retry-after"]) > 0
    assert other.status_code == 200


async def test_one_door_takes_only_so_much_from_all_connections(tmp_path: Path) -> None:
    limits = Limits(door_requests_per_s=0.001, door_requests_burst=2)
    async with running(tmp_path, limits=limits) as daemon, await daemon.over_tcp(headers={}) as client:
        statuses = [(await client.get("/health")).status_code for _ in range(3)]

    assert statuses == [401, 401, 429]


async def test_a_connection_that_says_nothing_is_let_go_of(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(head_wait_s=0.05)) as daemon:
        with anyio.fail_after(10):
            async with await anyio.connect_unix(daemon.path) as stream:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()


async def test_what_is_not_http_gets_a_problem_document(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        with anyio.fail_after(10):
            async with await anyio.connect_unix(daemon.path) as stream:
                await stream.send(b"\x16\x03\x01 hello\r\n\r\n")
                answer = await stream.receive()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
