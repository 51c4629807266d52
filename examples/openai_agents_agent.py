"""An agent in the OpenAI Agents SDK that upscales. Its calls give up after 5 seconds: get_task waits less."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from scripted import REQUEST, command, decide, sandbox


class ScriptedModel(Model):
    """Stands in for a model."""

    async def get_response(self, system_instructions: Any, input: Any, *_rest: Any, **_more: Any) -> ModelResponse:
        """Return the next move."""
        last = input[-1] if isinstance(input, list) else {}
        answered = last.get("type") == "function_call_output"
        move = decide(last["output"] if answered else None)
        if move.tool:
            item = ResponseFunctionToolCall(
                name=move.tool, arguments=json.dumps(move.arguments), call_id=f"call-{len(input)}", type="function_call"
            )
        else:
            text = ResponseOutputText(text=move.said, type="output_text", annotations=[])
            item = ResponseOutputMessage(
                id="said", content=[text], role="assistant", status="completed", type="message"
            )
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *_args: Any, **_more: Any) -> AsyncIterator[Any]:
        """Not used here."""
        raise NotImplementedError


async def main() -> None:
    """Let the agent do what the user asks."""
    set_tracing_disabled(disabled=True)
    with sandbox() as settings:
        async with MCPServerStdio({"command": command(), "args": [], "env": settings}) as server:
            agent = Agent(name="upscaler", model=ScriptedModel(), mcp_servers=[server])
            print((await Runner.run(agent, REQUEST, max_turns=30)).final_output)


asyncio.run(main())
