"""What can be submitted: which fields, which limits, which price; a refusal is the text that PiAPI would answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from piapi_mcp.sandbox import media_jobs as work
from piapi_mcp.sandbox.state import POINTS_PER_USD, Task, World, new_task_id

_VIDEO_POINTS_PER_FRAME = 3 * POINTS_PER_USD // 10_000  # [D] video upscale page: $0.0003
_IMAGE_POINTS_PER_MEGAPIXEL = POINTS_PER_USD // 1000  # [D] image upscale page; that the result counts is assumed
_MIDJOURNEY_POINTS = POINTS_PER_USD // 100  # assumed
_FRAMES_WITHOUT_WORK = 60
_SIDE_WITHOUT_WORK_PX = 500

_ACTION_OF_INDEX = {str(n): f"upscale{n}" for n in range(1, 5)} | {
    name: f"upscale_{name}" for name in ("light", "beta", "2x", "4x", "subtle", "creative")
}


class RefusedError(Exception):
    """The submission is refused."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Accepted:
    """A submission that may become a task."""

    price_points: int
    job: work.Job
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    suffix: str = ".png"
    parent: Task | None = None


def check(world: World, key: str, body: Mapping[str, Any], facts: Mapping[str, Any] | None) -> Accepted:
    """Check a submission; *facts* tell what the file is that came with it, and are empty where no work is done.

    Raises:
        RefusedError: PiAPI would refuse it.
    """
    refuse_unknown(body, {"model", "task_type", "input", "config"}, "request")
    _check_config(_object(body, "config"))
    task_input = _object(body, "input")
    match body.get("model"), body.get("task_type"):
        case "midjourney", "upscale":
            return _check_midjourney(world, key, task_input)
        case "Qubico/video-toolkit", "upscale":
            return _check_video(task_input, facts)
        case "Qubico/image-toolkit", "upscale":
            return _check_image(task_input, facts)
        case _:
            raise RefusedError("model or task_type is not supported")


def media_kind(body: Mapping[str, Any]) -> str | None:
    """Return what a submission brings, "video" or "image", which is also the name of its field."""
    return {"Qubico/video-toolkit": "video", "Qubico/image-toolkit": "image"}.get(str(body.get("model")))


def _object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the object that is *name* in *body*; empty if it is absent or null."""
    value: object = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RefusedError(f"{name} must be an object")
    return cast("dict[str, Any]", value)


def _check_config(config: Mapping[str, Any]) -> None:
    refuse_unknown(config, {"service_mode", "webhook_config"}, "config")
    if config.get("service_mode", "") not in ("", "public", "private"):
        raise RefusedError("service_mode must be public or private")
    webhook = _object(config, "webhook_config")
    refuse_unknown(webhook, {"endpoint", "secret"}, "webhook_config")
    endpoint, secret = webhook.get("endpoint", ""), webhook.get("secret", "")
    if not isinstance(endpoint, str) or not isinstance(secret, str):
        raise RefusedError("endpoint and secret must be strings")
    if endpoint and not _is_web_address(endpoint):
        raise RefusedError("endpoint must be a URL")


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _check_midjourney(world: World, key: str, task_input: Mapping[str, Any]) -> Accepted:
    if world.settings.midjourney_withdrawn:
        raise RefusedError("model midjourney is no longer supported")
    refuse_unknown(task_input, {"origin_task_id", "index"}, "input")
    index, parent = task_input.get("index"), world.task(key, str(task_input.get("origin_task_id")))
    if not isinstance(index, str) or index not in _ACTION_OF_INDEX:
        raise RefusedError("invalid index")
    if parent is None or parent.model != "midjourney":
        raise RefusedError("origin task not found")
    if parent.status != "completed":
        raise RefusedError("origin task is not finished")
    if _ACTION_OF_INDEX[index] not in parent.actions:
        raise RefusedError(f"index {index} is not available for the origin task")
    if parent.is_grid:
        return Accepted(_MIDJOURNEY_POINTS, "crop_quadrant", {"number": int(index)}, parent=parent)
    return Accepted(_MIDJOURNEY_POINTS, "enlarge", {"factor": 4 if index == "4x" else 2}, parent=parent)


def _check_video(task_input: Mapping[str, Any], facts: Mapping[str, Any] | None) -> Accepted:
    refuse_unknown(task_input, {"video"}, "input")
    if facts is None:
        raise RefusedError("video is required")
    frames = facts.get("frames", _FRAMES_WITHOUT_WORK)
    if facts.get("format", "MP4") != "MP4":
        raise RefusedError("failed to get valid video")
    if facts.get("width", 0) > 1280 or facts.get("height", 0) > 720:  # noqa: PLR2004 -- documented: maximum 720p
        raise RefusedError("video resolution is over 1280x720")
    if not 10 <= frames <= 240:  # noqa: PLR2004 -- documented: between 10 and 240
        raise RefusedError("video must have between 10 and 240 frames")
    return Accepted(frames * _VIDEO_POINTS_PER_FRAME, "upscale_video", suffix=".mp4")


def _check_image(task_input: Mapping[str, Any], facts: Mapping[str, Any] | None) -> Accepted:
    refuse_unknown(task_input, {"image", "scale", "face_enhance"}, "input")
    scale = task_input.get("scale", 2)
    if type(scale) is not int or scale not in (2, 4, 8) or not isinstance(task_input.get("face_enhance", False), bool):
        raise RefusedError("scale must be 2, 4 or 8, face_enhance a boolean")
    if facts is None:
        raise RefusedError("image is required")
    if facts.get("format", "PNG") not in ("JPEG", "PNG"):
        raise RefusedError("failed to get valid image")
    width, height = facts.get("width", _SIDE_WITHOUT_WORK_PX), facts.get("height", _SIDE_WITHOUT_WORK_PX)
    if max(width, height) > 2048:  # noqa: PLR2004 -- documented
        raise RefusedError("image is over 2048x2048")
    points = width * height * scale * scale * _IMAGE_POINTS_PER_MEGAPIXEL // 1_000_000
    return Accepted(points, "enlarge", {"factor": scale})


def refuse_unknown(given: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse what is not documented: it is a mistake of the caller.

    Raises:
        RefusedError: There is something else than *known*.
    """
    if unknown := set(given) - known:
        raise RefusedError(f"unknown field in {where}: {', '.join(sorted(unknown))}")


def new_task(body: Mapping[str, Any], key: str, accepted: Accepted) -> Task:
    """Return the task that a checked submission becomes; a file in its input is left out, a URL stays."""
    shown, kind = dict(body["input"]), media_kind(body)
    if kind is not None and not shown[kind].startswith(("http://", "https://")):
        shown[kind] = "<file>"
    return Task(
        task_id=new_task_id(),
        owner=key,
        model=body["model"],
        task_type=body["task_type"],
        task_input=shown,
        config=body.get("config") or {},
        price_points=accepted.price_points,
    )
