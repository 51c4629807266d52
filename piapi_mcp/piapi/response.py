"""One HTTP response of PiAPI, with every secret of the request redacted before any other code reads it."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import cast

from piapi_mcp.piapi.models import Json

MAX_RESPONSE_BYTES = 32 << 20
"""More of a response is not read. The largest real ones are results as base64."""
_ID_WITHIN_BYTES = 64 << 10
_TEXT_BYTES = 4000
_MIN_SECRET_CHARS = 6
"""A shorter secret is not redacted, because ordinary text may contain it."""


@dataclass(frozen=True)
class ApiResponse:
    """A response."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes
    """The body, or the part of it that arrived."""
    is_complete: bool = True
    """False where the body was cut off: by the connection, or because it is too large."""

    @property
    def code(self) -> int:
        """The effective status: the body's `code` where a success status carries a failure in its body."""
        # [C 2026-11] `code` in the body follows HTTP
        code = (self.json or {}).get("code")
        if self.status < HTTPStatus.BAD_REQUEST and isinstance(code, int) and code >= HTTPStatus.BAD_REQUEST:
            return code
        return self.status

    @property
    def is_success(self) -> bool:
        """Whether the effective status is a success."""
        return HTTPStatus.OK <= self.code < HTTPStatus.MULTIPLE_CHOICES

    @cached_property
    def json(self) -> Json | None:
        """The JSON object in the body; None for HTML, plain text and JSON that is not an object."""
        # [R 2026-11] some paths answer plain text or HTML, whatever the content-type header says
        try:
            body: object = json.loads(self.content) if self.is_complete else None
        except (ValueError, RecursionError):
            return None
        return cast("Json", body) if isinstance(body, dict) else None

    @property
    def data(self) -> Json:
        """The `data` of PiAPI's envelope, or the whole object where PiAPI sends it without an envelope."""
        # [D 2025-02] the video upscale page shows a bare {"task_id": …}; everything else comes in an envelope
        body = self.json or {}
        data = body.get("data")
        return cast("Json", data) if isinstance(data, dict) else body

    @property
    def task_id(self) -> str | None:
        """The first task id in the body, found even where the body is damaged, cut off or no JSON at all."""
        found = re.search(rb'"task_id"\s*:\s*"([A-Za-z0-9_-]{6,64})"', self.content[:_ID_WITHIN_BYTES])
        return found[1].decode() if found else None

    @property
    def text(self) -> str:
        """The begin of the body as text."""
        return self.content[:_TEXT_BYTES].decode("utf-8", "replace")

    @property
    def is_html(self) -> bool:
        """Whether the body is a web page, such as a proxy's error page."""
        return bool(re.match(rb"\s*<", self.content))

    @property
    def date(self) -> datetime | None:
        """PiAPI's own time, from the `Date` header."""
        try:
            return parsedate_to_datetime(self.headers.get("date", ""))
        except ValueError:
            return None

    @property
    def retry_after_s(self) -> float | None:
        """Seconds of the `Retry-After` header.

        None when the header is absent or unreadable, and for a date, which is only right if both clocks are.
        """
        value = self.headers.get("retry-after", "")
        return float(value) if re.fullmatch(r"[0-9]{1,6}", value) else None


def redact(content: bytes, secrets: Iterable[str]) -> bytes:
    """Return *content* without any of *secrets*, whether as plain text or escaped as in JSON."""
    for secret in secrets:
        if len(secret) >= _MIN_SECRET_CHARS:
            for spelling in {secret, json.dumps(secret)[1:-1]}:
                content = content.replace(spelling.encode(), b"[redacted]")
    return content
