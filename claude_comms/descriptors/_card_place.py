"""Agent cards where they stand: in a file, or at an address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from claude_comms.descriptors._address import ADDRESS, NO_ADDRESS, shown
from claude_comms.descriptors._card import MAX_CARD_BYTES, from_agent_card
from claude_comms.descriptors._file import read_bounded
from claude_comms.errors import ConfigError, DeadlineExceededError, DescriptorError, Problem
from claude_comms.text import shorten

if TYPE_CHECKING:
    import httpx

    from claude_comms.descriptors._model import ModuleDescriptor

__all__ = ["load_agent_card"]

_WELL_KNOWN = "/.well-known/agent-card.json"
_WITHIN_S = 30.0
_MOST_REDIRECTS = 3


def load_agent_card(place: Path | str, *, name: str | None = None) -> ModuleDescriptor:
    """The descriptor for the agent card at `place`: a file, or an http(s) address; see `from_agent_card`.

    An address without a path means the card that its host publishes at the well-known place. It is asked for without
    credentials and proxies, for at most 30 s; redirects stay on its host. ConfigError where nothing can be had from
    it, DeadlineExceededError where that takes too long. Waits for it; do not call it in an event loop with one.
    """
    if isinstance(place, str) and "://" in place:
        if not ADDRESS.fullmatch(place):
            raise ConfigError(NO_ADDRESS)
        return from_agent_card(_fetched(place), name=name, path=shown(place))
    path = Path(place)
    try:
        data = read_bounded(path, MAX_CARD_BYTES)
    except OSError as error:
        problem = Problem(f"cannot be read: {error.strerror or error}", hint="check the path and its permissions")
        raise DescriptorError([problem], path=path) from error
    except DescriptorError as error:
        raise DescriptorError(error.problems, path=path) from error
    return from_agent_card(data, name=name, path=path)


def _fetched(address: str) -> bytes:
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        return portal.call(_fetch, address)


async def _fetch(address: str) -> bytes:
    """What stands at the address. httpx bounds each step of an exchange; the deadline bounds all of it."""
    import anyio
    import httpx

    try:
        with anyio.fail_after(_WITHIN_S):
            async with httpx.AsyncClient(timeout=_WITHIN_S, trust_env=False, follow_redirects=False) as client:
                url = httpx.URL(address)
                return await _follow(client, url.copy_with(path=_WELL_KNOWN) if url.path == "/" else url)
    except (TimeoutError, httpx.TimeoutException) as error:
        message = f"{shown(address)} sent no card within {_WITHIN_S:g} s. Try again, or download it and give the file."
        raise DeadlineExceededError(message, deadline_s=_WITHIN_S) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = shorten(str(error).replace(address, shown(address)), 300) or type(error).__name__
        raise ConfigError(f"{shown(address)} sent no card: {said}. Check the address.") from error


async def _follow(client: httpx.AsyncClient, url: httpx.URL) -> bytes:
    for _ in range(_MOST_REDIRECTS + 1):
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with client.stream("GET", url, headers=headers) as response:
            next_request = response.next_request
            if next_request is None:
                return await _body(response)
            if not _is_same_host(url, next_request.url):
                told = shown(str(next_request.url))
                raise ConfigError(
                    f"{shown(str(url))} redirects to another host, {told}. Give that address if you trust it."
                )
            url = next_request.url
    raise ConfigError(f"{shown(str(url))} redirects more than {_MOST_REDIRECTS} times. Give the card's own address.")


def _is_same_host(url: httpx.URL, other: httpx.URL) -> bool:
    """Whether a redirect stays: on the same scheme, host and port, or on the host's https instead of its http."""
    if other.userinfo or url.host != other.host:
        return False
    upgrade = (url.scheme, url.port, other.scheme, other.port) == ("http", None, "https", None)
    return upgrade or (url.scheme, url.port) == (other.scheme, other.port)


async def _body(response: httpx.Response) -> bytes:
    url = shown(str(response.url))
    if response.status_code != 200:
        raise ConfigError(f"{url} answered {response.status_code}, no card. Check the address.")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ConfigError(f"{url} sent a compressed card unasked. Download it and give the file.")
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > MAX_CARD_BYTES:
            raise ConfigError(f"{url} sent more than {MAX_CARD_BYTES // 1024:,} KiB, the most that is read.")
    return bytes(data)
