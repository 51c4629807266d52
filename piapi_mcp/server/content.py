"""Answers as MCP content: the same facts as text and as structured content, with links and a preview."""

import base64
import mimetypes
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from mcp.types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent
from pydantic import BaseModel

from piapi_mcp.tasks.models import Task


def task_result(task: Task, preview: bytes | None = None) -> CallToolResult:
    """Return *task* as a tool result: with its results as links, and *preview*, a small JPEG of the first."""
    more: list[ContentBlock] = [_link(url) for url in task.result_urls or ()]
    if preview is not None:
        more.append(ImageContent(type="image", data=base64.b64encode(preview).decode(), mime_type="image/jpeg"))
    return model_result(task, *more)


def model_result(model: BaseModel, *more: ContentBlock) -> CallToolResult:
    """Return *model* as a tool result, followed by *more*."""
    # Some clients show the model only the text, others only the structured content: both contain everything.
    text = TextContent(type="text", text=model.model_dump_json(exclude_none=True))
    return CallToolResult(content=[text, *more], structured_content=model.model_dump(mode="json", exclude_none=True))


def _link(url: str) -> ResourceLink:
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "result"
    return ResourceLink(type="resource_link", uri=url, name=name, mime_type=mimetypes.guess_type(name)[0])
