"""Tasks as MCP content: the same facts as text, as structured content, and as links."""

import mimetypes
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from mcp.types import CallToolResult, ContentBlock, ResourceLink, TextContent

from piapi_mcp.tasks.models import Task


def task_result(task: Task) -> CallToolResult:
    """Return *task* as the answer of a tool."""
    # Some clients show their model only the text, others only the structured content: both carry everything.
    content: list[ContentBlock] = [TextContent(type="text", text=task.model_dump_json(exclude_none=True))]
    content += [_link(url) for url in task.result_urls or ()]
    return CallToolResult(content=content, structured_content=task.model_dump(mode="json", exclude_none=True))


def _link(url: str) -> ResourceLink:
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "result"
    return ResourceLink(type="resource_link", uri=url, name=name, mime_type=mimetypes.guess_type(name)[0])
