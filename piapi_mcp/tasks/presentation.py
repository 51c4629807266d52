"""Turns tasks into what agents read: the state, the price, and the next step."""

from piapi_mcp.formatting import dollars
from piapi_mcp.piapi.catalog import RESULTS_KEPT_DAYS
from piapi_mcp.piapi.models import COMPLETED, RemoteTask
from piapi_mcp.tasks.models import Task
from piapi_mcp.tasks.pricing import Quote
from piapi_mcp.tasks.submission import SubmittedTask


def describe_dry_run(quote: Quote, *, is_replay: bool) -> Task:
    """Return the answer to a dry run; *is_replay* says whether the request would be answered with an earlier task."""
    if is_replay:
        next_step = (
            "The same request was submitted before: without dry_run it answers with that task and costs nothing more."
        )
    else:
        next_step = f"Nothing was bought; {_price(quote)}. Call again without dry_run to buy it."
    return Task(
        status="dry_run",
        quoted_usd=None if quote.is_upper_bound else quote.usd,
        at_most_usd=quote.usd if quote.is_upper_bound else None,
        notes=list(quote.notes) or None,
        next_step=next_step,
    )


def _price(quote: Quote) -> str:
    if quote.usd is None:
        return f"the price is not known ({quote.unknown_because})"
    return f"it would cost {'at most ' if quote.is_upper_bound else ''}{dollars(quote.usd)}"


def describe_submitted(submitted: SubmittedTask, *, can_save: bool) -> Task:
    """Return a task that was submitted, now or before, as agents read it."""
    task = describe_task(submitted.task, can_save=can_save, notes=submitted.notes)
    price = "at_most_usd" if submitted.is_upper_bound else "quoted_usd"
    return task.model_copy(update={"bought_now": submitted.bought_now, price: submitted.quoted_usd})


def describe_task(remote: RemoteTask, *, can_save: bool, notes: tuple[str, ...] = ()) -> Task:
    """Return a task as agents read it; *can_save* says whether save_result is offered."""
    return Task(
        task_id=remote.task_id,
        status=remote.status,
        progress_percent=remote.progress_percent,
        result_urls=list(remote.result_urls) or None,
        frozen_usd=None if remote.is_done else remote.frozen_usd,
        # While a task runs, PiAPI may still give back what it calls consumed.
        charged_usd=remote.consumed_usd if remote.is_done else None,
        error=remote.error,
        logs=list(remote.logs) or None,
        notes=list(notes) or None,
        created_at=remote.created_at,
        started_at=remote.started_at,
        ended_at=remote.ended_at,
        next_step=_next_step(remote, can_save=can_save),
    )


def describe_refund(task: RemoteTask) -> str:
    """Return what PiAPI shows of the price of a task that was just cancelled."""
    # [? 2026-11] what becomes of the price of a cancelled task is not documented
    if task.consumed_usd is not None and not task.consumed_usd:
        return "PiAPI accepted the cancellation and shows no charge."
    shown = "no amount" if task.consumed_usd is None else dollars(task.consumed_usd)
    return f"PiAPI accepted the cancellation; as the charge it shows {shown} so far. get_account shows the balance."


def _next_step(remote: RemoteTask, *, can_save: bool) -> str:
    if remote.status == COMPLETED:
        return _next_step_when_completed(remote, can_save=can_save)
    if remote.is_cancelled:
        return "It was cancelled. Submit again only if the user still wants it."
    if remote.has_failed and remote.consumed_usd:
        return f"It failed, and PiAPI shows a charge of {dollars(remote.consumed_usd)}: tell the user error and logs."
    if remote.has_failed:
        return "It failed and was not charged: tell the user error and logs; fix the cause before submitting again."
    return "It is running: call get_task with this task_id until it has ended; do not submit again."


def _next_step_when_completed(remote: RemoteTask, *, can_save: bool) -> str:
    deletion = f"PiAPI deletes results after about {RESULTS_KEPT_DAYS} days"
    if remote.result_urls and can_save:
        return f"Give the user the links in result_urls, and call save_result if they want the files: {deletion}."
    if remote.result_urls:
        return f"Give the user the links in result_urls, to be downloaded soon: {deletion}."
    if remote.result_base64 and can_save:
        return f"Call save_result to write the result to the user's disk: {deletion}."
    if remote.result_base64:
        return "PiAPI gave no link to the result: tell the user to download it in PiAPI's workspace."
    return "PiAPI reports it as completed but gave no result yet: call get_task again in some seconds."
