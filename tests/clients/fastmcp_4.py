"""fastmcp: its client."""

import asyncio

from fastmcp import Client
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport
from scenario import Answer, report, run_scenario, target


async def main() -> None:
    to = target()
    if to["transport"] == "stdio":
        transport = StdioTransport(command=to["command"], args=to["args"], env=to["env"])
    else:
        transport = SSETransport(to["url"]) if to["transport"] == "sse" else StreamableHttpTransport(to["url"])
    async with Client(transport) as client:

        async def call(tool: str, arguments: Answer) -> Answer:
            return (await client.call_tool(tool, arguments)).structured_content or {}

        result = await run_scenario(call, to["request"])
        report(client.protocol_version or "?", result)


asyncio.run(main())
