"""Runs one program and leaves nothing of it behind: a small process between ours and Claude Code's.

Run as ``python -I -S _launcher.py LIFELINE_FD PROGRAM ARGUMENT...``; standard library only, and little of it,
because every start pays for it. It hands its three standard streams to the program and keeps none itself.

- All descendants of the program come back to it when their parents die (PR_SET_CHILD_SUBREAPER), those that
  started sessions of their own included, so that it can find and kill them.
- It ends when the program ends, when it gets SIGTERM, or when the other end of the lifeline closes, which the
  kernel does however our process dies. In each case it first kills every descendant.
- It ends as the program did: with its exit code, or by its signal.
- Should it be killed itself, the program gets SIGKILL with it (PR_SET_PDEATHSIG).

Where the kernel is not Linux, the two ``prctl`` calls and the search in ``/proc`` do nothing, and the program's
process group is killed instead.
"""

from __future__ import annotations

import os
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_EXEC_FAILED = 127
_TERMINATED = 128 + signal.SIGTERM


def main(arguments: list[str]) -> None:
    """Run the program until it, the lifeline or SIGTERM says stop. Does not return."""
    lifeline = int(arguments[0])
    os.set_inheritable(lifeline, False)  # noqa: FBT003
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # The lifeline is also held by children that our process forked and did not let exec.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    wake, signalled = os.pipe()
    for end in (wake, signalled):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    program = _start(arguments[1:])
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    status = _watch(program, wake, lifeline, stop)
    _sweep(program)
    _end_as(status)


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(argv: list[str]) -> int:
    parent = os.getpid()
    program = os.fork()
    if program:
        return program
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(_TERMINATED)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.execv(argv[0], argv)  # noqa: S606 - there is no shell here, and there must be none
    except OSError as error:
        os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(_EXEC_FAILED)


def _watch(program: int, wake: int, lifeline: int, stop: list[int]) -> int | None:
    """The program's wait status once it has ended, or None when it is to be stopped."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    while True:
        status = _reap(program)
        if status is not None or stop:
            return status
        ready = [fd for fd, _ in poll.poll()]
        if lifeline in ready:
            return None
        if wake in ready:
            os.read(wake, 4096)


def _reap(program: int) -> int | None:
    """Collect all children that have ended; the program's status if it is one of them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == program:
            found = status


def _sweep(program: int) -> None:
    """Kill what is left until there is no child any more."""
    for _ in range(1000):
        victims = _descendants() or [program]
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        select.select([], [], [], 0.002)


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib costs more than all the rest of this
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
    found: list[int] = []
    wanted = {os.getpid()}
    while wanted:
        wanted = {pid for pid, parent in parents.items() if parent in wanted}
        found.extend(wanted)
    return found


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
