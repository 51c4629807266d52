"""Repeats an operation, with pauses that grow, until it succeeds.

No library is used because none makes this shorter: Tenacity would still need functions of ours to combine the pauses
with `Retry-After`, and to give up when that is too long.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from piapi_mcp.errors import RateLimitedError, UnreachableError

Result = TypeVar("Result")
Sleep = Callable[[float], Awaitable[object]]
"""Waits for a number of seconds, such as `asyncio.sleep`; tests pass one that returns at once."""

_JITTER = 0.3
"""Pauses vary by this fraction, so that clients that failed together do not come back together."""
_MAX_RETRY_AFTER_S = 10.0
"""A longer `Retry-After` is reported to the caller instead of being waited for."""


async def retry(
    operation: Callable[[], Awaitable[Result]],
    *,
    pauses_s: Sequence[float],
    sleep: Sleep,
    errors: tuple[type[RateLimitedError] | type[UnreachableError], ...] = (),
    is_final: Callable[[Result], bool] = lambda _result: True,
) -> Result:
    """Call *operation* until it succeeds, at most once more than there are pauses, and return its last result.

    The last call's result is returned and its error raised whatever they are. There is no limit on the total time:
    put the call into `asyncio.timeout` for one.

    Args:
        operation: Called without arguments; never repeat one that may have bought something.
        pauses_s: Seconds between one call and the next, give or take 30 %. A `Retry-After` of up to 10 seconds makes
            the pause longer; the error is raised at once when PiAPI asks for more.
        sleep: Waits between the calls.
        errors: Errors after which *operation* is called again; any other error is raised at once.
        is_final: Whether a result ends the calls; by default every result does.
    """
    for pause_s in pauses_s:
        retry_after_s = 0.0
        try:
            result = await operation()
        except (RateLimitedError, UnreachableError) as error:
            retry_after_s = error.retry_after_s or 0.0
            if not isinstance(error, errors) or retry_after_s > _MAX_RETRY_AFTER_S:
                raise
        else:
            if is_final(result):
                return result
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 -- jitter, not a secret
        await sleep(max(retry_after_s, pause_s * jitter))
    return await operation()
