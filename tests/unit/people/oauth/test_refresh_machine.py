"""Refresh families as a state machine: whatever happens in whatever order, one line of tokens, and no copy lives on."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.oauth_support import OAuthHarness, basic, claims_of, oauth
from tests.people_harness import PASSWORD

TTL = 1000.0
GRACE = 10.0


class RefreshFamilies(RuleBasedStateMachine):
    """The model: the newest token, the one before it and when it was rotated, and all older ones."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.context = oauth(refresh_ttl=TTL, access_ttl=600)
        self.h: OAuthHarness = self.runner.run(self.context.__aenter__())
        self.runner.run(self._begin())
        self.newest, self.before, self.rotated_at = "", "", 0.0
        self.older: list[str] = []
        self.alive, self.ends = False, 0.0
        self.access = ""

    async def _begin(self) -> None:
        self.account = (await self.h.people.add("ann@bank.example"))["id"]
        fields: dict[str, Any] = {"grants": ["password", "refresh_token"], "scopes": ["openid", "profile"]}
        self.secrets = {name: (await self.h.client(name, **fields))["secret"] for name in ("shop", "other")}

    def present(self, token: str, client: str = "shop", **form: str) -> httpx.Response:
        request = self.h.token("refresh_token", basic(client, self.secrets[client]), refresh_token=token, **form)
        return self.runner.run(request)

    def now(self) -> float:
        return float(self.h.clock.now())

    def living(self) -> bool:
        return self.alive and self.now() < self.ends

    @rule()
    def log_in(self) -> None:
        """A new family; the old one is of no interest any more."""
        form = {"username": "ann@bank.example", "password": PASSWORD, "scope": "openid profile"}
        answer = self.runner.run(self.h.token("password", basic("shop", self.secrets["shop"]), **form))
        assert answer.status_code == 200, answer.text
        self.newest, self.before, self.older = answer.json()["refresh_token"], "", []
        self.alive, self.ends, self.access = True, self.now() + TTL, answer.json()["access_token"]

    @precondition(lambda self: self.newest)
    @rule()
    def rotate(self) -> None:
        answer = self.present(self.newest)
        if not self.living():
            assert answer.json()["error"] == "invalid_grant"
            return
        self._rotated(answer)

    @precondition(lambda self: self.newest)
    @rule(times=st.integers(2, 4))
    def rotate_in_parallel(self, times: int) -> None:
        """The answers may come to one client twice, but there is one successor."""

        async def together() -> list[httpx.Response]:
            headers = basic("shop", self.secrets["shop"])
            requests = [self.h.token("refresh_token", headers, refresh_token=self.newest) for _ in range(times)]
            return await asyncio.gather(*requests)

        answers = self.runner.run(together())
        if not self.living():
            assert all(answer.json()["error"] == "invalid_grant" for answer in answers)
            return
        assert len({answer.json()["refresh_token"] for answer in answers}) == 1
        self._rotated(answers[0])

    def _rotated(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        successor = answer.json()["refresh_token"]
        assert successor not in (self.newest, self.before, *self.older)
        if self.before:
            self.older.append(self.before)
        self.newest, self.before, self.rotated_at = successor, self.newest, self.now()
        self.access = answer.json()["access_token"]

    @precondition(lambda self: self.before)
    @rule()
    def repeat(self) -> None:
        """The one before the newest: within the grace the same successor, later the end of the family."""
        answer = self.present(self.before)
        if self.living() and self.now() - self.rotated_at <= GRACE:
            assert answer.json()["refresh_token"] == self.newest
        else:
            assert answer.json()["error"] == "invalid_grant"
            self.alive = False

    @precondition(lambda self: self.older)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        answer = self.present(data.draw(st.sampled_from(self.older)))
        assert answer.json()["error"] == "invalid_grant"
        self.alive = False

    @precondition(lambda self: self.newest)
    @rule(which=st.sampled_from(["newest", "before"]))
    def present_as_another_client(self, which: str) -> None:
        """Refused, and the family is none the worse for it: a thief can't even kill it."""
        token = getattr(self, which)
        if token:
            assert self.present(token, "other").json()["error"] == "invalid_grant"

    @precondition(lambda self: self.newest)
    @rule()
    def ask_for_too_much(self) -> None:
        answer = self.present(self.newest, scope="openid session")
        assert answer.json()["error"] == "invalid_scope"

    @precondition(lambda self: self.newest)
    @rule()
    def forge(self) -> None:
        family, secret, macs = self.newest.split(".")
        for forged in (f"{family}.{'A' * 43}.{macs}", f"{family}.{secret}.{'A' * 44}", f"{family}.{secret}"):
            assert self.present(forged).json()["error"] == "invalid_grant"

    @precondition(lambda self: self.newest)
    @rule(client=st.sampled_from(["shop", "other"]))
    def revoke(self, client: str) -> None:
        form = {"token": self.newest}
        answer = self.runner.run(self.h.post("revoke", form, basic(client, self.secrets[client])))
        assert answer.status_code == (200 if client == "shop" else 400)
        self.alive = self.alive and client != "shop"

    @rule()
    def sign_out_everywhere(self) -> None:
        self.runner.run(self.h.people.admin.post(f"/users/{self.account}/revoke", json={}))
        self.alive = False

    @rule(seconds=st.sampled_from([1.0, 9.0, 11.0, 300.0]))
    def wait(self, seconds: float) -> None:
        self.h.clock.advance(seconds)

    @invariant()
    def what_is_over_stays_over(self) -> None:
        if self.newest and not self.living():
            me = basic("shop", self.secrets["shop"])
            for token in (self.newest, self.access):
                if (
                    token is self.access and self.alive
                ):  # the family has expired; its last access token lives on a while
                    continue
                assert self.runner.run(self.h.post("introspect", {"token": token}, me)).json() == {"active": False}

    def teardown(self) -> None:
        self.runner.run(self.context.__aexit__(None, None, None))
        self.runner.close()


RefreshFamilies.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRefreshFamilies = RefreshFamilies.TestCase


def test_the_machine_reaches_what_it_speaks_of() -> None:
    """A chain by hand, so that the model itself is seen to work."""
    machine = RefreshFamilies()
    try:
        machine.log_in()
        machine.rotate()
        first = claims_of(machine.access)["sid"]
        machine.wait(9.0)
        machine.repeat()
        machine.rotate_in_parallel(3)
        assert claims_of(machine.access)["sid"] == first
        machine.wait(11.0)
        machine.repeat()
        assert not machine.alive
        machine.what_is_over_stays_over()
    finally:
        machine.teardown()
