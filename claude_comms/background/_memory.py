"""How much memory processes take, with all that they started."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

__all__ = ["Measure", "measure_trees"]

Measure = Callable[[Collection[int]], Mapping[int, int]]
"""Resident bytes of the tree under each process, by its pid. One that is gone is missing. Runs in a thread."""


def measure_trees(pids: Collection[int]) -> dict[int, int]:
    """A `Measure` that asks the system: one look at all processes, however many trees there are.

    Pages that several processes share are counted for each.
    """
    import psutil

    wanted = ["pid", "ppid", "status"]
    living = {
        process.pid: process
        for process in psutil.process_iter(wanted)
        if process.info["status"] != psutil.STATUS_ZOMBIE
    }
    children: defaultdict[int, list[int]] = defaultdict(list)
    for process in living.values():
        children[process.info["ppid"]].append(process.pid)
    return {pid: _rss_bytes_of_tree(pid, living, children) for pid in pids if pid in living}


def _rss_bytes_of_tree(root: int, living: Mapping[int, psutil.Process], children: Mapping[int, list[int]]) -> int:
    total, left, seen = 0, [root], set[int]()
    while left:
        pid = left.pop()
        if pid not in seen:
            seen.add(pid)
            total += _rss_bytes(living[pid])
            left += children.get(pid, ())
    return total


def _rss_bytes(process: psutil.Process) -> int:
    import psutil

    try:
        return process.memory_info().rss
    except psutil.Error:  # it has just ended
        return 0
