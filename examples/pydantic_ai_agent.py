"""An agent in Pydantic AI that upscales an image."""

import asyncio

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from scripted import REQUEST, command, decide, sandbox


def scripted_model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Replace a real model."""
    answers = [part.content for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    step = decide(answers[-1] if answers else None)
    return ModelResponse(parts=[ToolCallPart(step.tool, step.arguments) if step.tool else TextPart(step.text)])


async def main() -> None:
    """Run the agent on the user's request."""
    with sandbox() as settings:
        server = MCPToolset(StdioTransport(command=command(), args=[], env=settings))
        async with Agent(FunctionModel(scripted_model), toolsets=[server]) as agent:
            print((await agent.run(REQUEST)).output)


asyncio.run(main())
