"""mcp 1: the Python SDK that many frameworks still build on."""

import asyncio

from mcp import ClientSession, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from scenario import Answer, report, run_scenario, target


async def main() -> None:
    to = target()
    if to["transport"] == "stdio":
        streams = stdio_client(StdioServerParameters(command=to["command"], args=to["args"], env=to["env"]))
    else:
        streams = sse_client(to["url"]) if to["transport"] == "sse" else streamable_http_client(to["url"])
    async with streams as (read, write, *_), ClientSession(read, write) as session:
        hello = await session.initialize()

        async def call(tool: str, arguments: Answer) -> Answer:
            result = await session.call_tool(tool, arguments)
            return result.structuredContent or {}

        report(str(hello.protocolVersion), await run_scenario(call, to["request"]))


asyncio.run(main())
