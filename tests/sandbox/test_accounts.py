"""Ours: keys belong to accounts, and several keys may belong to one."""

from typing import Any

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample

BODY = {
    "model": "midjourney",
    "task_type": "upscale",
    "input": {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "3"},
}
KEYS_OF_ONE_ACCOUNT = ("sandbox-a", "sandbox-a~new", "sandbox-a~~", "sandbox-a~1~2")


def get_data(http: httpx.Client, path: str, key: str) -> dict[str, Any]:
    return http.get(path, headers={"x-api-key": key}).raise_for_status().json()["data"]


def test_all_keys_of_an_account_share_its_balance_tasks_and_history(http: httpx.Client) -> None:
    reply = http.post("/api/v1/task", json=BODY, headers={"x-api-key": "sandbox-a~old"})
    task_id = reply.json()["data"]["task_id"]
    for key in KEYS_OF_ONE_ACCOUNT:
        assert get_data(http, "/account/info", key)["wallet"]["point_remain"] == 100_000_000 - 100_000
        assert get_data(http, f"/api/v1/task/{task_id}", key)["task_id"] == task_id
        assert get_data(http, "/api/open/tasks/histories", key)["data"][0]["task_id"] == task_id


def test_all_keys_of_an_account_share_its_limit_on_running_tasks(http: httpx.Client, sandbox: SandboxControl) -> None:
    sandbox.set(polls=5, max_concurrent_tasks=1)
    replies = [http.post("/api/v1/task", json=BODY, headers={"x-api-key": key}) for key in KEYS_OF_ONE_ACCOUNT[:2]]
    assert [reply.status_code for reply in replies] == [200, 400]


@pytest.mark.parametrize("other_key", ["sandbox-b", "sandbox-ab", "sandbox", "sandbox~a"])
def test_each_account_has_an_id_of_its_own_that_survives_a_reset(
    http: httpx.Client, sandbox: SandboxControl, other_key: str
) -> None:
    ids = {get_data(http, "/account/info", key)["account_id"] for key in KEYS_OF_ONE_ACCOUNT}
    sandbox.reset()
    (account_id,) = ids | {get_data(http, "/account/info", "sandbox-a")["account_id"]}
    assert get_data(http, "/account/info", other_key)["account_id"] != account_id


def test_the_account_id_can_be_left_out(http: httpx.Client, sandbox: SandboxControl) -> None:
    with_id = set(get_data(http, "/account/info", "sandbox-a"))
    sandbox.set(shows_account_id=False)
    assert with_id - set(get_data(http, "/account/info", "sandbox-a")) == {"account_id"}
