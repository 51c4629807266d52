"""LangChain: an agent with a scripted model, on the MCP adapters; over stdio each call starts a server of its own."""

import asyncio
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_mcp_adapters.client import MultiServerMCPClient
from scenario import next_step, parse_answer, report, target

NAMES = {"stdio": "stdio", "sse": "sse", "streamable-http": "streamable_http"}


class ScriptedModel(BaseChatModel):
    """Calls the tools that a sensible model would call."""

    request: dict[str, Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_more: Any) -> "ScriptedModel":
        names = {tool.name for tool in tools}
        if not {"midjourney_upscale", "get_task"} <= names:
            raise ValueError(names)
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_more: Any,
    ) -> ChatResult:
        del stop, run_manager
        last = messages[-1]
        step = next_step(parse_answer(last.content) if isinstance(last, ToolMessage) else None, self.request)
        calls = [{"name": step.tool, "args": step.arguments, "id": f"call-{len(messages)}"}] if step.tool else []
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=step.text, tool_calls=calls))])


async def main() -> None:
    to = target()
    reach = {name: to[name] for name in ("command", "args", "env", "url") if name in to}
    client = MultiServerMCPClient({"piapi": {"transport": NAMES[to["transport"]], **reach}})
    async with client.session("piapi", auto_initialize=False) as session:
        protocol = str((await session.initialize()).protocolVersion)
    agent = create_agent(ScriptedModel(request=to["request"]), await client.get_tools())
    state = await agent.ainvoke({"messages": [("user", "Upscale my image.")]})
    report(protocol, str(state["messages"][-1].content))


asyncio.run(main())
