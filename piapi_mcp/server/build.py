"""The MCP server: its name, its instructions and its tools."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from mcp.server.mcpserver import MCPServer

import piapi_mcp
from piapi_mcp.server.service_pool import Desk
from piapi_mcp.server.strict_tool import StrictTool
from piapi_mcp.server.tasks_backend import PiAPITasks
from piapi_mcp.server.tasks_extension import TaskBackend, TasksExtension, refuse_undeclared_listening
from piapi_mcp.server.tools import PAID_TOOLS, build_tools
from piapi_mcp.settings import LogLevel, Settings

INSTRUCTIONS = (
    "Upscales Midjourney images, videos and other images with PiAPI. Submitting costs money (dry_run tells how much) "
    "and answers at once with a task_id; tasks run from seconds to many minutes. Call get_task, which waits a while, "
    "until its status is completed or failed, then give the user the links. A slow task goes on by "
    "itself: never submit it again. list_tasks shows the Midjourney tasks that can be upscaled."
)


def build_server(
    settings: Settings,
    *,
    log_level: LogLevel = "WARNING",
    desk: Desk | None = None,
    tools: Sequence[StrictTool] | None = None,
    tasks: TaskBackend | None = None,
) -> MCPServer[Desk]:
    """Return the server with all its tools; nothing is connected before the first call needs it.

    Args:
        settings: What the operator set.
        log_level: What to log.
        desk: One that many connections share, over HTTP, closed by who made it; None makes one for each connection.
        tools: What to offer; None for the tools of PiAPI.
        tasks: Where tasks of the tasks extension live; None for PiAPI.
    """

    @asynccontextmanager
    async def lifespan(_server: MCPServer[Desk]) -> AsyncGenerator[Desk]:
        if desk is not None:
            yield desk
            return
        own = Desk(settings)
        try:
            yield own
        finally:
            await own.close()

    return MCPServer(
        "piapi-mcp",
        title="PiAPI upscaling",
        version=piapi_mcp.__version__,
        instructions=INSTRUCTIONS,
        tools=[*(build_tools(local_files=desk is None) if tools is None else tools)],
        extensions=[TasksExtension(tasks or PiAPITasks(PAID_TOOLS))],
        middleware=[refuse_undeclared_listening],
        lifespan=lifespan,
        log_level=log_level,
    )
