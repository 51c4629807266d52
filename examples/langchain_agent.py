"""An agent in LangChain that upscales. Each call of a tool starts a server of its own: no task is lost by that."""

import asyncio
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_mcp_adapters.client import MultiServerMCPClient
from scripted import REQUEST, command, decide, sandbox


class ScriptedModel(BaseChatModel):
    """Stands in for a model."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_more: Any) -> "ScriptedModel":
        """Take note of the tools."""
        return self

    def _generate(self, messages: list[BaseMessage], *_rest: Any, **_more: Any) -> ChatResult:
        last = messages[-1]
        move = decide(last.content if isinstance(last, ToolMessage) else None)
        calls = [{"name": move.tool, "args": move.arguments, "id": f"call-{len(messages)}"}] if move.tool else []
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=move.said, tool_calls=calls))])


async def main() -> None:
    """Let the agent do what the user asks."""
    with sandbox() as settings:
        client = MultiServerMCPClient(
            {"piapi": {"transport": "stdio", "command": command(), "args": [], "env": settings}}
        )
        agent = create_agent(ScriptedModel(), await client.get_tools())
        state = await agent.ainvoke({"messages": [("user", REQUEST)]})
        print(state["messages"][-1].content)


asyncio.run(main())
