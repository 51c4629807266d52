"""PiAPI as `piapi-mcp verify` meets it: raw replies, and what each of them shows whatever it answers.

The project's own client is not used: it tolerates every known form of a reply, and would hide contradictions.
"""

import email.utils
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any, Self, cast

import httpx

from piapi_mcp.commands.verify_beliefs import Findings
from piapi_mcp.piapi.catalog import TASK_ID_PATTERN
from piapi_mcp.piapi.client import tls_context

Json = dict[str, Any]

_MAX_REPLY_BYTES = 4 << 20
_DEADLINE_S = 120.0
"""Maximum time for one reply as a whole."""
_POLL_PAUSE_S = 2.0
_MAX_POINTS = 10**15
_WAIT_S = 600.0
"""Maximum time to wait for the end of a task."""
_ENDED = ("completed", "failed", "cancelled", "canceled")
# [D 2024-10] Midjourney upscale page, [R 2026-11] in lower case. [? 2026-11] the status of a cancelled task
_STATUSES = ("pending", "processing", "staged", *_ENDED)
# [R 2026-11] the fields of a task's error
_ERROR_FIELDS = {"code", "raw_message", "message", "detail"}
# [D/R 2026-11] RFC 3339 with varying offsets and nanoseconds
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
# httpx gave up before anything was sent.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, httpx.ProxyError, httpx.UnsupportedProtocol)


class NoReplyError(Exception):
    """A request got no usable reply; the text says why, in a few words."""

    def __init__(self, reason: str, *, was_sent: bool = True) -> None:
        super().__init__(reason)
        self.was_sent = was_sent


@dataclass(frozen=True)
class Reply:
    """One reply, read to its end."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @cached_property
    def json(self) -> Json | None:
        """The JSON object in the body, if there is one."""
        try:
            body: object = json.loads(self.content)
        except (ValueError, RecursionError):
            return None
        return cast("Json", body) if isinstance(body, dict) else None

    @property
    def data(self) -> Json:
        """The object in `data`; empty if there is none."""
        return as_object((self.json or {}).get("data"))

    @property
    def words(self) -> str:
        """What the reply says went wrong; empty if it is JSON that says nothing."""
        if self.json is None:
            return self.content.decode("utf-8", "replace")
        # [C 2026-11] `message` at the top; sometimes a task inside `data` whose `error` holds the cause
        error = as_object(self.data.get("error"))
        said = (self.json.get("message"), error.get("message"), error.get("raw_message"))
        return ": ".join(dict.fromkeys(text for text in said if isinstance(text, str) and text))

    @property
    def task_id(self) -> str | None:
        """The id of a task, in the envelope or bare; None unless it can be part of a URL."""
        found = self.data.get("task_id") or (self.json or {}).get("task_id")
        return found if isinstance(found, str) and re.fullmatch(TASK_ID_PATTERN, found) else None


class Service:
    """Sends requests to the base URL, and nowhere else."""

    def __init__(self, base_url: str, key: str, findings: Findings, sleep: Callable[[float], None]) -> None:
        self.base_url = base_url.rstrip("/")
        self._key = key
        self._findings = findings
        self.sleep = sleep
        # A loopback address is never behind a proxy. Redirects are not followed: the key must not travel elsewhere.
        is_loopback = httpx.URL(base_url).host in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(timeout=60, follow_redirects=False, trust_env=not is_loopback, verify=tls_context())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def call(
        self, method: str, path: str, *, body: Json | None = None, query: Json | None = None, key: str | None = None
    ) -> Reply:
        """Send one request and return its reply, with any status.

        Raises:
            NoReplyError: There was none.
        """
        headers = {"x-api-key": key or self._key}
        ends_at, content = time.monotonic() + _DEADLINE_S, bytearray()
        try:
            with self._http.stream(method, self.base_url + path, json=body, params=query, headers=headers) as response:
                for block in response.iter_bytes():
                    content += block
                    if len(content) > _MAX_REPLY_BYTES or time.monotonic() > ends_at:
                        raise NoReplyError("the reply was too large or too slow")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise NoReplyError(type(error).__name__, was_sent=not isinstance(error, _NEVER_SENT)) from None
        reply = Reply(response.status_code, {n.lower(): v for n, v in response.headers.items()}, bytes(content))
        self._judge_headers(reply)
        self._judge_code(reply)
        return reply

    def read_task(self, task_id: str) -> Json:
        """Read a task that exists; empty if the reply does not show it.

        Raises:
            NoReplyError: There was no reply, or an error of the server.
        """
        reply = self.call("GET", f"/api/v1/task/{task_id}")
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise NoReplyError(f"HTTP {reply.status}")
        if reply.status != HTTPStatus.OK:
            self._findings.judge("read.route", f"HTTP {reply.status} for a task that exists", holds=False)
            return {}
        has_failed = status_of(reply.data) == "failed"
        self._findings.judge(
            "read.route",
            "HTTP 200 for a failed task" if has_failed else "HTTP 200, but no task was read that had failed",
            holds=True if has_failed else None,
        )
        judge_task(self._findings, reply.data)
        return reply.data

    def wait_for_end(self, task_id: str, task: Json, *, wait_s: float = _WAIT_S) -> Json:
        """Poll *task* until it has ended, at most *wait_s* seconds; return what was read last."""
        ends_at = time.monotonic() + wait_s
        while not is_ended(task) and time.monotonic() < ends_at:
            self.sleep(_POLL_PAUSE_S)
            try:
                task = self.read_task(task_id) or task
            except NoReplyError:
                continue  # a read may be repeated
        return task

    def _judge_headers(self, reply: Reply) -> None:
        date = reply.headers.get("date", "")
        try:
            is_date = email.utils.format_datetime(email.utils.parsedate_to_datetime(date), usegmt=True) == date
        except ValueError:
            is_date = False
        text = "in every reply" if is_date else f"Date: {self._findings.quote(date)}"
        self._findings.judge("service.date", text, holds=is_date)
        limits = [name for name in reply.headers if name == "retry-after" or "ratelimit" in name.replace("-", "")]
        # [? 2026-11] Nothing is documented, and the sandbox has none.
        self._findings.judge("poll.limits", ", ".join(limits) or "no reply named a limit", holds=not limits)

    def _judge_code(self, reply: Reply) -> None:
        code = (reply.json or {}).get("code")
        if code is not None:
            holds = code == reply.status
            self._findings.judge(
                "create.code", "in every reply" if holds else f"{code!r} with {reply.status}", holds=holds
            )


def judge_task(findings: Findings, task: Json) -> None:
    """Judge what every task shows."""
    if not task:
        return
    findings.judge("read.status", findings.quote(task.get("status")), holds=task.get("status") in _STATUSES)
    _judge_times(findings, as_object(task.get("meta")))
    _judge_logs(findings, task.get("logs"))
    error = as_object(task.get("error"))
    has_fields = error.keys() >= _ERROR_FIELDS
    detail = f"code {error.get('code')!r} of a task that is {status_of(task)}" if has_fields else list_names(error)
    findings.judge("read.error", detail, holds=has_fields and (error["code"] == 0 or status_of(task) in _ENDED[1:]))
    kind = as_object(as_object(task.get("meta")).get("usage")).get("type")
    if kind is not None and kind != "point":  # [R 2026-11] a captured reply
        findings.judge("money.points", f"usage of type {findings.quote(kind)}", holds=False)


def _judge_times(findings: Findings, meta: Json) -> None:
    for name in ("created_at", "started_at", "ended_at"):
        value = meta.get(name)
        holds = isinstance(value, str) and _RFC_3339.fullmatch(value) is not None
        findings.judge("read.times", "RFC 3339" if holds else f"{name}: {findings.quote(value)}", holds=holds)


def _judge_logs(findings: Findings, logs: object) -> None:
    if logs is None:
        findings.judge("read.logs", "null", holds=True)
    elif not isinstance(logs, list):
        findings.judge("read.logs", f"a {type(logs).__name__}", holds=False)
    else:
        kinds = {type(entry).__name__ for entry in cast("list[object]", logs)}
        findings.judge("read.logs", ", ".join(sorted(kinds)) or "no entry", holds=kinds == {"str"} if kinds else None)


def judge_task_id(findings: Findings, task_id: object) -> None:
    """Judge the form of a task id."""
    try:
        uuid.UUID(str(task_id))
    except ValueError:
        findings.judge("create.task_id", f"an id of {len(str(task_id))} characters that is no UUID", holds=False)
    else:
        findings.judge("create.task_id", "UUIDs", holds=True)


def as_object(value: object) -> Json:
    """Return *value* if it is a JSON object, otherwise an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_points(value: object) -> int | None:
    """Return *value* if it is a plausible number of points."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_POINTS:
        return None
    return int(value)


def list_names(fields: Iterable[str]) -> str:
    """Return which fields an object has, for a finding."""
    return "fields: " + (", ".join(sorted(fields)) or "none")


def status_of(task: Json) -> str:
    """Return the status of *task* in lower case; empty if it has none."""
    return str(task.get("status") or "").lower()


def is_ended(task: Json) -> bool:
    """Return whether *task* has ended."""
    return status_of(task) in _ENDED


def usage_points(task: Json, name: str) -> int | None:
    """Return `frozen` or `consume` of a task's usage, in points."""
    return as_points(as_object(as_object(task.get("meta")).get("usage")).get(name))


def parse_moment(value: object) -> float | None:
    """Return a time, given as RFC 3339 or in Unix seconds, in Unix seconds."""
    try:
        if isinstance(value, int | float):
            return float(value)
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return None
