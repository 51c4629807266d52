"""The tools' arguments: type, limit and description of each, once. A model reads them: product text."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from piapi_mcp.api.catalog import MIDJOURNEY_INDEX_RULES, TASK_ID_PATTERN, MidjourneyIndex, ServiceMode

LONGEST_WAIT_S = 45
"""Clients give up on a call after 60 seconds, most of them; a wait ends well before."""


def _digits(value: object) -> object:
    """Take a whole number where its digits are meant: models write `index: 3`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _http_url(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"https?://\S{1,2000}", value):
        raise ValueError
    return value


def _sendable(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[!-~]{0,500}", value):
        raise ValueError  # it travels in an HTTP header
    return value


TaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN, description="As the submission answered it.")]
OriginTaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN, description="Id of the finished Midjourney task.")]
Index = Annotated[MidjourneyIndex, BeforeValidator(_digits), Field(description=f"{MIDJOURNEY_INDEX_RULES}.")]
Mode = Annotated[
    ServiceMode | None,
    Field(description="Who pays: public per task, private your hosted account. Default: the account's setting."),
]
Video = Annotated[
    str, Field(min_length=1, description="Path of an MP4 file, its URL, a data URI or base64. Prefer path or URL.")
]
WebhookEndpoint = Annotated[
    str | None, AfterValidator(_http_url), Field(description="http(s) URL that PiAPI calls when the task ends.")
]
WebhookSecret = Annotated[
    str | None, AfterValidator(_sendable), Field(description="Goes to webhook_endpoint as x-webhook-secret.")
]
WaitSeconds = Annotated[
    float, Field(ge=0, le=LONGEST_WAIT_S, description=f"Wait up to 0-{LONGEST_WAIT_S} s for the end. Default 0.")
]
MaxCost = Annotated[float | None, Field(ge=0, description="Refuse it if it costs more, in US dollars.")]
AllowUnknownPrice = Annotated[bool, Field(description="Buy it even if a cost limit is set.")]
DryRun = Annotated[bool, Field(description="Check and price it, buy nothing.")]
AllowRepeat = Annotated[bool, Field(description="Buy again what was bought in the last 24 h.")]
Limit = Annotated[int, Field(ge=1, le=100, description="How many, 1-100. Default 20.")]
Status = Annotated[
    Literal["pending", "staged", "processing", "completed", "failed", "unknown"] | None,
    Field(description="Only these; unknown: perhaps bought."),
]
