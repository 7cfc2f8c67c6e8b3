"""Which instances are to exist, across restarts of the process that runs them.

Light to import; the store is `claude_comms.roster.store`.
"""

from claude_comms.roster._entry import RosterEntry

__all__ = ["RosterEntry"]
