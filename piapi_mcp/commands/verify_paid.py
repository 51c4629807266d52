"""The checks of `piapi-mcp verify` that cost money: two images and a video, as small as they can be."""

import base64
from collections.abc import Callable
from http import HTTPStatus

from piapi_mcp.commands.verify_beliefs import Findings
from piapi_mcp.commands.verify_free import judge_order, judge_refund, row_field, rows_of
from piapi_mcp.commands.verify_media import (
    CLIP_FRAMES,
    CLIP_SIDE_PX,
    fetch_result,
    make_clip,
    make_image,
    measure_image,
    measure_video,
)
from piapi_mcp.commands.verify_purchases import BoughtTask, PlannedTask, Purchases, to_usd
from piapi_mcp.commands.verify_service import (
    Json,
    NoReplyError,
    Service,
    as_object,
    as_points,
    is_ended,
    list_names,
    status_of,
    usage_points,
)
from piapi_mcp.formatting import dollars
from piapi_mcp.piapi.catalog import (
    IMAGE_UPSCALE,
    IMAGE_USD_PER_MEGAPIXEL,
    POINTS_PER_USD,
    VIDEO_SCALE,
    VIDEO_UPSCALE,
    VIDEO_USD_PER_FRAME,
)

_IMAGE_SIDE_PX = 400
"""Whether input, output or whole megapixels are charged makes three different prices at this size."""
_CANCELLED_SIDE_PX = 48
_IMAGE_SCALE = 2
_HISTORY_PAUSES_S = (0.0, 1.0, 2.0)


class PaidChecks:
    """Buys one thing after another, and judges what comes of it."""

    def __init__(self, service: Service, findings: Findings, purchases: Purchases) -> None:
        self._service = service
        self._findings = findings
        self._judge = findings.judge
        self._purchases = purchases

    def run(self) -> None:
        """Buy what fits the limit, and judge what comes of it.

        Raises:
            LostAnswerError: A purchase got no usable answer; nothing was bought after it.
        """
        points_before = self._read_balance_points()
        self._check_image()
        self._check_video()
        self._check_cancel()
        self._check_history()
        self._check_charges(points_before)

    def _read_balance_points(self) -> int | None:
        try:
            account = self._service.call("GET", "/account/info").data
        except NoReplyError:
            return None
        return as_points(as_object(account.get("wallet")).get("point_remain"))

    def _check_image(self) -> None:
        bought = self._purchases.buy(_image_purchase("an image upscale", _IMAGE_SIDE_PX))
        if bought is None:
            return
        echo = as_object(bought.task.get("input"))
        if bought.task:
            holds = echo.get("scale") == _IMAGE_SCALE and echo.get("face_enhance") is False
            self._judge("read.echo", "scale, face_enhance" if holds else list_names(echo), holds=holds)
        self._judge_echoed_mark(bought)
        task = self._finish(bought)
        self._judge_image_price(bought)
        size = self._check_result(task, "read.image_output", ("image_url", "image_base64"), measure_image)
        self._judge_size("image.scale", size, _IMAGE_SIDE_PX * _IMAGE_SCALE)

    def _check_video(self) -> None:
        clip = base64.b64encode(make_clip()).decode()
        at_most_usd = VIDEO_USD_PER_FRAME * CLIP_FRAMES
        bought = self._purchases.buy(PlannedTask("a video upscale", VIDEO_UPSCALE, {"video": clip}, at_most_usd))
        if bought is None:
            return
        self._judge_echoed_mark(bought)
        task = self._finish(bought)
        frozen = _frozen_points(bought)
        if frozen:
            holds = frozen == at_most_usd * POINTS_PER_USD
            self._judge("video.price", f"{dollars(to_usd(frozen) / CLIP_FRAMES)} a frame", holds=holds)
        size = self._check_result(task, "read.video_output", ("video_url", "video"), measure_video)
        self._judge_size("video.scale", size, CLIP_SIDE_PX * VIDEO_SCALE)

    def _check_cancel(self) -> None:
        bought = self._purchases.buy(_image_purchase("an image upscale to cancel", _CANCELLED_SIDE_PX), is_read=False)
        if bought is None:
            return
        try:
            reply = self._service.call("DELETE", f"/api/v1/task/{bought.task_id}")
            bought.task = self._service.read_task(bought.task_id)
        except NoReplyError as error:
            self._judge("cancel.route", f"no reply ({error})", holds=None)
            self._finish(bought)
            return
        is_cancelled = reply.status == HTTPStatus.OK
        was_pending = status_of(bought.task) in ("pending", "staged")
        words = f"HTTP {reply.status} {self._findings.quote(reply.words)}" if not is_cancelled else "accepted"
        self._judge("cancel.route", words, holds=True if is_cancelled else (False if was_pending else None))
        task = self._finish(bought, is_cancelled=is_cancelled)
        if is_cancelled and is_ended(task):
            # [? 2026-11] The sandbox assumes that the task has failed and costs nothing.
            consumed = usage_points(task, "consume")
            detail = f"{self._findings.quote(task.get('status'))}, consume {consumed}"
            self._judge("cancel.refund", detail, holds=status_of(task) == "failed" and consumed == 0)

    def _check_history(self) -> None:
        """Look for the first task in the history."""
        if not self._purchases.bought:
            return
        first = self._purchases.bought[0]
        query = {"page": 1, "page_size": 10, "model": first.purchase.product.history_model}
        waited_s = 0.0
        for pause_s in _HISTORY_PAUSES_S:
            self._service.sleep(pause_s)
            waited_s += pause_s
            try:
                rows = rows_of(self._service.call("GET", "/api/open/tasks/histories", query=query))
            except NoReplyError:
                continue
            if first.task_id in [row_field(row, "task_id") for row in rows]:
                judge_order(self._findings, rows)
                self._judge("history.order", "a new task is listed", holds=True)
                return
        self._judge(
            "history.order", f"a new task is not listed under {query['model']} after {waited_s:g} s", holds=False
        )

    def _check_charges(self, points_before: int | None) -> None:
        consumed = [bought.consumed_points for bought in self._purchases.bought]
        points_after = self._read_balance_points() if consumed else None
        if points_before is None or points_after is None or None in consumed:
            self._judge("money.truth", "the balance or a charge could not be read", holds=None)
            return
        charged, fell = sum(points or 0 for points in consumed), points_before - points_after
        same = "the balance fell by what was consumed"
        other = f"consumed {charged} points, but the balance fell by {fell} (other tasks may have run meanwhile)"
        self._judge("money.truth", same if charged == fell else other, holds=charged == fell)

    def _judge_echoed_mark(self, bought: BoughtTask) -> None:
        if self._purchases.mark is None:
            return
        if not bought.task:
            self._judge("service.mark", "accepted, but the task could not be read", holds=None)
            return
        webhook = as_object(as_object(bought.task.get("config")).get("webhook_config"))
        is_echoed = webhook.get("secret") == self._purchases.mark
        self._judge("service.mark", "accepted and echoed" if is_echoed else "accepted, not echoed", holds=is_echoed)
        self._judge("read.secret", "echoed" if is_echoed else list_names(webhook), holds=is_echoed)

    def _finish(self, bought: BoughtTask, *, is_cancelled: bool = False) -> Json:
        """Wait for the end, count what was charged, and judge how the task ended."""
        task = self._service.wait_for_end(bought.task_id, bought.task)
        frozen = bought.frozen_points
        if frozen is not None:
            self._judge(
                "money.frozen", "frozen at creation" if frozen else "frozen is 0 after creation", holds=frozen > 0
            )
        self._purchases.count(bought, task)
        if not is_ended(task):
            self._findings.note(f"{bought.purchase.name} had not ended when the run stopped waiting.")
        if status_of(task) == "failed":
            judge_refund(self._findings, task)
        if not is_cancelled and status_of(task) == "failed":
            error = as_object(task.get("error"))
            said = self._findings.quote(error.get("raw_message") or error.get("message"))
            self._judge("service.toolkits", f"{bought.purchase.name} failed: {said}", holds=False)
        products = {done.purchase.product for done in self._purchases.bought if done.consumed_points}
        if products == {IMAGE_UPSCALE, VIDEO_UPSCALE}:
            self._judge("service.toolkits", "both upscaled", holds=True)
        return task

    def _judge_image_price(self, bought: BoughtTask) -> None:
        points = _frozen_points(bought)
        if not points:
            return
        output_points = _list_image_points(_IMAGE_SIDE_PX * _IMAGE_SCALE)
        input_points = _list_image_points(_IMAGE_SIDE_PX)
        is_listed = points in (output_points, input_points)
        detail = f"{points} points; listed: {input_points} by the input, {output_points} by the output"
        self._judge("image.price", "as listed" if is_listed else detail, holds=is_listed)
        if is_listed:  # [? 2026-11] The sandbox assumes the output's.
            is_output = points == output_points
            self._judge("image.price_basis", f"the {'output' if is_output else 'input'}'s megapixels", holds=is_output)

    def _check_result(
        self, task: Json, belief: str, names: tuple[str, ...], measure: Callable[[bytes], tuple[int, int]]
    ) -> tuple[int, int] | None:
        """Get the result without the key, and return its width and height."""
        if status_of(task) != "completed":
            return None
        output = as_object(task.get("output"))
        name = next((name for name in names if isinstance(output.get(name), str) and output[name]), None)
        self._judge(belief, name or list_names(output), holds=name is not None)
        if name is None:
            return None
        try:
            is_inline = name == "image_base64"
            link = output[name]
            size = measure(base64.b64decode(link) if is_inline else fetch_result(link, self._service.base_url))
        except ValueError as error:
            self._judge(
                "read.image_output" if name == "image_base64" else "storage.link", f"{name}: {error}", holds=False
            )
            return None
        if not is_inline:
            self._judge("storage.link", f"{name}: the file, without the key", holds=True)
        return size

    def _judge_size(self, belief: str, size: tuple[int, int] | None, expected_px: int) -> None:
        if size is not None:
            holds = size == (expected_px, expected_px)
            self._judge(belief, f"{size[0]}x{size[1]} px, expected {expected_px}x{expected_px} px", holds=holds)


def _frozen_points(bought: BoughtTask) -> int | None:
    """Return the price at creation; if that was not shown, what was consumed in the end."""
    return bought.frozen_points or bought.consumed_points


def _list_image_points(side_px: int) -> int:
    return int(IMAGE_USD_PER_MEGAPIXEL * POINTS_PER_USD * side_px**2 / 1_000_000)


def _image_purchase(name: str, side_px: int) -> PlannedTask:
    task_input = {
        "image": base64.b64encode(make_image(side_px)).decode(),
        "scale": _IMAGE_SCALE,
        "face_enhance": False,
    }
    # A megapixel: less is upscaled, but only whole ones may be charged.
    return PlannedTask(name, IMAGE_UPSCALE, task_input, IMAGE_USD_PER_MEGAPIXEL)
