"""The daemon's log: JSON lines that rotate, with ids to find things by, and without secrets."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import traceback
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from io import TextIOWrapper
    from pathlib import Path

    from pydantic import SecretStr

    from claude_comms.settings import Settings

__all__ = ["configure_logging", "secrets_of"]

_LARGEST_BYTES = 10 << 20
_KEPT = 5
_WRITE_EVERY_S = 0.2
_MOST_WAITING = 1_000
_CLOSE_WAIT_S = 1.0
_IDS = ("conversation", "instance", "turn", "job", "log_id")
_SHORTEST_SECRET = 6
"""Shorter ones would black out half the log."""

_LOOKS_SECRET = re.compile(r"sk-ant-[A-Za-z0-9_-]{8,}|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}")
_HIDDEN = "[hidden]"
_encoded = json.JSONEncoder(ensure_ascii=False, default=str).encode


def configure_logging(
    path: Path, level: str = "INFO", *, secrets: Iterable[str] = (), texts: bool = False
) -> logging.Handler:
    """Write what is logged from here on to `path`, as JSON lines: 0600, 10 MiB, five older files beside it.

    Ours from `level` on, other people's from WARNING on. `secrets` never stand there, nor what looks like one.
    Lines below WARNING wait up to 0.2 s for others, or for the handler's `flush` or `close`.
    Without `texts`, errors are told by their type and where they were raised: their messages may hold texts.
    Returns the handler; whoever wants to stop removes it from the root logger and closes it.
    """
    handler = _PrivateFile(path)
    handler.setFormatter(_JsonLines(secrets, texts=texts))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("claude_comms").setLevel(level)
    return handler


def secrets_of(settings: Settings, token: str = "") -> list[str]:
    """What must never stand in a log: keys and tokens of the settings and of the environment, and the daemon's own."""
    found = [token.strip(), os.environ.get("ANTHROPIC_AUTH_TOKEN", ""), os.environ.get("CLAUDE_CODE_OAUTH_TOKEN", "")]
    hidden: list[SecretStr | None] = [settings.anthropic_api_key]
    for server in settings.mcp_servers.values():
        hidden += [*server.env.values(), *server.headers.values()]
    return [*found, *(secret.get_secret_value() for secret in hidden if secret is not None)]


class _PrivateFile(RotatingFileHandler):
    """Files of mode 0600, whatever the umask. Written in one go each 0.2 s, and at once from WARNING on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_LARGEST_BYTES, backupCount=_KEPT, encoding="utf-8", errors="replace")
        self._lines: list[str] = []
        self._news = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="claude-comms-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; with the lock held, as `handle` does."""
        try:
            self._lines.append(self.format(record) + "\n")
            if record.levelno >= logging.WARNING or len(self._lines) >= _MOST_WAITING:
                self._write()
            else:
                self._news.set()
        except Exception:  # noqa: BLE001 - logging's own way with what goes wrong in it
            self.handleError(record)

    def flush(self) -> None:
        """Write what waits."""
        with self._locked():
            if self._lines:
                self._write()

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        self._ended.set()
        self._news.set()
        self._thread.join(_CLOSE_WAIT_S)
        self.flush()
        super().close()

    def _keep_writing(self) -> None:
        while True:
            self._news.wait()
            if self._ended.wait(_WRITE_EVERY_S):
                return
            self._news.clear()
            with contextlib.suppress(OSError, ValueError):  # a full disk: the next lines try again
                self.flush()

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        begin, size_bytes = 0, self._opened().tell()
        for number, line in enumerate(lines):
            length = len(line.encode("utf-8", "replace"))
            if size_bytes + length > self.maxBytes and size_bytes:
                self._opened().write("".join(lines[begin:number]))
                self.doRollover()
                begin, size_bytes = number, 0
            size_bytes += length
        self._opened().write("".join(lines[begin:]))
        self._opened().flush()

    def _opened(self) -> TextIOWrapper:
        """The file; there is none where it could not be opened again after it was full."""
        if self.stream is None:
            self.stream = self._open()
        return self.stream

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _open(self) -> TextIOWrapper:
        file = super()._open()
        os.fchmod(file.fileno(), 0o600)
        return file


class _JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def __init__(self, secrets: Iterable[str], *, texts: bool) -> None:
        super().__init__()
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)
        # As they would stand in JSON, too.
        forms = [form for secret in known for form in dict.fromkeys((secret, json.dumps(secret)[1:-1]))]
        self._known = re.compile("|".join(re.escape(form) for form in forms)) if forms else None
        self._texts = texts

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _IDS if getattr(record, name, None)}
        line |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self._told(record.exc_info[1])
        return self._without_secrets(_encoded(line))

    def _told(self, error: BaseException) -> str:
        if self._texts:
            return "".join(traceback.format_exception(error))
        frames = "".join(traceback.format_tb(error.__traceback__))
        cause = error.__cause__ or error.__context__
        return f"{frames}{type(error).__name__}" + (f" from {type(cause).__name__}" if cause is not None else "")

    def _without_secrets(self, line: str) -> str:
        if self._known is not None:
            line = self._known.sub(_HIDDEN, line)
        return _LOOKS_SECRET.sub(_HIDDEN, line)
