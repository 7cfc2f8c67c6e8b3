"""A callback that is an address: the job is posted to it, on this machine unless others are allowed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from claude_comms.errors import ConfigError
from claude_comms.text import shorten

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import httpx

    Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

__all__ = ["Place", "find_place", "post_to", "resolve"]

_RESOLVE_WITHIN_S = 5.0
_TRIES = 3
_LONGEST_WAIT_S = 2.0
_TOO_MANY_REQUESTS = 429
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """Where to post: the URL as it was given, and the addresses that its host had when it was looked at."""

    url: str
    host: str
    addresses: tuple[str, ...]


class _PassingError(Exception):
    """Worth another try."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of `host`, as the system knows them; an address is its own."""
    with suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


async def find_place(url: str, *, allow_remote: bool, resolve: Resolve = resolve) -> Place:
    """The place of `url`. ConfigError for what is no URL, and for a host that is, even in part, another machine's
    without `allow_remote`.
    """
    host, port = _host_and_port(url)
    try:
        with anyio.fail_after(_RESOLVE_WITHIN_S):
            addresses = await resolve(host, port)
    except (OSError, UnicodeError) as error:  # TimeoutError among them
        raise ConfigError(f"callback: the host {host} cannot be found. Check its name.") from error
    others = [address for address in addresses if not ipaddress.ip_address(address).is_loopback]
    if others and not allow_remote:
        raise ConfigError(
            f"callback: {host} is {others[0]}, not this machine. Give a loopback address,"
            " or allow remote callbacks in the settings."
        )
    return Place(url, host, tuple(addresses))


def _host_and_port(url: str) -> tuple[str, int]:
    import httpx

    try:
        httpx.URL(url)  # whoever posts must be able to read it, too
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except (ValueError, httpx.InvalidURL) as error:
        raise ConfigError(f"callback: no URL: {error}. Give http://HOST:PORT/PATH.") from error
    if parts.scheme not in _PORTS or not host:
        raise ConfigError(f"callback: {shorten(url, 80)} is no URL. Give http://HOST:PORT/PATH, or a command's parts.")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("callback: a URL with credentials would be kept and shown. Leave them out.")
    return host, port or _PORTS[parts.scheme]


async def post_to(place: Place, body: bytes, client: httpx.AsyncClient, *, wait_s: float) -> str:
    """Post `body` as JSON, and say in one line what came of it. Never raises.

    Lost connections, 429 and 5xx are tried again, three times in all, after about `wait_s` seconds at first.
    Redirects are not followed: they would lead where nobody has looked.
    """
    from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    again = AsyncRetrying(
        stop=stop_after_attempt(_TRIES),
        wait=wait_random_exponential(multiplier=wait_s, max=_LONGEST_WAIT_S),
        retry=retry_if_exception_type(_PassingError),
        reraise=True,
    )
    try:
        return await again(_post_once, place, body, client)
    except _PassingError as error:
        return f"failed: {error}, after {_TRIES} tries"


async def _post_once(place: Place, body: bytes, client: httpx.AsyncClient) -> str:
    status = await _status(place, body, client)
    if status >= 500 or status == _TOO_MANY_REQUESTS:
        raise _PassingError(f"HTTP {status}")
    if 300 <= status < 400:
        return f"failed: HTTP {status}, and redirects are not followed"
    return f"HTTP {status}" if status < 300 else f"failed: HTTP {status}"


async def _status(place: Place, body: bytes, client: httpx.AsyncClient) -> int:
    """Ask the addresses that were looked at, by number: a name may mean another machine by now."""
    import httpx

    url = httpx.URL(place.url)
    headers = {"Content-Type": "application/json", "Host": url.netloc.decode("ascii")}
    trouble = "no address"
    for address in place.addresses:
        request = client.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers=headers,
            extensions={"sni_hostname": place.host},
        )
        try:
            # Only the status is wanted: a body, however long, is not read.
            response = await client.send(request, stream=True)
        except httpx.ConnectError as error:
            trouble = f"{type(error).__name__} {shorten(str(error), 200)}"
            continue
        except httpx.HTTPError as error:
            raise _PassingError(f"{type(error).__name__} {shorten(str(error), 200)}") from error
        await response.aclose()
        return response.status_code
    raise _PassingError(trouble)
