"""When polls happen; what a wait survives is shown against the sandbox in test_service.py."""

import itertools

from piapi_mcp.tasks.polling import pause_s


def polls_within(seconds: float) -> list[float]:
    """Return the ages at which a task is polled, without jitter and latency."""
    ages = list[float]()
    age = 0.0
    while age <= seconds:
        ages.append(age)
        age += pause_s(age)
    return ages


def test_polls_grow_apart_with_the_age_of_the_task() -> None:
    pauses = [later - earlier for earlier, later in itertools.pairwise(polls_within(600))]
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(pauses))


def test_a_task_of_three_seconds_is_seen_within_half_a_second_of_its_end() -> None:
    assert pause_s(3) < 0.5


def test_a_task_of_a_minute_costs_few_polls_and_is_seen_within_four_seconds() -> None:
    assert pause_s(60) * 1.03 < 4
    assert len(polls_within(60)) <= 25
