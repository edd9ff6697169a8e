"""The device flow (RFC 8628)."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from tests.authorize_support import APP, NATIVE, ORIGIN, Room, room

from rempart.kernel.errors import BadInput, Conflict, NotFound, Throttled
from rempart.people.authorize.model import Step
from rempart.people.model import Origin
from rempart.people.oauth.model import Granted


def within(body: Callable[[Room], Awaitable[None]]) -> None:
    async def run() -> None:
        async with room() as it:
            await body(it)

    asyncio.run(run())


async def start(it: Room, **changes: str) -> dict[str, Any]:
    answer = await begin(it, **changes)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def begin(it: Room, **changes: str) -> httpx.Response:
    headers = {"x-test-key": changes.pop("key", "")}
    form = {"client_id": "app", "scope": "openid email", **changes}
    return await it.browser.post("/auth/device_authorization", data=form, headers=headers)


async def told(it: Room, device_code: str, error: str) -> None:
    with pytest.raises(BadInput) as refused:
        await it.poll(device_code)
    assert refused.value.code == error


def test_the_device_is_told_where_to_send_its_person() -> None:
    async def body(it: Room) -> None:
        document = await start(it)
        assert len(document["device_code"]) == 43
        assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", document["user_code"])
        assert document["verification_uri"] == "https://localhost:8443/auth/device"
        assert document["verification_uri_complete"].endswith("?user_code=" + document["user_code"])
        assert (document["expires_in"], document["interval"]) == (600, 5)

    within(body)


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"scope": "admin"}, 400, "invalid_scope"),
        ({"scope": ""}, 400, "invalid_scope"),
    ],
)
def test_a_bad_request_is_refused(changes: dict[str, str], status: int, error: str) -> None:
    async def body(it: Room) -> None:
        answer = await begin(it, **changes)
        assert answer.status_code in (400, status)
        assert answer.json()["code"] == error

    within(body)


def test_polling_waits_slows_down_and_gets_the_answer_once() -> None:
    async def body(it: Room) -> None:
        document = await start(it)
        code = document["device_code"]
        await told(it, code, "authorization_pending")
        it.clock.advance(1)
        await told(it, code, "slow_down")
        it.clock.advance(6)
        await told(it, code, "slow_down")  # the interval is ten seconds now
        it.clock.advance(16)
        await told(it, code, "authorization_pending")
        session = (await it.sign_in()).session
        prompt = await it.authorization.devices.find(document["user_code"].lower().replace("-", " "), session, ORIGIN)
        assert (prompt.client_name, prompt.scopes, prompt.step) == ("The app", ("openid", "email"), Step.CONSENT)
        await it.authorization.devices.approve(document["user_code"], session, ORIGIN)
        answers = await asyncio.gather(*(it.poll(code) for _ in range(10)), return_exceptions=True)
        granted = [answer for answer in answers if isinstance(answer, Granted)]
        assert len(granted) == 1
        assert all(isinstance(answer, Granted | BadInput) for answer in answers)
        assert granted[0].account is not None
        assert granted[0].account.id == session.account_id
        assert granted[0].id_token is not None
        assert it.claims(granted[0].id_token("at"))["sid"] == session.id
        await told(it, code, "invalid_grant")
        with pytest.raises(NotFound):
            await it.authorization.devices.find(document["user_code"], session, ORIGIN)

    within(body)


def test_no_is_told_and_is_final() -> None:
    async def body(it: Room) -> None:
        document = await start(it)
        session = (await it.sign_in()).session
        await it.authorization.devices.deny(document["user_code"], session, ORIGIN)
        with pytest.raises(NotFound):
            await it.authorization.devices.approve(document["user_code"], session, ORIGIN)
        await told(it, document["device_code"], "access_denied")
        changed = [event for event in it.recorder.events if str(event.type) == "people.consent_changed"]
        assert [(event.success, event.details["device"]) for event in changed] == [(False, True)]

    within(body)


def test_of_a_yes_and_a_no_at_once_one_counts() -> None:
    async def body(it: Room) -> None:
        document = await start(it)
        session = (await it.sign_in()).session
        devices = it.authorization.devices
        both = await asyncio.gather(
            devices.approve(document["user_code"], session, ORIGIN),
            devices.deny(document["user_code"], session, ORIGIN),
            return_exceptions=True,
        )
        assert sum(isinstance(each, NotFound) for each in both) == 1

    within(body)


def test_a_late_device_hears_that_it_is_late() -> None:
    async def body(it: Room) -> None:
        document = await start(it)
        session = (await it.sign_in()).session
        it.clock.advance(601)
        await told(it, document["device_code"], "expired_token")
        with pytest.raises(NotFound):
            await it.authorization.devices.find(document["user_code"], session, ORIGIN)

    within(body)


def test_a_device_code_is_its_clients_own_and_bound_to_its_key() -> None:
    async def body(it: Room) -> None:
        document = await start(it, key="k" * 43)
        session = (await it.sign_in()).session
        await it.authorization.devices.approve(document["user_code"], session, ORIGIN)
        with pytest.raises(BadInput):
            await it.poll(document["device_code"], NATIVE, jkt="k" * 43)
        with pytest.raises(BadInput):
            await it.poll(document["device_code"])
        assert await it.poll(document["device_code"], jkt="k" * 43)

    within(body)


def test_a_step_up_can_be_demanded() -> None:
    async def body(it: Room) -> None:
        document = await start(it, acr_values="mfa")
        devices = it.authorization.devices
        assert (await devices.find(document["user_code"], None, ORIGIN)).step is Step.SIGN_IN
        weak = (await it.sign_in()).session
        assert (await devices.find(document["user_code"], weak, ORIGIN)).step is Step.STEP_UP
        with pytest.raises(Conflict):
            await devices.approve(document["user_code"], weak, ORIGIN)
        strong = (await it.sign_in(amr=("pwd", "otp", "mfa"))).session
        await devices.approve(document["user_code"], strong, ORIGIN)
        assert (await it.poll(document["device_code"])).acr == "mfa"

    within(body)


def test_guessing_user_codes_is_slowed_and_a_neighbour_is_not() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        devices, document = it.authorization.devices, await start(it)
        for _ in range(6):
            with pytest.raises(NotFound):
                await devices.find("BBBB-BBBB", session, ORIGIN)
        with pytest.raises(Throttled):
            await devices.find(document["user_code"], session, ORIGIN)
        neighbour = (await it.sign_in("bob@bank.example")).session
        elsewhere = Origin(ip="198.51.100.9", workload=ORIGIN.workload)
        assert (await devices.find(document["user_code"], neighbour, elsewhere)).client_id == APP.id

    within(body)


@pytest.mark.parametrize("text", ["", "A", "🙂" * 100, "BBBB-BBBB\x00", "b" * 10_000, "\ud800"])
def test_odd_user_codes_are_unknown(text: str) -> None:
    async def body(it: Room) -> None:
        with pytest.raises(NotFound):
            await it.authorization.devices.find(text, None, ORIGIN)

    within(body)


def test_user_codes_are_not_readable_in_the_store() -> None:
    async def body(it: Room) -> None:
        document = await start(it)
        letters = document["user_code"].replace("-", "")
        rows = await it.people.database.read(lambda tx: tx.execute("SELECT key, value FROM once_records").fetchall())
        for key, value in rows:
            assert bytes(key) != hashlib.sha256(letters.encode()).digest()
            assert document["device_code"].encode() not in bytes(value)

    within(body)
