"""The files through which people find and install the package, against their sources and their formats' schemas."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest

import piapi_mcp
from piapi_mcp.settings import Settings

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((Path(__file__).parent / "schemas/server.schema.json").read_text())
SERVER: dict[str, Any] = json.loads((ROOT / "server.json").read_text())
MANIFEST: dict[str, Any] = json.loads((ROOT / "packaging/bundle/manifest.json").read_text())
PLUGIN: dict[str, Any] = json.loads((ROOT / "plugin/.claude-plugin/plugin.json").read_text())
SETTINGS = {field.alias for field in Settings.model_fields.values()}


def load_render() -> Any:
    spec = importlib.util.spec_from_file_location("render", ROOT / "packaging/render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_up_to_date() -> None:
    stale = [str(path) for path, text in load_render().rendered().items() if path.read_text() != text]
    assert not stale, f"run packaging/render.py: {stale}"


def test_the_registry_schema_accepts_the_description() -> None:
    jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(SERVER)
    assert len(SERVER["description"]) <= 100


def objects_in(document: Any) -> list[dict[str, Any]]:
    """Return all objects in *document*, including nested ones."""
    if isinstance(document, list):
        return [part for value in cast("list[Any]", document) for part in objects_in(value)]
    if not isinstance(document, dict):
        return []
    own = cast("dict[str, Any]", document)
    return [own, *objects_in([*own.values()])]


def test_the_registry_schema_names_every_key() -> None:
    """The schema itself accepts misspelt keys."""
    known = {
        name for part in objects_in(SCHEMA) if isinstance(part.get("properties"), dict) for name in part["properties"]
    }
    assert {name for part in objects_in(SERVER) for name in part} <= known


def test_no_remote_server_or_other_registry_is_named() -> None:
    assert "remotes" not in SERVER
    assert "registryBaseUrl" not in json.dumps(SERVER)


def test_versions_are_equal_everywhere() -> None:
    versions = [SERVER["version"], MANIFEST["version"], PLUGIN["version"]]
    versions += [package["version"] for package in SERVER["packages"]]
    assert set(versions) == {piapi_mcp.__version__}


@pytest.mark.parametrize("package", SERVER["packages"], ids=["stdio", "http"])
def test_every_environment_variable_is_a_setting(package: dict[str, Any]) -> None:
    named = {variable["name"]: variable for variable in package["environmentVariables"]}
    assert named.keys() <= SETTINGS
    secret = {name for name, variable in named.items() if variable.get("isSecret")}
    assert secret == named.keys() & {"PIAPI_API_KEY", "PIAPI_WEBHOOK_SECRET", "PIAPI_MCP_ACCESS_TOKEN"}
    assert all(variable["description"] for variable in named.values())


def test_the_two_packages_name_every_setting() -> None:
    named = {variable["name"] for package in SERVER["packages"] for variable in package["environmentVariables"]}
    assert named == SETTINGS
    assert MANIFEST["server"]["mcp_config"]["env"].keys() <= SETTINGS


def test_the_readme_proves_ownership() -> None:
    """The registry looks for this marker in the published package, and for a character after it that ends the name."""
    assert re.search(rf"mcp-name: {re.escape(SERVER['name'])} -->", (ROOT / "README.md").read_text())
    assert f'"{SERVER["name"]}"' in (ROOT / "Dockerfile").read_text()


def test_the_repository_is_the_same_everywhere() -> None:
    repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    assert SERVER["repository"]["url"] == MANIFEST["repository"]["url"] == PLUGIN["repository"] == repository


def test_the_skill_names_only_tools_that_exist() -> None:
    from piapi_mcp.server.tools import build_tools

    skill = (ROOT / "plugin/skills/upscale-with-piapi/SKILL.md").read_text()
    tools = {tool.name for tool in build_tools()}
    assert set(re.findall(r"`([a-z]+_[a-z]+)`", skill)) >= {"get_task", "list_tasks", "save_result"}
    arguments = {name for tool in build_tools() for name in tool.parameters["properties"]}
    answers = {"quoted_usd", "at_most_usd", "charged_usd", "result_urls", "next_step"}
    assert set(re.findall(r"`([a-z]+_[a-z_]+)`", skill)) <= tools | arguments | answers
