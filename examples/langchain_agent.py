"""An agent in LangChain that upscales an image.

The adapter starts a new server for each tool call. No task is lost: PiAPI and the ledger keep them.
"""

import asyncio
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_mcp_adapters.client import MultiServerMCPClient
from scripted import REQUEST, command, decide, sandbox


class ScriptedModel(BaseChatModel):
    """Replaces a real model."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_more: Any) -> "ScriptedModel":
        """Return this model; the script already knows the tools."""
        return self

    def _generate(self, messages: list[BaseMessage], *_rest: Any, **_more: Any) -> ChatResult:
        last = messages[-1]
        step = decide(last.content if isinstance(last, ToolMessage) else None)
        calls = [{"name": step.tool, "args": step.arguments, "id": f"call-{len(messages)}"}] if step.tool else []
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=step.text, tool_calls=calls))])


async def main() -> None:
    """Run the agent on the user's request."""
    with sandbox() as settings:
        client = MultiServerMCPClient(
            {"piapi": {"transport": "stdio", "command": command(), "args": [], "env": settings}}
        )
        agent = create_agent(ScriptedModel(), await client.get_tools())
        state = await agent.ainvoke({"messages": [("user", REQUEST)]})
        print(state["messages"][-1].content)


asyncio.run(main())
