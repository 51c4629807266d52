"""Repeating an operation until it succeeds."""

from collections.abc import Awaitable, Callable, Iterator

import pytest

from piapi_mcp.errors import InputRejectedError, RateLimitedError, UnreachableError
from piapi_mcp.piapi.retry import Sleep, retry

PAUSES_S = (0.5, 1.5)


def record(slept: list[float]) -> Sleep:
    """Return a sleep that takes no time and notes each pause in *slept*."""

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    return sleep


def outcomes(*results: int | Exception | None) -> Callable[[], Awaitable[int | None]]:
    """Return an operation that returns or raises each of *results* in turn."""
    left: Iterator[int | Exception | None] = iter(results)

    async def operation() -> int | None:
        result = next(left)
        if isinstance(result, Exception):
            raise result
        return result

    return operation


async def test_a_success_is_returned_without_a_pause() -> None:
    slept: list[float] = []
    assert await retry(outcomes(1), pauses_s=PAUSES_S, sleep=record(slept)) == 1
    assert slept == []


async def test_a_listed_error_is_followed_by_the_pauses_give_or_take_their_jitter() -> None:
    slept: list[float] = []
    operation = outcomes(UnreachableError("a"), UnreachableError("b"), 3)
    assert await retry(operation, pauses_s=PAUSES_S, sleep=record(slept), errors=(UnreachableError,)) == 3
    first_s, second_s = slept
    assert 0.35 <= first_s <= 0.65
    assert 1.05 <= second_s <= 1.95


async def test_the_last_error_is_raised() -> None:
    operation = outcomes(UnreachableError("a"), UnreachableError("b"), UnreachableError("c"))
    with pytest.raises(UnreachableError, match="c"):
        await retry(operation, pauses_s=PAUSES_S, sleep=record([]), errors=(UnreachableError,))


@pytest.mark.parametrize("error", [InputRejectedError("no"), RateLimitedError("no")], ids=type)
async def test_another_error_is_raised_at_once(error: Exception) -> None:
    slept: list[float] = []
    with pytest.raises(type(error)):
        await retry(outcomes(error), pauses_s=PAUSES_S, sleep=record(slept), errors=(UnreachableError,))
    assert slept == []


@pytest.mark.parametrize("error", [RateLimitedError("no", retry_after_s=7), UnreachableError("no", retry_after_s=7)])
async def test_retry_after_lengthens_the_pause(error: Exception) -> None:
    slept: list[float] = []
    errors = (RateLimitedError, UnreachableError)
    assert await retry(outcomes(error, 2), pauses_s=PAUSES_S, sleep=record(slept), errors=errors) == 2
    assert slept == [7]


async def test_a_long_retry_after_is_left_to_the_caller() -> None:
    slept: list[float] = []
    operation = outcomes(RateLimitedError("no", retry_after_s=60))
    with pytest.raises(RateLimitedError):
        await retry(operation, pauses_s=PAUSES_S, sleep=record(slept), errors=(RateLimitedError,))
    assert slept == []


@pytest.mark.parametrize(
    ("results", "last", "pauses"),
    [
        pytest.param((None, 2), 2, 1, id="found-at-the-second-call"),
        pytest.param((None, None, None), None, 2, id="never-found"),
    ],
)
async def test_a_result_that_is_not_final_is_followed_by_another_call(
    results: tuple[int | None, ...], last: int | None, pauses: int
) -> None:
    slept: list[float] = []
    found = await retry(
        outcomes(*results), pauses_s=PAUSES_S, sleep=record(slept), is_final=lambda result: result is not None
    )
    assert (found, len(slept)) == (last, pauses)
