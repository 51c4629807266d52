"""Serve the suite's tools, resources and prompts instead of PiAPI's tools, with our server and HTTP application."""

import sys

from fixtures import add_resources_and_prompts, build_tools
from jobs import Jobs, build_job_tools

from piapi_mcp.hosting.app import build_app_for_server
from piapi_mcp.hosting.graceful_server import serve
from piapi_mcp.server.build import build_server
from piapi_mcp.server.service_pool import ServicePool
from piapi_mcp.settings import Settings


def main() -> None:
    """Print a free port and serve on it until the process is stopped."""
    settings = Settings.from_env({"PIAPI_MCP_REQUESTS_PER_SECOND": "0"})
    pool, jobs = ServicePool(settings, over_http=True), Jobs()
    server = build_server(settings, pool=pool, tools=[*build_tools(), *build_job_tools(jobs)], tasks=jobs)
    add_resources_and_prompts(server)
    serve(
        build_app_for_server(server, pool, settings), "127.0.0.1", 0, on_listening=lambda port: print(port, flush=True)
    )


if __name__ == "__main__":
    sys.exit(main())
