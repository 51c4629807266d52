"""Reads request bodies and the media in them, which is decoded or downloaded into a file and probed."""

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

from piapi_mcp.sandbox import media_jobs
from piapi_mcp.sandbox.catalog import RequestRefusedError, media_kind

# [D 2025-02] video upscale page, [D 2026-11] file upload page: 10 MB. That a MB is 2**20 bytes is assumed.
MAX_MEDIA_BYTES = 10 * 2**20
_MAX_BODY_BYTES = MAX_MEDIA_BYTES * 4 // 3 + 100_000
_DOWNLOAD_TIMEOUT_S = 20
_TOO_LARGE = "task input too large"  # [C 2026-11] the text. [I 2026-11] It belongs to the status 413.


class Uploads:
    """Stores the media of requests as files in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._probes = asyncio.Semaphore(2)  # each is a process, and a test may submit a hundred requests at once

    async def store_media(self, body: Mapping[str, Any]) -> Path | None:
        """Return a file with the media of a request, which the caller deletes; None if the request has no media.

        Raises:
            RequestRefusedError: The media cannot be decoded or downloaded, or is too large.
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
        return await asyncio.to_thread(self._write_input_file, data)

    async def probe(self, media: Path, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return format and size of a request's media, see the job `probe` of `media_jobs`.

        Raises:
            RequestRefusedError: The media cannot be read.
        """
        async with self._probes:
            try:
                return await media_jobs.run_async("probe", path=str(media))
            except media_jobs.MediaJobError:
                raise RequestRefusedError(f"failed to get valid {media_kind(body)}") from None  # [C 2026-11]

    async def store_upload(self, body: Mapping[str, Any], name: str) -> str:
        """Store an uploaded file as *name* plus its own suffix; return the full name.

        Raises:
            RequestRefusedError: A field is missing, the data is not base64, or it is too large.
        """
        # [D 2026-11] file upload page
        file_name, file_data = body.get("file_name"), body.get("file_data")
        if not isinstance(file_name, str) or not file_name or not isinstance(file_data, str) or not file_data:
            raise RequestRefusedError("file_name and file_data are required")
        suffix = Path(file_name).suffix
        if not suffix[1:].isalnum():
            raise RequestRefusedError("file_name must have an extension")
        data = await asyncio.to_thread(_decode_base64, file_data, "file")
        await asyncio.to_thread((self._folder / (name + suffix)).write_bytes, data)
        return name + suffix

    def _write_input_file(self, data: bytes) -> Path:
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix="input-", delete=False) as file:
            file.write(data)
        return Path(file.name)


def delete_media(media: Path | None) -> None:
    """Delete the file with a request's media, if it had any."""
    if media is not None:
        media.unlink(missing_ok=True)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of *request*; add the size of the body to the request's entry in the log.

    Raises:
        RequestRefusedError: The body is too large or not a JSON object.
    """
    chunks = list[bytes]()
    async for chunk in request.stream():
        request.state.log_entry["body_bytes"] += len(chunk)
        if request.state.log_entry["body_bytes"] > _MAX_BODY_BYTES:
            raise RequestRefusedError(_TOO_LARGE, status=413)
        chunks.append(chunk)
    return await asyncio.to_thread(_parse_json, chunks)


def _parse_json(chunks: list[bytes]) -> dict[str, Any]:
    raw = b"".join(chunks)
    chunks.clear()  # do not hold a large body twice
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        raise RequestRefusedError("invalid JSON") from None
    if not isinstance(body, dict):
        raise RequestRefusedError("invalid JSON")
    return cast("dict[str, Any]", body)


def _decode_base64(text: str, kind: str) -> bytes:
    """Decode a data URI or bare base64."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RequestRefusedError(f"failed to get valid {kind}") from None
    if len(data) > MAX_MEDIA_BYTES:
        raise RequestRefusedError(_TOO_LARGE, status=413)
    return data


async def _download(url: str, kind: str) -> bytes:
    chunks = bytearray()
    try:
        is_loopback = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        async with (
            asyncio.timeout(_DOWNLOAD_TIMEOUT_S),
            httpx.AsyncClient(follow_redirects=True, max_redirects=5, trust_env=not is_loopback) as http,
            http.stream("GET", url) as response,
        ):
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                chunks += chunk
                if len(chunks) > MAX_MEDIA_BYTES:
                    raise RequestRefusedError(_TOO_LARGE, status=413)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError):
        raise RequestRefusedError(f"failed to get valid {kind}") from None
    return bytes(chunks)
