"""One HTTP response of PiAPI, with every secret of the request redacted before any other code reads it."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import cast

from piapi_mcp.piapi.models import Json

_MIN_SECRET_CHARS = 6
"""A shorter secret is not redacted, because ordinary text may contain it."""


@dataclass(frozen=True)
class ApiResponse:
    """A response, read to its end."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes

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
            body: object = json.loads(self.content)
        except ValueError:
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
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    @property
    def is_html(self) -> bool:
        """Whether the body is a web page, such as a proxy's error page."""
        return bool(re.match(rb"\s*<", self.content))

    @property
    def retry_after_s(self) -> float | None:
        """Seconds of the `Retry-After` header.

        None when the header is absent or unreadable, and for a date, which is only right if both clocks are.
        """
        value = self.headers.get("retry-after", "")
        return float(value) if value.isascii() and value.isdigit() else None


def redact(content: bytes, secrets: Iterable[str]) -> bytes:
    """Return *content* without any of *secrets*, whether as plain text or escaped as in JSON."""
    for secret in secrets:
        if len(secret) >= _MIN_SECRET_CHARS:
            for spelling in {secret, json.dumps(secret)[1:-1]}:
                content = content.replace(spelling.encode(), b"[redacted]")
    return content
