"""The beliefs of docs/piapi-facts.md, and what a run of `piapi-mcp verify` found about each of them."""

import re
from dataclasses import dataclass, field
from typing import Literal

from piapi_mcp.formatting import quote

Status = Literal["seen", "contradicted", "untested"]

_FREE = "no reply showed it"
_PAID = "needs a purchase, see --spend"
_MIDJOURNEY = "no Midjourney task is bought"
_SMALLEST = "only the smallest inputs are bought"
_WEBHOOK = "needs a public receiver"
_OTHER_HOST = "only the base URL and the links of results are contacted"
_SITUATION = "cannot be brought about at will"
_DAYS = "takes longer than a run"
_TESTABLE = (_FREE, _PAID)

BELIEFS: dict[str, dict[str, str]] = {
    "State of the service": {
        "service.toolkits": _PAID,
        "service.midjourney": "a web page says so, not the API",
        "service.midjourney_refusal": _FREE,
        "service.no_idempotency": "nothing is bought twice",
        "service.mark": _PAID,
        "service.date": _FREE,
    },
    "Creating a task": {
        "create.route": _FREE,
        "create.body": _PAID,
        "create.service_mode": _MIDJOURNEY,
        "create.envelope": _PAID,
        "create.bare_task_id": "no reply was a bare task id",
        "create.code": _FREE,
        "create.failures": _FREE,
        "create.not_json": _FREE,
        "create.refusal_place": _FREE,
        "create.no_credit": _SITUATION,
        "create.plan_limit": _SITUATION,
        "create.bad_key": _FREE,
        "create.too_large": "needs an upload of more than 10 MB",
        "create.bad_media": _FREE,
        "create.task_id": _FREE,
    },
    "Midjourney upscale": {
        "midjourney.index": _FREE,
        "midjourney.parent": _MIDJOURNEY,
        "midjourney.actions": _MIDJOURNEY,
        "midjourney.action_names": _FREE,
        "midjourney.price": _MIDJOURNEY,
        "midjourney.follow_ups": _MIDJOURNEY,
    },
    "Video upscale": {
        "video.model": _PAID,
        "video.size": _SMALLEST,
        "video.portrait": _SMALLEST,
        "video.frames": _SMALLEST,
        "video.frame_count": _SMALLEST,
        "video.bytes": _SMALLEST,
        "video.megabyte": _SMALLEST,
        "video.codec": _SMALLEST,
        "video.scale": _PAID,
        "video.price": _PAID,
    },
    "Image upscale": {
        "image.model": _PAID,
        "image.scale": _FREE,
        "image.size": _SMALLEST,
        "image.bytes": _SMALLEST,
        "image.price": _PAID,
        "image.price_basis": _PAID,
    },
    "Reading a task": {
        "read.route": _FREE,
        "read.status": _FREE,
        "read.staged": _SITUATION,
        "read.midjourney_output": _FREE,
        "read.video_output": _PAID,
        "read.image_output": _PAID,
        "read.times": _FREE,
        "read.logs": _FREE,
        "read.error": _FREE,
        "read.secret": _PAID,
        "read.unknown_task": _FREE,
        "read.lifetime": _FREE,
        "read.echo": _PAID,
    },
    "Money": {
        "money.points": _FREE,
        "money.frozen": _PAID,
        "money.refund": _PAID,
        "money.truth": _PAID,
    },
    "Other endpoints": {
        "cancel.route": _PAID,
        "cancel.products": _MIDJOURNEY,
        "cancel.refund": _PAID,
        "account.info": _FREE,
        "account.id": _FREE,
        "history.route": _FREE,
        "history.spelling": _FREE,
        "history.output": _FREE,
        "history.order": _FREE,
        "upload.route": _OTHER_HOST,
        "upload.url": _OTHER_HOST,
    },
    "Webhooks": {
        "webhook.body": _WEBHOOK,
        "webhook.secret": _WEBHOOK,
        "webhook.delivery": _WEBHOOK,
    },
    "Storage and polling": {
        "storage.lifetime": _DAYS,
        "storage.page": _SITUATION,
        "storage.link": _PAID,
        "poll.limits": _FREE,
        "poll.deadline": "concerns the client, not the API",
    },
}
"""Every belief by its id, below its heading of docs/piapi-facts.md: why it is untested as long as nothing was found."""

NEVER_TESTED = {belief for group in BELIEFS.values() for belief, reason in group.items() if reason not in _TESTABLE}
"""Beliefs that a run does not test; some of them are seen if the service happens to show them."""

_STRENGTH: tuple[Status, ...] = ("untested", "seen", "contradicted")
_MAX_DETAILS = 6
_MIN_SECRET_CHARS = 3
_MAX_DETAIL_CHARS = 300
_MAX_SEARCHED_CHARS = 1000
_PRIVATE = re.compile(r"[a-z][a-z0-9+.-]*://\S*|[\w.+-]+@[\w-]+\.[\w.-]+", re.IGNORECASE)
"""Addresses, which may be signed, and e-mail addresses."""


@dataclass(frozen=True)
class Finding:
    """What was found about one belief."""

    belief: str
    group: str
    status: Status
    detail: str
    """What was seen, what was seen instead, or why nothing was."""


@dataclass
class Findings:
    """Collects what is found; nothing that is private gets in."""

    secrets: list[str] = field(default_factory=list[str])
    """What must not appear: the key, the name of the account, our marks."""
    notes: list[str] = field(default_factory=list[str])
    """What a reader must know besides, such as a purchase whose answer was lost."""
    _found: dict[str, tuple[Status, list[str]]] = field(default_factory=dict[str, tuple[Status, list[str]]])

    def judge(self, belief: str, detail: str, *, holds: bool | None) -> None:
        """Record that *belief* was seen, contradicted, or (None) not tested, with what was seen in *detail*.

        A contradiction outweighs what was seen, which outweighs what was not tested.
        """
        if not any(belief in group for group in BELIEFS.values()):
            raise KeyError(belief)
        status: Status = "untested" if holds is None else "seen" if holds else "contradicted"
        before, details = self._found.get(belief, ("untested", []))
        if _STRENGTH.index(status) > _STRENGTH.index(before):
            details = []
        elif status != before:
            return
        clean = self.clean(detail)
        self._found[belief] = status, details if clean in details else [*details, clean][:_MAX_DETAILS]

    def note(self, text: str) -> None:
        """Record a remark for the reader."""
        self.notes.append(self.clean(text))

    def clean(self, text: str) -> str:
        """Return *text* on one line, without secrets and addresses."""
        for secret in self.secrets:
            if len(secret) >= _MIN_SECRET_CHARS:
                text = text.replace(secret, "[redacted]")
        line = " ".join(_PRIVATE.sub("[address]", text[:_MAX_SEARCHED_CHARS]).split())
        return "".join(c for c in line if c.isprintable())[:_MAX_DETAIL_CHARS]

    def quote(self, text: object) -> str:
        """Return the service's words in quotes; secrets go before the words are cut, so that no part of one is left."""
        return quote(self.clean(str(text)))

    def all(self) -> list[Finding]:
        """Return a finding for every belief, in the order of the page."""
        return [
            Finding(belief, group, status, "; ".join(details))
            for group, reasons in BELIEFS.items()
            for belief, reason in reasons.items()
            for status, details in [self._found.get(belief, ("untested", [reason]))]
        ]
