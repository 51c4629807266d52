"""Parses the JSON of PiAPI's responses into typed models.

The documentation and the live service differ in small ways (case of words, nulls, zero times, strings for objects).
These differences are resolved here: the rest of the code never sees PiAPI's JSON.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import cast

from piapi_mcp.piapi.catalog import POINTS_PER_USD

Json = Mapping[str, object]

# [D 2026-11] unified API schema. A status that is not listed counts as still running and is shown unchanged.
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = ("cancelled", "canceled")  # [? 2026-11] the status of a cancelled task is not documented
_MAX_INPUT_FIELD_CHARS = 2000
"""A longer field of the input is taken for media and left out."""


@dataclass(frozen=True)
class RemoteTask:
    """A task as PiAPI returns it. The request's `config` is left out on purpose: it echoes the webhook secret."""

    task_id: str
    status: str = "pending"
    """In lower case: pending, processing, staged, completed, failed, or a status that this project does not know."""
    model: str | None = None
    task_type: str | None = None
    task_input: Mapping[str, str] = field(default_factory=dict[str, str])
    """The short fields of the input, as far as PiAPI echoes them; no media."""
    progress_percent: int | None = None
    """0-100; only Midjourney reports it."""
    result_urls: tuple[str, ...] = ()
    result_base64: str | None = field(default=None, repr=False)
    """The result as base64, which the image toolkit may send instead of a URL."""
    actions: tuple[str, ...] = ()
    """Follow-ups that Midjourney offers for the result, such as `upscale1` or `upscale_subtle`."""
    frozen_usd: Decimal | None = None
    """Price that PiAPI reserved when it accepted the task."""
    consumed_usd: Decimal | None = None
    """Price charged so far; final once the task has ended."""
    error: str | None = None
    logs: tuple[str, ...] = ()
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_done(self) -> bool:
        """Whether the task has ended, successfully or not."""
        return self.status in (COMPLETED, FAILED, *CANCELLED)

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self.status in CANCELLED

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a result: it failed or was cancelled."""
        return self.status == FAILED or self.is_cancelled


def parse_task(data: Json) -> RemoteTask | None:
    """Return the task in *data*; None when it has no task id."""
    task_id = _text(data.get("task_id"))
    if task_id is None:
        return None
    output, meta = _mapping(data.get("output")), _mapping(data.get("meta"))
    usage = _mapping(meta.get("usage"))
    return RemoteTask(
        task_id=task_id,
        # [R 2026-11] real responses use lower case; [D 2026-11] the schema capitalises the words
        status=(_text(data.get("status")) or "pending").lower(),
        model=_text(data.get("model")),
        task_type=_text(data.get("task_type")),
        task_input=_short_fields(data.get("input")),
        progress_percent=_percent(output.get("progress")),
        result_urls=_result_urls(output),
        result_base64=_text(output.get("image_base64")),  # [C 2026-11]
        actions=_texts(output.get("actions")),
        frozen_usd=points_to_usd(usage.get("frozen")),
        consumed_usd=points_to_usd(usage.get("consume")),
        error=error_text(data.get("error")),
        logs=_texts(data.get("logs")),
        created_at=parse_time(meta.get("created_at")),
        started_at=parse_time(meta.get("started_at")),
        ended_at=parse_time(meta.get("ended_at")),
    )


@dataclass(frozen=True)
class Account:
    """The account that a key belongs to."""

    name: str | None
    plan: str | None
    balance_usd: Decimal | None
    """Dollars that can be spent; PiAPI includes credit packs."""
    frozen_usd: Decimal | None
    """Dollars reserved for tasks that have not ended."""
    max_concurrent_tasks: int | None
    """Number of tasks that the plan lets run at once."""


def parse_account(data: Json) -> Account:
    """Return the account in *data*; a field that is missing or of an unexpected type is None."""
    wallet = _mapping(data.get("wallet"))
    balance_usd = _number(data.get("equivalent_in_usd"))  # [D 2026-11] account info page
    concurrency = _number(data.get("max_concurrent_task_count"))  # [R 2026-11]
    return Account(
        name=_text(data.get("name")) or _text(data.get("account_name")),
        plan=_text(data.get("plan")),
        balance_usd=points_to_usd(wallet.get("point_remain")) if balance_usd is None else balance_usd,
        frozen_usd=points_to_usd(wallet.get("point_frozen")),
        max_concurrent_tasks=None if concurrency is None else int(concurrency),
    )


@dataclass(frozen=True)
class HistoryRow:
    """One row of the account's task history. It has no result; read the task for that."""

    task_id: str
    model: str | None
    action: str | None
    """Kind of work, in PiAPI's words, such as `imagine` or `upscale`."""
    status: str
    """As in `RemoteTask`."""
    usage_usd: Decimal | None
    created_at: datetime | None


def parse_history(data: Json) -> tuple[HistoryRow, ...]:
    """Return the rows of one page of history; rows without a task id are left out."""
    rows = (_snake_case(_mapping(row)) for row in _items(data.get("data")))
    return tuple(
        HistoryRow(
            task_id=task_id,
            model=_text(row.get("task_model")),
            action=_text(row.get("action")),
            status=(_text(row.get("status")) or "pending").lower(),
            usage_usd=points_to_usd(row.get("usage")),
            created_at=parse_time(row.get("created_at")),
        )
        for row in rows
        if (task_id := _text(row.get("task_id")))
    )


def _snake_case(row: Json) -> Json:
    # [? 2026-11] the documentation and client code disagree on `task_id` or `taskId`, so both are read
    return {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): value for name, value in row.items()}


def points_to_usd(points: object) -> Decimal | None:
    """Convert PiAPI's points to dollars exactly; None when *points* is not a number."""
    number = _number(points)
    return None if number is None else number / POINTS_PER_USD


def parse_time(value: object) -> datetime | None:
    """Parse an RFC 3339 time; None when it is absent, invalid, or Go's zero time, which means "not yet"."""
    text = _text(value)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)  # truncates nanoseconds to microseconds
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment if moment.year > 1 else None  # [D/R 2026-11] 0001-01-01T00:00:00Z = not yet


def error_text(error: object) -> str | None:
    """Return PiAPI's description of an error; None when code 0 and empty texts mean that there is none."""
    fields = _mapping(error)
    # [C 2026-11] `raw_message` often holds the cause that `message` hides
    words = [_text(fields.get(name)) for name in ("message", "raw_message", "detail")]
    distinct = list(dict.fromkeys(word for word in words if word))
    if distinct:
        return ": ".join(distinct)
    code = fields.get("code")
    return f"error {code}" if code else None


def _result_urls(output: Json) -> tuple[str, ...]:
    # [R 2026-11] Midjourney: image_url, image_urls (null in practice)
    # [C 2026-11] video: video_url; image: image_url
    # [? 2026-11] video: video
    candidates = [
        output.get("image_url"),
        output.get("video_url"),
        output.get("video"),
        *_items(output.get("image_urls")),
    ]
    urls = (text for text in map(_text, candidates) if text and text.startswith(("http://", "https://")))
    return tuple(dict.fromkeys(urls))


def _short_fields(value: object) -> Mapping[str, str]:
    fields = _mapping(value).items()
    return {
        name: str(item)
        for name, item in fields
        if isinstance(item, str | int) and len(str(item)) <= _MAX_INPUT_FIELD_CHARS
    }


def _percent(value: object) -> int | None:
    number = _number(value)
    return None if number is None else max(0, min(100, int(number)))


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return Decimal(str(value))


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...]:
    """Return the strings in a list; an object in it is replaced by its message."""
    # [D 2026-11] `logs` is a list of objects; [R 2026-11] in real responses it is a list of strings, or null
    found = (_text(item) or error_text(item) for item in _items(value))
    return tuple(text for text in found if text)


def _items(value: object) -> Sequence[object]:
    return cast("list[object]", value) if isinstance(value, list) else ()


def _mapping(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}
