"""One's own credentials: a fresh proof for each change, everything else ends, and what is demanded stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pyotp
import pytest
from tests.people_harness import PASSWORD, Harness, harness
from tests.people_signed_in import person
from tests.software_authenticator import SoftwareAuthenticator

from rempart.kernel.errors import BadInput, Conflict, Unauthenticated, Unavailable
from rempart.people.factors.model import OneTimeCode, SecondFactorNeeded
from rempart.people.model import Authenticated, Origin
from rempart.people.sessions.model import Kind
from rempart.wiring.people_factors import FactorSettings

HERE = Origin(ip="203.0.113.7")
ANN = "ann@bank.example"
NEW = "another river of quiet stones 7"
BOTH = ("pwd", "otp", "mfa")


def run(scenario: Callable[[Harness], Awaitable[None]], **settings: Any) -> None:
    async def inside() -> None:
        async with harness(**settings) as h:
            await scenario(h)

    asyncio.run(inside())


async def with_app(h: Harness, email: str = ANN, **more: Any) -> tuple[str, pyotp.TOTP]:
    account = await h.add(email, **more)
    who = await person(h, account["id"])
    app = pyotp.TOTP((await h.people.own.factors.begin_totp(who)).secret)
    await h.people.own.factors.confirm_totp(who, app.at(int(h.clock.now())), HERE)
    h.clock.advance(60)
    return str(account["id"]), app


def test_each_change_needs_a_proof_of_the_last_ten_minutes_with_the_factor_one_has() -> None:
    async def scenario(h: Harness) -> None:
        account, _ = await with_app(h)
        own = h.people.own.factors
        for who in (await person(h, account, amr=BOTH, proved_ago=601), await person(h, account, amr=("pwd",))):
            changes: list[Callable[[], Awaitable[Any]]] = [
                lambda who=who: own.begin_totp(who),
                lambda who=who: own.confirm_totp(who, "000000", HERE),
                lambda who=who: own.remove_totp(who, HERE),
                lambda who=who: own.passkey_options(who),
                lambda who=who: own.add_passkey(who, {}, "x", HERE),
                lambda who=who: own.rename_passkey(who, "psk", "x", HERE),
                lambda who=who: own.remove_passkey(who, "psk", HERE),
                lambda who=who: own.new_backup_codes(who, HERE),
            ]
            for change in changes:
                with pytest.raises(Unauthenticated) as refused:
                    await change()
                assert refused.value.code == "proof_too_old"
        with pytest.raises(Unauthenticated, match="fresh proof"):
            await h.people.own.password.change(await person(h, account), PASSWORD, NEW, None, HERE)

    run(scenario)


def test_a_change_ends_every_session_and_refresh_token_and_is_recorded_with_before_and_after() -> None:
    async def scenario(h: Harness) -> None:
        account = (await h.add(ANN))["id"]
        tokens = (await h.login(ANN)).json()
        signed_in = await h.people.logins.authenticate(ANN, PASSWORD, None, None, HERE)
        assert isinstance(signed_in, Authenticated)
        old = await h.people.sessions.open(signed_in, Kind.WEB, HERE)
        who = await person(h, account)
        setup = await h.people.own.factors.begin_totp(who)
        assert await h.people.sessions.alive(old.session.id)  # nothing changed yet
        code = pyotp.TOTP(setup.secret).at(int(h.clock.now()))
        changed = await h.people.own.factors.confirm_totp(who, code, HERE)
        assert await h.people.sessions.alive(old.session.id) is None
        assert (await h.refresh(tokens["refresh_token"])).status_code == 400
        went_on = await h.people.sessions.open(changed.authenticated, Kind.WEB, HERE)
        assert await h.people.sessions.alive(went_on.session.id)
        event = next(e for e in h.recorder.events if str(e.type) == "people.factor_changed")
        assert (event.person, event.reason) == (account, "authenticator app added")
        assert event.before == {"totp": False, "passkey": {}, "backup_code": 0}
        assert event.after == {"totp": True, "passkey": {}, "backup_code": 10}

    run(scenario)


def test_a_new_password_needs_the_old_one_and_ends_the_rest() -> None:
    async def scenario(h: Harness) -> None:
        account = (await h.add(ANN))["id"]
        tokens = (await h.login(ANN)).json()
        password = h.people.own.password
        who = await person(h, account)
        with pytest.raises(Unauthenticated):
            await password.change(who, "wrong", NEW, None, HERE)
        for weak in ("short pass", PASSWORD, "x" * 129, "ann@bank.example ann@bank.example"):
            with pytest.raises(BadInput) as refused:
                await password.change(who, PASSWORD, weak, None, HERE)
            assert refused.value.code == "weak_password"
        changed = await password.change(who, PASSWORD, NEW, None, HERE)
        assert changed.authenticated.account.version == who.account.version + 1
        assert (await h.refresh(tokens["refresh_token"])).status_code == 400
        assert (await h.login(ANN)).status_code == 401
        assert (await h.login(ANN, NEW)).status_code == 200
        event = next(e for e in h.recorder.events if str(e.type) == "people.password_changed")
        assert (event.person, event.success) == (account, True)
        assert NEW not in repr(h.recorder.events)

    run(scenario)


def test_guessing_the_old_password_is_throttled_as_logins_are() -> None:
    async def scenario(h: Harness) -> None:
        who = await person(h, (await h.add(ANN))["id"])
        seen = set()
        for _ in range(8):
            try:
                await h.people.own.password.change(who, "wrong", NEW, None, HERE)
            except Exception as error:
                seen.add(type(error).__name__)
        assert seen == {"Unauthenticated", "Throttled"}

    run(scenario)


def test_eight_characters_serve_beside_a_factor_and_then_the_factor_must_stay() -> None:
    async def scenario(h: Harness) -> None:
        account, app = await with_app(h)
        who = await person(h, account, amr=BOTH)
        await h.people.own.password.change(who, PASSWORD, "tin oboe", None, HERE)
        who = await person(h, account, amr=BOTH)
        assert (await h.people.own.factors.list(who)).demanded
        with pytest.raises(Conflict, match="must have a second factor"):
            await h.people.own.factors.remove_totp(who, HERE)
        await h.people.own.reset.reset(who.account, HERE, actor=None)
        # without its factor a short password opens nothing but the way to a new factor
        needed = await h.people.logins.authenticate(ANN, "tin oboe", None, None, HERE)
        assert isinstance(needed, SecondFactorNeeded)
        assert needed.factors == ()
        assert (await h.login(ANN, "tin oboe")).status_code == 401
        who = await h.people.proving.factors.enrolling(needed.ticket)
        setup = await h.people.own.factors.begin_totp(who)
        h.clock.advance(30)
        app = pyotp.TOTP(setup.secret)
        changed = await h.people.own.factors.confirm_totp(who, app.at(int(h.clock.now())), HERE)
        assert (changed.authenticated.amr, len(changed.backup_codes)) == (BOTH, 10)
        assert h.recorder.events[-1].type == "people.login"
        who = await person(h, account, amr=BOTH)
        await h.people.own.password.change(who, "tin oboe", NEW, None, HERE)
        await h.people.own.factors.remove_totp(await person(h, account, amr=BOTH), HERE)
        assert (await h.login(ANN, NEW)).status_code == 200

    run(scenario)


def test_a_role_can_demand_a_factor() -> None:
    async def scenario(h: Harness) -> None:
        await h.add("root@bank.example", role="admin")
        await h.add(ANN)
        needed = await h.people.logins.authenticate("root@bank.example", PASSWORD, None, None, HERE)
        assert isinstance(needed, SecondFactorNeeded)
        assert needed.factors == ()
        assert (await h.login("root@bank.example")).json()["code"] == "login_failed"
        assert (await h.login(ANN)).status_code == 200
        factors, own = h.people.proving.factors, h.people.own.factors
        with pytest.raises(Unauthenticated):
            await factors.prove(needed.ticket, OneTimeCode("000000"), HERE)
        who = await factors.enrolling(needed.ticket)
        key = SoftwareAuthenticator()
        changed = await own.add_passkey(who, key.create(await own.passkey_options(who)), "key", HERE)
        assert changed.authenticated.amr == ("pwd", "hwk", "user", "mfa")
        with pytest.raises(Unauthenticated):  # who has a factor proves it: no second enrolment with the same ticket
            await factors.enrolling(needed.ticket)
        again = await h.people.logins.authenticate("root@bank.example", PASSWORD, None, None, HERE)
        assert isinstance(again, SecondFactorNeeded)
        with pytest.raises(Unauthenticated):
            await factors.enrolling(again.ticket)
        who = await person(h, who.account.id, amr=changed.authenticated.amr)
        with pytest.raises(Conflict):
            await own.remove_passkey(who, (await own.list(who)).passkeys[0].id, HERE)

    run(scenario, factors=FactorSettings(require_mfa_roles=("admin",)))


def test_step_up_adds_the_factor_to_what_was_proved() -> None:
    async def scenario(h: Harness) -> None:
        account, app = await with_app(h)
        plain = (await h.add("bob@bank.example"))["id"]
        factors = h.people.proving.factors
        assert await factors.step_up(await h.people.accounts.get(plain), ("pwd",)) is None
        needed = await factors.step_up(await h.people.accounts.get(account), ("pwd",))
        assert needed is not None
        who = await factors.prove(needed.ticket, OneTimeCode(app.at(int(h.clock.now()))), HERE)
        assert (who.amr, who.auth_time) == (BOTH, h.clock.now())

    run(scenario)


def test_the_way_back_removes_every_factor_and_says_who_did_it() -> None:
    async def scenario(h: Harness) -> None:
        account, _ = await with_app(h)
        own = h.people.own.factors
        who = await person(h, account, amr=BOTH)
        await own.add_passkey(who, SoftwareAuthenticator().create(await own.passkey_options(who)), "key", HERE)
        current = await h.people.accounts.get(account)
        await h.people.own.reset.reset(current, HERE, actor="usr_admin", role="admin")
        event = h.recorder.events[-1]
        assert (event.type, event.person, event.reason) == ("people.factor_changed", "usr_admin", "all factors removed")
        assert event.before is not None
        assert event.before["totp"] is True
        assert len(event.before["passkey"]) == 1
        assert event.after == {"totp": False, "passkey": {}, "backup_code": 0}
        assert isinstance(await h.people.logins.authenticate(ANN, PASSWORD, None, None, HERE), Authenticated)

    run(scenario)


def test_who_did_not_do_it_hears_of_it_by_mail() -> None:
    async def scenario(h: Harness) -> None:
        own, mailer = h.people.own, Outbox()
        own.notices._mailer = mailer
        account, _ = await with_app(h)
        french = replace(HERE, locale="fr-CA")
        await own.factors.new_backup_codes(await person(h, account, amr=BOTH), french)
        await own.password.change(await person(h, account, amr=BOTH), PASSWORD, NEW, None, HERE)
        await eventually_sent(mailer, 3)
        mailer.down = True  # and a change doesn't fail for it
        await own.factors.remove_totp(await person(h, account, amr=BOTH), HERE)
        await own.notices.close()
        assert [(to, subject) for to, subject, _ in mailer.sent] == [
            (ANN, "Your sign-in at bank.example was changed"),
            (ANN, "Votre connexion à bank.example a été modifiée"),
            (ANN, "Your sign-in at bank.example was changed"),
        ]
        assert "codes de secours ont été renouvelés" in mailer.sent[1][2]
        assert "Password changed." in mailer.sent[2][2]

    run(scenario)


class Outbox:
    down = False

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    async def send(self, to: str, subject: str, text: str) -> None:
        if self.down:
            raise Unavailable("mail_unavailable", "down")
        self.sent.append((to, subject, text))


def test_two_changes_that_meet_leave_one() -> None:
    async def scenario(h: Harness) -> None:
        account, _ = await with_app(h)
        own = h.people.own.factors
        who = await person(h, account, amr=BOTH)
        outcomes = await asyncio.gather(*(own.new_backup_codes(who, HERE) for _ in range(4)), return_exceptions=True)
        assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
        assert {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)} <= {Conflict}

    run(scenario)


async def eventually_sent(mailer: Outbox, number: int) -> None:
    while len(mailer.sent) < number:
        await asyncio.sleep(0)
