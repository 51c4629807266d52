"""The HTTP client: one method for each of PiAPI's endpoints, every failure one of our errors.

A submission is sent once. Reads are tried again, with growing pauses and jitter.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Self

import httpx
from pydantic import SecretStr

from piapi_mcp.errors import RateLimitedError, RefusedError, UnreachableError
from piapi_mcp.piapi.catalog import Product, ServiceMode
from piapi_mcp.piapi.error_mapping import outcome_unknown, refusal, transport_error, unknown_task, unreachable
from piapi_mcp.piapi.models import (
    Account,
    HistoryRow,
    RemoteTask,
    parse_account,
    parse_history,
    parse_task,
)
from piapi_mcp.piapi.response import Reply, redact
from piapi_mcp.piapi.streaming_json import json_body

_READ_PAUSES_S = (0.5, 1.5)
"""Pauses before a read is tried again, give or take 30 %."""
_MAX_RETRY_AFTER_S = 10.0
"""A longer `Retry-After` is handed to the caller instead of being waited for."""
_UNKNOWN_TASK_CODES = (400, 404)
"""What PiAPI answers for an id it does not know is not documented [?]: a bad request, or not found."""
_READ_TIMEOUT = httpx.Timeout(10)
_READ_DEADLINE_S = 20.0
"""Longest time for a read with all its attempts: clients give up on a call after 60 seconds, which may hold three."""
_SUBMIT_TIMEOUT_S = 60.0
_DEADLINE_S = 120.0
"""Longest time for one request as a whole: a server that trickles never runs into the timeouts above."""


@dataclass(frozen=True)
class TaskConfig:
    """What PiAPI calls `config`: who pays, and whom it tells when the task ends."""

    service_mode: ServiceMode | None = None
    webhook_endpoint: str | None = None
    webhook_secret: SecretStr | None = None

    def payload(self) -> dict[str, object]:
        """Return the JSON object that PiAPI expects, without what is not set."""
        # [D] Midjourney upscale page: an absent service_mode means the account's own setting
        config: dict[str, object] = {}
        if self.service_mode:
            config["service_mode"] = self.service_mode
        if self.webhook_endpoint:
            secret = self.webhook_secret.get_secret_value() if self.webhook_secret else ""
            config["webhook_config"] = {"endpoint": self.webhook_endpoint, "secret": secret}
        return config


NO_CONFIG = TaskConfig()


class PiAPIClient:
    """Speaks to PiAPI with one key. Use it as an async context manager, or call `close`."""

    def __init__(
        self,
        api_key: SecretStr,
        *,
        base_url: str,
        submit_timeout_s: float = _SUBMIT_TIMEOUT_S,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url.rstrip("/")
        self._submit_timeout = httpx.Timeout(submit_timeout_s, connect=10)
        self._sleep = sleep
        # A loopback address is never behind a proxy, whatever the environment says.
        is_loopback = httpx.URL(base_url).host in ("127.0.0.1", "localhost", "::1")
        # Redirects are not followed: the key must not travel to another host.
        self._http = httpx.AsyncClient(timeout=_READ_TIMEOUT, follow_redirects=False, trust_env=not is_loopback)

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
        """Submit a task, once; a `Base64Media` in *task_input* is streamed.

        Raises:
            RefusedError: PiAPI said no; nothing was bought.
            UnreachableError: The request never left; nothing was bought.
            OutcomeUnknownError: Nobody can say whether it was bought.
        """
        payload: dict[str, object] = {
            "model": product.model,
            "task_type": product.task_type,
            "input": task_input,
        }
        if settings := config.payload():
            payload["config"] = settings
        request = self._post(f"{self._base_url}/api/v1/task", payload)
        reply = await self._exchange(request, buying=True, webhook_secret=config.webhook_secret)
        task = parse_task(reply.data) if reply.is_success else None
        if task is not None:
            return task
        if reply.is_success:
            raise outcome_unknown(f"HTTP {reply.status} without a task id")
        raise refusal(reply, buying=True, model=product.model)

    async def read_task(self, task_id: str) -> RemoteTask:
        """Look at a task. *task_id* must have been checked for form: it becomes part of the URL.

        Raises:
            UnknownTaskError: PiAPI does not know the task, or not with this key.
            RefusedError: PiAPI said no for another reason.
            UnreachableError: No usable answer.
        """
        try:
            reply = await self._read(f"/api/v1/task/{task_id}")
        except RefusedError as error:
            if type(error) is RefusedError and error.status in _UNKNOWN_TASK_CODES:
                raise unknown_task(task_id, error) from error
            raise
        task = parse_task(reply.data)
        if task is None:
            raise unreachable(f"HTTP {reply.status} without a task")
        return task

    async def cancel_task(self, task_id: str) -> None:
        """Ask PiAPI to cancel a pending task.

        Raises:
            RefusedError: PiAPI said no.
            UnreachableError: No usable answer: the task may or may not be cancelled.
        """
        # [D] cancel task page: only a pending task; not documented for the toolkits
        request = self._http.build_request("DELETE", f"{self._base_url}/api/v1/task/{task_id}")
        reply = await self._exchange(request)
        if not reply.is_success:
            raise refusal(reply, buying=False)

    async def read_account(self) -> Account:
        """Read the balance and the plan.

        Raises:
            RefusedError: PiAPI said no.
            UnreachableError: No usable answer.
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
            page_size: 10 to 100.
            model: PiAPI's short name, such as `mj` or `video_toolkit`; None for all.
            since_s: Unix time in seconds of the oldest task wanted.

        Raises:
            RefusedError: PiAPI said no.
            UnreachableError: No usable answer.
        """
        query: dict[str, str | int] = {"page": 1, "page_size": page_size}  # [D] user task history page
        if model:
            query["model"] = model
        if since_s is not None:
            query["start_time"] = since_s
        return parse_history((await self._read("/api/open/tasks/histories", query)).data)

    async def ping(self) -> None:
        """Return if PiAPI answers at all, whatever it says.

        Raises:
            UnreachableError: It does not.
        """
        await self._exchange(self._http.build_request("GET", self._base_url))

    async def _read(self, path: str, query: Mapping[str, str | int] | None = None) -> Reply:
        try:
            async with asyncio.timeout(_READ_DEADLINE_S):
                return await self._read_patiently(path, query)
        except TimeoutError:
            raise unreachable("no answer in time") from None

    async def _read_patiently(self, path: str, query: Mapping[str, str | int] | None) -> Reply:
        for pause_s in (*_READ_PAUSES_S, None):
            reply: Reply | None = None
            try:
                reply = await self._exchange(self._http.build_request("GET", self._base_url + path, params=query))
                if not reply.is_success:
                    raise refusal(reply, buying=False)
                if reply.json is None:
                    raise unreachable(f"HTTP {reply.status} with something else than JSON")
            except (UnreachableError, RateLimitedError):
                asked_s = (reply.retry_after_s if reply else None) or 0.0
                if pause_s is None or asked_s > _MAX_RETRY_AFTER_S:
                    raise
            else:
                return reply
            await self._sleep(max(asked_s, pause_s * random.uniform(0.7, 1.3)))  # noqa: S311 -- jitter, not a secret
        raise AssertionError  # the last attempt has returned or raised

    def _post(self, url: str, payload: Mapping[str, object]) -> httpx.Request:
        body = json_body(payload)
        headers = {"content-type": "application/json", "content-length": str(body.length_bytes)}
        return self._http.build_request(
            "POST", url, headers=headers, content=body.blocks(), timeout=self._submit_timeout
        )

    async def _exchange(
        self, request: httpx.Request, *, buying: bool = False, webhook_secret: SecretStr | None = None
    ) -> Reply:
        """Send *request* and read the whole reply."""
        key = self._api_key.get_secret_value()
        request.headers["x-api-key"] = key  # [D] unified API schema
        secrets = (key, webhook_secret.get_secret_value() if webhook_secret else "")
        try:
            async with asyncio.timeout(_DEADLINE_S):
                response = await self._http.send(request)
        except TimeoutError:
            raise transport_error(httpx.ReadTimeout(f"no full reply in {_DEADLINE_S:.0f} s"), buying=buying) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise transport_error(error, buying=buying) from error
        return Reply(
            status=response.status_code,
            reason=response.reason_phrase,
            headers={name.lower(): value for name, value in response.headers.items()},
            content=redact(response.content, secrets),
        )
