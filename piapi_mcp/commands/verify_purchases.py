"""The purchases of `piapi-mcp verify`: within a limit, each of them once, and what they cost."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from piapi_mcp.commands.verify_beliefs import Findings
from piapi_mcp.commands.verify_service import (
    Json,
    NoReplyError,
    Reply,
    Service,
    is_ended,
    judge_task,
    judge_task_id,
    list_names,
    status_of,
    usage_points,
)
from piapi_mcp.formatting import dollars
from piapi_mcp.piapi.catalog import POINTS_PER_USD, VIDEO_UPSCALE, Product

MIN_SPEND_USD = Decimal("0.01")
_UNCERTAIN_REFUSALS = {408, 409, 425}


class LostAnswerError(Exception):
    """A purchase got no usable answer: it may have been made."""


@dataclass(frozen=True)
class PlannedTask:
    """What is to be bought."""

    name: str
    product: Product
    task_input: Json
    at_most_usd: Decimal


@dataclass
class BoughtTask:
    """A task that was bought."""

    purchase: PlannedTask
    task_id: str
    usd: Decimal
    """What it counts: the higher of list price and frozen price, then what was charged."""
    consumed_points: int | None = None
    """What was charged, once the task has ended."""
    frozen_points: int | None = None
    """The price when it was created."""
    is_above_estimate: bool = False
    """Whether it costs more than was expected."""
    task: Json = field(default_factory=dict[str, Any])
    """As it was first read."""


class Purchases:
    """Buys what fits the limit, and nothing twice."""

    def __init__(
        self, service: Service, findings: Findings, *, limit_each_usd: Decimal | None, announce: Callable[[str], None]
    ) -> None:
        self._service = service
        self._findings = findings
        self._judge = findings.judge
        self._limit_each_usd = limit_each_usd
        self._announce = announce
        self.limit_usd = Decimal(0)
        """The most that all purchases together may cost."""
        self.other_usd = Decimal(0)
        """What was spent besides, and counts against the limit."""
        self.mark: str | None = f"piapi-mcp-{uuid4().hex}"
        """What is sent as the secret of a webhook without an endpoint; None once the service has refused it."""
        findings.secrets.append(self.mark)
        self.bought: list[BoughtTask] = []
        self.in_flight: PlannedTask | None = None
        """What is being bought: its answer has not come, or was lost."""

    @property
    def spent_usd(self) -> Decimal:
        """What was spent, or may have been."""
        lost_usd = self.in_flight.at_most_usd if self.in_flight else Decimal(0)
        return sum((bought.usd for bought in self.bought), self.other_usd + lost_usd)

    def buy(self, purchase: PlannedTask, *, is_read: bool = True) -> BoughtTask | None:
        """Buy, unless it does not fit or is refused; read the task once, as its echo may not be in the reply.

        Raises:
            LostAnswerError: Whether it was bought is unknown; nothing else may be bought.
        """
        left_usd = self.limit_usd - self.spent_usd
        if self._limit_each_usd is not None:
            left_usd = min(left_usd, self._limit_each_usd)
        if purchase.at_most_usd > left_usd:
            text = f"{purchase.name} was not bought: it may cost {dollars(purchase.at_most_usd)}"
            self._findings.note(f"{text}, and {dollars(max(left_usd, Decimal(0)))} may be spent.")
            return None
        self._announce(f"Buying {purchase.name}, at most {dollars(purchase.at_most_usd)}.")
        reply = self._submit_marked(purchase)
        if reply.task_id is None:
            self._judge_refusal(purchase, reply)
            return None
        bought = BoughtTask(purchase, reply.task_id, purchase.at_most_usd, task=reply.data)
        self.bought.append(bought)
        self.in_flight = None
        self._judge_created(purchase, reply)
        bought.frozen_points = usage_points(reply.data, "frozen")
        if is_read:
            try:
                bought.task = self._service.read_task(bought.task_id)
            except NoReplyError:
                bought.task = {}
        if bought.frozen_points is None:
            bought.frozen_points = usage_points(bought.task, "frozen")
        self.count(bought, bought.task)
        return bought

    def _submit_marked(self, purchase: PlannedTask) -> Reply:
        """Submit with the mark; if that is refused and the same without it is not, the mark was the reason."""
        reply = self._submit(purchase, self.mark)
        says_limit = any(words in reply.words.lower() for words in ("insufficient", "plan limit", "api key"))
        if reply.task_id or self.mark is None or self.bought or says_limit:
            return reply
        unmarked = self._submit(purchase, None)
        if unmarked.task_id:
            self._judge(
                "service.mark", f"refused: HTTP {reply.status} {self._findings.quote(reply.words)}", holds=False
            )
            self.mark = None
        return unmarked

    def _submit(self, purchase: PlannedTask, mark: str | None) -> Reply:
        """Send one request; return an acceptance or a certain refusal.

        Raises:
            LostAnswerError: Whether it was bought is unknown.
        """
        product = purchase.product
        body: Json = {"model": product.model, "task_type": product.task_type, "input": purchase.task_input}
        if mark:
            body["config"] = {"webhook_config": {"endpoint": "", "secret": mark}}
        self.in_flight = purchase
        try:
            reply = self._service.call("POST", "/api/v1/task", body=body)
        except NoReplyError as error:
            if not error.was_sent:
                self.in_flight = None
            raise LostAnswerError(str(error)) from None
        if reply.status < HTTPStatus.MULTIPLE_CHOICES and reply.task_id:
            return reply
        if not _is_certain_refusal(reply):
            raise LostAnswerError(f"HTTP {reply.status} {self._findings.quote(reply.words)}")
        self.in_flight = None
        return reply

    def _judge_created(self, purchase: PlannedTask, reply: Reply) -> None:
        kind = "video" if purchase.product == VIDEO_UPSCALE else "image"
        body = reply.json or {}
        has_envelope = body.get("code") == HTTPStatus.OK and "task_id" in reply.data
        if has_envelope:
            holds = body.get("message") == "success"
            message = "as documented" if holds else f"message {self._findings.quote(body.get('message'))}"
            self._judge("create.envelope", message, holds=holds)
            if reply.data.keys() >= {"meta", "logs", "error"}:
                judge_task(self._findings, reply.data)
        else:
            self._judge("create.envelope", f"{kind}: {list_names(body)}", holds=False)
            self._judge("create.bare_task_id", kind, holds=True)
        judge_task_id(self._findings, reply.task_id)
        self._judge("create.route", "it accepts a task", holds=True)
        self._judge(
            "create.body", "accepted with webhook_config" if self.mark else "accepted without config", holds=True
        )
        self._judge(f"{kind}.model", "accepted", holds=True)

    def _judge_refusal(self, purchase: PlannedTask, reply: Reply) -> None:
        said = f"HTTP {reply.status} {self._findings.quote(reply.words)}"
        self._findings.note(f"{purchase.name} was refused: {said}. Nothing was bought.")
        words = reply.words.lower()
        if "insufficient" in words:
            self._judge("create.no_credit", said, holds="insufficient credits" in words)
        elif "plan limit" in words:
            self._judge("create.plan_limit", said, holds=True)
        else:
            self._judge("video.model" if purchase.product == VIDEO_UPSCALE else "image.model", said, holds=False)
            self._judge("service.toolkits", f"{purchase.name} was refused", holds=False)

    def count(self, bought: BoughtTask, task: Json) -> None:
        """Count what *task* says it costs."""
        frozen, consumed = usage_points(task, "frozen"), usage_points(task, "consume")
        if is_ended(task) and consumed is not None:
            bought.consumed_points = consumed
            if consumed or status_of(task) != "completed":  # a result for nothing may still be charged later
                bought.usd = to_usd(consumed)
        elif frozen is not None:
            bought.usd = max(bought.usd, to_usd(frozen))
        if bought.usd > bought.purchase.at_most_usd and not bought.is_above_estimate:
            bought.is_above_estimate = True
            self._findings.note(f"{bought.purchase.name} costs {dollars(bought.usd)}, more than was expected.")


def _is_certain_refusal(reply: Reply) -> bool:
    """Return whether nothing was bought: a 4xx in the envelope; not one that may come from a proxy or a queue."""
    if reply.json is None or reply.task_id or not re.fullmatch("4..", str(reply.status)):
        return False
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "plan limit" in reply.words.lower()
    return reply.status not in _UNCERTAIN_REFUSALS and "code" in reply.json


def to_usd(points: int) -> Decimal:
    """Return *points* in US dollars."""
    return Decimal(points) / POINTS_PER_USD
