"""What the operator changes about the record itself. Each is durable before it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from rempart.kernel.errors import Conflict, Unavailable
from rempart.kernel.event import Event, EventType, Recorder, Severity

from .log_keys import LogKeyRing
from .retention import Hold, Holds, Retention, Run
from .sequencer import Sequencer

_TRIES = 10  # of some seconds each, for the log to take in what was recorded


class RecordAdministration:
    """On the sequencer's loop. `integrated` returns once what was recorded is in the log and signed."""

    def __init__(
        self,
        sequencer: Sequencer,
        keys: LogKeyRing,
        holds: Holds,
        retention: Retention,
        recorder: Recorder,
        integrated: Callable[[], Awaitable[None]],
    ) -> None:
        self._sequencer, self._keys, self._holds, self._retention = sequencer, keys, holds, retention
        self._recorder, self._integrated = recorder, integrated
        self._pruning = asyncio.Lock()
        self._deciding = asyncio.Lock()  # what goes: no hold changes between the look at a run and its deletion

    def log_keys(self) -> dict[str, Any]:
        """Public keys, oldest first; `signs` while it does."""
        now = time.time()
        keys = [
            {"key": key.verifier, "since": key.since, "until": key.until or None, "signs": not 0 < key.until <= now}
            for key in self._keys.keys
        ]
        return {"keys": keys}

    async def rotate_log_key(self, operator: str, overlap: float) -> Mapping[str, Any]:
        proposed = self._keys.propose()
        after = {"key": proposed.verifier, "both_sign_for": overlap}
        id = await self._record(
            EventType.LOG_KEY_ROTATED, operator, before={"key": self._keys.verifier_key}, after=after
        )  # signed by the old key alone: its word that the new one is the log's
        self._keys.adopt(proposed, overlap)
        self._sequencer.log.sign_again()
        return {**self.log_keys(), "event": id}

    async def erase_person(self, operator: str, person: str) -> Mapping[str, Any]:
        """Raises Conflict `person_held` while a hold names them."""
        async with self._deciding:
            if held := [hold.id for hold in self._holds.all if hold.person == person]:
                why = f"the legal hold {held[0]} keeps what is recorded of {person[:80]}"
                raise Conflict("person_held", why, f"`rempart audit hold {held[0]} --lift` first, if that is right")
            id = await self._record(
                EventType.PERSON_ERASED, operator, reason="erased from the record", details={"account": person}
            )  # integrating it destroys the key and renews the index
            return {"person": person, "erased": True, "event": id}

    def holds(self) -> Sequence[Hold]:
        return self._holds.all

    async def put_hold(self, operator: str, hold: Hold) -> Mapping[str, Any]:
        """Once it is answered, nothing that it covers is deleted any more."""
        async with self._deciding:
            before = next((msgspec.to_builtins(one) for one in self._holds.all if one.id == hold.id), None)
            after = msgspec.to_builtins(hold)
            details = {"hold": hold.id}
            id = await self._keep(
                EventType.HOLD_CHANGED, operator, details=details, before=before, after=after, reason=hold.reason
            )
            self._holds.put(hold)
            return {"hold": after, "event": id}

    async def lift_hold(self, operator: str, id: str) -> Mapping[str, Any]:
        async with self._deciding:
            before = msgspec.to_builtins(self._holds.get(id))
            event = await self._keep(EventType.HOLD_CHANGED, operator, details={"hold": id}, before=before)
            self._holds.lift(id)
            return {"lifted": id, "event": event}

    async def prune(self, operator: str, *, dry: bool, taken: int | None = None) -> Mapping[str, Any]:
        """Others have their turn after each run: what is written meanwhile is in no full bundle that is looked at.

        Stops before the first run that goes beyond `taken`: `waits_for` is then its end, else null.
        """
        async with self._pruning:
            runs = []
            waits_for = None
            due = self._retention.due(time.time())
            while True:
                async with self._deciding:
                    run = next(due, None)
                    if run is None:
                        break
                    if taken is not None and run.end > taken:
                        waits_for = run.end
                        break
                    told: dict[str, Any] = {"first": run.first, "end": run.end, "deleted": run.deleted}
                    runs.append(told if dry else await self._delete(operator, run, told))
                await asyncio.sleep(0)
            if runs and not dry:
                self._sequencer.rebuild_index()  # of what was deleted it must not keep a word
            deleted = sum(run["deleted"] for run in runs)
            return {"runs": runs, "deleted": deleted, "dry": dry, "waits_for": waits_for}

    async def _delete(self, operator: str, run: Run, told: dict[str, Any]) -> dict[str, Any]:
        path, digest = self._retention.export(run)
        stays = sum(len(kept) for kept in run.stays.values())
        told |= {"kept": stays, "export": path.name, "sha256": digest}
        id = await self._record(EventType.EVENTS_PRUNED, operator, details=told)
        self._retention.delete(run)
        return {**told, "export": str(path), "event": id}

    async def _record(self, kind: EventType, operator: str, **fields: Any) -> str:
        """Returns once it is in the log."""
        id = await self._keep(kind, operator, **fields)
        for left in reversed(range(_TRIES)):
            try:
                await self._integrated()
                break
            except Unavailable:  # each try waits: what the record says is done is better done late than not
                if not left:
                    raise
        return id

    async def _keep(self, kind: EventType, operator: str, **fields: Any) -> str:
        """Returns once it is durable: the log takes it in from there, whatever holds it up."""
        event = Event(type=kind, at=time.time(), success=True, severity=Severity.MEDIUM, operator=operator, **fields)
        await self._recorder.record(event)
        return event.id
