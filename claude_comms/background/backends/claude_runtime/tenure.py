"""A process's hold on the session that it has: its lease, and whether anybody will ever ask for the session."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from claude_comms.files import make_private

if TYPE_CHECKING:
    from claude_comms.background.backends.claude_runtime.leases import Lease
    from claude_comms.background.backends.claude_runtime.workspace import Scratch, Workspace

__all__ = ["Tenure"]


class Tenure:
    """The session of one process. `lease` is taken.

    `kept` says whether a handle of the session is out in the world: without one the session is deleted when the
    process ends.
    """

    def __init__(
        self,
        workspace: Workspace,
        scratch: Scratch,
        lease: Lease,
        *,
        session_id: str,
        position: str | None,
        kept: bool,
    ) -> None:
        self.session_id = session_id
        self.position = position
        self.gone = anyio.Event()
        """Set once the process has ended and everything of it was let go of."""
        self._workspace = workspace
        self._scratch = scratch
        self._lease = lease
        self._kept = kept
        self._unkept: list[str] = []

    @property
    def handle(self) -> str:
        """What finds this session again, up to its last complete answer."""
        return self.session_id if self.position is None else f"{self.session_id}@{self.position}"

    def hold(self) -> bool:
        """Take the session's lease, for a turn; False while another process has it."""
        return self._lease.take()

    def release(self) -> None:
        """Give up the lease while there is nothing to do. Whoever takes it finds the session up to its last answer."""
        self._lease.release()

    def answered(self, position: str | None) -> None:
        """Note that the session now ends in a complete answer, at `position`, whose handle goes out."""
        self.position = position
        if not self._kept:
            self._kept = True
            self.note()

    def moved(self, session_id: str) -> bool:
        """The process holds another, empty session now: take its lease; False where that cannot be had."""
        lease = self._workspace.lease(session_id)
        if not lease.take():
            return False
        self._lease.release()
        if not self._kept:
            self._unkept.append(self.session_id)
        self._lease, self._kept = lease, False
        self.session_id, self.position = session_id, None
        self.note()
        return True

    def note(self) -> None:
        """Write down which sessions nobody would ever ask for, should our process be killed now."""
        unkept = self._unkept if self._kept else [*self._unkept, self.session_id]
        note = self._scratch.unanswered
        with suppress(OSError):  # without it they stay, which harms nobody
            make_private(note)
            note.write_text("\n".join(unkept), "ascii")

    def end(self) -> None:
        """The process is gone, and its scratch files: give up the lease, and delete what nobody will ask for."""
        self._lease.release()
        if not self._kept:
            self._unkept.append(self.session_id)
        while self._unkept:
            self._workspace.discard(self._unkept.pop())
        self.gone.set()
