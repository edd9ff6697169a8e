"""Authorization codes: once, for a minute, for whom they were made (RFC 6749 section 4.1.2, RFC 9700 section 4.5)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.authorize_support import APP, NATIVE, ORIGIN, VERIFIER, Room, room

from rempart.kernel.errors import BadInput, Unavailable
from rempart.people.accounts import Actor
from rempart.people.oauth.model import Granted


def within(body: Callable[[Room], Awaitable[None]]) -> None:
    async def run() -> None:
        async with room() as it:
            await body(it)

    asyncio.run(run())


async def refused(attempt: Awaitable[Granted], error: str = "invalid_grant") -> None:
    with pytest.raises(BadInput) as told:
        await attempt
    assert told.value.code == error


def test_a_code_gives_what_was_asked_for_and_an_id_token() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in(amr=("pwd", "otp", "mfa"))).session
        granted = await it.redeem(await it.code(scope="openid email offline_access", nonce="n-7"))
        assert granted.account is not None
        assert granted.account.id == session.account_id
        assert (granted.scope, granted.acr) == (("openid", "email", "offline_access"), "mfa")
        assert (granted.refreshable, granted.session_id, granted.auth_time) == (True, "", session.auth_time)
        assert granted.id_token is not None
        claims = it.claims(granted.id_token("the access token"))
        half = hashlib.sha256(b"the access token").digest()[:16]
        now = int(it.clock.now())
        assert {name: claims[name] for name in claims if name != "jti"} == {
            "iss": "https://localhost:8443/auth",
            "sub": session.account_id,
            "aud": "app",
            "azp": "app",
            "iat": now,
            "exp": now + 300,
            "auth_time": int(session.auth_time),
            "amr": ["pwd", "otp", "mfa"],
            "acr": "mfa",
            "sid": session.id,
            "nonce": "n-7",
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        }

    within(body)


def test_without_openid_there_is_no_id_token_and_what_isnt_offline_belongs_to_the_session() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        granted = await it.redeem(await it.code(scope="email"))
        assert (granted.id_token, granted.session_id) == (None, session.id)

    within(body)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code": None}, "invalid_request"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code": "a" * 43}, "invalid_grant"),
        ({"code": "ä" * 43}, "invalid_grant"),
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": VERIFIER + "v"}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"redirect_uri": "https://app.example/cb/"}, "invalid_grant"),
    ],
)
def test_a_code_needs_its_verifier_and_its_redirect_uri(changes: dict[str, str | None], error: str) -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        form = {"code": await it.code(), **changes}
        await refused(it.redeem(form.pop("code") or "", **form), error)

    within(body)


def test_a_wrong_verifier_uses_the_code_up() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        await refused(it.redeem(code, code_verifier="w" * 43))
        await refused(it.redeem(code))

    within(body)


def test_a_code_is_its_clients_own_and_another_doesnt_use_it_up() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        await refused(it.redeem(code, NATIVE, redirect_uri=APP.redirect_uris[0]))
        assert await it.redeem(code)

    within(body)


def test_a_code_dies_with_its_client_even_when_another_takes_its_name() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        it.clock.advance(1)
        again = msgspec.structs.replace(APP, created_at=it.clock.now())
        await refused(it.redeem(code, again))

    within(body)


def test_a_code_lives_a_minute() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        it.clock.advance(60)
        await refused(it.redeem(code))

    within(body)


def test_a_code_that_was_bound_to_a_key_needs_that_key() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        await refused(it.redeem(await it.code(dpop_jkt="k" * 43)))
        await refused(it.redeem(await it.code(dpop_jkt="k" * 43), jkt="j" * 43))
        assert await it.redeem(await it.code(dpop_jkt="k" * 43), jkt="k" * 43)

    within(body)


def test_a_code_falls_with_its_session_and_its_account() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        code = await it.code()
        await it.sessions.end(session.id, "logout", ORIGIN)
        await refused(it.redeem(code))
        account = (await it.sign_in()).session.account_id
        code = await it.code()
        await it.people.accounts.change(account, {"role": "audit"}, Actor(ORIGIN))
        await refused(it.redeem(code))

    within(body)


def test_tokens_are_for_the_audience_that_was_asked_for() -> None:
    several = msgspec.structs.replace(APP, audiences=("reports", "archive"))

    async def run() -> None:
        async with room(several) as it:
            await it.sign_in()
            assert (await it.redeem(await it.code(), several)).audience == ("reports",)
            assert (await it.redeem(await it.code(), several, resource="archive")).audience == ("archive",)
            assert (await it.redeem(await it.code(resource="archive"), several)).audience == ("archive",)
            await refused(it.redeem(await it.code(resource="archive"), several, resource="reports"), "invalid_target")
            await refused(it.redeem(await it.code(), several, resource="bank.example"), "invalid_target")

    asyncio.run(run())


def test_a_second_use_ends_what_came_of_the_first() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        granted = await it.redeem(code)
        await it.family(granted)
        assert await it.stands(granted)
        await refused(it.redeem(code))
        assert not await it.stands(granted)
        await refused(it.redeem(code))
        reused = [event for event in it.recorder.events if str(event.type) == "people.token_reused"]
        assert [(event.details["grant"], str(event.severity)) for event in reused] == [(granted.grant_id, "high")]

    within(body)


def test_a_second_use_while_the_first_is_being_answered_ends_it_too() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        granted = await it.redeem(code)  # nothing was made of it yet
        await refused(it.redeem(code))
        await it.family(granted)
        assert not await it.stands(granted)

    within(body)


def test_even_a_late_second_use_is_noticed() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        granted = await it.redeem(code)
        await it.family(granted)
        it.clock.advance(1800)
        await refused(it.redeem(code))
        assert not await it.stands(granted)

    within(body)


def test_of_twenty_at_once_one_is_answered() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        answers = await asyncio.gather(*(it.redeem(code) for _ in range(20)), return_exceptions=True)
        granted = [answer for answer in answers if isinstance(answer, Granted)]
        assert len(granted) == 1
        assert all(isinstance(a, Granted) or (isinstance(a, BadInput) and a.code == "invalid_grant") for a in answers)
        await it.family(granted[0])
        assert not await it.stands(granted[0])

    within(body)


def test_when_the_record_is_down_there_is_no_code_and_a_reuse_is_still_refused() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        granted = await it.redeem(code)
        await it.family(granted)
        it.recorder.failing = Unavailable("journal_unavailable", "full")
        with pytest.raises(Unavailable):
            await it.redeem(code)
        assert not await it.stands(granted)

    within(body)


def test_codes_are_kept_as_hashes_of_sealed_records() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        code = await it.code()
        rows = await it.people.database.read(
            lambda tx: tx.execute("SELECT kind, key, value FROM once_records").fetchall()
        )
        kept = [(bytes(key), bytes(value)) for kind, key, value in rows if kind == "code"]
        assert [key for key, _ in kept] == [hashlib.sha256(code.encode()).digest()]
        assert code.encode() not in kept[0][1]
        assert session.account_id.encode() not in kept[0][1]

    within(body)


class CodesMachine(RuleBasedStateMachine):
    """Codes redeemed by right and wrong hands, at once and again: what was given out at most once, and revoked when
    the code came back."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.context = room()
        self.it = self.loop.run_until_complete(self.context.__aenter__())
        self.fresh: dict[str, float] = {}
        self.granted: dict[str, Granted] = {}
        self.ended: set[str] = set()

    @initialize()
    def sign_in(self) -> None:
        self.loop.run_until_complete(self.it.sign_in())

    @rule()
    def issue(self) -> None:
        self.fresh[self.loop.run_until_complete(self.it.code())] = self.it.clock.now()

    @rule(seconds=st.sampled_from((1, 20, 59)))
    def wait(self, seconds: int) -> None:
        self.it.clock.advance(seconds)

    @precondition(lambda self: self.fresh)
    @rule(data=st.data(), times=st.integers(1, 4), wrong=st.booleans())
    def redeem(self, data: st.DataObject, times: int, wrong: bool) -> None:
        code = data.draw(st.sampled_from(sorted(self.fresh)))
        due = self.it.clock.now() - self.fresh.pop(code) < 60
        changes = {"code_verifier": "w" * 43} if wrong else {}
        tries = [self.it.redeem(code, **changes) for _ in range(times)]
        answers = self.loop.run_until_complete(_all(tries))
        won = [answer for answer in answers if isinstance(answer, Granted)]
        assert len(won) == (1 if due and not wrong else 0)
        if won:
            self.loop.run_until_complete(self.it.family(won[0]))
            self.granted[code] = won[0]
            if times > 1:
                self.ended.add(code)

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        code = data.draw(st.sampled_from(sorted(self.granted)))
        answers = self.loop.run_until_complete(_all([self.it.redeem(code)]))
        assert isinstance(answers[0], BadInput)
        self.ended.add(code)

    @rule()
    def look(self) -> None:
        for code, granted in self.granted.items():
            assert self.loop.run_until_complete(self.it.stands(granted)) is (code not in self.ended)

    def teardown(self) -> None:
        self.look()
        self.loop.run_until_complete(self.context.__aexit__(None, None, None))
        self.loop.close()


async def _all(tries: list[Awaitable[Granted]]) -> list[Granted | BaseException]:
    return await asyncio.gather(*tries, return_exceptions=True)


TestCodesMachine = CodesMachine.TestCase
TestCodesMachine.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
