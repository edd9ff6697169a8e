"""Administration: who may, what is refused, what is recorded, and that a change is never without its record."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.people_harness import PASSWORD, USERS, Harness, harness

from rempart.kernel.errors import Unavailable


async def as_administrator(h: Harness, email: str = "root@bank.example") -> dict[str, str]:
    await h.add(email, "admin")
    token = (await h.login(email)).json()["access_token"]
    return {"authorization": f"Bearer {token}", "x-spiffe-id": USERS, "x-request-id": "req-9"}


def test_both_the_workload_and_the_person_must_be_right() -> None:
    async def scenario() -> None:
        async with harness() as h:
            headers = await as_administrator(h)
            user = await h.add("ann@bank.example")
            anns = "Bearer " + (await h.login("ann@bank.example")).json()["access_token"]
            cases: list[tuple[dict[str, str], int, str]] = [
                ({}, 200, ""),
                ({"x-spiffe-id": "spiffe://bank.example/wallet"}, 403, "workload_not_allowed"),
                ({"x-spiffe-id": "spiffe://bank.example/rempart/gateway"}, 403, "workload_not_allowed"),
                ({"x-spiffe-id": USERS + "/"}, 403, "workload_not_allowed"),
                ({"x-spiffe-id": ""}, 403, "workload_not_allowed"),
                ({"authorization": anns}, 403, "not_an_administrator"),
                ({"authorization": ""}, 401, "missing_token"),
                ({"authorization": "Basic cm9vdDpyb290"}, 401, "missing_token"),
                ({"authorization": headers["authorization"][:-2]}, 401, "invalid_token"),
            ]
            for change, status, code in cases:
                for method, path in (("GET", "/accounts"), ("GET", f"/accounts/{user['id']}")):
                    answer = await h.api.request(method, path, headers={**headers, **change})
                    assert (answer.status_code, answer.json().get("code", "")) == (status, code)
                    assert ("www-authenticate" in answer.headers) == (status == 401)

    asyncio.run(scenario())


def test_two_callers_in_one_request_are_none() -> None:
    async def scenario() -> None:
        async with harness() as h:
            headers = await as_administrator(h)
            for name in ("x-spiffe-id", "authorization"):
                twice = [*headers.items(), (name, headers[name])]
                answer = await h.api.get("/accounts", headers=twice)
                assert (answer.status_code, answer.json()["code"]) == (400, "duplicate_header")

    asyncio.run(scenario())


def test_a_token_of_before_the_demotion_administers_nothing() -> None:
    async def scenario() -> None:
        async with harness() as h:
            headers = await as_administrator(h)
            other = await as_administrator(h, "second@bank.example")
            root = (await h.admin.get("/users/root@bank.example")).json()
            assert (
                await h.api.patch(f"/accounts/{root['id']}", json={"role": "user"}, headers=other)
            ).status_code == 200
            assert (await h.api.get("/accounts", headers=headers)).json()["code"] == "invalid_token"
            await h.admin.patch(f"/users/{root['id']}", json={"disabled": True})
            assert (await h.api.get("/accounts", headers=headers)).status_code == 401

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"role": "emperor"}, 400, "bad_role"),
        ({"role": 7}, 400, "bad_body"),
        ({"role": None}, 400, "bad_body"),
        ({"disabled": "yes"}, 400, "bad_body"),
        ({"disabled": 1}, 400, "bad_body"),
        ({"payment_limit": -1}, 400, "bad_payment_limit"),
        ({"payment_limit": 1.5}, 400, "bad_body"),
        ({"payment_limit": "100"}, 400, "bad_body"),
        ({"payment_limit": True}, 400, "bad_body"),
        ({"payment_limit": 10**18}, 400, "bad_payment_limit"),
        ({"payment_limit": 10**30}, 400, None),
        ({"email": "root@bank.example"}, 409, "email_taken"),
        ({"email": "ann@bank.exаmple"}, 400, "bad_email"),
        ({"email": "a b@c"}, 400, "bad_email"),
        ({"display_name": ""}, 400, "bad_name"),
        ({"display_name": "a\u202eb"}, 400, "bad_name"),
        ({"display_name": "x" * 101}, 400, "bad_name"),
        ({"id": "usr_other"}, 400, "bad_body"),
        ({"version": 7}, 400, "bad_body"),
        ({"password": PASSWORD}, 400, "bad_body"),
        ({}, 400, "nothing_to_change"),
        ([], 400, "bad_body"),
    ],
)
def test_what_a_change_may_not_be(body: Any, status: int, code: str | None) -> None:
    async def scenario() -> None:
        async with harness() as h:
            headers = await as_administrator(h)
            user = await h.add("ann@bank.example")
            answer = await h.api.patch(f"/accounts/{user['id']}", json=body, headers=headers)
            assert answer.status_code == status
            assert code is None or answer.json()["code"] == code
            assert answer.headers["content-type"] == "application/problem+json"
            assert (await h.admin.get(f"/users/{user['id']}")).json() == {
                k: v for k, v in user.items() if k != "password"
            }

    asyncio.run(scenario())


def test_changes_are_recorded_with_both_sides_and_the_chain_of_actors() -> None:
    async def scenario() -> None:
        async with harness() as h:
            headers = await as_administrator(h)
            user = await h.add("ann@bank.example", payment_limit=500)
            changed = await h.api.patch(
                f"/accounts/{user['id']}",
                json={"role": "finance", "payment_limit": None, "display_name": "Ann"},
                headers=headers,
            )
            assert changed.json()["payment_limit"] is None
            event = h.recorder.events[-1]
            root = (await h.admin.get("/users/root@bank.example")).json()["id"]
            assert (str(event.type), event.person, event.role, event.workload, event.request_id) == (
                "people.role_changed", root, "admin", USERS, "req-9")  # fmt: skip
            assert event.before is not None
            assert event.after is not None
            assert (event.before["role"], event.after["role"]) == ("user", "finance")
            assert (event.before["payment_limit"], event.after["payment_limit"]) == (500, None)

    asyncio.run(scenario())


def test_one_may_not_change_ones_own_role_and_the_last_administrator_stays() -> None:
    async def scenario() -> None:
        async with harness() as h:
            headers = await as_administrator(h)
            root = (await h.admin.get("/users/root@bank.example")).json()["id"]
            own = await h.api.patch(f"/accounts/{root}", json={"role": "finance"}, headers=headers)
            assert (own.status_code, own.json()["code"]) == (403, "own_role")
            last = await h.api.patch(f"/accounts/{root}", json={"disabled": True}, headers=headers)
            assert (last.status_code, last.json()["code"]) == (409, "last_admin")
            operator = await h.admin.patch(f"/users/{root}", json={"role": "user"})
            assert operator.json()["code"] == "last_admin"
            assert [event.success for event in h.recorder.events[-3:]] == [False] * 3

    asyncio.run(scenario())


def test_two_administrators_who_disable_each_other_at_once() -> None:
    async def scenario() -> None:
        async with harness() as h:
            one, two = await as_administrator(h), await as_administrator(h, "second@bank.example")
            ids = [(await h.admin.get(f"/users/{email}@bank.example")).json()["id"] for email in ("root", "second")]
            answers = await asyncio.gather(
                h.api.patch(f"/accounts/{ids[1]}", json={"disabled": True}, headers=one),
                h.api.patch(f"/accounts/{ids[0]}", json={"disabled": True}, headers=two),
            )
            assert sorted(answer.status_code for answer in answers)[0] == 200
            enabled = [user for user in (await h.admin.get("/users")).json()["users"] if not user["disabled"]]
            assert len(enabled) == 1

    asyncio.run(scenario())


def test_concurrent_changes_are_all_applied_or_refused_and_each_recorded_once() -> None:
    async def scenario() -> None:
        async with harness() as h:
            headers = await as_administrator(h)
            user = await h.add("ann@bank.example")
            changes = [
                h.api.patch(f"/accounts/{user['id']}", json={"payment_limit": limit}, headers=headers)
                for limit in range(1, 9)
            ]
            answers = await asyncio.gather(*changes)
            applied = [answer for answer in answers if answer.status_code == 200]
            assert {answer.status_code for answer in answers} <= {200, 409}
            shown = (await h.admin.get(f"/users/{user['id']}")).json()
            assert shown["version"] == 1 + len(applied)
            recorded = [e for e in h.recorder.events if str(e.type) == "people.account_changed" and e.success]
            versions = [event.after["version"] for event in recorded if event.after]
            assert sorted(versions) == list(range(2, 2 + len(applied)))

    asyncio.run(scenario())


def test_a_change_is_recorded_even_when_the_journal_was_down() -> None:
    async def scenario() -> None:
        async with harness() as h:
            headers = await as_administrator(h)
            user = await h.add("ann@bank.example")
            before = len(h.recorder.events)
            h.recorder.failing = Unavailable("journal_unavailable", "full")
            answer = await h.api.patch(f"/accounts/{user['id']}", json={"payment_limit": 5}, headers=headers)
            assert answer.status_code == 503
            h.recorder.failing = None
            await h.people.maintain()
            await h.people.maintain()
            assert [str(event.type) for event in h.recorder.events[before:]] == ["people.account_changed"]

    asyncio.run(scenario())


def test_the_payment_subset_is_for_the_services_of_payment_alone() -> None:
    async def scenario() -> None:
        async with harness() as h:
            user = await h.add("ann@bank.example", payment_limit=900)
            await h.admin.patch(f"/users/{user['id']}", json={"disabled": True})
            for service, status in (("payment", 200), ("wallet", 200), ("users", 403), ("rempart/gateway", 403)):
                caller = {"x-spiffe-id": f"spiffe://bank.example/{service}"}
                answer = await h.api.get(f"/accounts/{user['id']}/payment", headers=caller)
                assert answer.status_code == status
                if status == 200:
                    assert answer.json() == {
                        "id": user["id"], "exists": True, "disabled": True, "payment_limit": 900}  # fmt: skip
            caller = {"x-spiffe-id": "spiffe://bank.example/payment"}
            unknown = (await h.api.get("/accounts/usr_nobody/payment", headers=caller)).json()
            assert (unknown["exists"], unknown["payment_limit"]) == (False, None)
            assert (await h.api.get("/accounts/..%2fadmin/payment", headers=caller)).status_code in (400, 404)

    asyncio.run(scenario())


def test_pages_of_accounts() -> None:
    async def scenario() -> None:
        async with harness() as h:
            headers = await as_administrator(h)
            for number in range(7):
                await h.add(f"p{number}@bank.example")
            seen: list[str] = []
            query = "limit=3"
            while query:
                page = (await h.api.get(f"/accounts?{query}", headers=headers)).json()
                seen += [account["email"] for account in page["accounts"]]
                query = f"limit=3&after={page['next']}" if "next" in page else ""
            assert len(seen) == len(set(seen)) == 8
            for bad in ("limit=0", "limit=-1", "limit=1e9", "limit=٣", "limit=201", "limit="):
                assert (await h.api.get(f"/accounts?{bad}", headers=headers)).status_code == 400

    asyncio.run(scenario())


def test_userinfo_is_the_account_as_it_is_now() -> None:
    async def scenario() -> None:
        async with harness() as h:
            user = await h.add("ann@bank.example")
            token = {"authorization": "Bearer " + (await h.login("ann@bank.example")).json()["access_token"]}
            await h.admin.patch(f"/users/{user['id']}", json={"display_name": "Ann of Rempart"})
            answer = (await h.api.get("/auth/userinfo", headers=token)).json()
            assert (answer["sub"], answer["name"]) == (user["id"], "Ann of Rempart")
            await h.admin.patch(f"/users/{user['id']}", json={"disabled": True})
            refused = await h.api.get("/auth/userinfo", headers=token)
            assert refused.status_code == 401
            assert 'error="invalid_token"' in refused.headers["www-authenticate"]

    asyncio.run(scenario())
