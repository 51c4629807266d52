"""A tool with strict arguments, flat schemas, and our own error texts.

The SDK ignores unknown arguments, adds a prefix to the text of our errors, and answers a wrong argument with the
validator's message. Models need the opposite.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Self, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, core_schema
from typing_extensions import override

from piapi_mcp.errors import PiAPIError
from piapi_mcp.formatting import quote
from piapi_mcp.server.arguments import FORMATS


class FlatSchema(GenerateJsonSchema):
    """JSON schema without `null` alternatives, which some clients refuse. Absent values are left out instead."""

    @override
    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    @override
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if not described.get("default"):  # null, false and 0 add nothing
            described.pop("default", None)
        return described

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class StrictTool(Tool):
    """The SDK's tool, stricter about its arguments and clearer in its errors."""

    @classmethod
    def make(cls, function: Callable[..., Any], *, title: str, description: str, annotations: ToolAnnotations) -> Self:
        """Return *function* as a tool with the same name."""
        made = cls.from_function(function, title=title, description=description, annotations=annotations)
        tool = cast("Self", made)  # the SDK annotates the base class
        arguments = tool.fn_metadata.arg_model
        arguments.model_config["extra"] = "forbid"
        arguments.model_config["hide_input_in_errors"] = True
        arguments.model_rebuild(force=True)
        tool.parameters = _without_titles(arguments.model_json_schema(by_alias=True, schema_generator=FlatSchema))
        if result_model := tool.fn_metadata.output_model:
            schema = result_model.model_json_schema(mode="serialization", schema_generator=FlatSchema)
            tool.fn_metadata.output_schema = _without_titles(_inlined(schema, schema.pop("$defs", {})))
        return tool

    @override
    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, PiAPIError):
                raise ToolError(str(cause)) from cause
            if isinstance(cause, ValidationError):
                raise ToolError(self._explain(cause)) from cause
            raise

    def _explain(self, error: ValidationError) -> str:
        problems = " ".join(self._explain_one(detail) for detail in error.errors(include_url=False))
        return f"{problems} Nothing was submitted; call {self.name} again with that corrected."

    def _explain_one(self, detail: ErrorDetails) -> str:
        name = str(detail["loc"][0])
        known: dict[str, dict[str, Any]] = self.parameters["properties"]
        if detail["type"] == "extra_forbidden":
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}? " if close else ""
            allowed = f"Allowed: {', '.join(known)}." if known else "It takes no arguments."
            return f"{quote(name)} is not an argument of {self.name}. {hint}{allowed}"
        if detail["type"] == "missing":
            return f"{name} is missing. {known[name].get('description', '')}".rstrip()
        return f"{_shown(name, detail['input'])} cannot be used: {_allowed(known[name], detail)}"


def _shown(name: str, value: object) -> str:
    """Quote the caller's own value, unless it is a secret."""
    return name if name == "webhook_secret" else f"{name}={quote('null' if value is None else value)}"


def _allowed(schema: dict[str, Any], detail: ErrorDetails) -> str:
    if choices := schema.get("enum"):
        return f"allowed are {', '.join(map(str, choices))}."
    if schema.get("type") in ("number", "integer"):
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        most = f" to {schema['maximum']}" if "maximum" in schema else " or more"
        return f"it takes {kind} from {schema.get('minimum')}{most}."
    if detail["type"] in ("string_pattern_mismatch", "value_error"):
        return f"it takes {FORMATS.get(str(detail['loc'][0]), 'another format')}."
    return f"it takes a {schema.get('type')}."


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return *schema* with each `$ref` replaced by its definition: some clients refuse references."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    node = cast("dict[str, Any]", schema)
    if reference := node.get("$ref"):
        return _inlined(_without_titles(definitions[reference.rsplit("/", 1)[1]]), definitions)
    return {name: _inlined(value, definitions) for name, value in node.items()}


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    schema.pop("title", None)
    schema.pop("description", None)
    return schema
