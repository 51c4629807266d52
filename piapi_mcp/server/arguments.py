"""The tools' arguments: type, limit and description of each, once. A model reads them: product text."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from piapi_mcp.piapi.catalog import MIDJOURNEY_INDEX_RULES, TASK_ID_PATTERN, ImageScale, MidjourneyIndex, ServiceMode
from piapi_mcp.server.client_timeouts import LONGEST_WAIT_S

FORMS = {
    "task_id": "6 to 64 letters, digits, - and _",
    "origin_task_id": "6 to 64 letters, digits, - and _",
    "webhook_endpoint": "an http or https URL",
    "webhook_secret": "at most 500 ordinary characters, without spaces",
}
"""What an argument must look like, where its type alone does not say it."""


def _number(value: object) -> object:
    """Take no truth value for a number."""
    return str(value) if isinstance(value, bool) else value


def _digits(value: object) -> object:
    """Take a whole number where its digits are meant: models write `index: 3`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _whole(value: object) -> object:
    """Take digits where their number is meant: models write `scale: "4"`."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _http_url(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"https?://\S{1,2000}", value):
        raise ValueError
    return value


def _sendable(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[!-~]{0,500}", value):
        raise ValueError  # it travels in an HTTP header
    return value


TaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN, description="As the submission answered it.")]
OriginTaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN, description="A finished Midjourney task.")]
Index = Annotated[MidjourneyIndex, BeforeValidator(_digits), Field(description=f"{MIDJOURNEY_INDEX_RULES}.")]
Mode = Annotated[
    ServiceMode | None,
    Field(description="public: per task; private: own account."),
]
Video = Annotated[str, Field(description="Path or URL of an MP4 file, or a data URI, or base64.")]
Image = Annotated[str, Field(description="Path or URL of a JPEG or PNG file, or a data URI, or base64.")]
Scale = Annotated[ImageScale, BeforeValidator(_whole), Field(description="Times wider and higher. Default 2.")]
FaceEnhance = Annotated[bool, Field(description="Improve faces.")]
Directory = Annotated[str | None, Field(description="Full path of a folder. Default: the user's choice.")]
WebhookEndpoint = Annotated[str | None, AfterValidator(_http_url), Field(description="URL told of its end.")]
WebhookSecret = Annotated[str | None, AfterValidator(_sendable), Field(description="Sent to it as x-webhook-secret.")]
WaitSeconds = Annotated[
    Annotated[float, Field(ge=0)],
    BeforeValidator(_number),
    Field(description=f"Wait up to {LONGEST_WAIT_S:.0f} s."),
]
UsualWait = Annotated[
    Annotated[float, Field(ge=0)] | None,
    BeforeValidator(_number),
    Field(description=f"Wait up to {LONGEST_WAIT_S:.0f} s. Default: what suits."),
]
Preview = Annotated[bool, Field(description="Show it.")]
MaxCost = Annotated[
    Annotated[float, Field(ge=0)] | None, BeforeValidator(_number), Field(description="Most it may cost.")
]
AllowUnknownPrice = Annotated[bool, Field(description="Accept an unknown price.")]
DryRun = Annotated[bool, Field(description="Only price it.")]
AllowRepeat = Annotated[bool, Field(description="Buy the same once more.")]
Limit = Annotated[
    Annotated[int, Field(ge=1, le=100)], BeforeValidator(_number), Field(description="How many, 1-100. Default 20.")
]
Status = Annotated[
    Literal["pending", "staged", "processing", "completed", "failed", "unknown"] | None,
    Field(description="Only these; unknown: perhaps bought."),
]
