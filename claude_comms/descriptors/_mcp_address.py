"""An MCP server at an address: a client for the SDK's transport that counts what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["BoundedTransport"]


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Plain HTTP that gives up after `max_bytes` of answers; `overrun` tells whether it did.

    Compressed answers are refused, as a few bytes of them can be many.
    """

    def __init__(self, max_bytes: int) -> None:
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False)
        self._left_bytes = max_bytes
        self.overrun = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.DecodingError("the answer is compressed", request=request)
        stream = response.stream
        if isinstance(stream, httpx2.AsyncByteStream):
            response.stream = _Counted(stream, self)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    def take(self, chunk: bytes) -> bytes:
        """`chunk`, counted."""
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            self.overrun = True
            raise httpx2.ReadError("the answers are too long")
        return chunk


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, owner: BoundedTransport) -> None:
        self._inner = inner
        self._owner = owner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            yield self._owner.take(chunk)

    async def aclose(self) -> None:
        await self._inner.aclose()
