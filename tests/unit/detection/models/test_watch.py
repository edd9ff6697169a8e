"""The models follow the log: rate, tell, train, refuse, go on after a crash."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.models_support import DAY, SIGNER, Log, body, login_event, trained

from rempart.detection.models import watch
from rempart.detection.models.keeping import ModelFiles
from rempart.detection.models.model import Level, Subject
from rempart.detection.models.staged import BEGIN, staged
from rempart.detection.models.stream import Stream
from rempart.detection.models.trained import Trained
from rempart.detection.models.training import Job
from rempart.detection.models.watch import PER_HOUR, RATED_FOR, Watch
from rempart.kernel.errors import Integrity, Unavailable, Unprocessable
from rempart.kernel.event import EventType

END = BEGIN + 21 * DAY
KEY = bytes(range(32))


class Trainer:
    """Implements `ports.Trainer` without a library."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.fails = False

    async def train(self, job: Job) -> Trained:
        self.jobs.append(job)
        if self.fails:
            raise Unavailable("training_failed", "it took too long")
        return trained(job.subject)


class World:
    def __init__(self, directory: Path) -> None:
        self.directory, self.log, self.trainer = directory, Log(), Trainer()
        self.now = END + 3600
        self.watch = self.begin()

    def begin(self) -> Watch:
        """As after a restart."""
        self.watch = Watch(
            Stream(), self.log, self.log, ModelFiles(self.directory / "models", SIGNER), self.trainer,
            self.directory / "state", KEY, lambda: self.now,
        )  # fmt: skip
        return self.watch

    def history(self) -> None:
        for one in staged(Subject.LOGINS, 21, 3):
            if not one.label:
                self.log.add(one.own)

    def strange_login(self, number: int = 1, person: str = "usr_0", at: float | None = None) -> None:
        for n in range(8):
            self.log.add(
                login_event(100 * number + n, (at or self.now) - 60, person, type="people.login_failed", success=False)
            )
        self.log.add(
            login_event(100 * number + 50, at or self.now, person, ip="203.0.113.9", details={"known_place": False})
        )

    def catch_up(self) -> None:
        async def go() -> None:
            while self.watch.cursor < len(self.log.payloads):
                await self.watch.step()

        asyncio.run(go())

    def kinds(self) -> list[str]:
        return [event.type.value for event in self.log.recorded]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def ready(world: World) -> World:
    world.history()
    world.catch_up()
    run(world.watch.train(Subject.LOGINS))
    return world


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_too_little_data_is_said_and_nothing_is_trained(world: World) -> None:
    world.log.add(login_event(1, END))
    world.catch_up()
    with pytest.raises(Unprocessable) as caught:
        run(world.watch.train(Subject.LOGINS))
    assert caught.value.code == "not_enough_data"
    assert "0 of 400 rows" in caught.value.reason
    assert world.trainer.jobs == []
    assert run(world.watch.due(Subject.LOGINS)) is False


def test_a_training_is_recorded_with_the_files_digest(ready: World) -> None:
    model = ready.watch.stream.models[Subject.LOGINS]
    (event,) = ready.log.recorded
    assert event.type == EventType.MODEL_TRAINED
    assert event.details["sha256"] == model.digest
    assert event.details["serial"] == 1
    assert run(ready.watch.due(Subject.LOGINS)) is False
    ready.now += 2 * DAY
    ready.catch_up()
    assert run(ready.watch.due(Subject.LOGINS)) is True


def test_a_training_that_could_not_be_recorded_is_in_force_at_no_start(ready: World) -> None:
    ready.log.failures = 1
    with pytest.raises(Unavailable):
        run(ready.watch.train(Subject.LOGINS))
    assert ready.begin().stream.models[Subject.LOGINS].body.serial == 1
    ready.catch_up()
    run(ready.watch.train(Subject.LOGINS))
    assert ready.begin().stream.models[Subject.LOGINS].body.serial == 2
    assert ready.kinds() == ["models.trained", "models.trained"]


def test_killed_once_a_training_is_recorded_it_is_in_force_when_the_record_is_read(
    ready: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: ModelFiles, model: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as now:
        now.setattr(ModelFiles, "adopt", killed)
        with pytest.raises(OSError, match="killed"):
            run(ready.watch.train(Subject.LOGINS))
    again = ready.begin()
    ready.catch_up()
    assert again.stream.models[Subject.LOGINS].body.serial == 2
    assert "models.refused" not in ready.kinds()


def test_an_unusual_login_raises_a_risk_with_reasons_in_words(ready: World) -> None:
    ready.strange_login()
    ready.catch_up()
    risk = ready.watch.risks.active()["usr_0"]
    assert risk.level is Level.HIGH
    assert risk.since >= ready.now
    event = ready.log.recorded[-1]
    assert event.type == EventType.RISK_RAISED
    assert event.person == "usr_0"
    assert "refused attempts before it: 8" in event.reason
    assert "where 95 % lie" in event.reason
    assert not any(mark in event.reason for mark in ("@", "203.0.113"))


def test_it_is_asked_once_in_an_hour(ready: World) -> None:
    for number in range(1, 4):
        ready.strange_login(number)
    ready.catch_up()
    assert ready.kinds().count("models.risk_raised") == 1


def test_nothing_is_told_that_could_not_be_recorded(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_AFTER_FAILURE", 0.01)
    ready.strange_login()
    ready.log.failures = 3
    told: list[int] = []
    ready.log.on_failure = lambda: told.append(len(ready.watch.risks.active()))
    ready.catch_up()
    assert told == [0, 0, 0]
    assert set(ready.watch.risks.active()) == {"usr_0"}
    assert ready.kinds().count("models.risk_raised") == 1


def test_a_record_that_fails_in_the_middle_of_a_page_loses_and_doubles_nothing(ready: World) -> None:
    taken = len(ready.watch.stream.samples[Subject.LOGINS])
    for n in range(6):
        ready.log.add(login_event(n, ready.now + n, "usr_7"))
    ready.log.read_failures = 1
    with pytest.raises(Unavailable):
        ready.catch_up()
    ready.catch_up()
    assert len(ready.watch.stream.samples[Subject.LOGINS]) == taken + 6


def test_what_is_read_late_is_learnt_and_not_rated(ready: World) -> None:
    ready.strange_login(at=ready.now - RATED_FOR - 60)
    ready.catch_up()
    assert "models.risk_raised" not in ready.kinds()
    ready.strange_login(2, at=ready.now - 7200)  # rated, and its risk is over
    ready.catch_up()
    assert "models.risk_raised" in ready.kinds()
    assert ready.watch.risks.active() == {}


def test_a_flood_of_risks_is_bounded_and_counted(ready: World) -> None:
    for number in range(PER_HOUR + 60):
        ready.strange_login(number + 1, f"usr_{1000 + number}")
        ready.strange_login(number + 5000, f"usr_{1000 + number}")
    ready.catch_up()
    assert ready.kinds().count("models.risk_raised") <= PER_HOUR
    assert ready.watch.suppressed + ready.watch.raised >= PER_HOUR


def test_a_crash_takes_events_again_and_records_nothing_twice(ready: World) -> None:
    ready.watch.save()
    ready.strange_login()
    ready.catch_up()
    before = [event.id for event in ready.log.recorded]
    ready.begin()
    assert ready.watch.cursor < len(ready.log.payloads)
    ready.catch_up()
    assert [event.id for event in ready.log.recorded] == before
    assert "usr_0" in ready.watch.risks.active()


def test_the_state_survives_and_is_sealed(ready: World) -> None:
    ready.strange_login()
    ready.catch_up()
    ready.watch.save()
    raw = (ready.directory / "state").read_bytes()
    assert b"usr_0" not in raw
    assert b"203.0.113.9" not in raw
    again = ready.begin()
    assert again.cursor == len(ready.log.payloads)
    assert again.stream.models[Subject.LOGINS].body.serial == 1
    assert "usr_0" in again.risks.active()
    (ready.directory / "state").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert ready.begin().cursor == 0


def test_an_older_file_put_back_is_noticed_when_the_record_is_read(ready: World) -> None:
    first = sorted((ready.directory / "models").iterdir())[0].read_bytes()
    ready.now += 2 * DAY
    ready.catch_up()
    run(ready.watch.train(Subject.LOGINS))
    for path in (ready.directory / "models").iterdir():
        path.unlink()
    (ready.directory / "models" / "logins-000001.model").write_bytes(first)
    (ready.directory / "state").unlink(missing_ok=True)  # as somebody would who hides it
    again = ready.begin()
    assert again.stream.models[Subject.LOGINS].body.serial == 1
    ready.catch_up()
    assert Subject.LOGINS not in again.stream.models
    assert again.files.refused[Subject.LOGINS].code == "model_older"
    assert ready.log.recorded[-1].type == EventType.MODEL_REFUSED


def test_a_log_that_is_another_one_is_read_from_its_beginning(ready: World) -> None:
    ready.log.rewritten = True
    with pytest.raises(Integrity):
        run(ready.watch.step())
    ready.log.rewritten = False
    del ready.log.payloads[-5:]
    with pytest.raises(Integrity):
        run(ready.watch.step())


def test_what_a_training_gives_is_not_believed_unseen(ready: World) -> None:
    whole = trained(Subject.LOGINS)

    async def broken(job: Job) -> Trained:
        return msgspec.structs.replace(whole, hours=[1])

    ready.trainer.train = broken  # type: ignore[method-assign]
    with pytest.raises(Integrity):
        run(ready.watch.train(Subject.LOGINS))
    assert ready.watch.stream.models[Subject.LOGINS].body.serial == 1
    assert ready.watch.standing[Subject.LOGINS].failed


def test_a_training_that_failed_waits_before_the_next(world: World) -> None:
    world.history()
    world.catch_up()
    world.trainer.fails = True
    assert run(world.watch.due(Subject.LOGINS))
    with pytest.raises(Unavailable):
        run(world.watch.train(Subject.LOGINS))
    assert not run(world.watch.due(Subject.LOGINS))
    world.now += 3601
    assert run(world.watch.due(Subject.LOGINS))


def test_everybody_moving_to_other_hours_is_drift_and_is_learnt_anew(ready: World) -> None:
    for day in range(8):
        for number in range(40):
            at = END + day * DAY + 2 * 3600 + number * 60
            ready.log.add(login_event(10**4 + day * 100 + number, at, f"usr_{number}", ip=f"10.2.{number}.1"))
    ready.now = END + 8 * DAY
    ready.catch_up()
    model = ready.watch.stream.models[Subject.LOGINS]
    assert "hour_sin" in ready.watch.drift(Subject.LOGINS, model)
    ready.now = model.body.trained_at + DAY / 3  # not yet a day old: only drift makes it due
    ready.watch.standing[Subject.LOGINS].tried_at = 0.0
    assert run(ready.watch.due(Subject.LOGINS))
    assert [e.type for e in ready.log.recorded if e.type == EventType.MODEL_DRIFTED] == [EventType.MODEL_DRIFTED]


def test_alerts_of_the_rules_mark_samples_and_an_applications_word_does_not(ready: World) -> None:
    alert = {
        "id": "alr_1", "rule": "brute_force", "title": "x", "severity": "high", "first": END - DAY, "last": END,
        "reason": "x", "evidence": [], "principals": ["person:usr_1"],
    }  # fmt: skip
    samples = ready.watch.stream.samples[Subject.LOGINS]
    base = {"type": "alert.raised", "at": END * 1000, "success": False, "details": {"alert": alert}}
    ready.log.add({**base, "id": "alr_1", "source": "wallet"})
    ready.catch_up()
    assert samples.choose(ready.now).left_out["alerts"] == 0
    ready.log.add({**base, "id": "alr_2", "source": "detector"})
    ready.catch_up()
    assert samples.choose(ready.now).left_out["alerts"] > 0


def test_an_erased_person_is_forgotten_and_not_who_erased_them(ready: World) -> None:
    """Else an administrator who comes from a new place would be as new as everything about them."""
    stream = ready.watch.stream
    for number in range(3):
        at, use = END * 1000, {"pep": "gateway", "service": "wallet", "path": "/wallet", "method": "GET"}
        ready.log.add({"id": f"d{number}", "type": "decision", "source": "pdp", "at": at, "person": "usr_1", **use})
    ready.catch_up()
    assert "usr_1" in repr(stream.snapshot())
    about = {"person": "usr_2", "details": {"account": "usr_1"}}
    ready.log.add({"id": "e1", "type": "people.erased", "source": "people", "at": END * 1000 + 1, **about})
    ready.log.add({"id": "e2", "type": "system.alarm", "source": "people", "at": (END + 3600) * 1000})
    ready.catch_up()
    assert not re.search(r"\busr_1\b", repr(stream.snapshot()))
    assert "usr_2" in stream.logins.persons
    assert any(row.principal == "person:usr_2" for row in stream.samples[Subject.LOGINS].since(0))


def test_an_operator_clears_a_risk_and_that_is_recorded(ready: World) -> None:
    ready.strange_login()
    ready.catch_up()
    assert run(ready.watch.clear("usr_0", "uid:0"))
    assert ready.watch.risks.active() == {}
    assert ready.log.recorded[-1].operator == "uid:0"
    assert not run(ready.watch.clear("usr_0", "uid:0"))


def test_a_model_file_that_was_changed_is_told_at_the_start(ready: World) -> None:
    path = next((ready.directory / "models").iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    again = ready.begin()
    assert again.stream.models == {}
    run(again._tell_refused())
    assert ready.log.recorded[-1].details["code"] == "model_truncated"


def test_a_bodys_serial_is_that_of_its_name(world: World, tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "models", SIGNER)
    files.adopt(files.stage(body(serial=2)))
    (tmp_path / "models" / "logins-000002.model").rename(tmp_path / "models" / "logins-000009.model")
    assert files.load({}) == {}
    assert files.refused[Subject.LOGINS].code == "model_foreign"
