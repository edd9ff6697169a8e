"""Whoever's password or address is changed hears of it, also when somebody else did it (NIST SP 800-63B-4, 4.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.people_harness import PASSWORD, Harness, came_from, harness

from rempart.backends.file_mailer import FileMailer

ANN = "ann@bank.example"


class Sent:
    """Takes the place of the mailer's sending."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mails: list[tuple[str, str, str]] = []
        sent = self.mails

        async def send(self: FileMailer, to: str, subject: str, text: str) -> None:
            sent.append((to, subject, text))

        monkeypatch.setattr(FileMailer, "send", send)

    async def one(self) -> tuple[str, str, str]:
        for _ in range(100):
            if self.mails:
                return self.mails.pop(0)
            await asyncio.sleep(0)
        raise AssertionError("no mail")


def with_ann(monkeypatch: pytest.MonkeyPatch, scenario: Callable[[Harness, Sent], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        async with harness() as h:
            sent = Sent(monkeypatch)
            await h.add(ANN)
            await scenario(h, sent)

    asyncio.run(body())


def test_a_password_that_an_administrator_set_is_told_to_its_person(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(h: Harness, sent: Sent) -> None:
        answer = await h.admin.post(f"/users/{ANN}/password", json={})
        assert answer.status_code == 200
        to, subject, text = await sent.one()
        assert (to, subject) == (ANN, "Your sign-in at bank.example was changed")
        assert "The password was replaced by an administrator." in text
        assert "Everything that was signed in has ended." in text
        assert answer.json()["password"] not in text

    with_ann(monkeypatch, scenario)


def test_a_new_address_is_told_at_the_old_one_in_the_askers_language(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(h: Harness, sent: Sent) -> None:
        await h.add("root@bank.example", role="admin")
        token = (await h.login("root@bank.example")).json()["access_token"]
        headers = {**came_from("203.0.113.7"), "authorization": f"Bearer {token}", "accept-language": "fr"}
        changed = await h.api.patch(f"/auth/admin/users/{ANN}", json={"email": "eve@bank.example"}, headers=headers)
        assert changed.status_code == 200, changed.text
        to, _, text = await sent.one()
        assert to == ANN
        assert "L’adresse électronique du compte a été changée." in text
        assert "connexions" not in text  # nobody was signed out by it
        assert "eve@" not in text

    with_ann(monkeypatch, scenario)


def test_nothing_is_said_of_other_changes_and_of_invitations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scenario(h: Harness, sent: Sent) -> None:
        assert (await h.admin.patch(f"/users/{ANN}", json={"role": "finance", "disabled": True})).status_code == 200
        invited = await h.admin.post("/users", json={"email": "new@bank.example", "role": "user", "invite": True})
        assert invited.status_code == 201, invited.text
        _, _, text = await sent.one()
        token = text.partition("token=")[2].split()[0]
        account = await h.people.administration.links.choose_password(token, PASSWORD, _origin())
        assert account.email == "new@bank.example"
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent.mails == []

    with_ann(monkeypatch, scenario)


def _origin() -> Any:
    from rempart.people.model import Origin

    return Origin(ip="203.0.113.7")
