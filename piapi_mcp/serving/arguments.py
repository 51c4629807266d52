"""The tools' arguments: type, limit and description of each, once. A model reads them: product text."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from piapi_mcp.api.catalog import MIDJOURNEY_INDEX_RULES, TASK_ID_PATTERN, MidjourneyIndex, ServiceMode

LONGEST_WAIT_S = 45
"""Clients give up on a call after 60 seconds, most of them; a wait ends well before."""


def _digits(value: object) -> object:
    """Take a whole number where its digits are meant: models write `index: 3`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


TaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN, description="Id of the task, as the submission answered it.")]
OriginTaskId = Annotated[str, Field(pattern=TASK_ID_PATTERN, description="Id of the finished Midjourney task.")]
Index = Annotated[MidjourneyIndex, BeforeValidator(_digits), Field(description=f"{MIDJOURNEY_INDEX_RULES}.")]
Mode = Annotated[
    ServiceMode | None,
    Field(description="public: pay per task; private: your own hosted account. Default: the account's setting."),
]
Video = Annotated[
    str,
    Field(min_length=1, description="Path of an MP4 file, its URL, a data URI or base64. Prefer a path or URL."),
]
WebhookEndpoint = Annotated[
    str | None,
    Field(pattern=r"^https?://\S+$", max_length=2000, description="URL that PiAPI calls when the task ends."),
]
WebhookSecret = Annotated[
    str | None,
    Field(max_length=500, description="Sent along to webhook_endpoint, as x-webhook-secret."),
]
WaitSeconds = Annotated[
    float,
    Field(
        ge=0,
        le=LONGEST_WAIT_S,
        description=f"Wait at most this long for the end, 0-{LONGEST_WAIT_S}; 0 answers at once.",
    ),
]
