"""Every error that this project raises on purpose.

Each text says, in short sentences: what was wrong, what is allowed, what to do next, and what happened to the money.

    PiAPIError
      SettingsError             a setting is not valid; the server does not start
      InputRejectedError        an argument or a file was rejected before submission; nothing was submitted
      BudgetError               the task costs more than the caller or the operator allows; nothing was submitted
      LedgerError               the ledger cannot be read or written; nothing was submitted
        TaskIdConflictError       PiAPI returned a task id that the ledger has for another submission
      RefusedError              PiAPI refused the request
        UnauthorizedError         the key is missing or PiAPI did not accept it
        InsufficientCreditError   the account's balance does not cover the task
        RateLimitedError          too many requests or running tasks; try again later
        ServiceWithdrawnError     PiAPI no longer offers the service
        UnknownTaskError          this key has no task with that id
      UnreachableError          PiAPI gave no usable answer, and this request certainly bought nothing
      ResultError               a result is damaged or cannot be saved; nothing was bought
      OutcomeUnknownError       a submission got no usable answer: it may have been bought
"""


class PiAPIError(Exception):
    """Base class of every error that this project raises on purpose."""


class SettingsError(PiAPIError):
    """A setting is not valid."""


class InputRejectedError(PiAPIError):
    """The caller's input was rejected before anything was submitted."""


class BudgetError(PiAPIError):
    """The task would cost more than the caller or the operator allows."""


class LedgerError(PiAPIError):
    """The ledger cannot be read or written."""


class TaskIdConflictError(LedgerError):
    """The task id is already recorded for another submission."""


class RefusedError(PiAPIError):
    """PiAPI answered and refused the request."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        """HTTP status of the response, or the `code` in its body where the two differ."""


class UnauthorizedError(RefusedError):
    """No PiAPI key is set, or PiAPI did not accept it."""


class InsufficientCreditError(RefusedError):
    """The account's balance does not cover the task."""


class RateLimitedError(RefusedError):
    """The account has sent too many requests, or has too many running tasks for its plan."""

    def __init__(self, text: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(text, status=status)
        self.retry_after_s = retry_after_s
        """Seconds that PiAPI asked the client to wait; None when it did not say."""


class ServiceWithdrawnError(RefusedError):
    """PiAPI no longer offers the service."""


class UnknownTaskError(RefusedError):
    """PiAPI shows this key no task with that id."""


class UnreachableError(PiAPIError):
    """PiAPI gave no usable answer, and this request certainly bought nothing."""

    def __init__(self, text: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        """Seconds that the server asked the client to wait; None when it did not say."""


class ResultError(PiAPIError):
    """The result of a finished task cannot be saved."""


class OutcomeUnknownError(PiAPIError):
    """A submission got no usable answer: PiAPI may have accepted and charged it."""

    def __init__(self, text: str, *, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason
        """Why there was no usable answer, in a few words."""
