"""Whose tokens of before are refused: what is told, kept, forgotten; and what the PDP makes of it."""

from __future__ import annotations

import asyncio
import json
import timeit
from pathlib import Path
from typing import Any

from tests.support import short_directory
from tests.unit.policy.test_decide import GATEWAY, PEER, Says, _claims

from rempart.kernel.clock import ManualClock
from rempart.people.administration import epoch_feed
from rempart.people.administration.epoch_feed import EpochFeed
from rempart.policy import epochs as epochs_module
from rempart.policy.decide import Decider, Deciding, Rules
from rempart.policy.epochs import GRACE, HORIZON, Epochs, Follower, Told

ALLOW = {"allow": True, "rule": "app"}
NOW = 1_700_000_000.0


def decider(epochs: Epochs) -> Decider:
    routes = {"/wallet": "wallet", "/login": "people", "/auth": "people"}
    rules = Rules("t", "i", "t", routes, PEER, requests_per_minute=600, managing=["admin", "desk"])
    return Decider(rules, Deciding(Says(ALLOW), "v1"), ManualClock(), "pdp", lambda token, now: "why", epochs)


def asked(decider: Decider, path: bytes = b"/wallet", **claims: Any) -> tuple[int, dict[str, Any]]:
    response, event = decider.decide(
        GATEWAY, "GET", b"/authz" + path, [(b"x-rempart-claims", _claims(**claims)), (b"x-rempart-ip", b"10.0.0.9")]
    )
    record: dict[str, Any] = json.loads(event)["unmapped"]["rempart"]
    return int(response.split(b" ")[1]), record


def told(*entries: tuple[str, int, float]) -> Told:
    return Told("run", 1, list(entries))


def least(epochs: Epochs) -> dict[str, int]:
    return {subject: about.least for subject, about in epochs.told_of.items()}


def test_an_older_token_is_refused_and_a_newer_one_is_not() -> None:
    epochs = Epochs()
    pdp = decider(epochs)
    assert asked(pdp, epoch=1)[0] == 200
    epochs.take(told(("u1", 2, NOW)), NOW)
    status, record = asked(pdp, epoch=1)
    assert (status, record["code"]) == (401, "token_superseded")
    assert "superseded" in record["reason"]
    assert asked(pdp, epoch=2)[0] == 200
    assert asked(pdp, epoch=3)[0] == 200
    assert asked(pdp, sub="u2", epoch=1)[0] == 200
    assert asked(pdp)[0] == 401  # made before tokens had epochs


def test_a_session_that_ended_takes_its_tokens_along_and_no_other() -> None:
    epochs = Epochs()
    pdp = decider(epochs)
    epochs.take(Told("run", 1, ended=[("u1", "ses_1", NOW), ("u1", "tok_7", NOW)]), NOW)
    status, record = asked(pdp, sid="ses_1")
    assert (status, record["code"]) == (401, "session_ended")
    assert asked(pdp, sid="ses_2", jti="tok_7")[0] == 401  # one token, revoked alone
    assert asked(pdp, sid="ses_2", jti="tok_8")[0] == 200
    assert asked(pdp)[0] == 200
    assert asked(pdp, sub="u2", sid="ses_1")[0] == 200  # ids are told with their subject
    status, record = asked(pdp, b"/auth/userinfo", sid="ses_1")
    assert status == 200
    assert not record.get("person")


def test_a_session_id_that_is_no_text_is_refused() -> None:
    for nonsense in (1, None, ["ses_1"], {"id": "ses_1"}, True):
        assert asked(decider(Epochs()), sid=nonsense)[0] == 401
        assert asked(decider(Epochs()), jti=nonsense)[0] == 401


def test_what_was_made_before_is_refused_where_too_many_ended_to_tell_them_apart() -> None:
    epochs = Epochs()
    pdp = decider(epochs)
    epochs.take(Told("run", 1, ended=[("u1", "ses_1", NOW - 90)], before=[("u1", NOW - 60)]), NOW)
    assert not epochs.told_of["u1"].ended  # the time stands for it
    assert asked(pdp, iat=NOW - 61)[0] == 401
    assert asked(pdp, iat=NOW - 59)[0] == 200
    assert asked(pdp, sub="u2", iat=NOW - 61)[0] == 200
    epochs.take(Told("run", 2, before=[("u1", NOW - 70)]), NOW)
    assert asked(pdp, iat=NOW - 61)[0] == 401


def test_ends_are_kept_on_disk_and_forgotten_after_the_longest_token(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path / "epochs.json")
    epochs.take(Told("run", 1, [("u1", 2, NOW)], [("u2", "ses_1", NOW)], [("u3", NOW)]), NOW)
    asyncio.run(epochs.save())
    again = Epochs(tmp_path / "epochs.json")
    again.load(NOW)
    assert again.told_of == epochs.told_of
    again.take(Told("run", 2), NOW + HORIZON + 1)
    assert again.told_of == {}


def test_a_full_disk_is_tried_again_and_stops_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    full = [True]
    write = Epochs._write

    def maybe(path: Path, kept: Told) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        write(path, kept)

    epochs = Epochs(tmp_path / "epochs.json")
    monkeypatch.setattr(epochs, "_write", maybe)

    async def body() -> None:
        epochs.take(Told("run", 1, ended=[("u1", "ses_1", NOW)]), NOW)
        await epochs.save_at_ease()
        assert "ses_1" in epochs.told_of["u1"].ended  # refused all the same
        full[0] = False
        epochs._save_from = 0.0
        await epochs.save_at_ease()

    asyncio.run(body())
    again = Epochs(tmp_path / "epochs.json")
    again.load(NOW)
    assert again.told_of == epochs.told_of


def test_a_file_that_takes_long_to_write_is_written_seldom(tmp_path: Path, monkeypatch: Any) -> None:
    written: list[int] = []

    def slow(path: Path, kept: Told) -> None:
        written.append(kept.seq)
        epochs._save_from = 0.0
        clock[0] += 2.0

    clock = [100.0]
    monkeypatch.setattr(epochs_module, "time", type("Time", (), {"monotonic": lambda: clock[0]}))
    epochs = Epochs(tmp_path / "epochs.json")
    monkeypatch.setattr(epochs, "_write", slow)

    async def hear(seq: int) -> None:
        epochs.take(Told("run", seq, ended=[("u1", f"ses_{seq}", NOW)]), NOW)
        await epochs.save_at_ease()

    async def body() -> None:
        await hear(1)
        await hear(2)
        assert written == [1]
        clock[0] += 39.0
        await epochs.save_at_ease()
        assert written == [1, 2]

    asyncio.run(body())


def test_a_token_whose_epoch_is_no_count_is_refused() -> None:
    for nonsense in (True, -1, 1.5, "2", None):
        assert asked(decider(Epochs()), epoch=nonsense)[0] == 401


def test_people_still_hears_who_comes_with_an_old_token() -> None:
    epochs = Epochs()
    epochs.take(told(("u1", 2, NOW)), NOW)
    status, record = asked(decider(epochs), b"/auth/userinfo", epoch=1)
    assert status == 200
    assert not record.get("person")


def test_an_epoch_never_goes_back_and_is_forgotten_when_no_token_can_be_older() -> None:
    epochs = Epochs()
    epochs.take(told(("u1", 5, NOW), ("u2", 2, NOW + 100)), NOW)
    epochs.take(told(("u1", 3, NOW + 1)), NOW)
    assert least(epochs) == {"u1": 5, "u2": 2}
    epochs.take(told(("u3", 2, NOW + HORIZON + 50)), NOW + HORIZON + 50)
    assert least(epochs) == {"u2": 2, "u3": 2}


def test_what_was_told_is_kept_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "data" / "epochs.json"
    epochs = Epochs(file)
    epochs.load(NOW)
    epochs.take(told(("u1", 5, NOW)), NOW)
    asyncio.run(epochs.save())
    assert file.stat().st_mode & 0o777 == 0o600
    again = Epochs(file)
    again.load(NOW)
    assert (least(again), again.run, again.seq) == ({"u1": 5}, "run", 1)
    old = Epochs(file)
    old.load(NOW + HORIZON + 1)
    assert least(old) == {}
    file.write_bytes(b"{ damaged")
    Epochs(file).load(NOW)  # people tells it again


def test_long_silence_refuses_those_who_administer_others_alone() -> None:
    epochs = Epochs()
    epochs.stale = True
    pdp = decider(epochs)
    assert asked(pdp, epoch=1)[0] == 200
    for role in ("admin", "desk"):
        status, record = asked(pdp, epoch=1, role=role)
        assert (status, record["code"]) == (503, "epochs_stale")
    epochs.take(told(("u1", 2, NOW)), NOW)
    assert asked(pdp, epoch=1)[0] == 401


def test_looking_costs_a_third_of_a_microsecond_at_most() -> None:
    epochs = Epochs()
    epochs.take(told(*((f"usr_{number}", 2, NOW) for number in range(10_000))), NOW)
    told_of, seen = epochs.told_of, "usr_x"
    best = min(timeit.repeat(lambda: seen in told_of or epochs.stale, number=10_000, repeat=20)) / 10_000
    assert best < 0.6e-6  # 0.1 µs on a quiet machine, the call of the lambda included


class Accounts:
    """An `EpochStore` whose failures can be chosen."""

    def __init__(self) -> None:
        self.changed: list[tuple[str, int, float]] = []
        self.ended: list[tuple[str, str, float]] = []
        self.deleted: list[tuple[str, float]] = []
        self.failing = False

    async def changed_since(self, at: float) -> list[tuple[str, int, float]]:
        if self.failing:
            from rempart.kernel.errors import Unavailable

            raise Unavailable("store_unavailable", "gone")
        return [entry for entry in self.changed if entry[2] >= at]

    async def ended_since(self, at: float) -> list[tuple[str, str, float]]:
        return [entry for entry in self.ended if entry[2] >= at]

    async def deleted_since(self, at: float) -> list[tuple[str, float]]:
        return [entry for entry in self.deleted if entry[1] >= at]


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_follower_is_told_everything_then_what_is_new_then_resumes() -> None:
    async def body(directory: Path) -> None:
        from rempart.kernel.clock import SystemClock

        clock, accounts = SystemClock(), Accounts()
        accounts.changed = [(f"u{number}", 2, clock.now()) for number in range(epoch_feed._BATCH + 7)]
        feed = EpochFeed(accounts, clock)
        server = await asyncio.start_unix_server(feed.serve, str(directory / "s"))
        watching = asyncio.create_task(feed.watch())
        epochs = Epochs(directory / "epochs.json")
        following = asyncio.create_task((follower := Follower(epochs, [str(directory / "s")], clock)).run())
        assert await follower.caught_up(5)
        await until(lambda: len(epochs.told_of) == epoch_feed._BATCH + 7)
        accounts.changed.append(("u1", 3, clock.now()))
        accounts.changed.append(("new", 2, clock.now() - 30))  # a slow transaction
        await until(lambda: least(epochs).get("u1") == 3 and least(epochs).get("new") == 2)
        following.cancel()
        accounts.changed.append(("u2", 9, clock.now()))
        resumed = Epochs(directory / "epochs.json")
        resumed.load(clock.now())
        assert resumed.seq > 0
        again = asyncio.create_task(Follower(resumed, [str(directory / "s")], clock).run())
        await until(lambda: least(resumed).get("u2") == 9)
        again.cancel()
        watching.cancel()
        server.close()

    with short_directory() as directory:
        asyncio.run(body(directory))


def test_ends_are_told_one_by_one_and_beyond_the_bound_as_a_time() -> None:
    async def body() -> None:
        clock, store = ManualClock(NOW), Accounts()
        feed = EpochFeed(store, clock)
        store.ended = [("u1", f"ses_{number}", NOW + number) for number in range(3)] + [("u2", "ses_x", NOW)]
        await feed.refresh()
        await feed.refresh()
        line = feed._line(0, feed._after(0))
        assert sorted(line["ended"]) == sorted(store.ended)
        assert line["before"] == []
        told = feed._seq
        store.ended += [("u1", f"ses_{number}", NOW + number) for number in range(3, epoch_feed.MOST_ENDED + 5)]
        await feed.refresh()
        await feed.refresh()
        news = feed._line(0, feed._after(told))
        assert news["before"] == [("u1", NOW + 4 + epoch_feed.SLACK)]
        everything = feed._line(0, feed._after(0))
        assert len(everything["ended"]) == epoch_feed.MOST_ENDED + 1  # and the other person's
        epochs = Epochs()
        for line in (feed._line(0, feed._after(0)), everything):
            epochs.take(Told(**line), NOW)
        assert len(epochs.told_of["u1"].ended) < epoch_feed.MOST_ENDED
        store.ended.clear()
        clock.advance(HORIZON + 3600)
        await feed.refresh()
        assert not feed._known
        assert not feed._ended

    asyncio.run(body())


def test_tokens_of_a_deleted_client_fall_and_those_of_a_later_one_of_its_id_stand() -> None:
    async def body() -> None:
        clock, store = ManualClock(NOW), Accounts()
        feed, epochs = EpochFeed(store, clock), Epochs()
        pdp = decider(epochs)

        def through(**claims: Any) -> int:
            return asked(pdp, **claims)[0]

        assert through(client_id="app", iat=NOW - 60) == 200
        store.deleted = [("app", NOW)]
        await feed.refresh()
        await feed.refresh()
        line = feed._line(0, feed._after(0))
        assert line["before"] == [("client:app", NOW + epoch_feed.SLACK)]
        epochs.take(Told(**line), NOW)
        status, record = asked(pdp, client_id="app", iat=NOW - 60)
        assert (status, record["code"], record["reason"]) == (
            401,
            "session_ended",
            "the token is not accepted: its client was deleted, or what proved it revoked",
        )
        assert through(sub="app", client_id="app", iat=NOW - 60) == 401
        assert through(client_id="other", iat=NOW - 60) == 200
        assert through(iat=NOW - 60) == 200
        store.deleted = [("app", NOW + 100)]
        clock.advance(100)
        await feed.refresh()
        epochs.take(Told(**feed._line(0, feed._after(0))), clock.now())
        assert epochs.told_of["client:app"].before == NOW + 100 + epoch_feed.SLACK
        store.deleted.clear()
        clock.advance(HORIZON + 3600)
        await feed.refresh()
        assert not feed._known
        assert not feed._ended

    asyncio.run(body())


def test_while_the_accounts_cannot_be_read_nothing_is_told_and_the_silence_is_noticed(monkeypatch: Any) -> None:
    monkeypatch.setattr(epochs_module, "_SILENCE", 0.3)

    async def body(directory: Path) -> None:
        clock, accounts = ManualClock(), Accounts()
        accounts.failing = True
        feed = EpochFeed(accounts, clock)
        server = await asyncio.start_unix_server(feed.serve, str(directory / "s"))
        watching = asyncio.create_task(feed.watch())
        epochs = Epochs()
        follower = Follower(epochs, [str(directory / "s")], clock)
        following = asyncio.create_task(follower.run())
        assert not await follower.caught_up(0.5)
        assert not epochs.stale
        clock.advance(GRACE + 1)
        await until(lambda: epochs.stale)
        accounts.failing = False
        accounts.changed = [("u1", 2, clock.now())]
        await until(lambda: not epochs.stale and least(epochs) == {"u1": 2})
        for task in (following, watching):
            task.cancel()
        server.close()

    with short_directory() as directory:
        asyncio.run(body(directory))


def test_nonsense_on_the_socket_ends_that_connection_only() -> None:
    async def body(directory: Path) -> None:
        feed = EpochFeed(Accounts(), ManualClock())
        server = await asyncio.start_unix_server(feed.serve, str(directory / "s"), limit=4096)
        for nonsense in (b"\n", b"[]\n", b'{"run": 1}\n', b"x" * 9000 + b"\n", b"\xff\n"):
            reader, writer = await asyncio.open_unix_connection(str(directory / "s"))
            writer.write(nonsense)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        server.close()

    with short_directory() as directory:
        asyncio.run(body(directory))
