"""The MCP server: its name, its instructions and its tools."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from mcp.server.mcpserver import MCPServer

import piapi_mcp
from piapi_mcp.server.service_pool import ServicePool
from piapi_mcp.server.strict_tool import StrictTool
from piapi_mcp.server.tasks_backend import PiAPITaskBackend
from piapi_mcp.server.tasks_extension import TaskBackend, TasksExtension, refuse_undeclared_subscriptions
from piapi_mcp.server.tools import PAID_TOOLS, build_tools
from piapi_mcp.settings import LogLevel, Settings

INSTRUCTIONS = (
    "Upscales Midjourney images, videos and other images with PiAPI. Submitting a task costs money (dry_run returns "
    "the price) and returns a task_id at once; tasks run from seconds to many minutes. Call get_task, which waits a "
    "while, until the status is completed or failed, then give the user the links. A slow task continues on its own: "
    "never submit it again. list_tasks shows the Midjourney tasks that can be upscaled."
)


def build_server(
    settings: Settings,
    *,
    log_level: LogLevel = "WARNING",
    pool: ServicePool | None = None,
    tools: Sequence[StrictTool] | None = None,
    tasks: TaskBackend | None = None,
) -> MCPServer[ServicePool]:
    """Return the server with all its tools; nothing connects before the first call.

    Args:
        settings: The operator's settings.
        log_level: The lowest level to log.
        pool: Shared by all connections over HTTP, and closed by its owner; None makes one for each connection.
        tools: The tools to offer; None for those of PiAPI.
        tasks: The backend of the tasks extension; None for PiAPI.
    """

    @asynccontextmanager
    async def lifespan(_server: MCPServer[ServicePool]) -> AsyncGenerator[ServicePool]:
        if pool is not None:
            yield pool
            return
        own = ServicePool(settings)
        try:
            yield own
        finally:
            await own.close()

    return MCPServer(
        "piapi-mcp",
        title="PiAPI upscaling",
        version=piapi_mcp.__version__,
        instructions=INSTRUCTIONS,
        tools=[*(build_tools(local_files=pool is None) if tools is None else tools)],
        extensions=[TasksExtension(tasks or PiAPITaskBackend(PAID_TOOLS))],
        middleware=[refuse_undeclared_subscriptions],
        lifespan=lifespan,
        log_level=log_level,
    )
