"""The HTTP client: one method for each PiAPI endpoint. Every failure is raised as one of our errors.

A submission is sent once; reads are retried.
"""

import asyncio
import contextlib
import functools
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import httpx
from pydantic import SecretStr

from piapi_mcp.errors import RateLimitedError, RefusedError, UnreachableError
from piapi_mcp.piapi.catalog import Product, ServiceMode
from piapi_mcp.piapi.error_mapping import (
    map_read_error,
    map_submission_error,
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
from piapi_mcp.piapi.response import MAX_RESPONSE_BYTES, ApiResponse, redact
from piapi_mcp.piapi.retry import Sleep, retry
from piapi_mcp.piapi.streaming_json import JsonBody, encode_json

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
    mark: str | None = None
    """A token of our own by which the task is recognised, sent as the secret where there is no other."""

    def payload(self) -> dict[str, object]:
        """Return the JSON object that PiAPI expects, without the fields that are not set."""
        # [D 2024-10] Midjourney upscale page: without service_mode, the account's own setting applies
        config: dict[str, object] = {}
        if self.service_mode:
            config["service_mode"] = self.service_mode
        # [D 2024-10] Midjourney upscale page: its examples show an empty endpoint with an empty secret
        # [I 2026-11] so a secret without an endpoint is accepted
        secret = self.webhook_secret.get_secret_value() if self.webhook_secret else self.mark or ""
        if self.webhook_endpoint or secret:
            config["webhook_config"] = {"endpoint": self.webhook_endpoint or "", "secret": secret}
        return config


NO_CONFIG = TaskConfig()


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Load the certificates once: each load takes longer than a request, and every tenant has a client."""
    return httpx.create_ssl_context()


def _canonical(base_url: str) -> str:
    """Return the one spelling of a base URL: host in lower case, no default port, no slash at the end."""
    return str(httpx.URL(base_url)).rstrip("/")


async def _guarded(body: JsonBody, before_sending: Callable[[], Awaitable[None]] | None) -> AsyncIterator[bytes]:
    if before_sending is not None:
        await before_sending()
    async for block in body.blocks():
        yield block


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
        self.base_url = _canonical(base_url)
        """The base URL in its one spelling, by which accounts are told apart."""
        self._submit_timeout = httpx.Timeout(submit_timeout_s, connect=10)
        self._sleep = sleep
        self.clock_offset_s = 0.0
        """How far PiAPI's clock is ahead of this machine's, in seconds, as of the last response."""
        # A loopback address is never behind a proxy, whatever the environment says.
        is_loopback = httpx.URL(base_url).host in ("127.0.0.1", "localhost", "::1")
        # Redirects are not followed: the key must not travel to another host.
        self._http = httpx.AsyncClient(
            timeout=_READ_TIMEOUT, follow_redirects=False, trust_env=not is_loopback, verify=tls_context()
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
        *,
        before_sending: Callable[[], Awaitable[None]] | None = None,
    ) -> RemoteTask:
        """Submit a task once. A `Base64Media` in *task_input* is streamed.

        *before_sending* is called when the connection is made, right before the body is sent; if it raises, the request
        is broken off and PiAPI gets none of the body.

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
            f"{self.base_url}/api/v1/task",
            headers={"content-type": "application/json", "content-length": str(body.length_bytes)},
            content=_guarded(body, before_sending),
            timeout=self._submit_timeout,
        )
        response = await self._send(request, is_submission=True, webhook_secret=config.webhook_secret)
        if not response.is_success:
            raise map_submission_error(response, model=product.model)
        task = parse_task(response.data)
        if task is not None:
            return task
        if response.task_id is None:
            raise outcome_unknown_error(f"HTTP {response.status} without a task id")
        return RemoteTask(response.task_id)  # the rest of the reply is damaged, but the id is what matters

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
        if task is None or task.task_id != task_id:
            raise unreachable_error(f"HTTP {response.status} without the task")
        return task

    async def cancel_task(self, task_id: str) -> None:
        """Ask PiAPI to cancel a pending task.

        Raises:
            RefusedError: PiAPI refused to cancel it.
            UnreachableError: PiAPI gave no usable answer; whether the task was cancelled is unknown.
        """
        # [D 2026-11] cancel task page: only a pending task can be cancelled; not documented for the toolkits
        request = self._http.build_request("DELETE", f"{self.base_url}/api/v1/task/{task_id}")
        response = await self._send(request)
        if not response.is_success:
            raise map_read_error(response)

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
        page: int = 1,
        page_size: int = 20,
        model: str | None = None,
        since_s: int | None = None,
    ) -> tuple[HistoryRow, ...]:
        """Read one page of the account's tasks, newest first.

        Args:
            page: From 1.
            page_size: Maximum number of tasks, 10 to 100.
            model: PiAPI's short name of the model, such as `mj` or `video_toolkit`; None for all.
            since_s: Unix time in seconds; older tasks are left out.

        Raises:
            RefusedError: PiAPI refused the request.
            UnreachableError: PiAPI gave no usable answer.
        """
        query: dict[str, str | int] = {"page": page, "page_size": page_size}  # [D 2026-11] user task history page
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
        await self._send(self._http.build_request("GET", self.base_url))

    async def _read(self, path: str, query: Mapping[str, str | int] | None = None) -> ApiResponse:
        async def read_once() -> ApiResponse:
            response = await self._send(self._http.build_request("GET", self.base_url + path, params=query))
            if not response.is_success:
                raise map_read_error(response)
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
        """Send *request* with the key and read the response, as much of it as can be used."""
        key = self._api_key.get_secret_value()
        request.headers["x-api-key"] = key  # [D 2026-11] unified API schema
        request.headers["accept-encoding"] = "identity"  # a small compressed reply could unpack into gigabytes
        secrets = (key, webhook_secret.get_secret_value() if webhook_secret else "")
        received = _Received()
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await received.read(await self._http.send(request, stream=True))
        except TimeoutError:
            error = httpx.ReadTimeout(f"no complete response in {_DEADLINE_S:.0f} s")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as caught:
            error = caught
        else:
            error = None
        response = received.response(secrets)
        # A submission whose reply broke off after the task id is as good as a whole reply.
        if error is None or (is_submission and response and response.is_success and response.task_id):
            if response is None:
                raise AssertionError  # without an error there is a response
            self._note_time(response)
            return response
        raise map_transport_error(error, is_submission=is_submission) from error

    def _note_time(self, response: ApiResponse) -> None:
        if date := response.date:
            self.clock_offset_s = date.timestamp() - time.time()


class _Received:
    """A response as far as it was received."""

    def __init__(self) -> None:
        self._response: httpx.Response | None = None
        self._content = bytearray()
        self._is_complete = False

    async def read(self, response: httpx.Response) -> None:
        """Read the body up to its limit."""
        self._response = response
        async with contextlib.aclosing(response):
            async for block in response.aiter_raw():
                self._content += block
                if len(self._content) > MAX_RESPONSE_BYTES:
                    return
        self._is_complete = True

    def response(self, secrets: Iterable[str]) -> ApiResponse | None:
        """Return what was received, without *secrets*; None if not even a status was."""
        if self._response is None:
            return None
        return ApiResponse(
            status=self._response.status_code,
            reason=self._response.reason_phrase,
            headers={name.lower(): value for name, value in self._response.headers.items()},
            content=redact(bytes(self._content), secrets),
            is_complete=self._is_complete,
        )
