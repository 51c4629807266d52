import base64
import hashlib
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from piapi_mcp.piapi.models import (
    RemoteTask,
    digest_field,
    file_digest,
    parse_account,
    parse_history,
    parse_task,
    parse_time,
    points_to_usd,
)


def test_the_documented_midjourney_response_is_read_as_a_pending_task() -> None:
    """PiAPI's documentation: the example of the Midjourney upscale page."""
    data: dict[str, object] = {
        "task_id": "f82d8ace-xxxx-xxxx-xxxx-xxxxxx72038d",
        "model": "midjourney",
        "task_type": "upscale",
        "status": "pending",
        "config": {"service_mode": "public", "webhook_config": {"endpoint": "", "secret": "s3cret"}},
        "input": {},
        "output": {
            "image_url": "",
            "image_urls": None,
            "temporary_image_urls": None,
            "discord_image_url": "",
            "actions": [],
            "progress": 0,
            "intermediate_image_urls": None,
        },
        "meta": {},
        "detail": None,
        "logs": [],
        "error": {"code": 0, "raw_message": "", "message": "", "detail": None},
    }
    task = parse_task(data)
    assert task == RemoteTask(
        task_id="f82d8ace-xxxx-xxxx-xxxx-xxxxxx72038d", model="midjourney", task_type="upscale", progress_percent=0
    )
    assert "s3cret" not in repr(task)


def test_a_response_with_only_a_task_id_is_a_pending_task() -> None:
    """PiAPI's documentation: the response on the video upscale page."""
    assert parse_task({"task_id": "abc-123"}) == RemoteTask(task_id="abc-123", status="pending")


@pytest.mark.parametrize("data", [{}, {"task_id": None}, {"task_id": ""}, {"task_id": 3}, {"task_id": "../x"}])
def test_a_response_without_a_task_id_has_no_task(data: dict[str, object]) -> None:
    assert parse_task(data) is None


def test_a_failed_task_keeps_its_cause_and_its_logs() -> None:
    task = parse_task(
        {
            "task_id": "abc-123",
            "status": "Failed",
            "output": None,
            "logs": ["restored frozen points", {"message": "worker lost"}, None, 4],
            "error": {"code": 10000, "raw_message": "cuda out of memory", "message": "internal error"},
            "meta": {
                "created_at": "2026-11-01T10:00:00.123456789+08:00",
                "ended_at": "0001-01-01T00:00:00Z",
                "usage": {"type": "point", "frozen": 180_000, "consume": 0},
            },
        }
    )
    assert task is not None
    assert task.status == "failed"
    assert task.is_done
    assert task.error == "internal error: cuda out of memory"
    assert task.logs == ("restored frozen points", "worker lost")
    assert task.created_at == datetime(2026, 11, 1, 2, 0, 0, 123456, tzinfo=UTC)
    assert task.ended_at is None
    assert (task.frozen_usd, task.consumed_usd) == (Decimal("0.018"), Decimal(0))


@pytest.mark.parametrize("word", ["Completed", "completed", "COMPLETED"])
def test_status_words_are_compared_without_case(word: str) -> None:
    task = parse_task({"task_id": "abc-123", "status": word})
    assert task is not None
    assert task.status == "completed"


def test_an_unknown_status_counts_as_running_and_is_kept() -> None:
    task = parse_task({"task_id": "abc-123", "status": "Retrying"})
    assert task is not None
    assert (task.status, task.is_done) == ("retrying", False)


@pytest.mark.parametrize(
    ("output", "urls"),
    [
        pytest.param({"video_url": "https://r/v.mp4"}, ("https://r/v.mp4",), id="video_url"),
        pytest.param({"video": "https://r/v.mp4"}, ("https://r/v.mp4",), id="video"),
        pytest.param(
            {"image_url": "https://r/1.png", "image_urls": ["https://r/1.png", "https://r/2.png", ""]},
            ("https://r/1.png", "https://r/2.png"),
            id="each-once",
        ),
        pytest.param({"image_url": "not a url", "image_urls": None}, (), id="no-url"),
        pytest.param(None, (), id="null"),
    ],
)
def test_results_are_found_wherever_piapi_puts_them(output: object, urls: tuple[str, ...]) -> None:
    task = parse_task({"task_id": "abc-123", "output": output})
    assert task is not None
    assert task.result_urls == urls


@pytest.mark.parametrize(
    ("points", "usd"),
    [(10_000_000, "1"), (180_000, "0.018"), (1, "1E-7"), (0, "0"), (2.5, "2.5E-7")],
)
def test_points_are_converted_to_dollars_exactly(points: float, usd: str) -> None:
    """A captured response: 10,000,000 points are one dollar."""
    assert points_to_usd(points) == Decimal(usd)


@pytest.mark.parametrize("points", [None, "180000", True, float("nan"), float("inf")])
def test_points_that_are_not_a_number_have_no_price(points: object) -> None:
    assert points_to_usd(points) is None


@pytest.mark.parametrize("value", [None, "", "yesterday", "0001-01-01T00:00:00Z", 12])
def test_an_absent_or_invalid_time_is_none(value: object) -> None:
    assert parse_time(value) is None


def test_a_time_without_an_offset_is_utc() -> None:
    assert parse_time("2026-11-01T10:00:00") == datetime(2026, 11, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "row",
    [
        {
            "task_id": "abc-123",
            "task_model": "mj",
            "action": "imagine",
            "status": "Finished",
            "created_at": "2026-11-01T10:00:00Z",
        },
        {
            "taskId": "abc-123",
            "taskModel": "mj",
            "action": "imagine",
            "status": "finished",
            "createdAt": "2026-11-01T10:00:00Z",
        },
    ],
    ids=["snake", "camel"],
)
def test_history_rows_are_read_in_both_spellings(row: dict[str, object]) -> None:
    (found,) = parse_history({"data": [row, {}, None]})
    assert (found.task_id, found.model, found.action, found.status) == ("abc-123", "mj", "imagine", "finished")
    assert found.created_at == datetime(2026, 11, 1, 10, tzinfo=UTC)


def test_an_account_falls_back_to_its_points() -> None:
    account = parse_account({"account_name": "me", "wallet": {"point_remain": 5_000_000, "point_frozen": 10}})
    assert account.balance_usd == Decimal("0.5")
    assert account.max_concurrent_tasks is None


HUGE = 10**400
MARK = f"piapi-mcp-{'0' * 32}"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"logs": ["\ud800", "a\x1b[31mb\u202ec"]}, id="lone-surrogates-and-escapes"),
        pytest.param({"meta": {"usage": {"frozen": HUGE, "consume": -HUGE}}}, id="integers-of-400-digits"),
        pytest.param({"output": {"progress": HUGE, "actions": ["a"] * 10_000}}, id="long-lists"),
        pytest.param({"error": {"code": HUGE, "message": "m" * 10_000_000}}, id="megabytes-of-message"),
        pytest.param({"logs": ["l" * 10_000] * 10_000}, id="megabytes-of-logs"),
        pytest.param({"input": {"video": "A" * 10_000_000, "x": HUGE}}, id="megabytes-of-input"),
        pytest.param({"output": {"image_url": "https://r/" + "u" * 1_000_000}}, id="a-url-of-a-megabyte"),
    ],
)
def test_whatever_else_a_reply_contains_its_task_id_is_read(data: dict[str, object]) -> None:
    """Ours: the id is what was paid for."""
    task = parse_task({"task_id": "abc-123", **data})
    assert task is not None
    assert task.task_id == "abc-123"
    shown = repr(task)
    assert len(shown) < 200_000
    assert not {"\x1b", "\u202e", "\ud800"} & set(shown)
    shown.encode()


def test_only_a_mark_of_our_own_is_taken_from_the_echo_of_the_config() -> None:
    for secret, mark in ((MARK, MARK), ("a-webhook's-s3cret", None), (None, None), (f"{MARK}0", None)):
        task = parse_task({"task_id": "abc-123", "config": {"webhook_config": {"endpoint": "", "secret": secret}}})
        assert task is not None
        assert task.mark == mark


def test_an_echoed_file_has_the_digest_of_its_bytes() -> None:
    content = bytes(range(256))
    encoded = base64.b64encode(content).decode()
    expected = file_digest(hashlib.sha256(content).hexdigest())
    for text in (encoded, f"data:video/mp4;base64,{encoded}"):
        task = parse_task({"task_id": "abc-123", "input": {"video": text}})
        assert task is not None
        assert task.input_digests == {"video": expected}
        assert task.url_fields == frozenset()


def test_a_long_url_is_digested_as_a_whole() -> None:
    one, two = (f"https://r/{'a' * 5000}{end}" for end in "12")
    task = parse_task({"task_id": "abc-123", "input": {"video": one}})
    assert task is not None
    assert task.input_digests["video"] == digest_field(one) != digest_field(two)
    assert task.url_fields == {"video"}
