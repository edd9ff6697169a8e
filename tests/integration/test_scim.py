"""SCIM of the running process, held to scim2-tester, a compliance checker of another project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from scim2_client import BaseSyncSCIMClient
from scim2_tester import Status, check_server
from tests.people_process import GATEWAY, PeopleProcess
from tests.support import short_directory

BASE = "http://people/auth/scim/v2"


@pytest.fixture(scope="module")
def process() -> Iterator[PeopleProcess]:
    with short_directory("rp") as directory:
        people = PeopleProcess(directory)
        people.start()
        try:
            yield people
        finally:
            people.stop()
            people.close()


class Checked(BaseSyncSCIMClient):
    """scim2-client's own engine wants another HTTP library."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__()
        self.http = http

    def _stays_under_base_url(self, endpoint: str) -> bool:
        return str(self.http.build_request("GET", endpoint).url).startswith(BASE)

    def _parse_json(self, response: Any) -> Any:
        return response.json()

    def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        return self.http.request(method, url, **more)


def token(process: PeopleProcess, client_id: str, scope: str) -> str:
    with process.client("admin") as admin, process.client(**{"x-spiffe-id": GATEWAY}) as api:
        made = admin.post("/clients", json={"id": client_id, "method": "client_secret_basic", "scopes": [scope]})
        assert made.status_code == 201, made.text
        answer = api.post(
            "/auth/token",
            auth=(client_id, made.json()["secret"]),
            data={"grant_type": "client_credentials", "scope": scope},
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def scim(process: PeopleProcess) -> Iterator[httpx.Client]:
    headers = {
        "authorization": f"Bearer {token(process, 'provisioner', 'scim')}",
        "x-spiffe-id": GATEWAY,
        "content-type": "application/scim+json",
    }
    transport = httpx.HTTPTransport(uds=str(process.path("api")))
    with httpx.Client(transport=transport, base_url=BASE, headers=headers, timeout=30) as client:
        yield client


def test_another_projects_checker_finds_nothing(scim: httpx.Client) -> None:
    results = check_server(Checked(scim), resource_types=["User"])
    wrong = [
        f"{result.title}: {result.reason}"
        for result in results
        if result.status not in (Status.SUCCESS, Status.SKIPPED)
    ]
    assert not wrong, "\n".join(wrong)
    assert sum(result.status is Status.SUCCESS for result in results) > 40
