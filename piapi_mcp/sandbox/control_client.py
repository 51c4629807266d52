"""Controls a running sandbox from another process or thread; for tests and benchmarks."""

import ssl
import time
from typing import Any

import httpx

from piapi_mcp.sandbox.state import FaultKind, Route


class SandboxControl:
    """A client of the control routes of the sandbox at *base_url*."""

    def __init__(self, base_url: str) -> None:
        # The sandbox speaks plain HTTP. A TLS context without certificates saves the 30 ms that loading them takes.
        no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx.Client(base_url=base_url, verify=no_certificates, trust_env=False, timeout=30)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def reset(self, **settings: Any) -> None:
        """Delete all accounts, tasks, faults and results; then apply *settings* on top of the server's own."""
        self._post("/_sandbox/reset", settings)

    def set(self, **settings: Any) -> None:
        """Change settings (see `state.Settings`); `balance_points` also changes the balance of existing accounts."""
        self._post("/_sandbox/settings", settings)

    def fault(self, route: Route, kind: FaultKind, **details: Any) -> None:
        """Inject a fault into *route*; *details* are the other fields of `state.Fault`."""
        self._post("/_sandbox/faults", {"route": route, "kind": kind, **details})

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._http.delete("/_sandbox/faults").raise_for_status()

    def requests(self, route: Route | None = None) -> list[dict[str, Any]]:
        """Return the log of requests since the last reset; only those to *route* if it is given."""
        return [request for request in self._state()["requests"] if route in (None, request["route"])]

    def wait_for(self, route: Route, *, times: int = 1, timeout_s: float = 10) -> None:
        """Wait until *route* has received *times* requests since the last reset.

        Raises:
            TimeoutError: That took longer than *timeout_s* seconds.
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
