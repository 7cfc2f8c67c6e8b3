"""Runs the daemon and leaves nothing of it behind: two small processes between it and whoever started it.

Run as ``python -I -S _guardian.py [--detach] GRACE_S PROGRAM ARGUMENT...``; standard library only. The guardian is
two processes, one above the other, so that nothing is left even where one of them is killed with the daemon:

    outer guardian ─ inner guardian ─ daemon ─ everything that the daemon starts

- All descendants of the daemon come back to the inner guardian when their parents die (PR_SET_CHILD_SUBREAPER),
  those that started sessions of their own included; those of the inner one come back to the outer one.
- When the daemon has ended, in whatever way, each descendant gets SIGKILL, which none can ignore. Then the guardians
  end as the daemon did: with its exit code, or by its signal.
- SIGTERM, SIGINT and SIGHUP are passed on to the daemon. Where it has not ended `GRACE_S` seconds later, it is killed.
- A guardian that is killed takes the daemon with it: the daemon gets SIGTERM (PR_SET_PDEATHSIG), and the other end of
  the lifeline that it watches closes. It then drains, and the guardian that is left waits for that.
- ``--detach``: the process that was started ends at once, and the guardian goes on without it.

The daemon finds in its environment ``CLAUDE_COMMS_GUARDIAN``: the inner guardian's pid and the lifeline's number,
``PID:FD``. A descriptor named in ``CLAUDE_COMMS_READY_FD`` is handed to the daemon, and kept by nobody else.

Where the kernel is not Linux, there are no subreapers and no ``/proc``: the daemon's process group is killed instead.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_EXEC_FAILED = 127
_TERMINATED = 128 + signal.SIGTERM
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SWEEP_WITHIN_S = 8.0


def main(arguments: list[str]) -> None:
    """Guard the program until it has ended. Does not return."""
    if arguments[0] == "--detach":
        arguments = arguments[1:]
        if os.fork():
            os._exit(0)
    grace_s, program = float(arguments[0]), arguments[1:]
    told, tell = os.pipe()
    above = os.getpid()
    signals = Signals()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    inner = os.fork()
    if not inner:
        os.close(told)
        os.setsid()  # a terminal's Ctrl-C comes to the outer one alone, which passes it on once
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        _guard(program, tell, grace_s, above)
    os.close(tell)
    _let_go()
    _watch_over(inner, told, signals, grace_s)


def _guard(program: list[str], tell: int, grace_s: float, above: int) -> None:
    """The inner guardian: start the program and see it through. Does not return."""
    signals = Signals()
    if os.getppid() != above:
        os._exit(_TERMINATED)
    daemon, lifeline = _start(program)
    os.write(tell, b"%d" % daemon)
    os.close(tell)
    _let_go()
    status = _watch(daemon, signals, grace_s)
    os.close(lifeline)
    _sweep(daemon)
    _end_as(status)


def _watch_over(inner: int, told: int, signals: Signals, grace_s: float) -> None:
    """The outer guardian: the same for the inner one, and for the daemon where the inner one was killed."""
    status = _watch(inner, signals, grace_s + _SWEEP_WITHIN_S)
    daemon = int(os.read(told, 32) or 0)
    if daemon and _parent_of(daemon) == os.getpid():
        # It knows that its guardian is gone, and is about to drain.
        status = _watch(daemon, signals, grace_s, stop_by=time.monotonic() + grace_s)
    _sweep(daemon)
    _end_as(status)


class Signals:
    """Those that came and are to be passed on, and a descriptor that is readable when one has come."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.wake, signalled = os.pipe()
        for end in (self.wake, signalled):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        for number in _PASSED_ON:
            signal.signal(number, lambda came, _: self.came.append(came))
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def taken(self) -> list[int]:
        """What has come since the last call."""
        came, self.came = self.came, []
        return came


def _start(argv: list[str]) -> tuple[int, int]:
    """The program's pid, and the descriptor that closes with this process."""
    parent = os.getpid()
    watched, lifeline = os.pipe()
    program = os.fork()
    if program:
        os.close(watched)
        return program, lifeline
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(_TERMINATED)
        os.setsid()
        os.set_inheritable(watched, True)  # noqa: FBT003
        os.environ["CLAUDE_COMMS_GUARDIAN"] = f"{parent}:{watched}"
        signal.set_wakeup_fd(-1)
        for number in (*_PASSED_ON, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.execv(argv[0], argv)  # noqa: S606 - there is no shell here, and there must be none
    except OSError as error:
        os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(_EXEC_FAILED)


def _let_go() -> None:
    """Keep nothing open that belongs to the daemon or to whoever started it."""
    ready = os.environ.get("CLAUDE_COMMS_READY_FD", "")
    if ready.isdigit():
        os.close(int(ready))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    os.chdir("/")


def _watch(child: int, signals: Signals, grace_s: float, *, stop_by: float | None = None) -> int | None:
    """`child`'s wait status once it has ended; None where it had to be killed at `stop_by`.

    `stop_by` is a time of the monotonic clock: `grace_s` seconds after the first signal, where none is given.
    """
    poll = select.poll()
    poll.register(signals.wake, select.POLLIN)
    while True:
        ended, status = _reap(child)
        if ended:
            return status
        for number in signals.taken():
            stop_by = stop_by or time.monotonic() + grace_s
            _kill(child, number)
        left_s = None if stop_by is None else stop_by - time.monotonic()
        if left_s is not None and left_s <= 0:
            return None
        if poll.poll(None if left_s is None else left_s * 1000 + 1):
            os.read(signals.wake, 4096)


def _reap(child: int) -> tuple[bool, int | None]:
    """Collect all children that have ended; whether `child` is gone, and its status."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True, found
        if pid == 0:
            return found is not None, found
        if pid == child:
            found = status


def _sweep(daemon: int) -> None:
    """Kill what is left until there is no child any more, for a bounded time: the kernel may hold one back."""
    give_up = time.monotonic() + _SWEEP_WITHIN_S
    while time.monotonic() < give_up:
        for pid in _descendants():
            _kill(pid, signal.SIGKILL)
        if daemon and not sys.platform.startswith("linux"):
            _kill(-daemon, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        select.select([], [], [], 0.005)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _descendants() -> list[int]:
    try:
        parents = {int(name): _parent_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208
    except OSError:
        return []
    found: list[int] = []
    wanted = {os.getpid()}
    while wanted:
        wanted = {pid for pid, parent in parents.items() if parent in wanted}
        found.extend(wanted)
    return found


def _parent_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs more than all the rest of this
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_as(status: int | None) -> None:
    if status is None:
        os._exit(_TERMINATED)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        select.select([], [], [], 1.0)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else _TERMINATED)


if __name__ == "__main__":
    main(sys.argv[1:])
