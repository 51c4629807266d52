"""The ledger's interface: a durable record of every submission, written to disk before its request is sent.

PiAPI has no idempotency keys, so the ledger is what keeps a paid task from being submitted twice or lost. It has one
row per submission and may be shared by several processes. Every change of state names the states it expects, so that
only one of several processes succeeds.

    submitting ─┬─> submitted ─┬─> done       the task id is known; the task completed, or failed
                │              └─> failed
                ├─> refused                   certainly not accepted by PiAPI
                └─> unknown ───> submitted    the outcome is unknown; the task may be found in PiAPI's history later

A process that submits holds a lease on its row and renews it. A row whose lease has expired is `unknown`: its process
died or was stopped, and the request may or may not have been sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol, get_args

State = Literal["submitting", "submitted", "done", "failed", "refused", "unknown"]
STATES: tuple[State, ...] = get_args(State)

REPLAY_WINDOW_S = 24 * 3600.0
"""How long the same request is answered with the task it became before, in seconds."""
LEASE_S = 2.5
"""How long a row is leased to the process that submits it, unless the lease is renewed, in seconds."""


@dataclass(frozen=True)
class NewSubmission:
    """What the ledger is to know of a request before it is sent."""

    fingerprint: str
    """Digest of everything that makes two requests the same; contains no media."""
    model: str
    task_type: str
    summary: str
    """The request in a few words, for a person."""
    input_digests: Mapping[str, str]
    """A digest of each field of the input; recovery recognises the task by them."""
    quoted_usd: Decimal | None
    """Price before buying, in US dollars; None where it is not known."""
    is_upper_bound: bool = False
    """Whether the task may cost less than `quoted_usd`."""
    expected_px: tuple[int, int] | None = None
    """Width and height that the result should have, where that is known."""
    mark: str | None = None
    """The token that the task carries in its `config`; None where it carries none."""
    earlier_fingerprint: str | None = None
    """Fingerprint of the same request as version 0.1 made it, for rows that it wrote."""


@dataclass(frozen=True)
class Submission:
    """One row of the ledger."""

    id: int
    fingerprint: str
    model: str
    task_type: str
    summary: str
    input_digests: Mapping[str, str]
    expected_px: tuple[int, int] | None
    state: State
    attempt: int
    """1 for the first submission of this request, 2 for the second."""
    quoted_usd: Decimal | None
    is_upper_bound: bool
    frozen_usd: Decimal | None
    """The price that PiAPI reserved when it accepted the task; None until it reports one."""
    charged_usd: Decimal | None
    """What PiAPI charged; None until the task has ended."""
    mark: str | None
    task_id: str | None
    created_at: float
    """When the row was written, in Unix seconds."""
    lease_until: float
    """When the lease ends unless it is renewed, in seconds of the ledger's steady clock."""

    @property
    def cost_usd(self) -> Decimal | None:
        """What the task costs or may cost, in US dollars; None where no price is known.

        Until the charge is known, the higher of quote and frozen price: neither makes the other untrue.
        """
        if self.charged_usd is not None:
            return self.charged_usd
        prices = [price for price in (self.quoted_usd, self.frozen_usd) if price is not None]
        return max(prices) if prices else None


@dataclass(frozen=True)
class New:
    """The request was not submitted before: the row is written and leased to the caller, who must submit it."""

    submission: Submission


@dataclass(frozen=True)
class UnderWay:
    """Another call or process is submitting the same request and holds the lease."""

    submission: Submission


@dataclass(frozen=True)
class BoughtBefore:
    """The same request became a task before, which has not failed as far as the ledger knows."""

    submission: Submission
    is_recent: bool = True
    """Whether it was submitted within the replay window."""


@dataclass(frozen=True)
class OutcomeUnknown:
    """The same request was submitted before, and whether PiAPI accepted it is unknown."""

    submission: Submission


@dataclass(frozen=True)
class Refused:
    """A new submission is not allowed; nothing was written."""

    reason: str
    """As `Admit` returned it."""


Claim = New | UnderWay | BoughtBefore | OutcomeUnknown | Refused
"""The outcome of asking to submit a request."""

Admit = Callable[[Decimal], str | None]
"""Decides on a new submission, given what today's submissions cost in US dollars; returns why not, or None."""


class Ledger(Protocol):
    """The submissions of one account.

    Every method raises `LedgerError` where the ledger cannot be read or written. The methods that change a row return
    whether they did: False means that another call or process changed its state first.
    """

    async def claim(self, new: NewSubmission, *, admit: Admit, repeat: bool = False) -> Claim:
        """Write *new* down as being submitted, unless the same request is recorded already.

        Args:
            new: What is to be submitted.
            admit: Called in the same transaction, and only for a submission that would be new.
            repeat: Submit it even if the same request was submitted before.
        """
        ...

    async def renew(self, submission_id: int) -> bool:
        """Extend the lease of a submission; False means that it is no longer the caller's to submit."""
        ...

    async def record_task(self, submission_id: int, task_id: str, *, frozen_usd: Decimal | None = None) -> bool:
        """Record the task that a submission became, and the price that PiAPI froze for it, where known.

        Returns whether the task is recorded for it, now or before.

        Raises:
            TaskIdConflictError: The task id is recorded for another submission, of any account.
        """
        ...

    async def record_refusal(self, submission_id: int) -> bool:
        """Record that a submission was certainly not accepted."""
        ...

    async def record_unknown(self, submission_id: int) -> bool:
        """Record that the outcome of a submission is unknown."""
        ...

    async def record_end(self, task_id: str, *, failed: bool, charged_usd: Decimal | None) -> bool:
        """Record how a task ended and what it cost, also where that changes later.

        A task that was not submitted here changes nothing.
        """
        ...

    async def expire_leases(self) -> None:
        """Mark every submission as unknown whose lease has expired."""
        ...

    async def find_by_task(self, task_id: str) -> Submission | None:
        """Return the submission that became the task *task_id*."""
        ...

    async def find_by_mark(self, mark: str) -> Submission | None:
        """Return the submission that carries *mark*."""
        ...

    async def find_by_request(self, fingerprint: str) -> Submission | None:
        """Return the submission that a claim of the request would find.

        That is the newest that became a task, else the newest whose outcome is open or unknown. Only a task that has
        completed is forgotten after the replay window.
        """
        ...

    async def recent(self, *, limit: int, states: tuple[State, ...] = STATES) -> list[Submission]:
        """Return the newest submissions in one of *states*, newest first."""
        ...

    async def spent_today_usd(self) -> Decimal:
        """Return what today's (UTC) submissions cost or may cost, in US dollars; an unknown price counts as 0."""
        ...

    async def is_account_known(self) -> bool:
        """Whether the account is identified by PiAPI's own id."""
        ...

    async def set_account(self, account_id: str) -> None:
        """Identify the account by PiAPI's own id of it, from now on and for the submissions made so far."""
        ...

    async def close(self) -> None:
        """Release what the ledger holds open."""
        ...
