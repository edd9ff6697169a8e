"""F6: administrators see and change accounts; nobody else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.bank_support import Bank, code, play
from tests.sdk_support import headers


def test_an_administrator_reads_and_changes(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        given = headers("root", "admin")
        listed = (await bank.users.get("/users?limit=2&after=x", headers=given)).json()
        assert [user["id"] for user in listed["users"]] == ["ann", "bob", "eve"]
        assert listed["next"] == "cursor"
        assert listed["query"] == "after=x&limit=2"
        assert (await bank.users.get("/users/ann", headers=given)).json()["payment_limit"] == 5000
        changed = await bank.users.patch("/users/ann", headers=given, json={"payment_limit": None, "disabled": True})
        assert changed.json() == {"id": "ann", "payment_limit": None, "disabled": True}
        assert bank.people.changes == [("ann", {"payment_limit": None, "disabled": True}, "root")]
        assert code(await bank.users.get("/users/none", headers=given)) == (404, "no_such_account")

    play(tmp_path, body)


@pytest.mark.parametrize("role", ["user", "finance", "audit", "devops", "customer", "service", "Admin", ""])
def test_nobody_else_does(tmp_path: Path, role: str) -> None:
    async def body(bank: Bank) -> None:
        given = headers("ann", role)
        for method, path in (("GET", "/users"), ("GET", "/users/ann"), ("PATCH", "/users/ann")):
            answer = await bank.users.request(method, path, headers=given, json={"role": "admin"})
            assert code(answer) == (403, "role_required")
        assert not bank.people.changes

    play(tmp_path, body)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"id": "bob"},
        {"password": "x"},
        {"disabled": "yes"},
        {"disabled": None},
        {"payment_limit": "5"},
        {"payment_limit": 1.5},
        {"role": ["admin"]},
        [],
        None,
    ],
)
def test_bad_changes(tmp_path: Path, change: Any) -> None:
    async def body(bank: Bank) -> None:
        answer = await bank.users.patch("/users/ann", headers=headers("root", "admin"), json=change)
        assert code(answer) in ((400, "bad_body"), (400, "bad_content_type"))
        assert not bank.people.changes

    play(tmp_path, body)


@pytest.mark.parametrize(
    "path", ["/users/a%2Fb", "/users/..%2Faccounts", "/users/a%00", "/users/a%3Fb", "/users/é", "/users/a;b"]
)
def test_an_id_is_an_id(tmp_path: Path, path: str) -> None:
    async def body(bank: Bank) -> None:
        answer = await bank.users.get(path, headers=headers("root", "admin"))
        assert answer.status_code == 404

    play(tmp_path, body)
