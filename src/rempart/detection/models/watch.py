"""Follow the log with the models: learn from every event, rate, tell risks, train anew when it is time.

State is one sealed file, replaced atomically every SAVE_EVERY seconds at most: how many events were taken, features,
samples, risks. A crash takes the events since then again; a risk's id is a function of its event, and the sequencer
takes an id once. A state file that can't be opened costs one reading of the log from its beginning, and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rempart.crypto.aead import seal, unseal
from rempart.detection.ports import AlertRecorder, EventFeed
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Integrity, RempartError, Unprocessable
from rempart.kernel.event import Event, EventType, Severity

from .keeping import ModelFiles
from .model import Level, Rating, Subject
from .model_file import Body, SignedModel
from .ports import Trainer
from .risks import Risks
from .stream import Stream
from .trained import stability
from .training import LEAST, Job, enough, features_of

_log = logging.getLogger("rempart.models")
_CONTEXT = b"models/state"
SAVE_EVERY = 30.0
_AFTER_FAILURE = 1.0
_WAIT = 1.0
_LOOK_EVERY = 30.0  # seconds between two looks whether to train
RATED_FOR = 86_400.0  # what is older when it is read is learnt from and not rated
RETRAIN_EVERY = 86_400.0
RETRY_AFTER = 3600.0  # after a training that failed
DRIFT = 0.25
DRIFT_OVER = 7 * 86_400.0
LEAST_RECENT = 100  # rows that drift is measured on
PER_HOUR = 200  # risks that are recorded; further ones are counted
_SCORES = {Level.HIGH: Severity.MEDIUM, Level.MEDIUM: Severity.LOW}


class _State(msgspec.Struct, frozen=True):
    cursor: int
    last: str
    stream: dict[str, Any]
    risks: Any


@dataclass
class Standing:
    """What is known of a subject's training."""

    tried_at: float = 0.0
    failed: str = ""
    drifted: dict[str, float] = field(default_factory=dict)  # feature → stability index above DRIFT


class Watch:
    """One task follows, one trains. `now` is the wall clock."""

    def __init__(
        self,
        stream: Stream,
        feed: EventFeed,
        recorder: AlertRecorder,
        files: ModelFiles,
        trainer: Trainer,
        state: Path,
        key: bytes,
        now: Callable[[], float] = time.time,
        least: int = 0,
    ) -> None:
        self.stream, self.files = stream, files
        self.risks = Risks(now)
        self.cursor = self.size = 0
        self.raised = self.suppressed = 0
        self.standing = {one: Standing() for one in Subject}
        self._feed, self._recorder, self._trainer = feed, recorder, trainer
        self._path, self._key, self._now, self._least = state, key, now, least
        self._last = ""
        self._saved = 0
        self._save_at = 0.0
        self._hour: list[float] = []
        self._training = asyncio.Lock()
        self._load()
        self._use_files()

    # -- state ---------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            content = unseal(self._key, self._path.read_bytes(), _CONTEXT)
            state = msgspec.msgpack.decode(content, type=_State)
            self.stream.restore(state.stream)
            self.risks.restore(state.risks)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError, RempartError, TypeError, ValueError, IndexError) as error:
            _log.error("%s is left aside, the log is read from its beginning: %s", self._path, type(error).__name__)
            self._begin_anew()
            return
        self.cursor, self._last, self._saved = state.cursor, state.last, state.cursor

    def _begin_anew(self) -> None:
        fresh = Stream(self.stream.places)
        fresh.models = self.stream.models
        self.stream = fresh
        self.cursor, self._last = 0, ""

    def save(self) -> None:
        """Raises OSError: then the former file holds."""
        if self.cursor == self._saved and not self._path.exists():
            return
        began = time.monotonic()
        body = msgspec.msgpack.encode(_State(self.cursor, self._last, self.stream.snapshot(), self.risks.snapshot()))
        replace_file(self._path, seal(self._key, body, _CONTEXT))
        self._saved = self.cursor
        self._save_at = time.monotonic() + max(SAVE_EVERY, 20 * (time.monotonic() - began))

    def _save_soon(self) -> None:
        """With the next event, which is what was just recorded: whoever starts from an older state would rate with
        the new model what was learnt from for it, or raise again what was cleared."""
        self._save_at = 0.0

    def _use_files(self) -> None:
        self.stream.models = self.files.load(self.stream.serials)
        for subject, error in self.files.refused.items():
            _log.error("the model of %s is not used: %s", subject, error.reason)

    # -- following -----------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Until cancelled; what fails is tried again."""
        await self._tell_refused()
        while True:
            try:
                await self.step()
            except Integrity as error:  # the detector raises the alarm for it
                _log.error("read from the beginning: %s", error.reason)
                self._begin_anew()
            except (OSError, RempartError) as error:
                _log.error("the models wait: %s", error)
                await asyncio.sleep(_AFTER_FAILURE)

    async def step(self) -> int:
        """Take the next events, if there are any within a moment; returns how many. Raises Integrity, Unavailable."""
        start = self.cursor - 1 if self._last and self.cursor else self.cursor
        page = await self._feed.read(start, _WAIT)
        entries, self.size = [bytes(event) for event in page.events], page.size
        if self.size < self.cursor:
            raise Integrity("log_rewound", f"the log has {self.size} events, {self.cursor} were read")
        if start < self.cursor and entries:
            if page.ids[0] != self._last and not page.ids[0].startswith("deleted-"):
                raise Integrity("log_rewound", f"event {start} of the log is not the one that was read")
            del entries[0]
        ids = page.ids[len(page.ids) - len(entries) :]
        rate_from = self._now() - RATED_FOR
        before = dict(self.stream.serials)
        for id, payload in zip(ids, entries, strict=True):
            for rating in self._judged(payload, rate_from):
                if rating.level is not Level.LOW:
                    await self._raise(rating)
            self.cursor, self._last = self.cursor + 1, id
        if self.stream.serials != before:
            await self._supersede()
        if self.cursor != self._saved and time.monotonic() >= self._save_at:
            self.save()
        return len(entries)

    def _judged(self, payload: bytes, rate_from: float) -> list[Rating]:
        """An event that can't be digested must not stop the others."""
        try:
            return self.stream.take(payload, rate_from)
        except Exception:  # whatever an event does
            _log.exception("event %d could not be taken", self.cursor)
            self.stream.counts.unreadable += 1
            return []

    async def _raise(self, rating: Rating) -> None:
        """Recorded, then told: until it is durable nothing is told, and nothing else is worth doing."""
        if self.risks.muted(rating):
            return
        now = self._now()
        self._hour = [at for at in self._hour if now - at < 3600]
        if len(self._hour) >= PER_HOUR:
            self.suppressed += 1
            return
        await self._durable(as_event(rating, now))
        self._hour.append(now)
        self.risks.mute(rating)
        self.risks.raise_(rating)
        self.raised += 1

    async def _durable(self, event: Event) -> None:
        while True:
            try:
                await self._recorder.raise_alert(event)
                return
            except RempartError as error:
                _log.error("a risk can't be recorded: %s", error)
                await asyncio.sleep(_AFTER_FAILURE)

    async def clear(self, subject: str, operator: str) -> bool:
        """An operator says that it was nothing; whether there was a risk."""
        known = self.risks.active().get(subject)
        if known is None:
            return False
        about = {"workload": subject} if subject.startswith("spiffe://") else {"person": subject}
        await self._recorder.raise_alert(
            Event(
                type=EventType.RISK_CLEARED,
                at=self._now(),
                success=True,
                operator=operator or None,
                reason="an operator cleared the risk",
                details={"level": known.level.value},
                **about,  # type: ignore[arg-type]  # one of two text fields
            )
        )
        self._save_soon()
        return self.risks.clear(subject)

    async def _supersede(self) -> None:
        """The record names a newer model than the one in force: somebody put an older file back."""
        for subject, model in list(self.stream.models.items()):
            if model.body.serial < self.stream.serials.get(subject, 0):
                del self.stream.models[subject]
        if set(self.stream.serials) - set(self.stream.models):
            self._use_files()
            await self._tell_refused()

    async def _tell_refused(self) -> None:
        for subject, error in self.files.refused.items():
            await self._tell(
                EventType.MODEL_REFUSED,
                f"the model of {subject.value} is not used: {error.reason}",
                Severity.MEDIUM,
                success=False,
                subject=subject.value,
                code=error.code,
            )

    async def _tell(self, kind: EventType, reason: str, severity: Severity, *, success: bool, **details: Any) -> None:
        event = Event(
            type=kind, at=self._now(), success=success, severity=severity, reason=reason[:300], details=details
        )
        try:
            await self._recorder.raise_alert(event)
        except RempartError as error:
            _log.error("%s can't be recorded: %s", kind, error)

    # -- training ------------------------------------------------------------------------------------------------

    async def train_on_schedule(self) -> None:
        """Until cancelled."""
        while True:
            for subject in Subject:
                try:
                    if await self.due(subject):
                        await self.train(subject)
                except (OSError, RempartError) as error:
                    _log.error("no training of %s: %s", subject, error)
            await asyncio.sleep(_LOOK_EVERY)

    async def due(self, subject: Subject) -> bool:
        """Enough data, and no model yet, an old one, or one from which the data drifted away."""
        standing, now = self.standing[subject], self._now()
        if now - standing.tried_at < RETRY_AFTER or self.cursor < self.size:
            return False
        if self.lacking(subject):
            return False
        model = self.stream.models.get(subject)
        if model is None or now - model.body.trained_at >= RETRAIN_EVERY:
            return True
        return await self._drifted(subject, model) and now - model.body.trained_at >= RETRAIN_EVERY / 4

    def lacking(self, subject: Subject) -> str:
        """Empty, or why there is no training yet."""
        chosen = self.stream.samples[subject].choose(self.stream.clock.now)
        return enough(subject, chosen.rows, self._least)

    def wanted(self, subject: Subject) -> int:
        return self._least or LEAST[subject]

    async def train(self, subject: Subject) -> SignedModel:
        """Raises Unprocessable `not_enough_data`, Unavailable, Integrity, OSError. One at a time."""
        async with self._training:
            standing = self.standing[subject]
            standing.tried_at, standing.failed = self._now(), ""
            try:
                return await self._train(subject)
            except (OSError, RempartError) as error:
                standing.failed = str(getattr(error, "reason", error))[:200]
                raise

    async def _train(self, subject: Subject) -> SignedModel:
        chosen = self.stream.samples[subject].choose(self.stream.clock.now)
        if why := enough(subject, chosen.rows, self._least):
            raise Unprocessable("not_enough_data", why, "wait: the models learn from what is recorded")
        features = features_of(subject)
        serial = self.files.next_serial(subject, self.stream.serials.get(subject, 0))
        trained = await self._trainer.train(Job(subject, list(chosen.rows), len(features), serial))
        trained.check(features)
        before = self.stream.models.get(subject)
        body = Body(
            serial=serial,
            trained_at=self._now(),
            features=[one.name for one in features],
            left_out=chosen.left_out,
            model=trained,
        )
        model = self.files.stage(body)
        await self._recorder.raise_alert(
            Event(
                type=EventType.MODEL_TRAINED,
                at=self._now(),
                success=True,
                reason=f"a model of {subject.value} was trained on {trained.rows} rows",
                before={"model": before.name} if before else None,
                after={"model": model.name},
                details={
                    "subject": subject.value,
                    "serial": serial,
                    "sha256": model.digest,
                    "rows": trained.rows,
                    "left_out": chosen.left_out,
                },
            )
        )
        self.files.adopt(model)
        self.stream.models[subject] = model
        self.stream.serials[subject] = max(serial, self.stream.serials.get(subject, 0))
        self.standing[subject].drifted = {}
        self._save_soon()
        return model

    async def _drifted(self, subject: Subject, model: SignedModel) -> bool:
        """Whether what came lately differs from what was trained on; said once for each model."""
        found = self.drift(subject, model)
        standing = self.standing[subject]
        if found and not standing.drifted:
            names = ", ".join(sorted(found))
            why = f"{subject.value} are not as they were when {model.name} was trained: {names}"
            await self._tell(
                EventType.MODEL_DRIFTED, why, Severity.LOW, success=False, subject=subject.value, features=found
            )
        standing.drifted = found or standing.drifted
        return bool(found)

    def drift(self, subject: Subject, model: SignedModel) -> dict[str, float]:
        """Features whose population stability index is above DRIFT, with it."""
        samples = self.stream.samples[subject]
        recent = samples.since(max(model.body.model.last, self.stream.clock.now - DRIFT_OVER))
        if len(recent) < LEAST_RECENT:
            return {}
        found = {}
        columns = zip(*(row.values for row in recent), strict=True)
        for feature, profile, column in zip(model.features, model.body.model.profile, columns, strict=True):
            index = stability(profile, column)
            if math.isfinite(index) and index > DRIFT:
                found[feature.name] = round(index, 3)
        return found


def as_event(rating: Rating, now: float) -> Event:
    """`models.risk_raised`. Its id is a function of what was rated: read twice, recorded once."""
    kind, _, name = rating.principal.partition(":")
    text = f"{rating.subject.value}\x1f{rating.level.value}\x1f{rating.principal}\x1f{rating.id}"
    why = "; ".join(reason.words for reason in rating.reasons) or "an unusual combination"
    about: dict[str, Any] = {kind: name} if kind in ("person", "workload", "operator") else {}
    return Event(
        type=EventType.RISK_RAISED,
        at=now,
        success=False,
        id="rsk_" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:26],
        severity=_SCORES[rating.level],
        reason=f"{rating.level.value} risk of {rating.subject.value}: {why}"[:300],
        details={
            "subject": rating.subject.value,
            "level": rating.level.value,
            "score": rating.score,
            "model": rating.model,
            "event": rating.id,
            "reasons": [msgspec.to_builtins(one) for one in rating.reasons],
        },
        **about,
    )
