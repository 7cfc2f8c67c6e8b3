"""``python -m claude_comms`` is ``claude-comms``."""

from __future__ import annotations

from claude_comms.cli import main

if __name__ == "__main__":
    main()
