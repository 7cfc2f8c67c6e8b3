"""The daemon's server: REST, server-sent events and a WebSocket over an engine. Heavy to import: FastAPI, uvicorn."""

from claude_comms.daemon.server._limits import Limits
from claude_comms.daemon.server._logs import configure_logging, secrets_of
from claude_comms.daemon.server._server import Server

__all__ = ["Limits", "Server", "configure_logging", "secrets_of"]
