"""mcp 2: the client of the Python SDK."""

import asyncio

from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from scenario import Answer, report, run_scenario, target


async def main() -> None:
    to = target()
    if to["transport"] == "stdio":
        server = StdioServerParameters(command=to["command"], args=to["args"], env=to["env"])
    else:
        server = sse_client(to["url"]) if to["transport"] == "sse" else to["url"]
    async with Client(server, mode=to.get("era", "auto")) as client:

        async def call(tool: str, arguments: Answer) -> Answer:
            result = await client.call_tool(tool, arguments)
            return result.structured_content or {}

        result = await run_scenario(call, to["request"])
        report(client.protocol_version, result)


asyncio.run(main())
