"""Takes in what is sent: bodies, and the media in them, decoded or downloaded into a file and looked at."""

import asyncio
import base64
import binascii
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from starlette.requests import Request

from piapi_mcp.sandbox import media_jobs as work
from piapi_mcp.sandbox.catalog import RefusedError, media_kind

MAX_MEDIA_BYTES = 10 * 2**20  # [D] video upscale page: 10MB; that a MB is 2**20 bytes is assumed
_MAX_BODY_BYTES = MAX_MEDIA_BYTES * 4 // 3 + 100_000
_DOWNLOAD_TIMEOUT_S = 20
_TOO_LARGE = "task input too large"  # [C]


class Intake:
    """Keeps what was sent in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._probes = asyncio.Semaphore(2)  # each is a process; a hundred submissions at once are a fair test

    async def take(self, body: Mapping[str, Any]) -> Path | None:
        """Return the file of a submission, for the caller to delete; None where it has none.

        Raises:
            RefusedError: It has one that cannot be had.
        """
        kind = media_kind(body)
        task_input: Any = body.get("input")
        if kind is None or not isinstance(task_input, dict):
            return None
        source: object = cast("dict[str, object]", task_input).get(kind)
        if not isinstance(source, str) or not source:
            return None
        if source.startswith(("http://", "https://")):
            data = await _download(source, kind)
        else:
            data = await asyncio.to_thread(_decode_base64, source, kind)
        return await asyncio.to_thread(self._keep, data)

    async def probe(self, media: Path, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the file of a submission is (see `work`).

        Raises:
            RefusedError: It cannot be read.
        """
        async with self._probes:
            try:
                return await work.perform("probe", path=str(media))
            except work.WorkError:
                raise RefusedError(f"failed to get valid {media_kind(body)}") from None  # [C]

    async def keep_upload(self, body: Mapping[str, Any], name: str) -> str:
        """Store an uploaded file as *name* with its own suffix; return the whole name.

        Raises:
            RefusedError: It is not base64 or too large.
        """
        file_name, file_data = body.get("file_name"), body.get("file_data")
        if not isinstance(file_name, str) or not file_name or not isinstance(file_data, str) or not file_data:
            raise RefusedError("file_name and file_data are required")
        suffix = Path(file_name).suffix
        if not suffix[1:].isalnum():
            raise RefusedError("file_name must have an extension")
        data = await asyncio.to_thread(_decode_base64, file_data, "file")
        await asyncio.to_thread((self._folder / (name + suffix)).write_bytes, data)
        return name + suffix

    def _keep(self, data: bytes) -> Path:
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix="input-", delete=False) as file:
            file.write(data)
        return Path(file.name)


def forget(media: Path | None) -> None:
    """Delete the file of a submission, if it had one."""
    if media is not None:
        media.unlink(missing_ok=True)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object that *request* brings; the size of the body is added to its entry in the log.

    Raises:
        RefusedError: The body is too large, or no JSON object.
    """
    chunks = list[bytes]()
    async for chunk in request.stream():
        request.state.entry["body_bytes"] += len(chunk)
        if request.state.entry["body_bytes"] > _MAX_BODY_BYTES:
            raise RefusedError(_TOO_LARGE, status=413)
        chunks.append(chunk)
    return await asyncio.to_thread(_parse, chunks)


def _parse(chunks: list[bytes]) -> dict[str, Any]:
    raw = b"".join(chunks)
    chunks.clear()  # a large body need not be held twice
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedError("invalid JSON") from None
    if not isinstance(body, dict):
        raise RefusedError("invalid JSON")
    return cast("dict[str, Any]", body)


def _decode_base64(text: str, kind: str) -> bytes:
    """Decode a data URI or bare base64."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(f"failed to get valid {kind}") from None
    if len(data) > MAX_MEDIA_BYTES:
        raise RefusedError(_TOO_LARGE, status=413)
    return data


async def _download(url: str, kind: str) -> bytes:
    chunks = bytearray()
    try:
        is_here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        async with (
            asyncio.timeout(_DOWNLOAD_TIMEOUT_S),
            httpx.AsyncClient(follow_redirects=True, max_redirects=5, trust_env=not is_here) as http,
            http.stream("GET", url) as response,
        ):
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                chunks += chunk
                if len(chunks) > MAX_MEDIA_BYTES:
                    raise RefusedError(_TOO_LARGE, status=413)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError):
        raise RefusedError(f"failed to get valid {kind}") from None
    return bytes(chunks)
