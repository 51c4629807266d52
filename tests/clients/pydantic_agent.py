"""Pydantic AI: an agent with a scripted model."""

import asyncio
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from scenario import next_step, parse_answer, report, target


def connect(to: dict[str, Any]) -> Client[Any]:
    if to["transport"] == "stdio":
        return Client(StdioTransport(command=to["command"], args=to["args"], env=to["env"]))
    return Client(SSETransport(to["url"]) if to["transport"] == "sse" else StreamableHttpTransport(to["url"]))


async def main() -> None:
    to = target()

    def decide(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if not {"midjourney_upscale", "get_task"} <= {tool.name for tool in info.function_tools}:
            raise ValueError(info.function_tools)
        returned = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        step = next_step(parse_answer(returned[-1].content) if returned else None, to["request"])
        return ModelResponse(parts=[ToolCallPart(step.tool, step.arguments) if step.tool else TextPart(step.text)])

    client = connect(to)
    agent = Agent(FunctionModel(decide), toolsets=[MCPToolset(client)])
    async with agent:
        result = await agent.run("Upscale my image.")
        report(client.protocol_version or "?", result.output)


asyncio.run(main())
