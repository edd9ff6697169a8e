"""Passkeys: both ceremonies as the specification says, and each way to cheat in them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.people_harness import Harness, harness
from tests.people_signed_in import person
from tests.software_authenticator import BE, BS, UP, UV, SoftwareAuthenticator, b64

from rempart.crypto.webauthn import RelyingParty
from rempart.kernel.errors import BadInput, Conflict, RempartError, Unauthenticated
from rempart.people.factors.model import PasskeyAnswer, SecondFactorNeeded
from rempart.people.model import Origin
from rempart.servers.people_factors import relying_party

HERE = Origin(ip="203.0.113.7")
PASSWORD = "a quiet river of glass 42"


async def registered(h: Harness, authenticator: SoftwareAuthenticator, email: str = "ann@bank.example") -> str:
    """The id of a new account that has this one key."""
    account = await h.add(email)
    who = await person(h, account["id"])
    options = await h.people.own.factors.passkey_options(who)
    await h.people.own.factors.add_passkey(who, authenticator.create(options), "laptop", HERE)
    return str(account["id"])


async def sign_in(h: Harness, authenticator: SoftwareAuthenticator, **client: Any) -> Any:
    options = await h.people.proving.passkeys.sign_in_options("cookie")
    return await h.people.proving.passkeys.sign_in(authenticator.get(options, **client), "cookie", HERE)


def run(scenario: Callable[[Harness], Awaitable[None]], **settings: Any) -> None:
    async def inside() -> None:
        async with harness(**settings) as h:
            await scenario(h)

    asyncio.run(inside())


def failed(h: Harness) -> list[str]:
    return [event.reason for event in h.recorder.events if str(event.type) == "people.factor_failed"]


@pytest.mark.parametrize(("flags", "key"), [(UP | UV, "hwk"), (UP | UV | BE | BS, "swk")])
def test_a_passkey_signs_in_alone(flags: int, key: str) -> None:
    async def scenario(h: Harness) -> None:
        authenticator = SoftwareAuthenticator(flags=flags)
        account = await registered(h, authenticator)
        who = await sign_in(h, authenticator)
        assert (who.account.id, who.amr) == (account, (key, "user", "mfa"))
        assert h.recorder.events[-1].type == "people.login"

    run(scenario)


def test_options_are_the_specifications() -> None:
    async def scenario(h: Harness) -> None:
        authenticator = SoftwareAuthenticator()
        account = await registered(h, authenticator)
        options = await h.people.proving.passkeys.sign_in_options("cookie")
        assert (options["rpId"], options["userVerification"]) == ("localhost", "required")
        assert options.get("allowCredentials", []) == []
        again = await h.people.own.factors.passkey_options(await person(h, account, amr=("pwd", "hwk", "mfa")))
        assert [key["id"] for key in again["excludeCredentials"]] == [b64(authenticator.credential_id)]
        assert again["user"]["id"] == b64(account.encode())
        assert again["authenticatorSelection"]["residentKey"] == "preferred"

    run(scenario)


@pytest.mark.parametrize(
    ("issuer", "rp_id", "origin"),
    [
        ("https://localhost:8443/auth", "localhost", "https://localhost:8443"),
        ("https://ID.Example:443/auth", "id.example", "https://id.example"),
        ("https://id.example", "id.example", "https://id.example"),
    ],
)
def test_the_relying_party_is_the_issuer_as_browsers_write_it(issuer: str, rp_id: str, origin: str) -> None:
    party = relying_party(issuer, "bank.example")
    assert (party.id, party.origin) == (rp_id, origin)


CHEATS: dict[str, Callable[[SoftwareAuthenticator], dict[str, Any]]] = {
    "Unexpected client data origin": lambda a: {"origin": "https://evil.example"},
    "was not begun here": lambda a: {"challenge": b64(bytes(56))},
    "Unexpected client data type": lambda a: {"type": "webauthn.create"},
    "in a frame of another page": lambda a: {"crossOrigin": True},
    "user was not verified": lambda a: setattr(a, "flags", UP) or {},  # type: ignore[func-returns-value]
    "not present": lambda a: setattr(a, "flags", UV) or {},  # type: ignore[func-returns-value]
    "RP ID hash": lambda a: setattr(a, "rp_id", "evil.example") or {},  # type: ignore[func-returns-value]
    "signature": lambda a: setattr(a, "key", SoftwareAuthenticator().key) or {},  # type: ignore[func-returns-value]
    "unknown passkey": lambda a: setattr(a, "credential_id", b"x" * 16) or {},  # type: ignore[func-returns-value]
    "another person's": lambda a: setattr(a, "user_handle", b"usr_other") or {},  # type: ignore[func-returns-value]
    "can be copied": lambda a: setattr(a, "flags", UP | UV | BE) or {},  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("why", CHEATS)
def test_each_way_to_cheat_is_refused_alike_and_recorded_by_name(why: str) -> None:
    async def scenario(h: Harness) -> None:
        authenticator = SoftwareAuthenticator()
        await registered(h, authenticator)
        client = CHEATS[why](authenticator)
        with pytest.raises(Unauthenticated) as refused:
            await sign_in(h, authenticator, **client)
        assert (refused.value.code, refused.value.reason) == (
            "passkey_failed",
            "this passkey can't be used to sign in",
        )
        assert why in failed(h)[-1]

    run(scenario)


def test_a_challenge_is_used_once_by_the_browser_that_asked_within_five_minutes() -> None:
    async def scenario(h: Harness) -> None:
        authenticator = SoftwareAuthenticator()
        await registered(h, authenticator)
        passkeys = h.people.proving.passkeys
        options = await passkeys.sign_in_options("cookie")
        answer = authenticator.get(options)
        with pytest.raises(Unauthenticated):
            await passkeys.sign_in(answer, "another browser's cookie", HERE)
        outcomes = await asyncio.gather(
            *(passkeys.sign_in(answer, "cookie", HERE) for _ in range(8)), return_exceptions=True
        )
        assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
        late = authenticator.get(await passkeys.sign_in_options("cookie"))
        h.clock.advance(301)
        with pytest.raises(Unauthenticated):
            await passkeys.sign_in(late, "cookie", HERE)

    run(scenario)


def test_a_counter_that_goes_back_is_refused_and_alarmed() -> None:
    async def scenario(h: Harness) -> None:
        authenticator = SoftwareAuthenticator(counter=5)
        account = await registered(h, authenticator)
        await sign_in(h, authenticator)
        authenticator.step = 0  # a copy that lags behind
        with pytest.raises(Unauthenticated, match="can't be used"):
            await sign_in(h, authenticator)
        alarm = next(e for e in h.recorder.events if "counter went back" in e.reason and e.severity == "high")
        assert alarm.person == account
        authenticator.step = 1
        await sign_in(h, authenticator)

    run(scenario)


def test_a_disabled_persons_passkey_signs_nobody_in() -> None:
    async def scenario(h: Harness) -> None:
        authenticator = SoftwareAuthenticator()
        account = await registered(h, authenticator)
        await h.admin.patch(f"/users/{account}", json={"disabled": True})
        with pytest.raises(Unauthenticated):
            await sign_in(h, authenticator)
        assert failed(h)[-1] == "disabled"

    run(scenario)


def test_a_passkey_is_the_second_step_after_a_password_with_or_without_verification() -> None:
    async def scenario(h: Harness) -> None:
        authenticator = SoftwareAuthenticator(flags=UP)  # a security key without PIN
        await registered(h, authenticator)
        logins, factors = h.people.logins, h.people.proving.factors
        needed = await logins.authenticate("ann@bank.example", PASSWORD, None, None, HERE)
        assert isinstance(needed, SecondFactorNeeded)
        assert needed.factors == ("passkey", "backup_code")
        options = await factors.passkey_options(needed.ticket)
        assert [key["id"] for key in options["allowCredentials"]] == [b64(authenticator.credential_id)]
        stranger = SoftwareAuthenticator(flags=UP)
        with pytest.raises(Unauthenticated):
            await factors.prove(needed.ticket, PasskeyAnswer(stranger.get(options)), HERE)
        who = await factors.prove(needed.ticket, PasskeyAnswer(authenticator.get(options)), HERE)
        assert who.amr == ("pwd", "hwk", "mfa")
        with pytest.raises(Unauthenticated):  # and alone it is not enough
            await sign_in(h, authenticator)
        other = await logins.authenticate("ann@bank.example", PASSWORD, None, None, HERE)
        assert isinstance(other, SecondFactorNeeded)
        with pytest.raises(Unauthenticated):  # a challenge of one ticket is no other's
            await factors.prove(other.ticket, PasskeyAnswer(authenticator.get(options)), HERE)

    run(scenario)


def test_several_keys_with_names_and_none_twice() -> None:
    async def scenario(h: Harness) -> None:
        laptop, phone = SoftwareAuthenticator(), SoftwareAuthenticator(flags=UP | UV | BE)
        account = await registered(h, laptop)
        own = h.people.own.factors
        who = await person(h, account, amr=("pwd", "hwk", "mfa"))
        added = await own.add_passkey(
            who, phone.create(await own.passkey_options(who), attestation="packed"), "phone", HERE
        )
        assert added.backup_codes == ()  # it has some already
        who = await person(h, account, amr=("pwd", "hwk", "mfa"))
        with pytest.raises(Conflict, match="registered already"):
            await own.add_passkey(who, phone.create(await own.passkey_options(who)), "again", HERE)
        listed = (await own.list(who)).passkeys
        assert [(key.name, key.synced, key.transports) for key in listed] == [
            ("laptop", False, ("internal",)),
            ("phone", True, ("internal",)),
        ]
        await own.rename_passkey(who, listed[0].id, "work laptop", HERE)
        await own.remove_passkey(who, listed[1].id, HERE)
        who = await person(h, account, amr=("pwd", "hwk", "mfa"))
        assert [key.name for key in (await own.list(who)).passkeys] == ["work laptop"]
        with pytest.raises(Unauthenticated):
            await sign_in(h, phone)
        await sign_in(h, laptop)

    run(scenario)


@pytest.mark.parametrize(
    "client", [{"origin": "https://localhost"}, {"challenge": "AAAA"}, {"type": "webauthn.get"}, {"crossOrigin": True}]
)
def test_a_registration_that_was_not_made_here_is_refused(client: dict[str, Any]) -> None:
    async def scenario(h: Harness) -> None:
        account = await h.add("ann@bank.example")
        who = await person(h, account["id"])
        options = await h.people.own.factors.passkey_options(who)
        with pytest.raises((BadInput, Unauthenticated)):
            await h.people.own.factors.add_passkey(who, SoftwareAuthenticator().create(options, **client), "x", HERE)
        other = await person(h, account["id"], session="ses_other")
        with pytest.raises(Unauthenticated):
            await h.people.own.factors.add_passkey(other, SoftwareAuthenticator().create(options), "x", HERE)

    run(scenario)


PARTY = RelyingParty("localhost", "https://localhost:8443", "bank.example")
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_is_sent_the_refusal_is_one_of_ours(data: st.DataObject) -> None:
    authenticator = SoftwareAuthenticator(user_handle=b"usr_1")
    challenge = bytes(56)
    answer = authenticator.get({"challenge": b64(challenge), "rpId": "localhost"})
    parts = answer["response"]
    field = data.draw(st.sampled_from(["clientDataJSON", "authenticatorData", "signature", "userHandle", "id", "type"]))
    where = parts if field in parts else answer
    kind = data.draw(st.sampled_from(["json", "bytes", "cut"]))
    if kind == "json":
        where[field] = data.draw(_json)
    elif kind == "bytes":
        where[field] = base64.urlsafe_b64encode(data.draw(st.binary(max_size=200))).decode()
    else:
        where[field] = str(where[field])[: data.draw(st.integers(0, 60))]
    try:
        PARTY.claimed(answer)
        PARTY.verify_assertion(answer, challenge, b"\x00", verify=True)
    except RempartError as error:
        json.dumps(error.reason)
    with pytest.raises(RempartError):
        PARTY.verify_registration(answer, challenge)
