"""Authenticator apps and backup codes: set up, each code once, whoever asks at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.people_harness import PASSWORD, Harness, harness
from tests.people_signed_in import person

from rempart.crypto.totp import code as totp_code
from rempart.crypto.totp import parse_secret
from rempart.kernel.errors import Conflict, RempartError, Throttled, Unauthenticated
from rempart.people.factors.codes import BACKUP_CODES
from rempart.people.factors.model import OneTimeCode, SecondFactorNeeded
from rempart.people.model import Authenticated, Origin

HERE = Origin(ip="203.0.113.7")
ANN = "ann@bank.example"


def run(scenario: Callable[[Harness], Awaitable[None]], **settings: Any) -> None:
    async def inside() -> None:
        async with harness(**settings) as h:
            await scenario(h)

    asyncio.run(inside())


async def enrolled(h: Harness) -> tuple[str, pyotp.TOTP, tuple[str, ...]]:
    """A new account's id, its app, its backup codes; the code of this moment is used."""
    account = await h.add(ANN)
    who = await person(h, account["id"])
    setup = await h.people.own.factors.begin_totp(who)
    app = pyotp.parse_uri(setup.uri)
    assert isinstance(app, pyotp.TOTP)
    changed = await h.people.own.factors.confirm_totp(who, app.at(int(h.clock.now())), HERE)
    return str(account["id"]), app, changed.backup_codes


async def half(h: Harness, origin: Origin = HERE) -> SecondFactorNeeded:
    needed = await h.people.logins.authenticate(ANN, PASSWORD, None, None, origin)
    assert isinstance(needed, SecondFactorNeeded)
    return needed


async def prove(h: Harness, text: str, origin: Origin = HERE) -> Authenticated:
    return await h.people.proving.factors.prove((await half(h, origin)).ticket, OneTimeCode(text), origin)


def test_an_app_reads_the_setup_and_its_codes_open() -> None:
    async def scenario(h: Harness) -> None:
        account = await h.add(ANN)
        who = await person(h, account["id"])
        own = h.people.own.factors
        setup = await own.begin_totp(who)
        assert (await own.begin_totp(who)).secret == setup.secret  # shown again, not made anew
        uri = urlsplit(setup.uri)
        assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/bank.example:ann@bank.example")
        assert parse_qs(uri.query)["secret"] == [setup.secret]
        assert len(parse_secret(setup.secret)) == 20
        assert setup.svg.startswith(b"<svg")
        assert b"<script" not in setup.svg
        app = pyotp.TOTP(setup.secret)
        now = int(h.clock.now())
        assert isinstance(await h.people.logins.authenticate(ANN, PASSWORD, None, None, HERE), Authenticated)
        with pytest.raises(Unauthenticated, match="code is wrong"):
            await own.confirm_totp(who, app.at(now + 3600), HERE)
        changed = await own.confirm_totp(who, app.at(now), HERE)
        assert changed.authenticated.amr == ("pwd", "otp", "mfa")
        assert len(changed.backup_codes) == BACKUP_CODES
        with pytest.raises(Unauthenticated):  # the code that confirmed it is used
            await prove(h, app.at(now))
        h.clock.advance(30)
        assert (await prove(h, app.at(now + 30))).amr == ("pwd", "otp", "mfa")
        shown = await own.list(await person(h, account["id"], amr=("pwd", "otp", "mfa")))
        assert (shown.totp, shown.backup_codes) == (True, 10)

    run(scenario)


def test_who_is_signed_in_elsewhere_has_not_seen_the_secret_that_is_confirmed_here() -> None:
    async def scenario(h: Harness) -> None:
        account = (await h.add(ANN))["id"]
        thief, owner = await person(h, account, session="ses_thief"), await person(h, account, session="ses_owner")
        own = h.people.own.factors
        seen, mine = (await own.begin_totp(thief)).secret, (await own.begin_totp(owner)).secret
        assert seen != mine
        with pytest.raises(Unauthenticated):
            await own.confirm_totp(owner, pyotp.TOTP(seen).at(int(h.clock.now())), HERE)
        await own.confirm_totp(owner, pyotp.TOTP(mine).at(int(h.clock.now())), HERE)

    run(scenario)


def test_a_delay_of_one_step_and_no_clock_that_is_ahead() -> None:
    async def scenario(h: Harness) -> None:
        _, app, _ = await enrolled(h)
        h.clock.advance(300)
        now = int(h.clock.now())
        for wrong in (-60, 30, 60):
            with pytest.raises(Unauthenticated):
                await prove(h, app.at(now + wrong))
        for right in (-30, 0):
            await prove(h, app.at(now + right))

    run(scenario)


def test_of_parallel_requests_with_one_code_one_gets_in() -> None:
    async def scenario(h: Harness) -> None:
        _, app, backup = await enrolled(h)
        h.clock.advance(60)
        tickets = [(await half(h)).ticket for _ in range(10)]
        for given in (app.at(int(h.clock.now())), backup[0]):
            outcomes = await asyncio.gather(
                *(h.people.proving.factors.prove(ticket, OneTimeCode(given), HERE) for ticket in tickets),
                return_exceptions=True,
            )
            assert sum(isinstance(outcome, Authenticated) for outcome in outcomes) == 1
            assert all(isinstance(outcome, (Authenticated, RempartError)) for outcome in outcomes)
            h.clock.advance(7200)
            tickets = [(await half(h)).ticket for _ in range(10)]

    run(scenario)


def test_of_parallel_confirmations_one_counts() -> None:
    async def scenario(h: Harness) -> None:
        account = await h.add(ANN)
        who = await person(h, account["id"])
        setup = await h.people.own.factors.begin_totp(who)
        code = pyotp.TOTP(setup.secret).at(int(h.clock.now()))
        outcomes = await asyncio.gather(
            *(h.people.own.factors.confirm_totp(who, code, HERE) for _ in range(6)), return_exceptions=True
        )
        assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
        with pytest.raises(Conflict):
            await h.people.own.factors.confirm_totp(await person(h, account["id"], amr=("mfa",)), code, HERE)

    run(scenario)


def test_backup_codes_open_once_however_they_are_typed_and_can_be_renewed() -> None:
    async def scenario(h: Harness) -> None:
        account, _, backup = await enrolled(h)
        assert len(set(backup)) == BACKUP_CODES
        typed = [
            backup[0],
            backup[1].upper(),
            backup[2].replace("-", ""),
            f" {backup[3]} ",
            backup[4].replace("-", " "),
        ]
        for text in typed:
            assert (await prove(h, text)).amr == ("pwd", "otp", "mfa")
        with pytest.raises(Unauthenticated):
            await prove(h, backup[0])
        who = await person(h, account, amr=("pwd", "otp", "mfa"))
        assert (await h.people.own.factors.list(who)).backup_codes == 5
        fresh = await h.people.own.factors.new_backup_codes(who, HERE)
        with pytest.raises(Unauthenticated):
            await prove(h, backup[9])
        await prove(h, fresh.backup_codes[9])

    run(scenario)


def test_a_backup_code_goes_through_login_as_well() -> None:
    async def scenario(h: Harness) -> None:
        _, _, backup = await enrolled(h)
        assert (await h.login(ANN)).status_code == 401
        assert (await h.login(ANN, otp=backup[0])).status_code == 200
        assert (await h.login(ANN, otp=backup[0])).status_code == 401

    run(scenario)


def test_nothing_at_rest_opens_anything() -> None:
    async def scenario(h: Harness) -> None:
        account = await h.add(ANN)
        who = await person(h, account["id"])
        setup = await h.people.own.factors.begin_totp(who)
        secret = parse_secret(setup.secret)
        changed = await h.people.own.factors.confirm_totp(who, totp_code(secret, int(h.clock.now()) // 30), HERE)
        rows = await h.people.database.read(
            lambda tx: [
                *tx.execute("SELECT value FROM once_records").fetchall(),
                *tx.execute("SELECT code_hash FROM backup_codes").fetchall(),
                *tx.execute("SELECT totp FROM accounts").fetchall(),
            ]
        )
        blob = b"".join(bytes(row[0] or b"") for row in rows)
        assert secret not in blob
        assert setup.secret.encode() not in blob
        assert not any(code.replace("-", "").encode() in blob for code in changed.backup_codes)
        told = repr(h.recorder.events) + repr(changed) + repr(setup)
        assert setup.secret not in told
        assert not any(code in told for code in changed.backup_codes)

    run(scenario)


def test_guessing_codes_is_slowed_and_who_holds_a_device_is_not() -> None:
    async def scenario(h: Harness) -> None:
        account, app, _ = await enrolled(h)
        device = h.people.logins.remember(await h.people.accounts.get(account))
        far = Origin(ip="198.51.100.1")
        refusals = []
        for _ in range(20):
            try:
                await prove(h, "000000", far)
            except RempartError as error:
                refusals.append(type(error))
        assert (refusals[0], refusals[-1]) == (Unauthenticated, Throttled)
        h.clock.advance(60)
        mine = await h.people.logins.authenticate(ANN, PASSWORD, None, device, far)
        assert isinstance(mine, SecondFactorNeeded)
        code = app.at(int(h.clock.now()))
        await h.people.proving.factors.prove(mine.ticket, OneTimeCode(code), far)
        # at a door of one step, who has the password doesn't learn it from being throttled at the code
        refused = await h.login(ANN, otp="000000", ip="198.51.100.1")
        assert (refused.status_code, refused.json()["code"]) == (401, "login_failed")
        told = [event for event in h.recorder.events if event.severity == "high"]
        assert {str(event.type) for event in told} == {"people.login_throttled"}
        assert {event.person for event in told} == {account}

    run(scenario)


def test_a_ticket_is_good_for_ten_minutes_and_dies_with_the_epoch() -> None:
    async def scenario(h: Harness) -> None:
        account, _, backup = await enrolled(h)
        factors = h.people.proving.factors
        ticket = (await half(h)).ticket
        for forged in ("", "x", ticket[:-4], ticket[::-1], "é" * 40, "A" * 3000):
            with pytest.raises(Unauthenticated, match="not begun here"):
                await factors.prove(forged, OneTimeCode(backup[0]), HERE)
        h.clock.advance(601)
        with pytest.raises(Unauthenticated, match="too long"):
            await factors.prove(ticket, OneTimeCode(backup[0]), HERE)
        ticket = (await half(h)).ticket
        await h.admin.post(f"/users/{account}/password", json={})
        with pytest.raises(Unauthenticated):
            await factors.prove(ticket, OneTimeCode(backup[0]), HERE)

    run(scenario)


class CodesOnce(RuleBasedStateMachine):
    """However time goes on and whoever asks side by side: no code opens twice, none that is due is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.context = harness(unsafe_disabled=["login-throttle"])

    @initialize()
    def enrol(self) -> None:
        self.h = self.runner.run(self.context.__aenter__())
        _, self.app, backup = self.runner.run(enrolled(self.h))
        self.last_step = int(self.h.clock.now()) // 30
        self.unspent = set(backup)
        self.spent: set[str] = set()

    @rule(seconds=st.integers(1, 95))
    def wait(self, seconds: int) -> None:
        self.h.clock.advance(seconds)

    @rule(offset=st.integers(-2, 2), times=st.integers(1, 3))
    def code(self, offset: int, times: int) -> None:
        step = int(self.h.clock.now()) // 30 + offset
        due = offset in (-1, 0) and step > self.last_step
        assert self._try(self.app.at(step * 30), times) == int(due)
        if due:
            self.last_step = step

    @rule(data=st.data(), times=st.integers(1, 3))
    def backup(self, data: st.DataObject, times: int) -> None:
        code = data.draw(st.sampled_from(sorted(self.unspent | self.spent)))
        assert self._try(code, times) == int(code in self.unspent)
        self.unspent.discard(code)
        self.spent.add(code)

    @invariant()
    def as_many_left_as_unspent(self) -> None:
        if hasattr(self, "h"):
            account = self.runner.run(self.h.people.accounts.find(ANN))
            held = self.runner.run(self.h.people.proving.store.held(account.id))
            assert held.backup_codes == len(self.unspent)

    def _try(self, text: str, times: int) -> int:
        """How many of so many parallel requests got in."""

        async def all_at_once() -> int:
            outcomes = await asyncio.gather(*(prove(self.h, text) for _ in range(times)), return_exceptions=True)
            assert all(isinstance(outcome, (Authenticated, Unauthenticated)) for outcome in outcomes)
            return sum(isinstance(outcome, Authenticated) for outcome in outcomes)

        return self.runner.run(all_at_once())

    def teardown(self) -> None:
        if hasattr(self, "h"):
            self.runner.run(self.context.__aexit__(None, None, None))
        self.runner.close()


CodesOnce.TestCase.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_codes_once = CodesOnce.TestCase
