"""The checks of `piapi-mcp verify` that cost nothing: reads, and submissions that cannot become a task of any price."""

import time
import uuid
from decimal import Decimal
from http import HTTPStatus
from typing import Any, cast

from piapi_mcp.commands.verify_beliefs import Findings
from piapi_mcp.commands.verify_service import (
    Json,
    NoReplyError,
    Reply,
    Service,
    as_object,
    as_points,
    is_ended,
    judge_task_id,
    list_names,
    parse_moment,
    status_of,
    usage_points,
)
from piapi_mcp.errors import UnauthorizedError, UnreachableError
from piapi_mcp.piapi.catalog import (
    IMAGE_UPSCALE,
    MIDJOURNEY_ACTIONS,
    MIDJOURNEY_UPSCALE,
    POINTS_PER_USD,
    VIDEO_UPSCALE,
    Product,
)

FALSE_KEY = "piapi-mcp-verify-no-such-key"
_PAGE_SIZE = 10
_SECONDS_PER_DAY = 86_400
_ROUNDING = 0.01
_ACCEPTED_WAIT_S = 120.0
# [D/R 2026-11] account info page
_ACCOUNT_FIELDS = {
    "name",
    "plan",
    "equivalent_in_usd",
    "wallet",
    "credit_pack_info",
    "max_concurrent_task_count",
}
# [D 2026-11] user task history page: the fields that this project reads
_ROW_FIELDS = {"task_id", "task_model", "status", "created_at"}
# [R 2026-11] a captured imagine task
_MIDJOURNEY_FIELDS = {"image_url", "image_urls", "temporary_image_urls", "actions", "progress"}
# [D 2025-02] video upscale page, [D 2024-10] Midjourney upscale page
_TOOLKIT_REFUSALS = {400, 401, 413}
_MIDJOURNEY_REFUSALS = {400, 401, 500}
_WITHDRAWN_STATUSES = {403, 404, 410}
_WITHDRAWN_WORDS = ("no longer", "not support", "discontinu", "withdrawn", "deprecated", "unsupported", "unavailable")


class FreeChecks:
    """Runs the checks one after another; a check that gets no reply does not keep the next from running."""

    def __init__(self, service: Service, findings: Findings) -> None:
        self._service = service
        self._findings = findings
        self._judge = findings.judge
        self.spent_usd = Decimal(0)
        """What tasks were charged that should have been refused."""
        self.is_cost_known = True
        """Whether such tasks have ended, and showed what they were charged."""

    def run(self) -> None:
        """Run all checks.

        Raises:
            UnauthorizedError: The service does not accept the key; nothing else was tried.
            UnreachableError: The service cannot be reached.
        """
        self._check_key()
        for check in (
            self._check_history,
            self._check_unknown_task,
            self._check_missing_path,
            self._check_false_key,
            self._check_refused_inputs,
            self._check_midjourney,
        ):
            try:
                check()
            except NoReplyError as error:
                self._findings.note(f"{check.__name__.removeprefix('_check_').replace('_', ' ')}: no reply ({error}).")

    def _check_key(self) -> None:
        try:
            reply = self._service.call("GET", "/account/info")
        except NoReplyError as error:
            raise UnreachableError(f"The service could not be reached ({error}). Nothing was tried.") from None
        if reply.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise UnauthorizedError("The service did not accept PIAPI_API_KEY. Nothing else was tried.")
        account = reply.data
        name = account.get("name")
        if isinstance(name, str):
            self._findings.secrets.append(name)
        has_fields = reply.status == HTTPStatus.OK and account.keys() >= _ACCOUNT_FIELDS
        missing = ", ".join(sorted(_ACCOUNT_FIELDS - account.keys()))
        self._judge(
            "account.info", "all fields" if has_fields else f"HTTP {reply.status}, no {missing}", holds=has_fields
        )
        has_id = any(isinstance(account.get(field), str | int) for field in ("account_id", "user_id", "id"))
        self._judge("account.id", "an id" if has_id else "no id", holds=has_id)
        self._judge_points(account)

    def _judge_points(self, account: Json) -> None:
        points = as_points(as_object(account.get("wallet")).get("point_remain"))
        usd = account.get("equivalent_in_usd")
        if not points or not isinstance(usd, int | float) or usd <= 0:
            self._judge("money.points", "the account shows no balance to compare", holds=None)
            return
        per_usd = points / usd
        # Only the ratio: the balance is private. Dollars may be rounded.
        holds = abs(per_usd / POINTS_PER_USD - 1) < _ROUNDING
        self._judge("money.points", f"{float(f'{per_usd:.3g}'):,.10g} points to the dollar", holds=holds)

    def _check_history(self) -> None:
        reply = self._read_history()
        rows = rows_of(reply)
        has_page = reply.status == HTTPStatus.OK and {"data", "total"} <= reply.data.keys()
        page = "a page of rows" if has_page else f"HTTP {reply.status}, {list_names(reply.data)}"
        self._judge("history.route", page, holds=has_page)
        if not rows:
            for belief in ("history.spelling", "history.output", "history.order"):
                self._judge(belief, "the account's history is empty", holds=None)
            return
        self._judge_rows(rows)
        self._check_filters(rows)
        self._check_old_tasks(rows, as_points(reply.data.get("total")) or 0)

    def _read_history(self, **query: Any) -> Reply:
        query = {"page": 1, "page_size": _PAGE_SIZE} | query
        return self._service.call("GET", "/api/open/tasks/histories", query=query)

    def _judge_rows(self, rows: list[Json]) -> None:
        names = rows[0].keys()
        # [? 2026-11] Documentation and clients disagree; the sandbox assumes snake case.
        self._judge(
            "history.spelling", "snake case" if names >= _ROW_FIELDS else list_names(names), holds=names >= _ROW_FIELDS
        )
        has_output = any(row.get("output") for row in rows)
        self._judge("history.output", "a row with output" if has_output else "no row has output", holds=not has_output)
        for row in rows:
            judge_task_id(self._findings, row_field(row, "task_id"))
        judge_order(self._findings, rows)

    def _check_filters(self, rows: list[Json]) -> None:
        ids = {str(row_field(row, "task_id")) for row in rows}
        second = {str(row_field(row, "task_id")) for row in rows_of(self._read_history(page=2))}
        is_paged = not ids & second
        self._judge("history.route", "pages differ" if is_paged else "page 2 repeats rows of page 1", holds=is_paged)
        old = rows_of(self._read_history(start_time=1, end_time=2))
        self._judge("history.route", "end_time is ignored" if old else "end_time is observed", holds=not old)

    def _check_old_tasks(self, rows: list[Json], total: int) -> None:
        """Read the oldest task that the history lists, and the newest one of Midjourney."""
        last_page = -(-total // _PAGE_SIZE)
        if last_page > 1:
            rows = rows_of(self._read_history(page=last_page)) or rows
        oldest = rows[-1]
        task = self._read(oldest)
        created_at = parse_moment(row_field(oldest, "created_at"))
        days = (time.time() - (created_at or time.time())) / _SECONDS_PER_DAY
        if not task:
            self._judge("read.lifetime", f"a listed task of {days:.0f} days could not be read", holds=False)
        else:
            self._judge("read.lifetime", f"a task of {days:.0f} days could be read", holds=True if days >= 1 else None)
        midjourney = rows_of(self._read_history(model=MIDJOURNEY_UPSCALE.history_model))
        models = {str(row_field(row, "task_model")) for row in midjourney}
        is_filtered = models <= {MIDJOURNEY_UPSCALE.history_model}
        self._judge("history.route", "model is observed" if is_filtered else "model is ignored", holds=is_filtered)
        done = [row for row in midjourney if status_of(row) == "completed"]
        if done and is_filtered:
            self._judge_midjourney(self._read(done[0]))

    def _read(self, row: Json) -> Json:
        try:
            task_id = uuid.UUID(str(row_field(row, "task_id")))
        except ValueError:
            return {}
        return self._service.read_task(str(task_id))

    def _judge_midjourney(self, task: Json) -> None:
        output = as_object(task.get("output"))
        has_fields = output.keys() >= _MIDJOURNEY_FIELDS
        self._judge("read.midjourney_output", "all fields" if has_fields else list_names(output), holds=has_fields)
        actions: object = output.get("actions")
        names = {str(name) for name in cast("list[object]", actions)} if isinstance(actions, list) else set[str]()
        upscales = {name for name in names if name.startswith("upscale")}
        unknown = upscales - set(MIDJOURNEY_ACTIONS.values())
        detail = self._findings.quote(", ".join(sorted(unknown or upscales)))
        self._judge(
            "midjourney.action_names", detail if upscales else "no upscales", holds=not unknown if upscales else None
        )

    def _check_unknown_task(self) -> None:
        reply = self._service.call("GET", f"/api/v1/task/{uuid.uuid4()}")
        # [? 2026-11] The sandbox assumes 404 in the envelope.
        holds = reply.status == HTTPStatus.NOT_FOUND and reply.json is not None
        self._judge("read.unknown_task", self._describe(reply), holds=holds)

    def _check_missing_path(self) -> None:
        reply = self._service.call("GET", "/api/v1/piapi-mcp-verify")
        holds = reply.json is None and reply.status >= HTTPStatus.BAD_REQUEST
        self._judge("create.not_json", self._describe(reply) + ("" if reply.json is None else ", in JSON"), holds=holds)

    def _check_false_key(self) -> None:
        reply = self._submit(IMAGE_UPSCALE, {}, key=FALSE_KEY)
        holds = reply.status == HTTPStatus.UNAUTHORIZED and "failed to verify api key" in reply.words.lower()
        self._judge("create.bad_key", self._describe(reply), holds=holds)

    def _check_refused_inputs(self) -> None:
        """Submit what cannot be upscaled, so that nothing is charged whatever the service makes of it."""
        self._expect_refusal("no image", self._submit(IMAGE_UPSCALE, {}))
        self._expect_refusal("an unknown field", self._submit(IMAGE_UPSCALE, {"no_such_field": True}))
        reply = self._submit(IMAGE_UPSCALE, {"scale": 3})
        self._expect_refusal("scale 3 without an image", reply)
        if "scale" in reply.words.lower():
            self._judge("image.scale", f"3 is refused: {self._describe(reply)}", holds=True)
        reply = self._submit(VIDEO_UPSCALE, {"video": "!not base64!"})
        self._expect_refusal("bad base64", reply)
        holds = reply.status >= HTTPStatus.BAD_REQUEST and "failed to get valid" in reply.words.lower()
        self._judge("create.bad_media", self._describe(reply), holds=holds)

    def _check_midjourney(self) -> None:
        reply = self._submit(MIDJOURNEY_UPSCALE, {"origin_task_id": str(uuid.uuid4()), "index": "9"})
        words = reply.words.lower()
        is_withdrawn = reply.status in _WITHDRAWN_STATUSES or any(word in words for word in _WITHDRAWN_WORDS)
        # [? 2026-11] The sandbox assumes that Midjourney is still offered.
        said = self._describe(reply)
        self._judge(
            "service.midjourney_refusal",
            f"{'withdrawn' if is_withdrawn else 'offered'}: {said}",
            holds=not is_withdrawn,
        )
        if not is_withdrawn:
            self._judge("midjourney.index", f'"9" is refused: {said}', holds=True if "index" in words else None)
        self._expect_refusal("an unknown origin task", reply, _MIDJOURNEY_REFUSALS)

    def _submit(self, product: Product, task_input: Json, *, key: str | None = None) -> Reply:
        body = {"model": product.model, "task_type": product.task_type, "input": task_input}
        return self._service.call("POST", "/api/v1/task", body=body, key=key)

    def _expect_refusal(self, what: str, reply: Reply, documented: set[int] = _TOOLKIT_REFUSALS) -> None:
        if reply.status < HTTPStatus.BAD_REQUEST and reply.task_id:
            self._follow_accepted(what, reply)
            return
        is_documented = reply.status in documented
        self._judge("create.failures", f"{what}: HTTP {reply.status}", holds=is_documented)
        has_route = reply.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
        if not has_route and reply.json is None:
            self._judge("create.route", self._describe(reply), holds=False)
        elif reply.json is not None and is_documented:
            self._judge("create.route", "it refuses in JSON", holds=True)
        says_why = reply.json is not None and bool(reply.words)
        self._judge("create.refusal_place", "in every refusal" if says_why else f"{what}: no words", holds=says_why)

    def _follow_accepted(self, what: str, reply: Reply) -> None:
        """Wait for the end of a task that should have been refused, and see to it that its price is known."""
        self._judge("create.failures", f"{what}: accepted", holds=False)
        task = self._service.wait_for_end(reply.task_id or "", reply.data, wait_s=_ACCEPTED_WAIT_S)
        if status_of(task) == "failed":
            judge_refund(self._findings, task)
        consumed = usage_points(task, "consume")
        if not is_ended(task) or consumed is None:
            self.is_cost_known = False
            self._findings.note(f"A task with {what} was accepted; what it costs is unknown. Check the task history.")
            return
        self.spent_usd += Decimal(consumed) / POINTS_PER_USD
        if consumed:
            self._findings.note(f"A task with {what} was accepted and charged.")

    def _describe(self, reply: Reply) -> str:
        return f"HTTP {reply.status} {self._findings.quote(reply.words)}"


def judge_refund(findings: Findings, task: Json) -> None:
    """Judge what a failed task was charged."""
    consumed = usage_points(task, "consume")
    logs: object = task.get("logs")
    is_logged = isinstance(logs, list) and "restored frozen points" in str(cast("list[object]", logs))
    log = "the log says so" if is_logged else "the log does not say so"
    findings.judge("money.refund", f"consume {consumed}, {log}", holds=consumed == 0 and is_logged)


def judge_order(findings: Findings, rows: list[Json]) -> None:
    """Judge whether the rows of the history are sorted by time."""
    times = [parse_moment(row_field(row, "created_at")) for row in rows]
    known = [moment for moment in times if moment is not None]
    if len(known) < len(rows) or len(set(known)) <= 1:
        findings.judge("history.order", "the times of the rows do not show an order", holds=None)
    else:
        is_newest_first = known == sorted(known, reverse=True)
        findings.judge(
            "history.order", "newest first" if is_newest_first else "not newest first", holds=is_newest_first
        )


def rows_of(reply: Reply) -> list[Json]:
    """Return the rows of a page of the history."""
    rows: object = reply.data.get("data")
    return [as_object(row) for row in cast("list[object]", rows)] if isinstance(rows, list) else []


def row_field(row: Json, name: str) -> Any:
    """Return a field of a row, in snake or camel case."""
    head, *rest = name.split("_")
    return row.get(name, row.get(head + "".join(word.capitalize() for word in rest)))
