"""Provide the tools, resources and prompts that the official conformance suite expects, with our class of tool.

Names and contents are the suite's own; see the descriptions of its scenarios.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from pydantic import Field

from piapi_mcp.server.strict_tool import StrictTool

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
AnyContext = Context[Any, Any]
Answer = str | InputRequiredResult


def text(said: str) -> TextContent:
    return TextContent(type="text", text=said)


def embedded(uri: str, said: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=said))


def form(message: str, **fields: str) -> ElicitRequest:
    """Ask the user for *fields*, given with their JSON types."""
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(question: str) -> CreateMessageRequest:
    messages = [SamplingMessage(role="user", content=text(question))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=100))


def filled_in(ctx: AnyContext, key: str, field: str) -> str | None:
    """Return the user's answer to *field* of the form *key*; None while there is no answer."""
    answer = (ctx.input_responses or {}).get(key)
    return str((answer.content or {}).get(field)) if isinstance(answer, ElicitResult) else None


def test_simple_text() -> str:
    return "This is a simple text response for testing."


def test_image_content() -> list[ImageContent]:
    return [ImageContent(type="image", data=PNG, mime_type="image/png")]


def test_audio_content() -> list[AudioContent]:
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


def test_embedded_resource() -> list[EmbeddedResource]:
    return [embedded("test://embedded-resource", "This is an embedded resource content.")]


def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    values = json.dumps({"test": "data", "value": 123})
    return [
        text("Multiple content types test:"),
        ImageContent(type="image", data=PNG, mime_type="image/png"),
        embedded("test://mixed-content-resource", values, "application/json"),
    ]


async def test_tool_with_progress(ctx: AnyContext) -> str:
    for done in (0, 50, 100):
        await ctx.report_progress(progress=done, total=100, message=f"Completed step {done} of 100")
        await asyncio.sleep(0.05)
    return "done"


def test_error_handling() -> str:
    raise RuntimeError("This tool intentionally returns an error for testing")


def test_x_mcp_header(
    region: Annotated[str, Field(description="Where.", json_schema_extra={"x-mcp-header": "Region"})] = "<none>",
) -> str:
    return f"region={region}"


def test_missing_capability(ctx: AnyContext) -> str:
    if not (ctx.client_capabilities and ctx.client_capabilities.sampling):
        data: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling.", data)
    return "The client can sample."


def test_input_required_result_elicitation(ctx: AnyContext) -> Answer:
    name = filled_in(ctx, "user_name", "name")
    return f"Hello, {name}!" if name else InputRequiredResult(input_requests={"user_name": ask_name()})


def ask_name(question: str = "What is your name?") -> ElicitRequest:
    return form(question, name="string")


def test_input_required_result_sampling(ctx: AnyContext) -> Answer:
    answer = (ctx.input_responses or {}).get("capital_question")
    if isinstance(answer, CreateMessageResult):
        return f"The model said: {answer.content}"
    return InputRequiredResult(input_requests={"capital_question": sampling("What is the capital of France?")})


def test_input_required_result_list_roots(ctx: AnyContext) -> Answer:
    if "client_roots" in (ctx.input_responses or {}):
        return "The client told its roots."
    return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})


def test_input_required_result_request_state(ctx: AnyContext) -> Answer:
    if "confirm" in (ctx.input_responses or {}) and ctx.request_state == "a-state":
        return "state-ok"
    return InputRequiredResult(input_requests={"confirm": form("Sure?", ok="boolean")}, request_state="a-state")


def test_input_required_result_multiple_inputs(ctx: AnyContext) -> Answer:
    requests: dict[str, InputRequest] = {
        "user_name": ask_name(),
        "greeting": sampling("Say hello."),
        "client_roots": ListRootsRequest(),
    }
    if requests.keys() <= (ctx.input_responses or {}).keys():
        return "Everything is there."
    return InputRequiredResult(input_requests=requests, request_state="several")


def test_input_required_result_multi_round(ctx: AnyContext) -> Answer:
    name, colour = filled_in(ctx, "step1", "name"), filled_in(ctx, "step2", "color")
    if ctx.request_state == "first" and name:
        return InputRequiredResult(input_requests={"step2": form("Which colour?", color="string")}, request_state=name)
    if ctx.request_state not in (None, "first") and colour:
        return f"{ctx.request_state} likes {colour}."
    return InputRequiredResult(input_requests={"step1": ask_name()}, request_state="first")


def test_input_required_result_tampered_state(ctx: AnyContext) -> Answer:
    if ctx.request_state is not None:
        return "state-ok"
    return InputRequiredResult(input_requests={"confirm": form("Sure?", ok="boolean")}, request_state="untouched")


def test_input_required_result_capabilities(ctx: AnyContext) -> InputRequiredResult:
    able = ctx.client_capabilities
    requests: dict[str, InputRequest] = {}
    if able and able.sampling is not None:
        requests["sample"] = sampling("Say hello.")
    if able and able.elicitation is not None:
        requests["ask"] = ask_name()
    return InputRequiredResult(input_requests=requests, request_state="as-able")


def json_schema_2020_12_tool() -> str:
    return "never mind"


JSON_SCHEMA_2020_12: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


async def test_trigger_tool_change(ctx: AnyContext) -> str:
    await ctx.notify_tools_changed()
    return "told"


async def test_trigger_prompt_change(ctx: AnyContext) -> str:
    await ctx.notify_prompts_changed()
    return "told"


def tool(function: Callable[..., Any]) -> StrictTool:
    """Return *function* as a tool of the class that the product uses."""
    return StrictTool.make(
        function, title=function.__name__, description="Of the conformance suite.", annotations=ToolAnnotations()
    )


def build_tools() -> list[StrictTool]:
    """Return the suite's tools without those of the tasks extension."""
    functions = [function for name, function in globals().items() if name.startswith("test_")]
    with_schema = tool(json_schema_2020_12_tool)
    with_schema.parameters = dict(JSON_SCHEMA_2020_12)
    return [*map(tool, functions), with_schema]


def add_resources_and_prompts(server: MCPServer[Any]) -> None:
    """Add the suite's resources, prompts and completion to *server*."""

    @server.resource("test://static-text")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PNG)

    @server.resource("test://template/{id}/data")
    def template(id: str) -> str:  # noqa: A002 -- the suite's name
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource")
    def watched() -> str:
        return "Watched resource content"

    @server.completion()
    async def complete(*_asked: object) -> Completion:
        return Completion(values=[], total=0, has_more=False)

    del static_text, static_binary, template, watched, complete
    for prompt in (
        simple_prompt,
        prompt_with_arguments,
        prompt_with_embedded_resource,
        prompt_with_image,
        input_required_result_prompt,
    ):
        server.add_prompt(
            Prompt.from_function(prompt, name=f"test_{prompt.__name__}", description="Of the conformance suite.")
        )


def said(content: TextContent | ImageContent | EmbeddedResource) -> UserMessage:
    return UserMessage(role="user", content=content)


def simple_prompt() -> list[UserMessage]:
    return [said(text("This is a simple prompt for testing."))]


def prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    return [said(text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]


def prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 -- the suite's name
    return [
        said(embedded(resourceUri, "Embedded resource content for testing.")),
        said(text("Please process the embedded resource above.")),
    ]


def prompt_with_image() -> list[UserMessage]:
    image = ImageContent(type="image", data=PNG, mime_type="image/png")
    return [said(image), said(text("Please analyze the image above."))]


def input_required_result_prompt(ctx: AnyContext) -> list[UserMessage] | InputRequiredResult:
    context = filled_in(ctx, "user_context", "context")
    if context:
        return [said(text(f"Use the following context: {context}"))]
    return InputRequiredResult(input_requests={"user_context": form("Which context?", context="string")})
