"""The bodies of replies: the envelope, tasks and rows of the history, in the forms that the settings select."""

from typing import Any

from starlette.responses import JSONResponse, Response

from piapi_mcp.sandbox.state import Settings, Task

# [D/C 2026-11] user task history page
HISTORY_NAMES = {"midjourney": "mj", "Qubico/video-toolkit": "video_toolkit", "Qubico/image-toolkit": "image_toolkit"}


def task_json(task: Task, settings: Settings) -> dict[str, Any]:
    """Return *task* as replies and webhooks show it."""
    # [D/R 2026-11] the fields of a task. [R 2026-11] The statuses are in lower case, and `logs` are strings.
    echo_of_config = {} if settings.config_echo == "none" else {"config": dict(task.config)}
    return {
        "task_id": task.task_id,
        "model": task.model,
        "task_type": task.task_type,
        "status": task.status.capitalize() if settings.capitalised else task.status,
        **echo_of_config,  # [R 2026-11] with the secret
        "input": dict(task.task_input) if settings.input_echo == "full" else {},  # [D 2024-10] the example is empty
        "output": None if settings.null_outputs else _output_json(task),
        "meta": {
            "created_at": task.created_at,
            "started_at": task.started_at,
            "ended_at": task.ended_at,
            "usage": {
                "type": "point",
                "frozen": task.price_points if settings.frozen_points is None else settings.frozen_points,
                "consume": _reported_charge_points(task, settings),
            },
            "is_using_private_pool": False,
        },
        "detail": None,
        "logs": list(task.logs),
        "error": {"code": 0, "raw_message": "", "message": "", "detail": None} | task.error,
    }


def _reported_charge_points(task: Task, settings: Settings) -> int:
    if task.status == "completed" and settings.consumed_points is not None:
        return settings.consumed_points
    return task.consumed_points if task.is_done else task.price_points


def _output_json(task: Task) -> dict[str, Any] | None:
    if task.model != "midjourney":
        return dict(task.output) or None
    # [R 2026-11] captured replies: `image_urls` is null, and an upscaled image has no `temporary_image_urls`
    return {
        "image_url": task.output.get("image_url", ""),
        "image_urls": None,
        "temporary_image_urls": task.output.get("temporary_image_urls"),
        "discord_image_url": "",
        "actions": list(task.actions) if task.status == "completed" else [],
        "progress": task.progress,
        "intermediate_image_urls": None,
    }


def history_row(task: Task, settings: Settings) -> dict[str, Any]:
    """Return *task* as a row of the history."""
    row = {
        "task_id": task.task_id,
        "task_model": HISTORY_NAMES[task.model],
        "action": task.task_type,
        "service_mode": task.config.get("service_mode") or "public",
        "status": task.status,
        "usage": _reported_charge_points(task, settings),
        "created_at": task.created_at,
        "updated_at": task.ended_at,
    }
    return {_to_camel_case(name): value for name, value in row.items()} if settings.camel_case_history else row


def _to_camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def success_response(data: dict[str, Any]) -> Response:
    """Return *data* in the envelope of an accepted request."""
    return JSONResponse({"code": 200, "data": data, "message": "success"})


def error_response(text: str, status: int) -> Response:
    """Return a refusal in PiAPI's envelope; its code is the HTTP *status*."""
    return JSONResponse({"code": status, "data": None, "message": text}, status)
