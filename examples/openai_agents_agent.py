"""An agent in the OpenAI Agents SDK that upscales an image.

The SDK's tool calls time out after 5 seconds; get_task waits less than that.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from scripted import REQUEST, command, decide, sandbox


class ScriptedModel(Model):
    """Replaces a real model."""

    async def get_response(self, system_instructions: Any, input: Any, *_rest: Any, **_more: Any) -> ModelResponse:
        """Return the model's next step."""
        last = input[-1] if isinstance(input, list) else {}
        answered = last.get("type") == "function_call_output"
        step = decide(last["output"] if answered else None)
        if step.tool:
            item = ResponseFunctionToolCall(
                name=step.tool, arguments=json.dumps(step.arguments), call_id=f"call-{len(input)}", type="function_call"
            )
        else:
            text = ResponseOutputText(text=step.text, type="output_text", annotations=[])
            item = ResponseOutputMessage(
                id="final", content=[text], role="assistant", status="completed", type="message"
            )
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *_args: Any, **_more: Any) -> AsyncIterator[Any]:
        """Not used by this example."""
        raise NotImplementedError


async def main() -> None:
    """Run the agent on the user's request."""
    set_tracing_disabled(disabled=True)
    with sandbox() as settings:
        async with MCPServerStdio({"command": command(), "args": [], "env": settings}) as server:
            agent = Agent(name="upscaler", model=ScriptedModel(), mcp_servers=[server])
            print((await Runner.run(agent, REQUEST, max_turns=30)).final_output)


asyncio.run(main())
