"""What a Midjourney task allows to be done with it: looked up, free of charge, before an upscale of it is bought."""

import asyncio

from piapi_mcp.errors import InputRejectedError, UnknownTaskError, UnreachableError
from piapi_mcp.formatting import quote
from piapi_mcp.piapi.catalog import MIDJOURNEY_ACTIONS, MIDJOURNEY_INDEX_RULES, MIDJOURNEY_UPSCALE, MidjourneyIndex
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import COMPLETED, RemoteTask

_LONGEST_LOOK_S = 8.0
"""The look is a courtesy: it may not use up the time of the submission."""
NOT_CHECKED = "PiAPI does not tell what can be done with the origin task, so the index was not checked."


async def look_at_parent(client: PiAPIClient, origin_task_id: str, index: MidjourneyIndex) -> str | None:
    """Let an upscale of the task *origin_task_id* pass, or refuse it; return a note where it could not be checked.

    Raises:
        InputRejectedError: PiAPI would refuse it.
        UnauthorizedError: PiAPI did not accept the key.
    """
    try:
        async with asyncio.timeout(_LONGEST_LOOK_S):
            return check_parent(await client.read_task(origin_task_id), index)
    except UnknownTaskError as error:
        raise InputRejectedError(
            f"{error} list_tasks shows the tasks that can be upscaled. Nothing was submitted."
        ) from error
    except (UnreachableError, TimeoutError):
        return NOT_CHECKED


def check_parent(parent: RemoteTask, index: MidjourneyIndex) -> str | None:
    """Let an upscale of *parent* pass, or refuse it; return a note where it could not be checked.

    Raises:
        InputRejectedError: PiAPI would refuse it.
    """
    if parent.model not in (None, MIDJOURNEY_UPSCALE.model):
        raise InputRejectedError(
            f"origin_task_id={quote(parent.task_id)} is no Midjourney task. Nothing was submitted; "
            "call again with the id of a finished Midjourney image."
        )
    if parent.status != COMPLETED:
        ended = "It has no image to upscale" if parent.is_done else "Wait for it with get_task"
        raise InputRejectedError(
            f"The origin task {parent.task_id} is {parent.status}, not completed. Nothing was submitted. {ended}."
        )
    # [I] the best check of an index is that its action stands in the parent's list
    offered = [name for name, action in MIDJOURNEY_ACTIONS.items() if action in parent.actions]
    if index in offered:
        return None
    if not parent.actions or (not offered and index in ("light", "beta")):
        return NOT_CHECKED  # [?] no list, or a kind of upscale whose action nobody has written down
    allowed = f"Allowed for it: {', '.join(offered)}" if offered else f"It offers no upscale ({MIDJOURNEY_INDEX_RULES})"
    raise InputRejectedError(
        f"index={index} is not offered for the origin task {parent.task_id}. {allowed}. "
        "Nothing was submitted; call again with one that is."
    )
