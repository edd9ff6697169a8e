"""Roles: what may be declared, and who administers whom, by every door."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.people_harness import PASSWORD, Harness, came_from, harness

from rempart.kernel.errors import BadInput, Denied
from rempart.people.administration.roles import RoleRules, Roles

DECLARED = {
    "teller": RoleRules(("till:open",)),
    "desk": RoleRules(("tickets:write",), ("user", "teller")),
    "finance": RoleRules(("transactions:read",)),
}


def test_declared_roles_stand_beside_the_built_in_ones() -> None:
    roles = Roles(DECLARED)
    assert {"user", "admin", "finance", "audit", "devops", "customer", "service", "teller", "desk"} == set(roles.all)
    assert roles.all["finance"].permissions == ("transactions:read",)
    assert roles.check("teller") == "teller"
    with pytest.raises(BadInput):
        roles.check("emperor")
    assert Roles({"admin": RoleRules(("x",))}).all["admin"].manages == ("*",)


@pytest.mark.parametrize(
    "declared",
    [
        {"desk": RoleRules(manages=("nobody",))},
        {"desk": RoleRules(manages=("admin",))},
        {"desk": RoleRules(manages=("desk",))},
        {"desk": RoleRules(manages=("under",)), "under": RoleRules(manages=("user",))},
        {"user": RoleRules(manages=("desk",)), "desk": RoleRules(manages=("user",))},
    ],
)
def test_who_manages_makes_nobody_who_manages(declared: dict[str, RoleRules]) -> None:
    with pytest.raises(BadInput):
        Roles(declared)


@pytest.mark.parametrize(
    ("role", "others", "may"),
    [
        ("admin", ("admin",), True),
        ("admin", ("a role that was declared once",), True),
        ("desk", ("user", "teller"), True),
        ("desk", ("user", "finance"), False),
        ("desk", ("desk",), False),
        ("desk", ("admin",), False),
        ("teller", ("user",), False),
        ("emperor", ("user",), False),
        ("", ("user",), False),
    ],
)
def test_reach(role: str, others: tuple[str, ...], may: bool) -> None:
    assert Roles(DECLARED).manages(role, *others) is may
    if not may:
        with pytest.raises(Denied):
            Roles(DECLARED).require(role, *others)


class Desk:
    """A person who asks `/auth/admin` with their own token."""

    def __init__(self, h: Harness, token: str) -> None:
        self.h, self.headers = h, {**came_from("203.0.113.7"), "authorization": f"Bearer {token}"}

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.h.api.request(method, "/auth/admin" + path, json=body, headers=self.headers)

    async def code(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        answer = await self.ask(method, path, body)
        return answer.status_code, answer.json().get("code", "")


async def as_person(h: Harness, email: str, role: str) -> Desk:
    await h.add(email, role)
    return Desk(h, (await h.login(email)).json()["access_token"])


def test_an_administrator_does_over_http_what_the_operator_does() -> None:
    async def body() -> None:
        async with harness(roles=DECLARED) as h:
            root = await as_person(h, "root@bank.example", "admin")
            made = await root.ask(
                "POST", "/users", {"email": "ann@bank.example", "role": "teller", "password": PASSWORD}
            )
            assert made.status_code == 201, made.text
            ann = f"/users/{made.json()['id']}"
            assert (await root.ask("PATCH", ann, {"role": "finance", "payment_limit": 5})).json()["role"] == "finance"
            assert (await root.ask("GET", "/users/ann@bank.example")).json()["payment_limit"] == 5
            await h.login("ann@bank.example")
            assert len((await root.ask("GET", f"{ann}/sessions")).json()["sessions"]) == 1
            assert (await root.ask("POST", f"{ann}/revoke", {})).json() == {"revoked": 1}
            assert "password" in (await root.ask("POST", f"{ann}/password", {})).json()
            assert (await root.ask("POST", f"{ann}/link", {"kind": "reset"})).json()["sent"] == "reset"
            assert (await root.ask("DELETE", f"{ann}/factors")).status_code == 200
            assert {role["name"] for role in (await root.ask("GET", "/roles")).json()["roles"]} >= {"desk", "teller"}
            imported = {"accounts": [{"email": "imp@bank.example", "role": "user", "password": PASSWORD}]}
            assert (await root.ask("POST", "/users/import", imported)).json()["users"][0]["outcome"] == "added"
            assert (await root.ask("DELETE", ann)).json()["display_name"] == "erased"
            changes = [event for event in h.recorder.events if event.role == "admin"]
            assert {str(event.type) for event in changes} >= {
                *("people.account_created", "people.role_changed", "people.password_reset", "people.token_revoked"),
                *("people.link_sent", "people.account_changed"),
            }
            assert all(event.person for event in changes)

    asyncio.run(body())


def test_a_desk_reaches_its_own_roles_and_no_further() -> None:
    async def body() -> None:
        async with harness(roles=DECLARED) as h:
            root = await h.add("root@bank.example", "admin")
            boss = await h.add("boss@bank.example", "finance")
            ann = await h.add("ann@bank.example", "user")
            desk = await as_person(h, "desk@bank.example", "desk")
            me = (await h.admin.get("/users/desk@bank.example")).json()
            listed = {user["email"] for user in (await desk.ask("GET", "/users")).json()["users"]}
            assert listed == {"ann@bank.example", "desk@bank.example"}
            assert await desk.code("PATCH", f"/users/{ann['id']}", {"role": "teller"}) == (200, "")
            assert await desk.code("PATCH", f"/users/{ann['id']}", {"role": "finance"}) == (403, "role_out_of_reach")
            assert await desk.code("PATCH", f"/users/{ann['id']}", {"role": "desk"}) == (403, "role_out_of_reach")
            assert await desk.code("POST", "/users", {"email": "x@b.example", "role": "admin"}) == (
                403,
                "role_out_of_reach",
            )
            for other in (root, boss):
                for method, path, sent in (
                    *(("GET", "", None), ("PATCH", "", {"disabled": True}), ("POST", "/password", {})),
                    *(("DELETE", "", None), ("POST", "/link", {}), ("POST", "/revoke", {})),
                    *(("DELETE", "/factors", None), ("GET", "/sessions", None)),
                ):
                    assert await desk.code(method, f"/users/{other['id']}{path}", sent) == (404, "no_such_account")
            assert await desk.code("PATCH", f"/users/{me['id']}", {"role": "teller"}) == (403, "own_role")
            assert await desk.code("PATCH", f"/users/{me['id']}", {"payment_limit": 10**9}) == (403, "own_limit")
            batch = {"accounts": [{"email": "y@b.example", "role": "admin"}, {"email": "z@b.example", "role": "user"}]}
            entries = (await desk.ask("POST", "/users/import", batch)).json()["users"]
            assert [entry["outcome"] for entry in entries] == ["refused", "added"]
            refused = [event for event in h.recorder.events if event.role == "desk" and not event.success]
            assert len(refused) >= 5

    asyncio.run(body())


def test_others_administer_nobody() -> None:
    async def body() -> None:
        async with harness(roles=DECLARED) as h:
            for email, role in (("u@b.example", "user"), ("t@b.example", "teller"), ("f@b.example", "finance")):
                person = await as_person(h, email, role)
                assert await person.code("GET", "/users") == (403, "not_an_administrator")
                assert await person.code("POST", "/users", {"email": "x@b.example", "role": "user"}) == (
                    403,
                    "not_an_administrator",
                )
            stranger = Desk(h, "no token")
            assert (await stranger.ask("GET", "/users")).status_code == 401

    asyncio.run(body())


def test_a_role_that_is_declared_no_more_may_nothing_and_can_be_taken_away() -> None:
    async def body() -> None:
        async with harness() as h:
            ann = await h.add("ann@bank.example", "user")
            await h.people.database.write(lambda tx: tx.execute("UPDATE accounts SET role = 'desk'").rowcount)
            person = Desk(h, (await h.login("ann@bank.example")).json()["access_token"])
            assert await person.code("GET", "/users") == (403, "not_an_administrator")
            assert (await h.admin.patch(f"/users/{ann['id']}", json={"role": "desk"})).json()["code"] == "bad_role"
            assert (await h.admin.patch(f"/users/{ann['id']}", json={"role": "user"})).status_code == 200

    asyncio.run(body())
