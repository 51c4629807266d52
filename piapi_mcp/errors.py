"""Every failure that a caller of this project can meet.

Each text says, in short sentences: what was wrong, what is allowed, what to do next, and what happened to the money.

    PiAPIError
      SettingsError             a setting is wrong; the server does not start
      InputRejectedError        an argument or a file was refused here; nothing was submitted
      BudgetError               it costs more than the caller or the operator allows; nothing was submitted
      LedgerError               the ledger cannot be read or written; nothing was submitted
        TaskIdConflictError       the task id is recorded for another submission
      RefusedError              PiAPI said no
        UnauthorizedError         the key is missing or was not accepted
        InsufficientCreditError   the account cannot pay for it
        RateLimitedError          too much at once; try again later
        ServiceWithdrawnError     the service is no longer offered
        UnknownTaskError          there is no such task for this key
      UnreachableError          no usable answer, and certainly nothing bought
      ResultError               a result is not what it should be, or cannot be written; nothing was bought
      OutcomeUnknownError       no usable answer to a submission: it may have been bought
"""


class PiAPIError(Exception):
    """Base of every error that this project raises on purpose."""


class SettingsError(PiAPIError):
    """A setting cannot be used."""


class InputRejectedError(PiAPIError):
    """What the caller gave was refused before anything was submitted."""


class BudgetError(PiAPIError):
    """It would cost more than the caller or the operator allows."""


class LedgerError(PiAPIError):
    """The ledger cannot be read or written."""


class TaskIdConflictError(LedgerError):
    """The task id is recorded for another submission."""


class RefusedError(PiAPIError):
    """PiAPI answered, and said no."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        """HTTP status of the reply, or the envelope's own code where that differs."""


class UnauthorizedError(RefusedError):
    """No PiAPI key is set, or PiAPI did not accept it."""


class InsufficientCreditError(RefusedError):
    """The account's balance does not cover the task."""


class RateLimitedError(RefusedError):
    """Too many requests or too many running tasks for the account's plan."""

    def __init__(self, text: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(text, status=status)
        self.retry_after_s = retry_after_s
        """Seconds that PiAPI asked to wait; None when it did not say."""


class ServiceWithdrawnError(RefusedError):
    """PiAPI no longer offers the service."""


class UnknownTaskError(RefusedError):
    """PiAPI shows no task of that id to this key."""


class UnreachableError(PiAPIError):
    """PiAPI gave no usable answer; certainly nothing was bought by this request."""


class ResultError(PiAPIError):
    """A finished task's result cannot be saved."""


class OutcomeUnknownError(PiAPIError):
    """A submission got no usable answer: PiAPI may have accepted and charged it."""

    def __init__(self, text: str, *, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason
        """What happened to the request, in a few words."""
