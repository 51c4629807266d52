"""Fetches what a link leads to: parts of it to look at, or all of it to keep.

Links come from strangers, so everything is bounded (size, time, redirects), nothing is decompressed, nothing but the
request itself is told to the other side (no keys, no cookies, no proxies of the environment), and connections are made
only to addresses that the fence lets through: to the very ones it checked, so that a name cannot change its meaning.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import httpx

from piapi_mcp.errors import UnreachableError
from piapi_mcp.media.ssrf import is_public, resolve

_MAX_REDIRECTS = 5
_MAX_ADDRESSES = 3
"""How many of a host's addresses are tried."""
_CONNECT_TIMEOUT_S = 5.0
_SILENCE_TIMEOUT_S = 20.0
"""Longest wait for the next bytes."""
_HEADERS = {"User-Agent": "piapi-mcp", "Accept": "*/*", "Accept-Encoding": "identity"}


class FetchError(UnreachableError):
    """A link did not lead to a file that can be fetched from here."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The file could not be fetched: {reason}.")
        self.reason = reason
        """What was in the way, in a few words."""


@dataclass(frozen=True)
class Part:
    """Some bytes of a file."""

    data: bytes
    """May be fewer than were asked for, at the end of the file."""
    size_bytes: int | None
    """Of the whole file; None where the server does not tell."""
    content_type: str
    """Without parameters, in lower case; empty where the server does not tell."""


@dataclass(frozen=True)
class Downloaded:
    """A file that was written."""

    size_bytes: int
    content_type: str
    """As in `Part`."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches public links; it keeps no connection, so there is nothing to close."""

    allowed_origins: frozenset[str] = frozenset()
    """Origins that need not be public, such as `http://127.0.0.1:8080`: scheme, host and port, always with the port."""
    part_timeout_s: float = 10.0
    """Longest time for one part, redirects included."""
    download_timeout_s: float = 300.0
    """Longest time for a whole file, redirects included."""

    async def read_range(self, url: str, offset: int, length: int) -> Part:
        """Return *length* bytes of the file at *url* from *offset*.

        Raises:
            FetchError: It cannot be read from here, or not in parts.
        """
        async with self._get(url, self.part_timeout_s, f"bytes={offset}-{offset + length - 1}") as response:
            size_bytes = _part_size(response, offset)
            data = bytearray()
            async for block in response.aiter_raw():
                data += block
                if len(data) >= length:
                    break
            return Part(bytes(data[:length]), size_bytes, _content_type(response))

    async def download(self, url: str, file: BinaryIO, *, max_bytes: int) -> Downloaded:
        """Write the file at *url* to *file*. On an error, *file* may hold a part of it.

        Raises:
            FetchError: It cannot be fetched, or is larger than *max_bytes*.
        """
        async with self._get(url, self.download_timeout_s) as response:
            if response.status_code != 200:  # noqa: PLR2004 -- OK
                raise FetchError(f"the server answered {response.status_code}")
            too_large = FetchError(f"it is larger than {max_bytes / 2**20:.0f} MB")
            if (_content_length(response) or 0) > max_bytes:
                raise too_large
            size_bytes = 0
            async for block in response.aiter_raw():
                size_bytes += len(block)
                if size_bytes > max_bytes:
                    raise too_large
                file.write(block)
            return Downloaded(size_bytes, _content_type(response))

    @asynccontextmanager
    async def _get(self, url: str, timeout_s: float, byte_range: str | None = None) -> AsyncGenerator[httpx.Response]:
        """Open *url*; whatever goes wrong, also while its body is being read, is a FetchError."""
        try:
            async with asyncio.timeout(timeout_s), aclosing(await self._follow(url, byte_range)) as response:
                yield response
        except TimeoutError:
            raise FetchError(f"it took longer than {timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchError(_said(error)) from error

    async def _follow(self, url: str, byte_range: str | None) -> httpx.Response:
        """Return the answer at the end of the redirects; each of them has to pass the fence."""
        target = httpx.URL(url)
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._send(target, byte_range)
            if not response.has_redirect_location:
                return response
            await response.aclose()
            target = target.join(response.headers["location"])
        raise FetchError("it redirects too often")

    async def _send(self, target: httpx.URL, byte_range: str | None) -> httpx.Response:
        """Send one request to the first of the host's addresses that takes connections."""
        headers = _HEADERS | {"Host": target.netloc.decode("ascii")} | ({"Range": byte_range} if byte_range else {})
        timeout = httpx.Timeout(_SILENCE_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S).as_dict()
        failed: httpx.TransportError | None = None
        for address in (await self._addresses(target))[:_MAX_ADDRESSES]:
            # The address, not the name, so that nobody resolves it again; TLS still asks for the name, and checks it.
            extensions = {"timeout": timeout, "sni_hostname": target.raw_host.decode("ascii").rstrip(".")}
            request = httpx.Request("GET", target.copy_with(host=address), headers=headers, extensions=extensions)
            try:
                response = await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
                continue
            if response.headers.get("content-encoding", "identity") != "identity":
                await response.aclose()
                raise FetchError("it is sent compressed, which was not asked for")
            return response
        raise failed or FetchError("it has no address")

    async def _addresses(self, target: httpx.URL) -> list[str]:
        """Return the addresses to connect to, all of which may be."""
        port = target.port or (443 if target.scheme == "https" else 80)
        is_plain = target.scheme in ("http", "https") and target.raw_host and not target.userinfo and port < 1 << 16
        if not is_plain:
            raise FetchError("it leads to something else than a plain http or https URL")
        try:
            addresses = await resolve(target.raw_host.decode("ascii"), port)
        except OSError:
            raise FetchError("there is no such host") from None
        if f"{target.scheme}://{target.netloc.decode('ascii').removesuffix(f':{port}')}:{port}" in self.allowed_origins:
            return addresses
        public = [address for address in addresses if is_public(address)]
        if not public:
            raise FetchError("it leads to an address that is not public")
        return public

    @cached_property
    def _transport(self) -> httpx.AsyncHTTPTransport:
        # No connection is kept: they are kept by address, and two hosts behind one address are not one host.
        return httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))


def _part_size(response: httpx.Response, offset: int) -> int | None:
    """Return the size of the whole file, once *response* is known to begin at *offset*."""
    if response.status_code == 200 and offset == 0:  # noqa: PLR2004 -- all of it, from the start: that will do
        return _content_length(response)
    if response.status_code == 200:  # noqa: PLR2004 -- as above
        raise FetchError("the server does not send parts of it")
    if response.status_code != 206:  # noqa: PLR2004 -- partial content
        raise FetchError(f"the server answered {response.status_code}")
    told = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", response.headers.get("content-range", ""), re.ASCII)
    if told is None or int(told[1]) != offset:
        raise FetchError("the server sends other parts of it than asked for")
    return None if told[2] == "*" else int(told[2])


def _content_length(response: httpx.Response) -> int | None:
    length = response.headers.get("content-length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None


def _content_type(response: httpx.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _said(error: Exception) -> str:
    """Return what the HTTP library met, in a few words: its own texts may repeat what the other side sent."""
    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    if isinstance(error, httpx.ConnectError):
        return "it cannot be connected to"
    if isinstance(error, httpx.InvalidURL):
        return "it leads to something that is no URL"
    return "the connection broke off"
