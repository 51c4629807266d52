"""Parses the JSON of PiAPI's responses into typed models.

The documentation and the live service differ in small ways (case of words, nulls, zero times, strings for objects).
These differences are resolved here: the rest of the code never sees PiAPI's JSON.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import cast

from piapi_mcp.formatting import safe_text
from piapi_mcp.piapi.catalog import POINTS_PER_USD, TASK_ID_PATTERN

Json = Mapping[str, object]

# [D 2026-11] unified API schema. A status that is not listed counts as still running and is shown unchanged.
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = ("cancelled", "canceled")  # [? 2026-11] the status of a cancelled task is not documented

MARK_PATTERN = r"piapi-mcp-[0-9a-f]{32}"
"""Form of the mark that a submission carries in `config.webhook_config.secret`, see `client.TaskConfig`."""

_MAX_TEXT_CHARS = 1000
_MAX_URL_CHARS = 8000
_MAX_ITEMS = 100
"""Items of a list that are read: logs, URLs, actions."""
_MAX_INPUT_FIELDS = 20
_MAX_NUMBER = 10**18
"""Larger numbers are no prices, percentages or counts."""
_SHORTEST_FILE_CHARS = 64


@dataclass(frozen=True)
class RemoteTask:
    """A task as PiAPI returns it. Of the request's `config` only our own mark is kept: it echoes the webhook secret."""

    task_id: str
    status: str = "pending"
    """In lower case: pending, processing, staged, completed, failed, or a status that this project does not know."""
    model: str | None = None
    task_type: str | None = None
    input_digests: Mapping[str, str] = field(default_factory=dict[str, str])
    """`digest_field` of each field of the input that PiAPI echoes."""
    url_fields: frozenset[str] = frozenset()
    """The fields of the input that PiAPI echoes as a URL."""
    mark: str | None = None
    """The mark of the submission, where PiAPI echoes it."""
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
    task_id = _task_id(data.get("task_id"))
    if task_id is None:
        return None
    task_input = _input(data.get("input"))
    output, meta = _mapping(data.get("output")), _mapping(data.get("meta"))
    usage = _mapping(meta.get("usage"))
    return RemoteTask(
        task_id=task_id,
        # [R 2026-11] real responses use lower case; [D 2026-11] the schema capitalises the words
        status=(_text(data.get("status")) or "pending").lower(),
        model=_text(data.get("model")),
        task_type=_text(data.get("task_type")),
        input_digests={name: digest_field(value) for name, value in task_input.items()},
        url_fields=frozenset(name for name, value in task_input.items() if _is_url(value)),
        mark=_mark(data.get("config")),
        progress_percent=_percent(output.get("progress")),
        result_urls=_result_urls(output),
        result_base64=_base64(output.get("image_base64")),  # [C 2026-11]
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

    account_id: str | None
    """PiAPI's id of the account; None where it reports none."""
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
        account_id=_account_id(data),
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
        if (task_id := _task_id(row.get("task_id")))
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
    return f"error {number}" if (number := _number(code)) else None


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
    urls = (text.strip() for text in candidates if isinstance(text, str) and _is_url(text.strip()))
    return tuple(dict.fromkeys(urls))


def _is_url(text: str) -> bool:
    """Whether *text* can be passed on as a link: nothing in it may break out of the text around it."""
    return len(text) <= _MAX_URL_CHARS and re.fullmatch(r"https?://[!-~]+", text) is not None


def digest_field(value: object) -> str:
    """Return a digest of a field of the input: of the whole value, and of a file's bytes where it is base64.

    Digests are kept instead of values, because URLs may contain secrets.
    """
    text = str(value)
    if len(text) >= _SHORTEST_FILE_CHARS and not _is_url(text):
        try:
            return file_digest(hashlib.sha256(base64.b64decode(text.rpartition(",")[2], validate=True)).hexdigest())
        except ValueError:
            pass  # not base64
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def file_digest(media_sha256: str) -> str:
    """Return what `digest_field` returns for a file with this SHA-256 that is echoed as base64."""
    return f"file:{media_sha256[:16]}"


def _input(value: object) -> Mapping[str, str]:
    fields = islice(_mapping(value).items(), _MAX_INPUT_FIELDS)
    return {name: str(item) for name, item in fields if isinstance(item, str | bool) or _number(item) is not None}


def _mark(config: object) -> str | None:
    # [R 2026-11] real replies echo `config`
    secret = _mapping(_mapping(config).get("webhook_config")).get("secret")
    return secret if isinstance(secret, str) and re.fullmatch(MARK_PATTERN, secret) else None


def _task_id(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(TASK_ID_PATTERN, value) else None


def _account_id(data: Json) -> str | None:
    # [? 2026-11] whether the account info has an id, and what it is called
    ids = (data.get(name) for name in ("account_id", "user_id", "id"))
    return next((f"{found}" for found in ids if _text(found) or _number(found)), None)


def _percent(value: object) -> int | None:
    number = _number(value)
    return None if number is None else max(0, min(100, int(number)))


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_MAX_NUMBER < value < _MAX_NUMBER:
        return None
    return Decimal(str(value))


def _text(value: object) -> str | None:
    return safe_text(value, max_chars=_MAX_TEXT_CHARS).strip() or None if isinstance(value, str) else None


def _base64(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) and value.isascii() else None


def _texts(value: object) -> tuple[str, ...]:
    """Return the strings in a list; an object in it is replaced by its message."""
    # [D 2026-11] `logs` is a list of objects; [R 2026-11] in real responses it is a list of strings, or null
    found = (_text(item) or error_text(item) for item in _items(value))
    return tuple(text for text in found if text)


def _items(value: object) -> Sequence[object]:
    """Return the first items of a list; anything else has none."""
    return cast("list[object]", value)[:_MAX_ITEMS] if isinstance(value, list) else ()


def _mapping(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}
