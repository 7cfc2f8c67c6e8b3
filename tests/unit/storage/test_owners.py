from __future__ import annotations

import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

from claude_comms.storage import OwnerLock

if TYPE_CHECKING:
    from pathlib import Path

_HOLD = """
import sys
from pathlib import Path
from claude_comms.storage import OwnerLock
owner = OwnerLock(Path(sys.argv[1]))
owner.acquire()
print(owner.owner_id, flush=True)
sys.stdin.read()
"""


def test_an_owner_is_alive_until_it_releases(tmp_path: Path) -> None:
    one, other = OwnerLock(tmp_path / "store.db"), OwnerLock(tmp_path / "store.db")
    one.acquire()
    other.acquire()
    assert one.dead_owners([one.owner_id, other.owner_id]) == set()
    assert other.dead_owners([one.owner_id, other.owner_id]) == set()
    one.release()
    assert other.dead_owners([one.owner_id, other.owner_id]) == {one.owner_id}
    other.release()
    assert list((tmp_path / "store.db.owners").iterdir()) == []


def test_a_killed_process_is_dead_and_its_file_is_removed(tmp_path: Path) -> None:
    me = OwnerLock(tmp_path / "store.db")
    me.acquire()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "store.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        owner_id = child.stdout.readline().strip()
        assert me.dead_owners([owner_id]) == set()
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    me.sweep()
    assert [path.stem for path in (tmp_path / "store.db.owners").iterdir()] == [me.owner_id]
    assert me.dead_owners([owner_id]) == {owner_id}
    me.release()


def test_owners_files_are_private(tmp_path: Path) -> None:
    owner = OwnerLock(tmp_path / "store.db")
    owner.acquire()
    directory = tmp_path / "store.db.owners"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())]
    owner.release()
    assert modes == [0o700, 0o600]
