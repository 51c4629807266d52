"""Midjourney upscales: the request, and the free check of the task that the image comes from."""

import asyncio
from dataclasses import dataclass, replace

from piapi_mcp.errors import InputRejectedError, UnknownTaskError, UnreachableError
from piapi_mcp.formatting import quote
from piapi_mcp.piapi.catalog import (
    MIDJOURNEY_ACTIONS,
    MIDJOURNEY_INDEX_RULES,
    MIDJOURNEY_UPSCALE,
    MidjourneyIndex,
    ServiceMode,
)
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import COMPLETED, RemoteTask
from piapi_mcp.tasks.pricing import quote_midjourney
from piapi_mcp.tasks.request import RequestContext, TaskRequest

_CHECK_TIMEOUT_S = 8.0
"""The check must not use up the time that the submission needs."""
NOT_CHECKED = "PiAPI does not list what can be done with the origin task, so the index was not checked."


@dataclass(frozen=True)
class MidjourneyUpscale:
    """Upscale one image of a finished Midjourney task."""

    origin_task_id: str
    index: MidjourneyIndex
    service_mode: ServiceMode | None = None
    """None for the operator's setting."""

    async def build_request(self, context: RequestContext) -> TaskRequest:
        """Return the request. The origin task is checked with PiAPI later."""
        return TaskRequest(
            product=MIDJOURNEY_UPSCALE,
            task_input={"origin_task_id": self.origin_task_id, "index": self.index},
            config=replace(context.config, service_mode=self.service_mode or context.config.service_mode),
            summary=f"index {self.index} of task {self.origin_task_id}",
            quote=quote_midjourney(context.midjourney_price_usd),
            check_with_piapi=self._check_origin,
        )

    async def _check_origin(self, client: PiAPIClient) -> str | None:
        """Check that the origin task offers the index; return a note where that is not known.

        Raises:
            InputRejectedError: PiAPI would refuse the request.
            UnauthorizedError: PiAPI did not accept the key.
        """
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                origin = await client.read_task(self.origin_task_id)
        except UnknownTaskError as error:
            raise InputRejectedError(
                f"{error} list_tasks shows the tasks that can be upscaled. Nothing was submitted."
            ) from error
        except (UnreachableError, TimeoutError):
            return NOT_CHECKED
        return check_index(origin, self.index)


def check_index(origin: RemoteTask, index: MidjourneyIndex) -> str | None:
    """Check that the task *origin* offers *index*; return a note where that is not known.

    Raises:
        InputRejectedError: PiAPI would refuse the request.
    """
    if origin.model not in (None, MIDJOURNEY_UPSCALE.model):
        raise InputRejectedError(
            f"origin_task_id={quote(origin.task_id)} is not a Midjourney task. Nothing was submitted; "
            "call again with the id of a finished Midjourney image."
        )
    if origin.status != COMPLETED:
        next_step = "It has no image to upscale" if origin.is_done else "Wait for it with get_task"
        raise InputRejectedError(
            f"The origin task {origin.task_id} is {origin.status}, not completed. Nothing was submitted. {next_step}."
        )
    # [I 2026-11] an index is offered if its action is in the list of the origin task
    offered = [name for name, action in MIDJOURNEY_ACTIONS.items() if action in origin.actions]
    if index in offered:
        return None
    if not origin.actions or (not offered and index in ("light", "beta")):
        return NOT_CHECKED  # [? 2026-11] no list, or a V4 upscale, whose actions no source names
    allowed = f"Allowed for it: {', '.join(offered)}" if offered else f"It offers no upscale ({MIDJOURNEY_INDEX_RULES})"
    raise InputRejectedError(
        f"index={index} is not offered for the origin task {origin.task_id}. {allowed}. "
        "Nothing was submitted; call again with one that is."
    )
