"""MCP servers as the user defines them: in `config.toml`, never in a descriptor or a repository."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MCP_GRANT",
    "McpServer",
    "McpServerName",
    "changed_servers",
    "granted_definitions",
    "granted_server",
    "how_to_define",
]

MCP_GRANT = "mcp:"
"""``mcp:NAME`` lets an instance use all tools of the server NAME, ``mcp:NAME/TOOL`` one of them."""

_NAME = r"^[A-Za-z0-9]+([_-][A-Za-z0-9]+)*$"

McpServerName = Annotated[str, StringConstraints(max_length=32, pattern=_NAME)]
"""Letters, digits, single ``_`` and ``-``: in ``mcp__NAME__TOOL`` it can be told where the name ends."""

_ADDRESS = re.compile(r"https?://[^/@\s]+(/\S*)?", re.IGNORECASE)


class McpServer(BaseModel):
    """A server: a program that is run (`command`), or an address (`url`, streamable HTTP).

    `env` and `headers` are where secrets belong: what is in them is shown nowhere. `args` stand in the server's own
    command line, for every user of the machine to read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str | None = Field(default=None, min_length=1)
    args: tuple[str, ...] = ()
    env: dict[str, SecretStr] = {}
    url: str | None = None
    headers: dict[str, SecretStr] = {}

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is not None and not _ADDRESS.fullmatch(url):
            raise ValueError("not an http or https address without a login in it; a login belongs into headers")
        return url

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either command, with args and env, or url, with headers")
        if self.url is not None and (self.args or self.env):
            raise ValueError("args and env go with command, not with url")
        if self.command is not None and self.headers:
            raise ValueError("headers go with url, not with command")
        # Claude Code would put its own variables there, our key among them.
        if any("${" in text for text in self._texts()):
            raise ValueError("write the value itself: ${...} is not replaced")
        return self

    def _texts(self) -> Iterable[str]:
        yield from (self.command or "", self.url or "", *self.args)
        for secret in (*self.env.values(), *self.headers.values()):
            yield secret.get_secret_value()

    def __str__(self) -> str:
        """The program as it is called, or the address; no secrets."""
        return self.url or shlex.join((self.command or "", *self.args))

    @property
    def digest(self) -> str:
        """A hash of what the user was shown and agreed to: program and arguments, or address, and which variables or
        headers it gets. Their values are not in it: a token may be renewed without a new question.
        """
        content = json.dumps([self.command, self.args, sorted(self.env), self.url, sorted(self.headers)])
        return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def told(self, *, withheld: Iterable[str] = (), given: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The server as Claude Code's ``--mcp-config`` has it, secrets included.

        `withheld` variables are empty for a program, and `given` ones are set, unless `env` has them: it inherits all
        others of its parent.
        """
        if self.url is not None:
            return {"type": "http", "url": self.url, "headers": _revealed(self.headers)}
        env = {**dict.fromkeys(withheld, ""), **(given or {}), **_revealed(self.env)}
        return {"type": "stdio", "command": self.command, "args": list(self.args), "env": env}


def granted_server(grant: str) -> str | None:
    """The name of the server that a grant is about; None for any other grant."""
    return grant.removeprefix(MCP_GRANT).partition("/")[0] if grant.startswith(MCP_GRANT) else None


def granted_definitions(grants: Iterable[str], servers: Mapping[str, McpServer]) -> dict[str, str]:
    """The digests of the servers among `grants` as they are defined now, by name; none for one that is not defined."""
    names = dict.fromkeys(filter(None, map(granted_server, grants)))
    return {name: servers[name].digest for name in names if name in servers}


def changed_servers(
    grants: Iterable[str], agreed: Mapping[str, str], servers: Mapping[str, McpServer]
) -> tuple[str, ...]:
    """The servers among `grants` whose definition is not the one that was `agreed` to, by the digests of
    `granted_definitions`: changed since, or made since.
    """
    return tuple(name for name, digest in granted_definitions(grants, servers).items() if agreed.get(name) != digest)


def how_to_define(name: str) -> str:
    """What to do where no server of that name is defined."""
    return (
        f'Define it in config.toml in the home: [mcp_servers.{name}] with command = "PROGRAM", or url = "https://..."'
    )


def _revealed(secrets: dict[str, SecretStr]) -> dict[str, str]:
    return {name: secret.get_secret_value() for name, secret in secrets.items()}
