"""OpenAI Agents: an agent with a scripted model; its calls give up after 5 seconds, as they do by default."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerSse, MCPServerStdio, MCPServerStreamableHttp
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from scenario import next_step, parse_answer, report, target


class ScriptedModel(Model):
    """Calls the tools that a sensible model would call."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request

    async def get_response(
        self, system_instructions: Any, input: Any, model_settings: Any, tools: Any, *_rest: Any, **_more: Any
    ) -> ModelResponse:
        del system_instructions, model_settings
        if not {"midjourney_upscale", "get_task"} <= {tool.name for tool in tools}:
            raise ValueError(tools)
        last = input[-1] if isinstance(input, list) else {}
        answered = isinstance(last, dict) and last.get("type") == "function_call_output"
        step = next_step(parse_answer(last["output"]) if answered else None, self._request)
        if step.tool:
            call_id = f"call-{len(input)}"
            arguments = json.dumps(step.arguments)
            item = ResponseFunctionToolCall(arguments=arguments, call_id=call_id, name=step.tool, type="function_call")
        else:
            text = ResponseOutputText(text=step.text, type="output_text", annotations=[])
            item = ResponseOutputMessage(
                id="said", content=[text], role="assistant", status="completed", type="message"
            )
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *_args: Any, **_more: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


def connect(to: dict[str, Any]) -> Any:
    if to["transport"] == "stdio":
        return MCPServerStdio({"command": to["command"], "args": to["args"], "env": to["env"]})
    kind = MCPServerSse if to["transport"] == "sse" else MCPServerStreamableHttp
    return kind({"url": to["url"]})


async def main() -> None:
    to = target()
    set_tracing_disabled(disabled=True)
    async with connect(to) as server:
        agent = Agent(name="upscaler", model=ScriptedModel(to["request"]), mcp_servers=[server])
        result = await Runner.run(agent, "Upscale my image.", max_turns=30)
        protocol = getattr(server.session, "protocol_version", None)
        report(str(protocol or "?"), result.final_output)


asyncio.run(main())
