"""The products: which fields and limits a request must keep to, and its price."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from piapi_mcp.sandbox.media_jobs import MediaJob
from piapi_mcp.sandbox.state import POINTS_PER_USD, SandboxState, Settings, Task, new_task_id

# [D 2025-02] video upscale page: $0.0003 a frame
_VIDEO_POINTS_PER_FRAME = 3 * POINTS_PER_USD // 10_000
# [D 2026-11] image upscale page: $0.001 a megapixel. [? 2026-11] It does not say of which image; the result is assumed.
_IMAGE_POINTS_PER_MEGAPIXEL = POINTS_PER_USD // 1000
# [? 2026-11] PiAPI publishes no price of a Midjourney upscale; $0.01 is assumed.
_MIDJOURNEY_POINTS = POINTS_PER_USD // 100

# [D 2025-02] video upscale page
_MAX_VIDEO_WIDTH_PX = 1280
_MAX_VIDEO_HEIGHT_PX = 720
_MIN_VIDEO_FRAMES = 10
_MAX_VIDEO_FRAMES = 240

# [D 2026-11] image upscale page
_MAX_IMAGE_SIDE_PX = 2048
_SCALES = (2, 4, 8)
_DEFAULT_SCALE = 2

_PLACEHOLDER_FRAMES = 60
"""Frames of every video while the setting `does_work` is off."""
_PLACEHOLDER_SIDE_PX = 500
"""Width and height of every image while the setting `does_work` is off."""

# Indexes: [D 2024-10] Midjourney upscale page. Actions: [R 2026-11] of a grid, [C 2026-11] of an upscaled image,
# except light and beta, [I 2026-11] named like the others.
_ACTION_OF_INDEX = {str(n): f"upscale{n}" for n in range(1, 5)} | {
    name: f"upscale_{name}" for name in ("light", "beta", "2x", "4x", "subtle", "creative")
}


class RequestRefusedError(Exception):
    """The request is refused; the message and the status are those of the reply."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class AcceptedRequest:
    """A request that keeps to its product's limits: its price, and the work that it needs."""

    price_points: int
    job: MediaJob
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    """Arguments of the job besides source and target."""
    suffix: str = ".png"
    """Suffix of the result's file name."""
    parent: Task | None = None
    """The Midjourney task whose image is upscaled."""


def check_request(
    state: SandboxState, owner: str, body: Mapping[str, Any], media_info: Mapping[str, Any] | None
) -> AcceptedRequest:
    """Check a request for a task.

    Args:
        state: The accounts and tasks of the sandbox.
        owner: Name of the caller's account.
        body: The JSON object that was posted.
        media_info: The result of the probe of the request's media; None if it has no media, empty if media is not
            probed.

    Raises:
        RequestRefusedError: The request breaks a limit or has an unknown field.
    """
    refuse_unknown_fields(body, {"model", "task_type", "input", "config"}, "request")
    _check_config(_read_object(body, "config"), state.settings)
    task_input = _read_object(body, "input")
    match body.get("model"), body.get("task_type"):
        case "midjourney", "upscale":
            return _check_midjourney(state, owner, task_input)
        case "Qubico/video-toolkit", "upscale":
            return _check_video(task_input, media_info)
        case "Qubico/image-toolkit", "upscale":
            return _check_image(task_input, media_info)
        case _:
            raise RequestRefusedError("model or task_type is not supported")


def media_kind(body: Mapping[str, Any]) -> str | None:
    """Return the kind of media that a request carries: "video", "image" or None. It is also the name of its field."""
    return {"Qubico/video-toolkit": "video", "Qubico/image-toolkit": "image"}.get(str(body.get("model")))


def _read_object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the object in field *name* of *body*; empty if the field is absent or null."""
    value: object = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestRefusedError(f"{name} must be an object")
    return cast("dict[str, Any]", value)


def _check_config(config: Mapping[str, Any], settings: Settings) -> None:
    # [D 2026-11] the fields of `config`
    refuse_unknown_fields(config, {"service_mode", "webhook_config"}, "config")
    if config.get("service_mode", "") not in ("", "public", "private"):
        raise RequestRefusedError("service_mode must be public or private")
    webhook = _read_object(config, "webhook_config")
    refuse_unknown_fields(webhook, {"endpoint", "secret"}, "webhook_config")
    endpoint, secret = webhook.get("endpoint", ""), webhook.get("secret", "")
    if not isinstance(endpoint, str) or not isinstance(secret, str):
        raise RequestRefusedError("endpoint and secret must be strings")
    if endpoint and not _is_http_url(endpoint):
        raise RequestRefusedError("endpoint must be a URL")
    if secret and not endpoint and settings.config_echo == "refused":
        raise RequestRefusedError("invalid webhook_config")


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _check_midjourney(state: SandboxState, owner: str, task_input: Mapping[str, Any]) -> AcceptedRequest:
    if state.settings.midjourney_withdrawn:
        raise RequestRefusedError("model midjourney is no longer supported")
    refuse_unknown_fields(task_input, {"origin_task_id", "index"}, "input")
    index, parent = task_input.get("index"), state.find_task(owner, str(task_input.get("origin_task_id")))
    # [D 2024-10] Midjourney upscale page: the index is a string, and the origin task must have finished
    if not isinstance(index, str) or index not in _ACTION_OF_INDEX:
        raise RequestRefusedError("invalid index")
    if parent is None or parent.model != "midjourney":
        raise RequestRefusedError("origin task not found")
    if parent.status != "completed":
        raise RequestRefusedError("origin task is not finished")
    # [I 2026-11] An index is allowed if the parent lists its action.
    if _ACTION_OF_INDEX[index] not in parent.actions:
        raise RequestRefusedError(f"index {index} is not available for the origin task")
    if parent.is_grid:
        return AcceptedRequest(_MIDJOURNEY_POINTS, "crop_quadrant", {"number": int(index)}, parent=parent)
    return AcceptedRequest(_MIDJOURNEY_POINTS, "enlarge", {"factor": 4 if index == "4x" else 2}, parent=parent)


def _check_video(task_input: Mapping[str, Any], media_info: Mapping[str, Any] | None) -> AcceptedRequest:
    refuse_unknown_fields(task_input, {"video"}, "input")
    if media_info is None:
        raise RequestRefusedError("video is required")
    frames = media_info.get("frames", _PLACEHOLDER_FRAMES)
    if media_info.get("format", "MP4") != "MP4":  # [D 2025-02] video upscale page: MP4 only
        raise RequestRefusedError("failed to get valid video")  # [C 2026-11]
    if media_info.get("width", 0) > _MAX_VIDEO_WIDTH_PX or media_info.get("height", 0) > _MAX_VIDEO_HEIGHT_PX:
        raise RequestRefusedError("video resolution is over 1280x720")
    if not _MIN_VIDEO_FRAMES <= frames <= _MAX_VIDEO_FRAMES:
        raise RequestRefusedError("video must have between 10 and 240 frames")
    return AcceptedRequest(frames * _VIDEO_POINTS_PER_FRAME, "upscale_video", suffix=".mp4")


def _check_image(task_input: Mapping[str, Any], media_info: Mapping[str, Any] | None) -> AcceptedRequest:
    refuse_unknown_fields(task_input, {"image", "scale", "face_enhance"}, "input")
    scale, face_enhance = task_input.get("scale", _DEFAULT_SCALE), task_input.get("face_enhance", False)
    if type(scale) is not int or scale not in _SCALES or not isinstance(face_enhance, bool):
        raise RequestRefusedError("scale must be 2, 4 or 8, face_enhance a boolean")
    if media_info is None:
        raise RequestRefusedError("image is required")
    if media_info.get("format", "PNG") not in ("JPEG", "PNG"):  # [D 2026-11] image upscale page
        raise RequestRefusedError("failed to get valid image")  # [C 2026-11]
    width = media_info.get("width", _PLACEHOLDER_SIDE_PX)
    height = media_info.get("height", _PLACEHOLDER_SIDE_PX)
    if max(width, height) > _MAX_IMAGE_SIDE_PX:
        raise RequestRefusedError("image is over 2048x2048")
    points = width * height * scale * scale * _IMAGE_POINTS_PER_MEGAPIXEL // 1_000_000
    return AcceptedRequest(points, "enlarge", {"factor": scale})


def refuse_unknown_fields(fields: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse fields that are not documented, since they are a mistake of the caller.

    Raises:
        RequestRefusedError: *fields* has a name that is not in *known*.
    """
    if unknown := set(fields) - known:
        raise RequestRefusedError(f"unknown field in {where}: {', '.join(sorted(unknown))}")


def new_task(body: Mapping[str, Any], owner: str, accepted: AcceptedRequest) -> Task:
    """Return the task for a checked request; its `input` echoes the URL of the media, but not media sent as base64."""
    echoed_input, kind = dict(body["input"]), media_kind(body)
    if kind is not None and not echoed_input[kind].startswith(("http://", "https://")):
        echoed_input[kind] = "<file>"
    return Task(
        task_id=new_task_id(),
        owner=owner,
        model=body["model"],
        task_type=body["task_type"],
        task_input=echoed_input,
        config=body.get("config") or {},
        price_points=accepted.price_points,
    )
