"""Events whose time is over are deleted after they were exported; the tree stays provable and says what is gone."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support_audit import SIGNER, open_log

from rempart.audit import retention as retention_module
from rempart.audit.administration import RecordAdministration
from rempart.audit.log import MerkleLog
from rempart.audit.log_keys import LogKeyRing
from rempart.audit.monitor import Memory, Monitor
from rempart.audit.retention import Hold, Holds, Retention
from rempart.audit.sequencer import Sequencer
from rempart.audit.verifier import Key, leaf_hash, root_from_inclusion
from rempart.audit.whole_log import verify_log
from rempart.backends.log_files import DirectoryLog
from rempart.crypto.signing import verify_ed25519
from rempart.kernel.errors import BadInput, Conflict, NotFound, Unavailable
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

DAY = 86_400
NOW = 1_800_000_000.0
KEY = Key.parse(SIGNER.verifier_key)


def event(number: int, age_days: float, kind: EventType = EventType.DECISION, person: str = "usr_1") -> bytes:
    return encode(Event(type=kind, id=f"e{number}", at=NOW - age_days * DAY, success=True, person=person), "pdp")


def grow(
    log: MerkleLog, count: int, age_days: float, kind: EventType = EventType.DECISION, person: str = "usr_1"
) -> None:
    log.integrate([event(log.size + n, age_days, kind, person) for n in range(count)], {})


def pruned(first: int, end: int, source: str = "sequencer") -> bytes:
    details = {"first": first, "end": end}
    return encode(Event(type=EventType.EVENTS_PRUNED, at=NOW, success=True, details=details), source)


def retention(state: Path, log: MerkleLog, **days: int) -> Retention:
    return Retention(log, days or {"access": 30}, Holds(state / "holds.json"), state / "exports")


def prune(log: MerkleLog, rules: Retention) -> list[tuple[int, int, int]]:
    """As `RecordAdministration` does it."""
    done = []
    for run in rules.due(NOW):
        path, digest = rules.export(run)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        log.integrate([pruned(run.first, run.end)], {})
        rules.delete(run)
        done.append((run.first, run.end, run.deleted))
    return done


def problems(state: Path) -> list[str]:
    return verify_log(state / "log", KEY, verify_ed25519).problems


def test_what_is_over_goes_and_everything_stays_provable(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    grow(log, 600, age_days=40)
    grow(log, 300, age_days=1)
    before = [log.leaf(n) for n in range(512)]
    rules = retention(tmp_path, log)
    assert prune(log, rules) == [(0, 512, 512)]
    assert problems(tmp_path) == []
    exported = gzip.decompress(next((tmp_path / "exports").iterdir()).read_bytes()).splitlines()
    assert exported == before
    assert root_from_inclusion(leaf_hash(exported[77]), 77, log.size, log.prove_inclusion(77)) == log.root, (
        "from the export"
    )
    with pytest.raises(NotFound) as gone:
        log.leaf(77)
    assert gone.value.code == "event_deleted"
    assert json.loads(log.entry(77))["unmapped"]["rempart"]["type"] == "deleted"
    assert len(log.entries(0, 256)) == 256
    assert b'"e600"' in log.leaf(600)
    again = open_log(tmp_path)
    assert again.root == log.root
    grow(again, 700, age_days=0)
    assert problems(tmp_path) == []
    assert prune(again, retention(tmp_path, again)) == []
    look = Monitor(DirectoryLog(tmp_path / "log"), Memory([SIGNER.verifier_key]), verify_ed25519).look(NOW)
    assert (look.findings, look.unread) == ([], 512)


def test_other_classes_and_held_events_stay_until_their_own_time(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.integrate(
        [
            event(n, 40, EventType.MONEY_MOVED if n % 10 == 0 else EventType.DECISION, f"usr_{n % 3}")
            for n in range(256)
        ],
        {},
    )
    held = Holds(tmp_path / "holds.json")
    held.put(Hold(id="case-1", reason="a lawsuit", person="usr_2"))
    assert prune(log, retention(tmp_path, log))[0][2] == sum(1 for n in range(256) if n % 10 and n % 3 != 2)
    assert problems(tmp_path) == []
    assert json.loads(log.leaf(10))["unmapped"]["rempart"]["type"] == "money.moved"
    assert json.loads(log.leaf(5))["unmapped"]["rempart"]["person"] == "usr_2"
    with pytest.raises(NotFound):
        log.leaf(1)
    Holds(tmp_path / "holds.json").lift("case-1")
    rules = retention(tmp_path, log, access=30, money=20)
    assert prune(log, rules) == [(0, 256, 26 + sum(1 for n in range(256) if n % 10 and n % 3 == 2))]
    assert problems(tmp_path) == []
    assert len(list((tmp_path / "exports").iterdir())) == 2


@pytest.mark.parametrize(
    ("hold", "kept"),
    [
        ({"type": "money."}, 26),
        ({"type": "money.moved"}, 26),
        ({"type": "money.refused"}, 0),
        ({"type": "mone."}, None),
        ({"type": "money"}, None),
        ({"type": ""}, None),
        ({"person": "", "type": "money."}, None),
        ({}, None),
    ],
)
def test_a_hold_that_could_cover_nothing_is_none(tmp_path: Path, hold: dict[str, str], kept: int | None) -> None:
    made = Hold(id="case-1", reason="", **hold)
    assert made.can_cover is (kept is not None)
    log = open_log(tmp_path)
    log.integrate([event(n, 40, EventType.MONEY_MOVED if n % 10 == 0 else EventType.DECISION) for n in range(256)], {})
    if kept is not None:
        Holds(tmp_path / "holds.json").put(made)
        done = prune(log, retention(tmp_path, log, access=30, money=30))
        assert [deleted for *_, deleted in done] == [256 - kept]


def test_a_process_with_a_wrong_clock_has_nothing_deleted_early(tmp_path: Path) -> None:
    """Events of 1970 between fresh ones stay as long as those; a time in the future keeps nothing for ever."""
    log = open_log(tmp_path)
    log.integrate([event(n, 20_000 if n % 2 else 1) for n in range(256)], {})
    log.integrate([event(n, -20_000 if n == 300 else 40) for n in range(256, 512)], {})
    assert prune(log, retention(tmp_path, log)) == []
    assert list(retention(tmp_path, log).due(NOW + 29.5 * DAY)) != []


def test_what_explains_the_rest_is_kept_for_ever(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    kinds = (EventType.EVENTS_PRUNED, EventType.PERSON_ERASED, EventType.LOG_KEY_ROTATED, EventType.HOLD_CHANGED)
    for kind in kinds:
        grow(log, 64, 4000, kind)
    assert prune(log, retention(tmp_path, log, system=1, administration=1)) == []


@pytest.mark.parametrize("step", ["exported", "recorded", "kept written"])
def test_killed_at_any_step_it_is_done_again(tmp_path: Path, step: str) -> None:
    log = open_log(tmp_path)
    grow(log, 256, age_days=40)
    rules = retention(tmp_path, log)
    (run,) = rules.due(NOW)
    rules.export(run)
    if step != "exported":
        log.integrate([pruned(run.first, run.end)], {})
    if step == "kept written":
        log.storage.replace("kept/000", b"")
    assert problems(tmp_path) == []
    again = open_log(tmp_path)
    prune(again, retention(tmp_path, again))
    assert problems(tmp_path) == []


def test_deleting_without_saying_so_or_more_than_was_said_is_found(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    grow(log, 600, age_days=40)
    (tmp_path / "log/kept").mkdir()
    (tmp_path / "log/kept/000").write_bytes(b"")
    (tmp_path / "log/tile/entries/000").unlink()
    assert problems(tmp_path) == ["log: of events 0 to 255 some are gone, and it doesn't say so"]
    log.integrate([pruned(0, 256, "pdp")], {})
    assert problems(tmp_path) != [], "another process can't say it"
    log.integrate([pruned(0, 256)], {})
    assert problems(tmp_path) == []
    (tmp_path / "log/kept/000").write_bytes(b"\x05\x00\x05other")
    assert "is not what the tree has of event 5" in problems(tmp_path)[0]


def test_without_times_nothing_is_deleted(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        list(Retention(open_log(tmp_path), {}, Holds(tmp_path / "h"), tmp_path / "x").due(NOW))


@pytest.mark.parametrize("when", range(1, 6))
def test_once_a_hold_is_answered_nothing_that_it_covers_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    """A hold that comes while a deletion is being recorded, at each of the moments when others have their turn."""
    monkeypatch.setattr(retention_module, "MAX_RUN", 1)
    log = open_log(tmp_path)
    log.integrate([event(n, 4000, person=f"usr_{n % 2}") for n in range(4 * 256)], {})
    holds = Holds(tmp_path / "holds.json")
    still_there: list[int] = []

    def readable() -> int:
        found = 0
        for n in range(1, 4 * 256, 2):
            try:
                log.leaf(n)
                found += 1
            except NotFound:
                continue
        return found

    async def run() -> None:
        turns = 0
        tasks: list[asyncio.Task[None]] = []

        async def hold() -> None:
            await administration.put_hold("root", Hold(id="case-1", reason="a lawsuit", person="usr_1"))
            still_there.append(readable())

        class Recorder:
            async def record(self, told: Event) -> None:
                nonlocal turns
                if told.type is EventType.EVENTS_PRUNED:
                    turns += 1
                    if turns == when:
                        tasks.append(asyncio.create_task(hold()))
                for _ in range(10):
                    await asyncio.sleep(0)
                log.integrate([encode(told, "sequencer")], {})

        async def integrated() -> None:
            await asyncio.sleep(0)

        class Indexed:
            def rebuild_index(self) -> None:
                return None

        rules = Retention(log, {"access": 30}, holds, tmp_path / "exports")
        sequencer, keys = cast("Sequencer", Indexed()), cast("LogKeyRing", None)
        administration = RecordAdministration(sequencer, keys, holds, rules, Recorder(), integrated)
        answer: Any = await administration.prune("root", dry=False)
        await asyncio.gather(*tasks)
        assert answer["deleted"] == 4 * 256 - sum(still_there)

    asyncio.run(run())
    assert still_there == ([readable()] if when < 5 else [])
    assert problems(tmp_path) == []


def test_a_hold_that_the_record_says_there_is_is_in_force_though_the_log_is_behind(tmp_path: Path) -> None:
    told: list[Event] = []

    class Recorder:
        async def record(self, event: Event) -> None:
            told.append(event)

    async def behind() -> None:
        raise Unavailable("sequencer_behind", "an index is being built")

    holds = Holds(tmp_path / "holds.json")
    nothing: Any = None
    administration = RecordAdministration(nothing, nothing, holds, nothing, Recorder(), behind)
    asyncio.run(administration.put_hold("root", Hold(id="case-1", reason="", person="usr_1")))
    assert [one.id for one in Holds(tmp_path / "holds.json").all] == ["case-1"]
    with pytest.raises(Conflict):
        asyncio.run(administration.erase_person("root", "usr_1"))
    asyncio.run(administration.lift_hold("root", "case-1"))
    assert [one.type for one in told] == [EventType.HOLD_CHANGED] * 2


@pytest.mark.parametrize(("slow", "done"), [(0, True), (9, True), (10, False)])
def test_what_must_be_in_the_log_first_waits_for_it_and_not_for_ever(tmp_path: Path, slow: int, done: bool) -> None:
    waited = 0

    class Recorder:
        async def record(self, event: Event) -> None:
            return None

    async def integrated() -> None:
        nonlocal waited
        waited += 1
        if waited <= slow:
            raise Unavailable("sequencer_behind", "an index is being built")

    nothing: Any = None
    administration = RecordAdministration(nothing, nothing, Holds(tmp_path / "h"), nothing, Recorder(), integrated)
    if done:
        assert asyncio.run(administration.erase_person("root", "usr_1"))["erased"]
    else:
        with pytest.raises(Unavailable):
            asyncio.run(administration.erase_person("root", "usr_1"))
    assert waited == min(slow + 1, 10)
