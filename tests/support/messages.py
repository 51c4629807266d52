"""MCP messages as they go over the wire, for tests that use no client."""

from typing import Any

MODERN = "2026-07-28"
TASKS = "io.modelcontextprotocol/tasks"
ACCEPT = {"accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


def modern(method: str, *extensions: str, **params: Any) -> dict[str, Any]:
    """Return a request of the modern era, which has no handshake, from a client that declares *extensions*."""
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {name: {} for name in extensions}},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
