"""Where a daemon's files are, and what they say."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest

from claude_comms.daemon import DaemonInfo, Places
from claude_comms.daemon._places import forget, is_held_by, read_info, require_ours, write_info
from claude_comms.errors import DaemonError


def info(places: Places) -> DaemonInfo:
    return DaemonInfo(
        pid=12,
        version="1",
        socket=places.socket,
        listen=None,
        token_file=places.token,
        started_at="2026-11-21T00:00:00+00:00",
        log_file=places.log,
    )


def test_what_a_daemon_says_of_itself_is_read_back_and_private(tmp_path: Path) -> None:
    places = Places(tmp_path)
    write_info(places, info(places))
    assert read_info(places) == info(places)
    assert stat.S_IMODE(places.info.stat().st_mode) == 0o600
    forget(places)
    assert read_info(places) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1}', "\x00", "nonsense"])
def test_a_torn_file_says_nothing(tmp_path: Path, text: str) -> None:
    places = Places(tmp_path)
    places.info.write_text(text)
    assert read_info(places) is None


def test_the_socket_is_in_the_home_where_its_path_is_short(tmp_path: Path) -> None:
    assert Places(Path("/h")).socket == Path("/h/daemon.sock")


@pytest.mark.parametrize("runtime", [None, "/run/user/1000", "relative", "/" + "x" * 60])
def test_a_long_home_has_its_socket_in_a_short_private_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str | None
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if runtime is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    home = tmp_path / ("long" * 30)
    socket = Places(home).socket
    assert len(os.fsencode(socket)) <= 100
    assert socket == Places(home).socket
    assert socket != Places(tmp_path / ("long" * 31)).socket
    assert socket.is_relative_to("/run/user/1000") == (runtime == "/run/user/1000")


def test_the_short_place_is_made_private_and_may_be_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path.parent / "r"
    short.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    if len(str(short)) > 40:
        monkeypatch.setattr("claude_comms.daemon._places._temporary", lambda: short)
    places = Places(tmp_path / ("long" * 30))
    for _ in range(2):
        places.prepare()
        assert stat.S_IMODE(places.socket.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(places.logs.stat().st_mode) == 0o700
    places.socket.parent.chmod(0o755)
    with pytest.raises(DaemonError, match="not a directory of your own"):
        places.prepare()
    places.socket.parent.rmdir()


def test_a_link_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    require_ours(tmp_path / "real")
    with pytest.raises(DaemonError, match="not a directory of your own"):
        require_ours(tmp_path / "link")
    with pytest.raises(DaemonError, match="cannot be used"):
        require_ours(tmp_path / "missing")


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_is_in_the_sockets_place_is_left_there_and_named_with_what_to_do(tmp_path: Path, kind: str) -> None:
    places = Places(tmp_path)
    if kind == "directory":
        places.socket.mkdir()
    else:
        places.socket.write_text("mine")
    with pytest.raises(DaemonError, match=r"daemon\.sock is in the way.* Move it away"):
        places.prepare()
    assert places.socket.exists()


def test_a_socket_that_a_dead_daemon_left_is_no_obstacle(tmp_path: Path) -> None:
    places = Places(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(places.socket))
    places.prepare()
    forget(places)
    assert not places.socket.exists()


def test_a_file_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.info.mkdir()
    with pytest.raises(DaemonError, match=r"daemon\.json cannot be removed"):
        forget(places)


def test_a_lock_is_held_by_the_process_that_has_it_and_by_no_other(tmp_path: Path) -> None:
    lock = tmp_path / "daemon.lock"
    assert not is_held_by(lock, os.getpid())
    with lock.open("w") as file:
        assert not is_held_by(lock, os.getpid())
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held_by(lock, os.getpid())
    assert not is_held_by(lock, os.getpid())
