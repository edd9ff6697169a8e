"""A trained model to try things with, and a log in memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from rempart.audit.feed import Page
from rempart.audit.merkle import leaf_hash
from rempart.backends.sklearn_fitter import SklearnFitter
from rempart.crypto.signing import NoteSigner
from rempart.detection.models.model import Row, Subject, make_row
from rempart.detection.models.model_file import Body
from rempart.detection.models.staged import BEGIN, staged
from rempart.detection.models.stream import Stream
from rempart.detection.models.trained import Trained
from rempart.detection.models.training import Job, features_of, train
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event
from rempart.protocols.ocsf import encode

SIGNER = NoteSigner("bank.example/rempart/models", bytes(range(32)))
OTHER = NoteSigner("bank.example/rempart/models", bytes(32))
STRANGER = NoteSigner("evil.example/rempart/models", bytes(range(32)))
DAY = 86_400.0


@cache
def usual_rows(subject: Subject, days: int = 21, seed: int = 3) -> tuple[Row, ...]:
    stream = Stream()
    found = (row for one in staged(subject, days, seed) if not one.label for row in stream.rows_of(one.own, subject))
    return tuple(found)


@cache
def trained(subject: Subject = Subject.LOGINS) -> Trained:
    return train(Job(subject, list(usual_rows(subject)), len(features_of(subject)), 1), SklearnFitter())


def body(subject: Subject = Subject.LOGINS, serial: int = 1, at: float = BEGIN + 21 * DAY) -> Body:
    names = [one.name for one in features_of(subject)]
    return Body(serial=serial, trained_at=at, features=names, left_out={}, model=trained(subject))


def plain_row(number: int, principal: str = "person:usr_a", at: float = 0.0, **values: float) -> Row:
    features = features_of(Subject.LOGINS)
    usual = {one.name: 0.0 for one in features}
    return make_row(features, at or float(number), f"evt_{number}", principal, usual | values)


def login_event(number: int, at: float, person: str = "usr_0", **more: Any) -> dict[str, Any]:
    """What stands under `unmapped.rempart`."""
    details = {"amr": ["pwd"], "known_place": True, **more.pop("details", {})}
    about = {"person": person, "ip": "10.1.0.1", "details": details}
    base = {"id": f"lgn_{number}", "type": "people.login", "source": "people", "success": True}
    return {**base, **about, "at": int(at * 1000), **more}


def noisy_rows(count: int, seed: int = 1) -> list[Row]:
    chance = random.Random(seed)
    features = features_of(Subject.LOGINS)
    return [
        make_row(
            features, float(n), f"evt_{n}", f"person:usr_{n % 20}",
            {one.name: chance.uniform(one.least, one.most) for one in features},
        )
        for n in range(count)
    ]  # fmt: skip


@dataclass
class Log:
    """Implements `EventFeed` and `AlertRecorder`: what is recorded comes back in the feed, each id once."""

    source: str = "models"
    payloads: list[bytes] = field(default_factory=list)
    recorded: list[Event] = field(default_factory=list)
    failures: int = 0  # of the next records
    read_failures: int = 0
    on_failure: Callable[[], None] = lambda: None
    rewritten: bool = False

    def add(self, own: dict[str, Any]) -> None:
        self.payloads.append(msgspec.json.encode({"unmapped": {"rempart": own}}))

    async def read(self, start: int, wait: float) -> Page:
        if self.read_failures:
            self.read_failures -= 1
            raise Unavailable("feed_unavailable", "the sequencer is away")
        events = self.payloads[start : start + 500]
        mark = b"x" if self.rewritten else b""
        ids = [leaf_hash(one + mark).hex() for one in events]
        return Page(start, len(self.payloads), ids, [msgspec.Raw(one) for one in events])

    async def raise_alert(self, event: Event) -> None:
        if self.failures:
            self.failures -= 1
            self.on_failure()
            raise Unavailable("journal_unavailable", "the disk is full")
        if event.id not in {one.id for one in self.recorded}:
            self.recorded.append(event)
            self.payloads.append(encode(event, self.source))
