"""Steers a running sandbox from another process or thread: tests, benchmarks."""

import time
from typing import Any, Literal

import httpx

from piapi_mcp.sandbox.state import Route


class SandboxControl:
    """Speaks to the control routes of the sandbox at *base_url*."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.Client(base_url=base_url, trust_env=False, timeout=30)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def reset(self, **settings: Any) -> None:
        """Forget everything; then set what *settings* name (see `world.Settings`)."""
        self._post("/_sandbox/reset", {})
        self.set(**settings)

    def set(self, **settings: Any) -> None:
        """Change settings (see `world.Settings`); a new balance counts for every account."""
        self._post("/_sandbox/settings", settings)

    def fault(self, route: Route, kind: Literal["answer", "delay", "cut", "fail_task"], **details: Any) -> None:
        """Plan a misbehaviour (see `world.Fault`)."""
        self._post("/_sandbox/faults", {"route": route, "kind": kind, **details})

    def clear_faults(self) -> None:
        """Forget every planned misbehaviour."""
        self._http.delete("/_sandbox/faults").raise_for_status()

    def requests(self, route: Route | None = None) -> list[dict[str, Any]]:
        """Return what was asked since the last reset, of one *route* where given."""
        return [request for request in self._state()["requests"] if route in (None, request["route"])]

    def wait_for(self, route: Route, *, times: int = 1, timeout_s: float = 10) -> None:
        """Return as soon as *route* was asked so many *times*.

        Raises:
            TimeoutError: If that takes longer than *timeout_s* seconds.
        """
        ends_at = time.monotonic() + timeout_s
        while len(self.requests(route)) < times:
            if time.monotonic() > ends_at:
                raise TimeoutError
            time.sleep(0.01)

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks that were submitted since the last reset."""
        return self._state()["tasks"]

    def _state(self) -> dict[str, Any]:
        return self._http.get("/_sandbox/state").raise_for_status().json()

    def _post(self, path: str, body: dict[str, Any]) -> None:
        self._http.post(path, json=body).raise_for_status()
