"""Fetches files at public URLs: ranges of them for probing, or whole files.

URLs come from strangers, so size, time and redirects are limited, nothing is decompressed, and nothing but the request
itself is sent (no keys, no cookies; proxies of the environment are not used). Connections are made only to addresses
that `ssrf` accepts, and to exactly the address that was checked, so that a host cannot change its address in between.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import BinaryIO

import httpx

from piapi_mcp.errors import UnreachableError
from piapi_mcp.media.ssrf import is_public_address, resolve

_MAX_REDIRECTS = 5
_MAX_ADDRESSES = 3
"""How many of a host's addresses are tried."""
_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 20.0
"""Longest wait for the next bytes of a response."""
_HEADERS = {"User-Agent": "piapi-mcp", "Accept": "*/*", "Accept-Encoding": "identity"}


class FetchError(UnreachableError):
    """The URL does not lead to a file that can be fetched from here."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The file could not be fetched: {reason}.")
        self.reason = reason
        """Why it failed, in a few words."""


@cache
def _tls_context() -> ssl.SSLContext:
    """Load the certificates once for all fetchers: each load takes longer than a request."""
    return httpx.create_ssl_context()


@dataclass(frozen=True)
class FetchedRange:
    """A range of bytes of a file."""

    data: bytes
    """Shorter than requested at the end of the file."""
    size_bytes: int | None
    """Of the whole file; None if the server does not report it."""
    content_type: str
    """Without parameters, in lower case; empty if the server does not report it."""
    etag: str = ""
    """The server's name for this version of the file; empty if it reports none."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches files at public URLs. It keeps no connection open, so there is nothing to close."""

    allowed_origins: frozenset[str] = frozenset()
    """Origins that need not be public, such as `http://127.0.0.1:8080`: scheme, host and port; the port is required."""
    range_timeout_s: float = 10.0
    """Longest time for one range, including redirects."""
    download_timeout_s: float = 300.0
    """Longest time for a whole file, including redirects."""

    async def read_range(self, url: str, offset: int, length: int) -> FetchedRange:
        """Fetch *length* bytes of the file at *url* from *offset*.

        Raises:
            FetchError: It cannot be fetched from here, or the server does not support range requests.
        """
        async with self._get(url, self.range_timeout_s, f"bytes={offset}-{offset + length - 1}") as response:
            size_bytes = _total_size(response, offset)
            data = bytearray()
            async for block in response.aiter_raw():
                data += block
                if len(data) >= length:
                    break
            etag = response.headers.get("etag", "")
            return FetchedRange(bytes(data[:length]), size_bytes, _content_type(response), etag)

    async def download(self, url: str, file: BinaryIO, *, max_bytes: int) -> None:
        """Write the file at *url* to *file*. After an error, *file* may contain a part of it.

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

    @asynccontextmanager
    async def _get(self, url: str, timeout_s: float, byte_range: str | None = None) -> AsyncGenerator[httpx.Response]:
        """Request *url*; every failure, also while the body is read, raises a FetchError."""
        try:
            async with asyncio.timeout(timeout_s), aclosing(await self._follow(url, byte_range)) as response:
                yield response
        except TimeoutError:
            raise FetchError(f"it took longer than {timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchError(_describe_error(error)) from error

    async def _follow(self, url: str, byte_range: str | None) -> httpx.Response:
        """Return the response after all redirects; the address of each one is checked."""
        target = httpx.URL(url)
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._send(target, byte_range)
            if not response.has_redirect_location:
                return response
            await response.aclose()
            target = target.join(response.headers["location"])
        raise FetchError("it redirects too many times")

    async def _send(self, target: httpx.URL, byte_range: str | None) -> httpx.Response:
        """Send one request to the first of the host's addresses that accepts a connection."""
        headers = _HEADERS | {"Host": target.netloc.decode("ascii")} | ({"Range": byte_range} if byte_range else {})
        timeout = httpx.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S).as_dict()
        last_error: httpx.TransportError | None = None
        for address in (await self._addresses(target))[:_MAX_ADDRESSES]:
            # The address instead of the name, so that it is not resolved again; TLS still verifies the name.
            extensions = {"timeout": timeout, "sni_hostname": target.raw_host.decode("ascii").rstrip(".")}
            request = httpx.Request("GET", target.copy_with(host=address), headers=headers, extensions=extensions)
            try:
                response = await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                last_error = error
                continue
            if response.headers.get("content-encoding", "identity") != "identity":
                await response.aclose()
                raise FetchError("the server compressed it although that was not requested")
            return response
        raise last_error or FetchError("the host has no address")

    async def _addresses(self, target: httpx.URL) -> list[str]:
        """Return the host's addresses to which a connection is allowed."""
        port = target.port or (443 if target.scheme == "https" else 80)
        is_plain = target.scheme in ("http", "https") and target.raw_host and not target.userinfo and port < 1 << 16
        if not is_plain:
            raise FetchError("it leads to a URL that is not a plain http or https one")
        try:
            addresses = await resolve(target.raw_host.decode("ascii"), port)
        except OSError:
            raise FetchError("the host name cannot be resolved") from None
        if f"{target.scheme}://{target.netloc.decode('ascii').removesuffix(f':{port}')}:{port}" in self.allowed_origins:
            return addresses
        public = [address for address in addresses if is_public_address(address)]
        if not public:
            raise FetchError("it leads to an address that is not public")
        return public

    @cached_property
    def _transport(self) -> httpx.AsyncHTTPTransport:
        # No connection is reused: httpx would reuse them by address, but one address may serve different hosts.
        return httpx.AsyncHTTPTransport(verify=_tls_context(), limits=httpx.Limits(max_keepalive_connections=0))


def _total_size(response: httpx.Response, offset: int) -> int | None:
    """Return the size of the whole file, after checking that *response* begins at *offset*."""
    if response.status_code == 200 and offset == 0:  # noqa: PLR2004 -- the whole file, which begins with the range
        return _content_length(response)
    if response.status_code == 200:  # noqa: PLR2004 -- as above
        raise FetchError("the server does not support range requests")
    if response.status_code != 206:  # noqa: PLR2004 -- partial content
        raise FetchError(f"the server answered {response.status_code}")
    sent = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", response.headers.get("content-range", ""), re.ASCII)
    if sent is None or int(sent[1]) != offset:
        raise FetchError("the server sent another range than requested")
    return None if sent[2] == "*" else int(sent[2])


def _content_length(response: httpx.Response) -> int | None:
    length = response.headers.get("content-length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None


def _content_type(response: httpx.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _describe_error(error: Exception) -> str:
    """Describe an error of the HTTP library in a few words; its own messages may repeat what the server sent."""
    if isinstance(error, httpx.TimeoutException):
        return "the server did not answer in time"
    if isinstance(error, httpx.ConnectError):
        return "the server cannot be reached"
    if isinstance(error, httpx.InvalidURL):
        return "it leads to an invalid URL"
    return "the connection was lost"
