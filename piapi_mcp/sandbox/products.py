"""What can be submitted: which fields, which limits, which price; a refusal is the text that PiAPI would answer."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from piapi_mcp.sandbox import work
from piapi_mcp.sandbox.world import POINTS_PER_USD, Task, World, new_task_id

MAX_MEDIA_BYTES = 10 * 2**20
_VIDEO_POINTS_PER_FRAME = 3 * POINTS_PER_USD // 10_000
_IMAGE_POINTS_PER_MEGAPIXEL = POINTS_PER_USD // 1000
_MIDJOURNEY_POINTS = POINTS_PER_USD // 100  # assumed
_FRAMES_WITHOUT_WORK = 60

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


def check(world: World, key: str, body: Mapping[str, Any], media: Path | None) -> Accepted:
    """Check a submission; *media* is the file that came with it, already fetched. Blocks: the media is opened.

    Raises:
        RefusedError: PiAPI would refuse it.
    """
    _only(body, {"model", "task_type", "input", "config"}, "request")
    _check_config(body.get("config") or {})
    task_input: Any = body.get("input")
    if not isinstance(task_input, dict):
        raise RefusedError("input is required")
    task_input = cast("dict[str, Any]", task_input)
    match body.get("model"), body.get("task_type"):
        case "midjourney", "upscale":
            return _check_midjourney(world, key, task_input)
        case "Qubico/video-toolkit", "upscale":
            return _check_video(world, task_input, media)
        case "Qubico/image-toolkit", "upscale":
            return _check_image(world, task_input, media)
        case _:
            raise RefusedError("model or task_type is not supported")


def media_field(body: Mapping[str, Any]) -> str | None:
    """Return the name of the input's field that holds a file."""
    return {"Qubico/video-toolkit": "video", "Qubico/image-toolkit": "image"}.get(body.get("model", ""))


def decode_base64(text: str) -> bytes:
    """Decode a data URI or bare base64.

    Raises:
        RefusedError: It is neither, or too large.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("failed to get valid media: neither a URL nor base64") from None
    if len(data) > MAX_MEDIA_BYTES:
        raise RefusedError("task input too large", status=413)
    return data


def _check_config(config: Mapping[str, Any]) -> None:
    _only(config, {"service_mode", "webhook_config"}, "config")
    if config.get("service_mode", "") not in ("", "public", "private"):
        raise RefusedError("service_mode must be public or private")
    _only(config.get("webhook_config") or {}, {"endpoint", "secret"}, "webhook_config")


def _check_midjourney(world: World, key: str, task_input: Mapping[str, Any]) -> Accepted:
    if world.settings.midjourney_withdrawn:
        raise RefusedError("model midjourney is no longer supported")
    _only(task_input, {"origin_task_id", "index"}, "input")
    index, parent = task_input.get("index"), world.task(key, str(task_input.get("origin_task_id")))
    if index not in _ACTION_OF_INDEX:
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


def _check_video(world: World, task_input: Mapping[str, Any], media: Path | None) -> Accepted:
    _only(task_input, {"video"}, "input")
    if media is None:
        raise RefusedError("video is required")
    if not world.settings.does_work:
        return Accepted(_FRAMES_WITHOUT_WORK * _VIDEO_POINTS_PER_FRAME, "upscale_video", suffix=".mp4")
    facts = _probe(media, "video")
    if facts["format"] != "MP4":
        raise RefusedError("failed to get valid video")
    if facts["width"] > 1280 or facts["height"] > 720:  # noqa: PLR2004 -- documented: maximum 720p
        raise RefusedError("video resolution is over 1280x720")
    if not 10 <= facts["frames"] <= 240:  # noqa: PLR2004 -- documented: between 10 and 240
        raise RefusedError("video must have between 10 and 240 frames")
    return Accepted(facts["frames"] * _VIDEO_POINTS_PER_FRAME, "upscale_video", suffix=".mp4")


def _check_image(world: World, task_input: Mapping[str, Any], media: Path | None) -> Accepted:
    _only(task_input, {"image", "scale", "face_enhance"}, "input")
    scale = task_input.get("scale", 2)
    if scale not in (2, 4, 8) or not isinstance(task_input.get("face_enhance", False), bool):
        raise RefusedError("scale must be 2, 4 or 8, face_enhance a boolean")
    if media is None:
        raise RefusedError("image is required")
    if not world.settings.does_work:
        return Accepted(_IMAGE_POINTS_PER_MEGAPIXEL, "enlarge", {"factor": scale})
    facts = _probe(media, "image")
    if facts["format"] not in ("JPEG", "PNG"):
        raise RefusedError("failed to get valid image")
    if max(facts["width"], facts["height"]) > 2048:  # noqa: PLR2004 -- documented
        raise RefusedError("image is over 2048x2048")
    pixels = facts["width"] * facts["height"] * scale * scale
    return Accepted(pixels * _IMAGE_POINTS_PER_MEGAPIXEL // 1_000_000, "enlarge", {"factor": scale})


def _probe(media: Path, kind: str) -> dict[str, Any]:
    try:
        return work.run("probe", path=str(media))
    except work.WorkError:
        raise RefusedError(f"failed to get valid {kind}") from None


def _only(given: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := set(given) - known:
        raise RefusedError(f"unknown field in {where}: {', '.join(sorted(unknown))}")


def new_task(body: Mapping[str, Any], key: str, accepted: Accepted, media: Path | None) -> Task:
    """Return the task that a checked submission becomes; a file in its input is left out."""
    shown = {name: "<file>" if media and name == media_field(body) else value for name, value in body["input"].items()}
    url = body["input"].get(media_field(body) or "", "")
    if isinstance(url, str) and url.startswith("http"):
        shown[media_field(body) or ""] = url
    return Task(
        task_id=new_task_id(),
        owner=key,
        model=body["model"],
        task_type=body["task_type"],
        task_input=shown,
        config=body.get("config") or {},
        price_points=accepted.price_points,
    )
