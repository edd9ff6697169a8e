"""SCIM over HTTP: who may ask, users, groups, pages, versions; and no body that breaks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.people_harness import PASSWORD, Harness, came_from, harness

from rempart.people.administration.scim import groups

BASE = "/auth/scim/v2"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


@dataclass
class Scim:
    h: Harness
    token: str

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        given = {**came_from("203.0.113.7"), "authorization": f"Bearer {self.token}", **headers}
        given.setdefault("content-type", "application/scim+json")
        return await self.h.api.request(method, BASE + path, json=body, headers=given)

    async def create(self, user_name: str, **more: Any) -> dict[str, Any]:
        answer = await self.ask("POST", "/Users", {"schemas": [USER], "userName": user_name, **more})
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def patch(self, path: str, *operations: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.ask("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)}, **headers)


async def client_token(h: Harness, client_id: str, scope: str) -> str:
    body = {"id": client_id, "method": "client_secret_basic", "scopes": [scope]}
    made = (await h.admin.post("/clients", json=body)).json()
    data = {"grant_type": "client_credentials", "scope": scope}
    answer = await h.api.post(
        "/auth/token", auth=(client_id, made["secret"]), data=data, headers=came_from("203.0.113.7")
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


@asynccontextmanager
async def scim(**options: Any) -> AsyncIterator[Scim]:
    async with harness(**options) as h:
        yield Scim(h, await client_token(h, "provisioner", "scim"))


def play(body: Callable[[Scim], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run() -> None:
        async with scim(**options) as s:
            await body(s)

    asyncio.run(run())


def test_only_a_client_of_that_scope_with_a_token_of_its_own() -> None:
    async def body(s: Scim) -> None:
        for path in ("/Users", "/Groups", "/ServiceProviderConfig", "/Schemas", "/ResourceTypes", "/Me"):
            answer = await s.h.api.get(BASE + path, headers=came_from("203.0.113.7"))
            assert (answer.status_code, answer.json()["status"]) == (401, "401"), path
            assert answer.headers["www-authenticate"].startswith("Bearer")
        other = Scim(s.h, await client_token(s.h, "other", "reports"))
        answer = await other.ask("GET", "/Users")
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/scim+json")
        await s.h.add("root@bank.example", "admin")
        person = Scim(s.h, (await s.h.login("root@bank.example")).json()["access_token"])
        assert (await person.ask("GET", "/Users")).status_code == 401
        await s.h.admin.delete("/clients/provisioner")
        assert (await s.ask("GET", "/Users")).status_code == 401  # its token falls with it

    play(body)


def test_a_user_is_an_account_with_all_its_rules_and_its_record() -> None:
    async def body(s: Scim) -> None:
        user = await s.create(
            "bjensen",
            emails=[{"value": "Ann@Bank.example", "type": "work"}],
            name={"givenName": "Ann"},
            password=PASSWORD,
        )
        assert "password" not in user
        assert (await s.h.login("ann@bank.example")).status_code == 200
        account = (await s.h.admin.get(f"/users/{user['id']}")).json()
        assert (account["role"], account["display_name"]) == ("user", "Ann")
        answer = await s.patch(f"/Users/{user['id']}", {"op": "replace", "path": "active", "value": "False"})
        assert answer.json()["active"] is False
        assert (await s.h.login("ann@bank.example")).status_code == 401
        changed = s.h.recorder.events[-1]
        event = next(e for e in reversed(s.h.recorder.events) if e.type == "people.account_changed")
        assert changed is not None
        assert event.details["client"] == "provisioner"
        assert event.before is not None
        assert event.after is not None
        assert (event.before["disabled"], event.after["disabled"]) == (False, True)

    play(body)


def test_names_and_addresses_are_one_persons_alone() -> None:
    async def body(s: Scim) -> None:
        await s.create("bjensen", emails=[{"value": "ann@bank.example"}])
        await s.h.add("bob@bank.example")
        for taken in (
            {"userName": "BJENSEN", "emails": [{"value": "new@bank.example"}]},
            {"userName": "other", "emails": [{"value": "ANN@bank.example"}]},
            {"userName": "Bob@bank.example"},
            {"userName": "bob@bank.example", "emails": [{"value": "new@bank.example"}]},
        ):
            answer = await s.ask("POST", "/Users", {"schemas": [USER], **taken})
            assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness"), taken
        assert (await s.create("new@bank.example"))["emails"][0]["value"] == "new@bank.example"

    play(body)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"userName": ""},
        {"userName": 7},
        {"userName": "ann"},  # without an address
        {"userName": "ann", "emails": "ann@bank.example"},
        {"userName": "ann", "emails": [{"value": "no address"}]},
        {"userName": "a@b.example", "active": "perhaps"},
        {"userName": "a@b.example", "name": ["Ann"]},
        {"userName": "a@b.example", "password": "short"},
        {"userName": "a@b.example\n"},
        {"userName": "x" * 300},
    ],
)
def test_a_user_that_cannot_be(wrong: dict[str, Any]) -> None:
    async def body(s: Scim) -> None:
        answer = await s.ask("POST", "/Users", {"schemas": [USER], **wrong})
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue")
        assert (await s.ask("GET", "/Users")).json()["totalResults"] == 0
        wrong.setdefault("userName", "a@b.example")
        assert (await s.ask("POST", "/Users", {**wrong, "schemas": []})).json()["scimType"] == "invalidSyntax"

    play(body)


def test_a_deleted_user_is_gone_and_their_name_free() -> None:
    async def body(s: Scim) -> None:
        user = await s.create("ann@bank.example")
        assert (await s.ask("DELETE", f"/Users/{user['id']}")).status_code == 204
        operation = {"schemas": [PATCH], "Operations": [{"op": "remove", "path": "title"}]}
        for method in ("GET", "DELETE", "PATCH"):
            assert (await s.ask(method, f"/Users/{user['id']}", operation)).status_code == 404
        assert (await s.ask("GET", "/Users")).json()["totalResults"] == 0
        again = await s.create("ann@bank.example")
        assert again["id"] != user["id"]
        kept = (await s.h.admin.get(f"/users/{user['id']}")).json()
        assert (kept["disabled"], "ann" in kept["email"]) == (True, False)
        enabled = await s.h.admin.patch(f"/users/{user['id']}", json={"disabled": False})
        assert enabled.json()["code"] == "account_erased"

    play(body)


def test_an_account_that_the_operator_erased_is_gone_for_scim_too() -> None:
    async def body(s: Scim) -> None:
        user = await s.create("bjensen", emails=[{"value": "ann@bank.example"}])
        await s.h.admin.delete(f"/users/{user['id']}")
        assert (await s.ask("GET", f"/Users/{user['id']}")).status_code == 404
        assert (await s.ask("GET", '/Users?filter=userName eq "bjensen"')).json()["totalResults"] == 0
        again = await s.create("bjensen", emails=[{"value": "ann@bank.example"}])
        assert again["id"] != user["id"]
        await s.h.people.sweep()

    play(body)


def test_pages_order_and_filters() -> None:
    async def body(s: Scim) -> None:
        for name in ("dora", "Adam", "cleo", "Bert"):
            await s.create(f"{name}@bank.example", externalId=f"ext-{name}", displayName=name)
        listed = (await s.ask("GET", "/Users?sortBy=userName&startIndex=2&count=2")).json()
        assert [user["displayName"] for user in listed["Resources"]] == ["Bert", "cleo"]
        assert (listed["totalResults"], listed["startIndex"], listed["itemsPerPage"]) == (4, 2, 2)
        down = (await s.ask("GET", "/Users?sortBy=displayName&sortOrder=descending&count=1")).json()
        assert down["Resources"][0]["displayName"] == "dora"
        assert (await s.ask("GET", "/Users?count=0")).json() | {"schemas": 0} == {
            "schemas": 0, "totalResults": 4, "startIndex": 1, "itemsPerPage": 0, "Resources": [],
        }  # fmt: skip
        for text, names in (
            ('userName eq "ADAM@bank.example"', ["Adam"]),
            ('emails.value eq "cleo@bank.example"', ["cleo"]),
            ('externalId eq "ext-Bert"', ["Bert"]),
            ('displayName sw "d" or displayName sw "a"', ["Adam", "dora"]),
            ('userName eq "adam@bank.example" and active eq false', []),
            ('groups.value eq "user" and not (displayName co "e")', ["Adam", "dora"]),
            ('userName eq "nobody@bank.example"', []),
        ):
            answer = await s.ask("GET", "/Users?" + str(httpx.QueryParams({"filter": text, "sortBy": "displayName"})))
            assert [user["displayName"] for user in answer.json()["Resources"]] == names, text
        searched = await s.ask(
            "POST",
            "/Users/.search",
            {
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
                "filter": 'displayName eq "cleo"',
                "attributes": ["emails.value"],
            },
        )
        resource = searched.json()["Resources"][0]
        assert resource["emails"] == [{"value": "cleo@bank.example"}]
        assert set(resource) == {"schemas", "id", "emails"}
        for bad in ("filter=userName", "sortOrder=sideways", "count=many", "attributes=a&excludedAttributes=b"):
            assert (await s.ask("GET", f"/Users?{bad}")).status_code == 400, bad

    play(body)


def test_versions_guard_against_lost_updates() -> None:
    async def body(s: Scim) -> None:
        user = await s.create("ann@bank.example")
        path, version = f"/Users/{user['id']}", user["meta"]["version"]
        read = await s.ask("GET", path)
        assert read.headers["etag"] == version
        for known in (version, f'W/"x", {version}', "*"):
            assert (await s.ask("GET", path, **{"if-none-match": known})).status_code == 304
        rename = {"op": "replace", "path": "displayName", "value": "Ann B"}
        assert (await s.patch(path, rename, **{"if-match": version})).status_code == 200
        for method, body_ in (("PATCH", {"schemas": [PATCH], "Operations": [rename]}), ("PUT", user), ("DELETE", None)):
            assert (await s.ask(method, path, body_, **{"if-match": version})).status_code == 412

    play(body)


def test_of_writes_at_once_none_is_lost() -> None:
    async def body(s: Scim) -> None:
        user = await s.create("ann@bank.example")
        path, version = f"/Users/{user['id']}", user["meta"]["version"]
        named = [{"op": "replace", "path": "displayName", "value": f"Ann {number}"} for number in range(5)]
        answers = await asyncio.gather(*(s.patch(path, one, **{"if-match": version}) for one in named))
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
        parts = [
            {"op": "replace", "path": "displayName", "value": "Ann C"},
            {"op": "replace", "path": "externalId", "value": "x-1"},
            {"op": "replace", "path": "name.givenName", "value": "Ann"},
            {"op": "replace", "path": "name.familyName", "value": "Example"},
        ]
        answers = await asyncio.gather(*(s.patch(path, one) for one in parts))
        assert [answer.status_code for answer in answers] == [200] * 4
        found = (await s.ask("GET", path)).json()
        assert (found["displayName"], found["externalId"]) == ("Ann C", "x-1")
        assert found["name"] == {"givenName": "Ann", "familyName": "Example"}
        version = (await s.ask("GET", "/Groups/finance")).json()["meta"]["version"]
        joins = [user["id"], (await s.create("bob@bank.example"))["id"]]
        group = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "finance"}
        bodies = [{**group, "members": [{"value": one}]} for one in joins]
        puts = [s.ask("PUT", "/Groups/finance", body, **{"if-match": version}) for body in bodies]
        assert sorted(answer.status_code for answer in await asyncio.gather(*puts)) == [200, 412]

    play(body)


def test_groups_are_roles_and_the_last_administrator_stays() -> None:
    async def body(s: Scim) -> None:
        root = await s.h.add("root@bank.example", "admin")
        user = await s.create("ann@bank.example")
        listed = (await s.ask("GET", "/Groups")).json()
        assert listed["totalResults"] == 7
        assert "members" not in listed["Resources"][0]
        join = {"op": "add", "path": "members", "value": [{"value": user["id"]}]}
        answer = await s.patch("/Groups/finance", join)
        assert [member["value"] for member in answer.json()["members"]] == [user["id"]]
        assert (await s.ask("GET", f"/Users/{user['id']}")).json()["groups"][0]["value"] == "finance"
        leave = {"op": "remove", "path": f'members[value eq "{user["id"]}"]'}
        assert (await s.patch("/Groups/finance", leave)).json()["members"] == []
        assert (await s.h.admin.get(f"/users/{user['id']}")).json()["role"] == "user"
        gone = {"op": "remove", "path": f'members[value eq "{root["id"]}"]'}
        for refused in (
            await s.patch("/Groups/admin", gone),
            await s.patch(f"/Users/{root['id']}", {"op": "replace", "path": "active", "value": False}),
            await s.ask("DELETE", f"/Users/{root['id']}"),
        ):
            assert refused.status_code == 409, refused.text
        assert (await s.patch("/Groups/user", leave)).status_code == 400
        stranger = {"op": "add", "path": "members", "value": [{"value": "usr_nobody"}]}
        assert (await s.patch("/Groups/finance", stranger)).status_code == 400
        assert (await s.ask("GET", "/Groups/emperor")).status_code == 404
        for method, path in (("POST", "/Groups"), ("DELETE", "/Groups/finance")):
            assert (await s.ask(method, path, {"displayName": "new"})).status_code == 403
        found = (await s.ask("GET", f'/Groups?filter=members.value eq "{root["id"]}"')).json()
        assert [group["id"] for group in found["Resources"]] == ["admin"]

    play(body)


def test_a_crowded_group_still_takes_and_gives_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MAX_MEMBERS", 2)

    async def body(s: Scim) -> None:
        users = [(await s.create(f"u{number}@bank.example"))["id"] for number in range(4)]
        for user in users:
            added = await s.patch("/Groups/finance", {"op": "add", "path": "members", "value": {"value": user}})
            assert added.status_code == 200, added.text
        assert "members" not in added.json()
        assert (await s.ask("GET", "/Groups/finance")).json()["scimType"] == "tooMany"
        gone = {"op": "remove", "path": f'members[value eq "{users[0]}"]'}
        assert (await s.patch("/Groups/finance", gone)).status_code == 200
        assert (await s.ask("GET", f"/Users/{users[0]}")).json()["groups"][0]["value"] == "user"
        everybody = {"op": "remove", "path": "members"}
        assert (await s.patch("/Groups/finance", everybody)).json()["scimType"] == "tooMany"
        moved = {"op": "remove", "path": "members", "value": [{"value": users[1]}]}
        last = await s.patch("/Groups/finance", moved)
        assert sorted(member["value"] for member in last.json()["members"]) == sorted(users[2:])

    play(body)


def test_own_roles_are_groups() -> None:
    async def body(s: Scim) -> None:
        user = await s.create("ann@bank.example")
        join = {"op": "add", "path": "members", "value": [{"value": user["id"]}]}
        assert (await s.patch("/Groups/teller", join)).status_code == 200
        assert (await s.h.admin.get(f"/users/{user['id']}")).json()["role"] == "teller"

    from rempart.people.administration.roles import RoleRules

    play(body, roles={"teller": RoleRules(("till:open",))})


def test_what_is_not_offered_says_so() -> None:
    async def body(s: Scim) -> None:
        for method, path in (("POST", "/Bulk"), ("POST", "/.search"), ("GET", "/Me")):
            assert (await s.ask(method, path, {})).status_code == 501
        assert (await s.ask("GET", "/Nothing")).status_code == 404
        assert (await s.ask("PUT", "/Schemas", {})).status_code == 405
        assert (await s.ask("GET", "/Schemas?filter=x")).status_code == 403
        assert (await s.ask("POST", "/Users", {}, **{"content-type": "text/plain"})).status_code == 400

    play(body)


def test_no_body_breaks_it() -> None:
    words = st.sampled_from([
        *("schemas", USER, PATCH, "Operations", "op", "add", "replace", "remove", "path", "value", "emails"),
        *("userName", "name", "active", "members", 'emails[type eq "x"].value', "a@b.example", "name.givenName", ""),
    ])  # fmt: skip
    scalars = st.none() | st.booleans() | st.integers(-2, 2) | words
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
        max_leaves=12,
    )
    operation = st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "replace", "remove"])}, optional={"path": words | scalars, "value": values}
    )
    bodies = (
        values
        | st.fixed_dictionaries({"schemas": st.just([PATCH]), "Operations": st.lists(operation | values, max_size=3)})
        | st.dictionaries(words, values, max_size=5).map(lambda body: {**body, "schemas": [USER]})
    )

    async def body(s: Scim) -> None:
        user = await s.create("ann@bank.example")
        paths = [("POST", "/Users"), ("POST", "/Users/.search"), ("POST", "/Groups")]
        paths += [(m, p) for m in ("PUT", "PATCH") for p in (f"/Users/{user['id']}", "/Groups/finance")]
        loop = asyncio.get_running_loop()

        def fuzz() -> None:
            @settings(max_examples=150, deadline=None)
            @given(st.sampled_from(paths), bodies)
            def one(where: tuple[str, str], sent: Any) -> None:
                answer = asyncio.run_coroutine_threadsafe(s.ask(*where, sent), loop).result(10)
                assert answer.status_code < 500, (where, sent, answer.text)

            one()

        await asyncio.to_thread(fuzz)

    play(body)
