"""Stands where the bridge stands: says that it listens at a port, of the test's own server, and notes what it was
given. Run as ``announcing_program.py PORT RECORD serve --token-file FILE ...``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

port, record, *words = sys.argv[1:]
token = Path(words[words.index("--token-file") + 1])
told = {
    "pid": os.getpid(),
    "environment": dict(os.environ),
    "token": token.read_text(),
    "mode": token.stat().st_mode & 0o777,
}
with Path(record).open("a") as file:
    file.write(json.dumps(told) + "\n")
if int(port):
    sys.stdout.write(json.dumps({"port": int(port), "pid": os.getpid(), "version": "0.1.0", "protocol": 1}) + "\n")
    sys.stdout.flush()
sys.stdin.read()
