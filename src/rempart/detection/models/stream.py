"""The stream of events through features, samples and models: each event once, in the order of the log.

Deterministic but for the models that are loaded: the same events give the same rows and the same samples. Not
thread-safe. Memory is bounded by keys (see each part) and by nothing that an event holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from rempart.detection.heard import Recent, own_of
from rempart.detection.log_clock import LogClock
from rempart.detection.matching import Own
from rempart.detection.model import read_alert
from rempart.detection.places import Enrichment
from rempart.detection.ports import Places
from rempart.kernel.errors import BadInput
from rempart.kernel.event import EventType

from .api_features import ApiFeatures
from .deployment_features import DeploymentFeatures
from .login_features import LoginFeatures
from .model import Level, Rating, Row, Subject
from .model_file import SignedModel
from .samples import Samples

_RULES = "detector"  # whose alerts mark samples
OWN_SOURCE = "models"


@dataclass
class Counts:
    """Since the process started."""

    events: int = 0
    repeated: int = 0
    unreadable: int = 0
    rows: dict[str, int] = field(default_factory=lambda: {one.value: 0 for one in Subject})
    rated: dict[tuple[str, str], int] = field(
        default_factory=lambda: {(one.value, level.value): 0 for one in Subject for level in Level}
    )


class Stream:
    def __init__(self, places: Places | None = None) -> None:
        self.places = places
        self.clock = LogClock()
        self.counts = Counts()
        self.logins = LoginFeatures(Enrichment(places))
        self.api = ApiFeatures()
        self.deployments = DeploymentFeatures()
        self.samples = {one: Samples() for one in Subject}
        self.models: dict[Subject, SignedModel] = {}
        self.serials: dict[Subject, int] = {}  # newest that the record names
        self._recent = Recent()
        self._collected: list[tuple[Subject, Row]] | None = None

    def take(self, payload: bytes, rate_from: float = 0.0) -> list[Rating]:
        """The next event's OCSF JSON. Rows older than `rate_from` are learnt from and not rated."""
        try:
            own = own_of(payload)
        except BadInput:
            self.counts.unreadable += 1
            return []
        return self.take_own(own, rate_from)

    def take_own(self, own: Own, rate_from: float = 0.0) -> list[Rating]:
        """What stands under `unmapped.rempart`."""
        self.counts.events += 1
        kind, id, at = own.get("type"), own.get("id"), own.get("at")
        if not isinstance(kind, str) or not isinstance(id, str) or not isinstance(at, int | float):
            self.counts.unreadable += 1
            return []
        source = str(own.get("source"))
        if self._recent.again(own, source, id):
            self.counts.repeated += 1
            return []
        seconds = self.clock.read(kind, source, at / 1000)
        self._heard(own, kind, source, seconds)
        ratings = [self._row(Subject.LOGINS, row, rate_from) for row in self.logins.take(own, kind, seconds)]
        ratings += [self._row(Subject.API, row, rate_from) for row in self.api.take(own, kind, seconds, self.clock.now)]
        ratings += [self._row(Subject.DEPLOYMENTS, row, rate_from) for row in self.deployments.take(own, kind, seconds)]
        return [rating for rating in ratings if rating is not None]

    def rows(self, payload: bytes, subject: Subject) -> list[Row]:
        """The rows of one subject that an event completes; nothing is rated and nothing kept to learn from."""
        try:
            return self.rows_of(own_of(payload), subject)
        except BadInput:
            self.counts.events += 1
            self.counts.unreadable += 1
            return []

    def rows_of(self, own: Own, subject: Subject) -> list[Row]:
        self._collected = []
        self.take_own(own)
        return [row for found, row in self._collected if found is subject]

    def _row(self, subject: Subject, row: Row, rate_from: float) -> Rating | None:
        self.counts.rows[subject.value] += 1
        if self._collected is not None:
            self._collected.append((subject, row))
            return None
        model = self.models.get(subject)
        rating = model.rate(row) if model is not None and row.at >= rate_from else None
        if rating is not None:
            self.counts.rated[subject.value, rating.level.value] += 1
        self.samples[subject].add(row, high=rating is not None and rating.level is Level.HIGH)
        return rating

    def _heard(self, own: Own, kind: str, source: str, at: float) -> None:
        """What other processes, and this one before it was restarted, say of samples and models."""
        details = own.get("details")
        details = details if type(details) is dict else {}
        if kind == EventType.ALERT_RAISED and source == _RULES:
            try:
                alert = read_alert(details.get("alert"))
            except msgspec.ValidationError:
                return
            for samples in self.samples.values():
                samples.alert(alert.principals, alert.evidence, alert.first, alert.last)
        elif kind == EventType.ATTACK_TRIED:
            for samples in self.samples.values():
                samples.attack(at)
        elif kind == EventType.MODEL_TRAINED and source == OWN_SOURCE:
            self._trained(details)
        elif kind == EventType.PERSON_ERASED:
            self._erased(details.get("account"))  # `person` is who erased them

    def _trained(self, details: dict[str, Any]) -> None:
        subject, serial = details.get("subject"), details.get("serial")
        if subject in list(Subject) and type(serial) is int:
            known = Subject(subject)
            self.serials[known] = max(self.serials.get(known, 0), serial)

    def _erased(self, person: Any) -> None:
        if type(person) is str and person:
            self.logins.forget(person)
            self.api.forget(f"person:{person}")
            self.deployments.forget(f"person:{person}")
            for samples in self.samples.values():
                samples.erase(f"person:{person}")

    def snapshot(self) -> dict[str, Any]:
        return {
            "clock": self.clock.snapshot(),
            "recent": self._recent.snapshot(),
            "logins": self.logins.snapshot(),
            "api": self.api.snapshot(),
            "deployments": self.deployments.snapshot(),
            "samples": {one.value: samples.snapshot() for one, samples in self.samples.items()},
            "serials": {one.value: serial for one, serial in self.serials.items()},
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Raises BadInput `bad_snapshot`; then the stream is of no use."""
        try:
            self.clock.restore(content["clock"])
            self._recent.restore(content["recent"])
            self.logins.restore(content["logins"])
            self.api.restore(content["api"])
            self.deployments.restore(content["deployments"])
            for subject, samples in self.samples.items():
                samples.restore(content["samples"][subject.value])
            self.serials = {Subject(name): int(serial) for name, serial in content["serials"].items()}
        except (KeyError, TypeError, ValueError, IndexError, msgspec.ValidationError) as error:
            raise BadInput("bad_snapshot", f"the models' state can't be read: {error!r}"[:300]) from None
