"""Who holds the token is signed in until it is idle, old, ended or proved to be in other hands."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.people_sessions import HOME, Room, in_room

from rempart.kernel.errors import Integrity, Unavailable
from rempart.kernel.event import Severity
from rempart.people.model import Origin
from rempart.people.sessions.model import KEEP, LIMITS, Doubted, Kind, Limits, Session

ELSEWHERE = Origin(ip="198.51.100.9", user_agent="curl/8.14", locale="en")


def test_a_token_finds_its_session_and_nothing_else_does() -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        assert len(opened.token) == 43
        assert await room.sessions.find(opened.token, HOME) == opened.session
        assert await room.sessions.alive(opened.session.id) == opened.session
        for wrong in ("", opened.token[:-1], opened.token + "A", opened.session.id, "é" * 43, "A" * 43, "\x00" * 43):
            assert await room.sessions.find(wrong, HOME) is None
        assert room.recorder.types() == ["people.session_opened"]

    in_room(scenario)


@pytest.mark.parametrize("kind", list(Kind))
def test_an_idle_session_ends_and_a_used_one_ends_when_it_is_old(kind: Kind) -> None:
    async def scenario(room: Room) -> None:
        limits = LIMITS[kind]
        idle = await room.sessions.open(await room.proved(), kind, HOME)
        used = await room.sessions.open(await room.proved(), kind, HOME)
        began = room.clock.now()
        room.clock.advance(limits.idle - 1)
        assert await room.sessions.find(used.token, HOME) is not None
        room.clock.advance(1)
        assert await room.sessions.find(idle.token, HOME) is None
        while room.clock.now() + limits.idle - 2 < began + limits.absolute:
            room.clock.advance(limits.idle - 2)
            assert await room.sessions.find(used.token, HOME) is not None
        room.clock.advance(began + limits.absolute - room.clock.now())
        assert await room.sessions.find(used.token, HOME) is None
        assert await room.sessions.list("usr_ann") == []
        assert await room.sessions.sweep() == 2

    in_room(scenario)


def test_a_session_is_touched_at_most_once_a_minute() -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        room.clock.advance(59)
        assert await room.sessions.find(opened.token, HOME) == opened.session
        room.clock.advance(1)
        touched = await room.sessions.find(opened.token, HOME)
        assert isinstance(touched, Session)
        assert touched.seen_at == room.clock.now()
        assert await room.sessions.alive(opened.session.id) == touched

    in_room(scenario)


def test_privilege_rises_under_a_new_token_and_the_same_id() -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        room.clock.advance(100)
        raised = await room.sessions.raise_privilege(opened.session, await room.proved("ann", "otp", "mfa"), HOME)
        assert raised.token != opened.token
        assert raised.session.id == opened.session.id
        assert raised.session.amr == ("pwd", "otp", "mfa")
        assert raised.session.auth_time == room.clock.now()
        assert await room.sessions.find(opened.token, HOME) is None
        assert await room.sessions.find(raised.token, HOME) == raised.session
        assert room.listener.heard == []
        assert [one.id for one in await room.sessions.list("usr_ann")] == [opened.session.id]

    in_room(scenario)


def test_who_proves_more_in_a_doubted_place_keeps_nothing_of_before() -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved("ann", "pwd", "otp", "mfa"), Kind.WEB, HOME)
        raised = await room.sessions.raise_privilege(opened.session, await room.proved(), ELSEWHERE)
        assert raised.session.amr == ("pwd",)
        assert isinstance(await room.sessions.find(raised.token, ELSEWHERE), Session)

    in_room(scenario)


def test_somebody_elses_proof_takes_over_no_session() -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved("ann", "pwd", "otp"), Kind.WEB, HOME)
        other = await room.sessions.raise_privilege(opened.session, await room.proved("bob"), HOME)
        assert other.session.id != opened.session.id
        assert (other.session.account_id, other.session.amr) == ("usr_bob", ("pwd",))
        assert await room.sessions.find(opened.token, HOME) is None
        assert set(room.listener.heard) == {opened.session.id}
        gone = await room.sessions.raise_privilege(opened.session, await room.proved("ann"), HOME)
        assert gone.session.amr == ("pwd",)

    in_room(scenario)


@pytest.mark.parametrize("change", [{"disabled": True}, {"epoch": 2}])
def test_an_account_that_was_disabled_or_changed_has_no_session(change: dict[str, int]) -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        await room.change("ann", **change)
        assert await room.sessions.find(opened.token, HOME) is None
        assert await room.sessions.alive(opened.session.id) is None
        assert await room.sessions.list("usr_ann") == []

    in_room(scenario)


def test_a_bound_session_dies_with_the_first_use_that_does_not_prove_its_key() -> None:
    async def scenario(room: Room) -> None:
        for proof in (None, "another"):
            opened = await room.sessions.open(await room.proved(), Kind.API, HOME, key="thumbprint")
            assert isinstance(await room.sessions.find(opened.token, HOME, proof="thumbprint"), Session)
            assert await room.sessions.find(opened.token, HOME, proof=proof) is None
            assert await room.sessions.find(opened.token, HOME, proof="thumbprint") is None
            last = room.recorder.events[-1]
            assert (str(last.type), last.severity, last.details["session"]) == (
                "people.session_ended",
                Severity.HIGH,
                opened.session.id,
            )
            assert room.listener.heard[-1] == opened.session.id

    in_room(scenario)


@pytest.mark.parametrize(
    ("change", "signals"),
    [
        ({"ip": "198.51.100.9"}, ()),
        ({"user_agent": "Mozilla/5.0 Firefox/141.0.2", "ip": "198.51.100.9"}, ()),
        ({"user_agent": "curl/8.14"}, ()),
        ({"locale": "en", "ip": "198.51.100.9"}, ()),
        ({"user_agent": "curl/8.14", "ip": "198.51.100.9"}, ("network", "user_agent")),
        ({"user_agent": "curl/8.14", "locale": "en"}, ("user_agent", "locale")),
        ({"user_agent": "Mozilla/5.0 Firefox/139.0", "locale": "en", "ip": "198.51.100.9"},
         ("network", "user_agent", "locale")),
    ],
)  # fmt: skip
def test_one_sign_of_another_place_asks_nothing_and_several_ask_again(
    change: dict[str, str], signals: tuple[str, ...]
) -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        found = await room.sessions.find(opened.token, replace(HOME, **change))
        if not signals:
            assert found == opened.session
            return
        assert isinstance(found, Doubted)
        assert found.signals == signals
        assert room.recorder.types()[-1] == "people.session_suspect"
        assert not room.recorder.events[-1].success
        assert await room.sessions.find(opened.token, HOME) == opened.session  # the owner at home is asked nothing

    in_room(scenario)


def test_a_doubted_place_is_trusted_after_a_new_proof_and_the_old_one_has_no_token() -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        assert isinstance(await room.sessions.find(opened.token, ELSEWHERE), Doubted)
        raised = await room.sessions.raise_privilege(opened.session, await room.proved(), ELSEWHERE)
        assert isinstance(await room.sessions.find(raised.token, ELSEWHERE), Session)
        assert await room.sessions.find(opened.token, HOME) is None

    in_room(scenario)


def test_sessions_are_listed_and_ended_one_by_one_or_all() -> None:
    async def scenario(room: Room) -> None:
        mine = []
        for kind in Kind:
            mine.append(await room.sessions.open(await room.proved(), kind, HOME))
            room.clock.advance(1)
        other = await room.sessions.open(await room.proved("bob"), Kind.WEB, HOME)
        assert [one.kind for one in await room.sessions.list("usr_ann")] == [Kind.CLI, Kind.API, Kind.WEB]
        assert await room.sessions.end(mine[0].session.id, "sign-out", HOME)
        assert not await room.sessions.end(mine[0].session.id, "sign-out", HOME)
        assert await room.sessions.end_all("usr_ann", "password", HOME, keep=mine[1].session.id) == 1
        assert [one.id for one in await room.sessions.list("usr_ann")] == [mine[1].session.id]
        assert await room.sessions.end_all("usr_ann", "administrator", HOME) == 1
        assert await room.sessions.find(other.token, HOME) == other.session
        assert list(dict.fromkeys(room.listener.heard)) == [mine[n].session.id for n in (0, 2, 1)]
        ended = [e.reason for e in room.recorder.events if str(e.type) == "people.session_ended"]
        assert ended == ["sign-out", "password", "administrator"]

    in_room(scenario)


def test_limits_are_what_the_operator_says() -> None:
    async def scenario(room: Room) -> None:
        opened = []
        for _ in range(3):
            opened.append(await room.sessions.open(await room.proved(), Kind.WEB, HOME))
            room.clock.advance(0.001)
        assert await room.sessions.find(opened[0].token, HOME) is None
        used, idle = opened[1], opened[2]
        for _ in range(3):
            room.clock.advance(45)  # seen more often than once a minute: its idle time is as short
            assert await room.sessions.find(used.token, HOME) is not None
        assert await room.sessions.find(idle.token, HOME) is None
        room.clock.advance(15)
        assert await room.sessions.find(used.token, HOME) is None
        tool = await room.sessions.open(await room.proved(), Kind.CLI, HOME)
        assert tool.session.ends_at == room.clock.now() + LIMITS[Kind.CLI].idle

    in_room(scenario, keep=2, limits={**LIMITS, Kind.WEB: Limits(idle=60, absolute=150)})


def test_who_signs_in_all_day_keeps_the_newest() -> None:
    async def scenario(room: Room) -> None:
        first = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        for _ in range(KEEP):
            room.clock.advance(0.001)
            await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        assert len(await room.sessions.list("usr_ann")) == KEEP
        assert await room.sessions.find(first.token, HOME) is None
        assert set(room.listener.heard) == {first.session.id}
        assert room.recorder.events[-2].reason == "too_many"

    in_room(scenario)


def test_a_new_sign_in_replaces_the_browsers_old_session() -> None:
    async def scenario(room: Room) -> None:
        old = await room.sessions.open(await room.proved("bob"), Kind.WEB, HOME)
        new = await room.sessions.open(await room.proved(), Kind.WEB, HOME, replaces=old.session)
        assert await room.sessions.find(old.token, HOME) is None
        assert await room.sessions.find(new.token, HOME) == new.session

    in_room(scenario)


def test_what_cannot_be_recorded_is_not_answered() -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        room.recorder.failing = Unavailable("journal_unavailable", "the disk is full")
        for work in (
            room.sessions.open(await room.proved(), Kind.WEB, HOME),
            room.sessions.raise_privilege(opened.session, await room.proved(), HOME),
            room.sessions.find(opened.token, ELSEWHERE),
            room.sessions.end(opened.session.id, "sign-out", HOME),
        ):
            with pytest.raises(Unavailable):
                await work
        room.recorder.failing = None
        assert await room.sessions.find(opened.token, HOME) == opened.session

    in_room(scenario)


def test_a_session_stays_until_who_must_hear_of_its_end_has_heard() -> None:
    async def scenario(room: Room) -> None:
        opened = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
        room.listener.failing = Unavailable("store_unavailable", "away")
        with pytest.raises(Unavailable):
            await room.sessions.end(opened.session.id, "sign-out", HOME)
        assert await room.sessions.find(opened.token, HOME) == opened.session
        room.listener.failing = None
        assert await room.sessions.end(opened.session.id, "sign-out", HOME)

    in_room(scenario)


def test_the_store_tells_no_token_no_place_and_no_method_and_takes_no_exchange() -> None:
    async def scenario(room: Room) -> None:
        ann = await room.sessions.open(await room.proved("ann", "pwd", "otp"), Kind.WEB, HOME)
        bob = await room.sessions.open(await room.proved("bob"), Kind.WEB, HOME)
        dump = await room.database.write(lambda tx: repr(tx.execute("SELECT * FROM sessions").fetchall()))
        for secret in (ann.token, "203.0.113.7", "Firefox", "otp"):
            assert secret not in dump
        swap = (
            "UPDATE sessions SET sealed = (SELECT s.sealed FROM sessions s WHERE s.account_id = 'usr_ann')"
            " WHERE account_id = 'usr_bob'"
        )
        await room.database.write(lambda tx: tx.execute(swap))
        with pytest.raises(Integrity):
            await room.sessions.find(bob.token, HOME)

    in_room(scenario)


def test_of_uses_that_race_with_the_end_none_revives_the_session() -> None:
    async def scenario(room: Room) -> None:
        for _ in range(10):
            opened = await room.sessions.open(await room.proved(), Kind.WEB, HOME)
            room.clock.advance(61)  # each use touches it
            await asyncio.gather(
                *(room.sessions.find(opened.token, HOME) for _ in range(5)),
                room.sessions.end(opened.session.id, "sign-out", HOME),
                *(room.sessions.find(opened.token, HOME) for _ in range(5)),
            )
            assert await room.sessions.find(opened.token, HOME) is None

    in_room(scenario)
