"""The tools' arguments: the type, limit and description of each, declared once. Models read them: product text."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from piapi_mcp.piapi.catalog import MIDJOURNEY_INDEX_RULES, TASK_ID_PATTERN, ImageScale, MidjourneyIndex, ServiceMode
from piapi_mcp.server.client_timeouts import LONGEST_WAIT_S

FORMATS = {
    "task_id": "6 to 64 letters, digits, - and _",
    "origin_task_id": "6 to 64 letters, digits, - and _",
    "webhook_endpoint": "an http or https URL",
    "webhook_secret": "at most 500 printable ASCII characters, without spaces",
}
"""What an argument must look like, where its type alone does not say so."""


def _reject_boolean(value: object) -> object:
    """Turn a boolean into text, which is refused: `True` is not the number 1."""
    return str(value) if isinstance(value, bool) else value


def _digits_as_text(value: object) -> object:
    """Accept a whole number for its digits: models write `index: 3`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _digits_as_number(value: object) -> object:
    """Accept digits for their number: models write `scale: "4"`."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _http_url(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"https?://\S{1,2000}", value):
        raise ValueError
    return value


def _header_value(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[!-~]{0,500}", value):
        raise ValueError  # PiAPI sends it in an HTTP header
    return value


_WAIT = f"Wait up to this many seconds (at most {LONGEST_WAIT_S:.0f}) for the task to end."

TaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN, description="The task_id that the submission returned.")]
OriginTaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN, description="Id of a finished Midjourney task.")]
Index = Annotated[MidjourneyIndex, BeforeValidator(_digits_as_text), Field(description=f"{MIDJOURNEY_INDEX_RULES}.")]
Mode = Annotated[
    ServiceMode | None, Field(description="Who pays: public, per task; private, your own Midjourney account.")
]
Video = Annotated[str, Field(description="Full path or URL of an MP4 file, or a data URI, or base64.")]
Image = Annotated[str, Field(description="Full path or URL of a JPEG or PNG file, or a data URI, or base64.")]
Scale = Annotated[
    ImageScale, BeforeValidator(_digits_as_number), Field(description="Factor for width and height. Default 2.")
]
FaceEnhance = Annotated[bool, Field(description="Improve faces.")]
Directory = Annotated[str | None, Field(description="Full path of a folder. Default: the configured output folder.")]
WebhookEndpoint = Annotated[
    str | None, AfterValidator(_http_url), Field(description="URL that PiAPI calls when the task has ended.")
]
WebhookSecret = Annotated[
    str | None, AfterValidator(_header_value), Field(description="Sent to webhook_endpoint as x-webhook-secret.")
]
WaitSeconds = Annotated[Annotated[float, Field(ge=0)], BeforeValidator(_reject_boolean), Field(description=_WAIT)]
DefaultWait = Annotated[
    Annotated[float, Field(ge=0)] | None,
    BeforeValidator(_reject_boolean),
    Field(description=f"{_WAIT} Default: as long as the client allows, at most 25."),
]
Preview = Annotated[bool, Field(description="Include a small image of the result.")]
MaxCost = Annotated[
    Annotated[float, Field(ge=0)] | None,
    BeforeValidator(_reject_boolean),
    Field(description="Refuse the task if it costs more than this many US dollars."),
]
AllowUnknownPrice = Annotated[bool, Field(description="Submit despite max_cost_usd when the price is not known.")]
DryRun = Annotated[bool, Field(description="Check and price the task without buying it.")]
AllowRepeat = Annotated[bool, Field(description="Buy the same task again although it was bought before.")]
Limit = Annotated[
    Annotated[int, Field(ge=1, le=100)],
    BeforeValidator(_reject_boolean),
    Field(description="How many tasks, 1 to 100. Default 20."),
]
Status = Annotated[
    Literal["pending", "staged", "processing", "completed", "failed", "unknown"] | None,
    Field(description="Only tasks of this status; unknown: may or may not have been bought."),
]
