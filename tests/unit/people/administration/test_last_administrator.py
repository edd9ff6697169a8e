"""The last administrator stays, whatever comes by whichever doors at once: a state machine on the real store."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.people_harness import Harness, came_from, harness
from tests.unit.people.administration.test_scim_api import PATCH, Scim, client_token

PEOPLE = 4
ROLES = ("admin", "user", "finance")
acts = st.tuples(
    st.sampled_from(
        ["role", "disable", "enable", "scim-role", "scim-leave", "scim-active", "scim-delete", "erase", "own"]
    ),
    st.integers(0, PEOPLE - 1),
    st.sampled_from(ROLES),
)


class LastAdministrator(RuleBasedStateMachine):
    """Batches of acts run at once. Nothing but refusals, and an enabled administrator afterwards."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.scene: AbstractAsyncContextManager[Harness] = harness()
        self.runner.run(self._begin())

    async def _begin(self) -> None:
        self.h = await self.scene.__aenter__()
        roles = ["admin", "admin", *["user"] * (PEOPLE - 2)]
        made = [await self.h.add(f"p{number}@bank.example", role) for number, role in enumerate(roles)]
        self.ids = [account["id"] for account in made]
        self.scim = Scim(self.h, await client_token(self.h, "provisioner", "scim"))
        self.tokens = [(await self.h.login(f"p{n}@bank.example")).json()["access_token"] for n in range(PEOPLE)]

    @rule(batch=st.lists(acts, min_size=1, max_size=6))
    def at_once(self, batch: list[tuple[str, int, str]]) -> None:
        self.runner.run(self._at_once(batch))

    async def _at_once(self, batch: list[tuple[str, int, str]]) -> None:
        answers = await asyncio.gather(*(self._act(*act) for act in batch))
        for act, answer in zip(batch, answers, strict=True):
            assert answer.status_code < 500, (act, answer.text)

    async def _act(self, what: str, who: int, role: str) -> Any:
        account = self.ids[who]
        if what in ("role", "disable", "enable"):
            change = {"role": {"role": role}, "disable": {"disabled": True}, "enable": {"disabled": False}}[what]
            return await self.h.admin.patch(f"/users/{account}", json=change)
        if what == "erase":
            return await self.h.admin.delete(f"/users/{account}")
        if what == "own":
            current = (await self.h.people.accounts.get(account)).role
            other = next(one for one in ROLES if one != current)
            headers = {**came_from("203.0.113.7"), "authorization": f"Bearer {self.tokens[who]}"}
            path = f"/auth/admin/users/{account}"
            return await self.h.api.patch(path, json={"role": other}, headers=headers)
        if what == "scim-delete":
            return await self.scim.ask("DELETE", f"/Users/{account}")
        if what == "scim-active":
            return await self.scim.patch(f"/Users/{account}", {"op": "replace", "path": "active", "value": False})
        verb = "add" if what == "scim-role" else "remove"
        operation = {"op": verb, "path": "members", "value": [{"value": account}]}
        return await self.scim.ask("PATCH", f"/Groups/{role}", {"schemas": [PATCH], "Operations": [operation]})

    @invariant()
    def somebody_administers(self) -> None:
        if hasattr(self, "ids"):
            accounts = self.runner.run(self.h.people.accounts.page("", 100))
            assert any(account.role == "admin" and not account.disabled for account in accounts)

    @invariant()
    def nobody_changed_their_own_role(self) -> None:
        if hasattr(self, "ids"):
            for event in self.h.recorder.events:
                if event.type == "people.role_changed" and event.success and event.person:
                    assert event.after is not None
                    assert event.person != event.after["id"]

    def teardown(self) -> None:
        if hasattr(self, "scene"):
            self.runner.run(self.scene.__aexit__(None, None, None))
            self.runner.close()


LastAdministrator.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestLastAdministrator = LastAdministrator.TestCase
