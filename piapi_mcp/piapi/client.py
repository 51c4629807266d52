"""The HTTP client: one method for each PiAPI endpoint. Every failure is raised as one of our errors.

A submission is sent once; reads are retried.
"""

import asyncio
import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import httpx
from pydantic import SecretStr

from piapi_mcp.errors import RateLimitedError, RefusedError, UnreachableError
from piapi_mcp.piapi.catalog import Product, ServiceMode
from piapi_mcp.piapi.error_mapping import (
    map_refusal,
    map_transport_error,
    outcome_unknown_error,
    unknown_task_error,
    unreachable_error,
)
from piapi_mcp.piapi.models import (
    Account,
    HistoryRow,
    RemoteTask,
    parse_account,
    parse_history,
    parse_task,
)
from piapi_mcp.piapi.response import ApiResponse, redact
from piapi_mcp.piapi.retry import Sleep, retry
from piapi_mcp.piapi.streaming_json import encode_json

_READ_PAUSES_S = (0.5, 1.5)
# [? 2026-11] The response for an unknown task id is not documented: a bad request or not found is assumed.
_UNKNOWN_TASK_CODES = (400, 404)
_READ_TIMEOUT = httpx.Timeout(10)
_READ_DEADLINE_S = 20.0
"""Maximum time for a read with all its retries: clients give up on a call after 60 s, which may need three reads."""
_SUBMIT_TIMEOUT_S = 60.0
_DEADLINE_S = 120.0
"""Maximum time for one request as a whole: a server that sends a few bytes at a time never hits the timeouts above."""


@dataclass(frozen=True)
class TaskConfig:
    """PiAPI's `config`: who pays for a task, and which webhook is called when it ends."""

    service_mode: ServiceMode | None = None
    webhook_endpoint: str | None = None
    webhook_secret: SecretStr | None = None

    def payload(self) -> dict[str, object]:
        """Return the JSON object that PiAPI expects, without the fields that are not set."""
        # [D 2024-10] Midjourney upscale page: without service_mode, the account's own setting applies
        config: dict[str, object] = {}
        if self.service_mode:
            config["service_mode"] = self.service_mode
        if self.webhook_endpoint:
            secret = self.webhook_secret.get_secret_value() if self.webhook_secret else ""
            config["webhook_config"] = {"endpoint": self.webhook_endpoint, "secret": secret}
        return config


NO_CONFIG = TaskConfig()


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Load the certificates once: each load takes longer than a request, and every tenant has a client."""
    return httpx.create_ssl_context()


class PiAPIClient:
    """Sends requests to PiAPI with one key. Use it as an async context manager, or call `close`."""

    def __init__(
        self,
        api_key: SecretStr,
        *,
        base_url: str,
        submit_timeout_s: float = _SUBMIT_TIMEOUT_S,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url.rstrip("/")
        self._submit_timeout = httpx.Timeout(submit_timeout_s, connect=10)
        self._sleep = sleep
        # A loopback address is never behind a proxy, whatever the environment says.
        is_loopback = httpx.URL(base_url).host in ("127.0.0.1", "localhost", "::1")
        # Redirects are not followed: the key must not travel to another host.
        self._http = httpx.AsyncClient(
            timeout=_READ_TIMEOUT, follow_redirects=False, trust_env=not is_loopback, verify=_tls_context()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def create_task(
        self,
        product: Product,
        task_input: Mapping[str, object],
        config: TaskConfig = NO_CONFIG,
    ) -> RemoteTask:
        """Submit a task once. A `Base64Media` in *task_input* is streamed.

        The request is never repeated here: PiAPI has no idempotency key, so a second one may be charged again.

        Raises:
            RefusedError: PiAPI refused the submission; nothing was bought.
            UnreachableError: The request never left; nothing was bought.
            OutcomeUnknownError: Whether the task was bought is unknown.
        """
        payload: dict[str, object] = {
            "model": product.model,
            "task_type": product.task_type,
            "input": task_input,
        }
        if settings := config.payload():
            payload["config"] = settings
        body = encode_json(payload)
        request = self._http.build_request(
            "POST",
            f"{self._base_url}/api/v1/task",
            headers={"content-type": "application/json", "content-length": str(body.length_bytes)},
            content=body.blocks(),
            timeout=self._submit_timeout,
        )
        response = await self._send(request, is_submission=True, webhook_secret=config.webhook_secret)
        if not response.is_success:
            raise map_refusal(response, is_submission=True, model=product.model)
        task = parse_task(response.data)
        if task is None:
            raise outcome_unknown_error(f"HTTP {response.status} without a task id")
        return task

    async def read_task(self, task_id: str) -> RemoteTask:
        """Read a task. The form of *task_id* must have been checked: it becomes part of the URL.

        Raises:
            UnknownTaskError: PiAPI does not show a task with that id to this key.
            RefusedError: PiAPI refused the request for another reason.
            UnreachableError: PiAPI gave no usable answer.
        """
        try:
            response = await self._read(f"/api/v1/task/{task_id}")
        except RefusedError as error:
            if type(error) is RefusedError and error.status in _UNKNOWN_TASK_CODES:
                raise unknown_task_error(task_id, error) from error
            raise
        task = parse_task(response.data)
        if task is None:
            raise unreachable_error(f"HTTP {response.status} without a task")
        return task

    async def cancel_task(self, task_id: str) -> None:
        """Ask PiAPI to cancel a pending task.

        Raises:
            RefusedError: PiAPI refused to cancel it.
            UnreachableError: PiAPI gave no usable answer; whether the task was cancelled is unknown.
        """
        # [D 2026-11] cancel task page: only a pending task can be cancelled; not documented for the toolkits
        request = self._http.build_request("DELETE", f"{self._base_url}/api/v1/task/{task_id}")
        response = await self._send(request)
        if not response.is_success:
            raise map_refusal(response, is_submission=False)

    async def read_account(self) -> Account:
        """Read the balance and the plan.

        Raises:
            RefusedError: PiAPI refused the request.
            UnreachableError: PiAPI gave no usable answer.
        """
        return parse_account((await self._read("/account/info")).data)

    async def read_history(
        self,
        *,
        page_size: int = 20,
        model: str | None = None,
        since_s: int | None = None,
    ) -> tuple[HistoryRow, ...]:
        """Read the account's newest tasks, newest first.

        Args:
            page_size: Maximum number of tasks, 10 to 100.
            model: PiAPI's short name of the model, such as `mj` or `video_toolkit`; None for all.
            since_s: Unix time in seconds; older tasks are left out.

        Raises:
            RefusedError: PiAPI refused the request.
            UnreachableError: PiAPI gave no usable answer.
        """
        query: dict[str, str | int] = {"page": 1, "page_size": page_size}  # [D 2026-11] user task history page
        if model:
            query["model"] = model
        if since_s is not None:
            query["start_time"] = since_s
        return parse_history((await self._read("/api/open/tasks/histories", query)).data)

    async def ping(self) -> None:
        """Check that PiAPI answers at all, with any status.

        Raises:
            UnreachableError: It does not.
        """
        await self._send(self._http.build_request("GET", self._base_url))

    async def _read(self, path: str, query: Mapping[str, str | int] | None = None) -> ApiResponse:
        async def read_once() -> ApiResponse:
            response = await self._send(self._http.build_request("GET", self._base_url + path, params=query))
            if not response.is_success:
                raise map_refusal(response, is_submission=False)
            if response.json is None:
                reason = f"HTTP {response.status} with a body that is not JSON"
                raise unreachable_error(reason, retry_after_s=response.retry_after_s)
            return response

        retried = (UnreachableError, RateLimitedError)
        try:
            async with asyncio.timeout(_READ_DEADLINE_S):
                return await retry(read_once, pauses_s=_READ_PAUSES_S, sleep=self._sleep, errors=retried)
        except TimeoutError:
            raise unreachable_error("no answer in time") from None

    async def _send(
        self, request: httpx.Request, *, is_submission: bool = False, webhook_secret: SecretStr | None = None
    ) -> ApiResponse:
        """Send *request* with the key and read the whole response."""
        key = self._api_key.get_secret_value()
        request.headers["x-api-key"] = key  # [D 2026-11] unified API schema
        secrets = (key, webhook_secret.get_secret_value() if webhook_secret else "")
        try:
            async with asyncio.timeout(_DEADLINE_S):
                response = await self._http.send(request)
        except TimeoutError:
            timeout = httpx.ReadTimeout(f"no complete response in {_DEADLINE_S:.0f} s")
            raise map_transport_error(timeout, is_submission=is_submission) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise map_transport_error(error, is_submission=is_submission) from error
        return ApiResponse(
            status=response.status_code,
            reason=response.reason_phrase,
            headers={name.lower(): value for name, value in response.headers.items()},
            content=redact(response.content, secrets),
        )
