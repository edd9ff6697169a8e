"""From many alerts few incidents, and from those fewer notices: dedupe, grouping, silence, acknowledge, resolve.

Pure: time comes with each call. An alert joins the open incident of its rule about the same principals. The notices of
one rule go out together: the first after `gather` seconds, later ones at most every `again` seconds, however many come.
Acknowledged incidents are quiet until they get worse. What is quiet for `quiet` seconds is resolved.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rempart.detection.model import Alert
from rempart.kernel.errors import NotFound

from .model import MAX_ALERTS, ORDER, Incident, Notice, Silence, Standing

MAX_INCIDENTS = 2000
MAX_SILENCES = 200
IN_ONE_NOTICE = 10
TOO_OLD = 86_400.0  # seconds: what happened before needs nobody to be woken


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In seconds."""

    gather: float = 5.0
    again: float = 300.0
    remind: float = 14_400.0
    quiet: float = 3600.0


class Group(msgspec.Struct, kw_only=True):
    """Of one rule: when its next notice is due (0: none waits), when its last went out, and what changed since."""

    due: float = 0.0
    sent_at: float = 0.0
    changed: dict[str, bool] = {}  # incident id → True


class Incidents(msgspec.Struct, kw_only=True):
    """The whole state, as it is saved. `dropped` counts resolved incidents that made room for others."""

    incidents: dict[str, Incident] = {}
    silences: dict[str, Silence] = {}
    groups: dict[str, Group] = {}
    dropped: int = 0

    def take(self, alert: Alert, now: float, pace: Pace) -> Incident:
        incident = self._standing(alert.rule, alert.principals)
        if incident is None:
            incident = self._open(alert, now)
        elif alert.id not in incident.alerts:
            worse = ORDER.index(alert.severity) > ORDER.index(incident.severity)
            incident.count += 1
            incident.last = max(incident.last, alert.last)
            incident.alerts = [*incident.alerts[1 - MAX_ALERTS :], alert.id]
            incident.evidence, incident.changed_at = alert.evidence, now
            if worse:
                incident.severity, incident.reason = alert.severity, alert.reason
                if incident.standing is Standing.ACKNOWLEDGED:
                    incident.standing, incident.by = Standing.OPEN, ""
        else:
            return incident
        incident.silenced = any(silence.matches(incident, now) for silence in self.silences.values())
        if incident.standing is Standing.OPEN and not incident.silenced:
            self._changed(incident, now, pace)
        return incident

    def _standing(self, rule: str, principals: tuple[str, ...]) -> Incident | None:
        for incident in reversed(self.incidents.values()):
            if (
                incident.rule == rule
                and incident.principals == principals
                and incident.standing is not Standing.RESOLVED
            ):
                return incident
        return None

    def _open(self, alert: Alert, now: float) -> Incident:
        known = self.incidents.get(alert.id)
        if known is not None:  # it was resolved, and the same alert came again
            return known
        incident = Incident(
            id=alert.id,
            rule=alert.rule,
            title=alert.title,
            severity=alert.severity,
            reason=alert.reason,
            first=alert.first,
            last=alert.last,
            changed_at=now,
            principals=alert.principals,
            attack=alert.attack,
            alerts=[alert.id],
            evidence=alert.evidence,
            score=alert.score,
        )
        if now - alert.last > TOO_OLD:
            incident.standing, incident.by = Standing.RESOLVED, "quiet"
        self._make_room()
        self.incidents[incident.id] = incident
        return incident

    def _make_room(self) -> None:
        """Resolved ones go first, then the oldest: an attacker who opens thousands hides none of the latest."""
        while len(self.incidents) >= MAX_INCIDENTS:
            gone = next((one.id for one in self.incidents.values() if one.standing is Standing.RESOLVED), None)
            del self.incidents[gone or next(iter(self.incidents))]
            self.dropped += 1

    def _changed(self, incident: Incident, now: float, pace: Pace) -> None:
        group = self.groups.setdefault(incident.rule, Group())
        group.changed[incident.id] = True
        if not group.due:
            group.due = max(now + pace.gather, group.sent_at + pace.again if group.sent_at else 0.0)

    def tick(self, now: float, pace: Pace) -> list[Notice]:
        """What is to be sent now. The state must be saved before it is."""
        for incident in self.incidents.values():
            if incident.standing is Standing.RESOLVED:
                continue
            if now - incident.changed_at >= pace.quiet:
                self._resolve(incident, "quiet", now, pace)
            elif (
                incident.standing is Standing.OPEN
                and not incident.silenced
                and incident.notified_at
                and now - incident.notified_at >= pace.remind
            ):
                self._changed(incident, now, pace)
        for silence in [one for one in self.silences.values() if one.until <= now]:
            del self.silences[silence.id]
        notices: list[Notice] = []
        for rule, group in list(self.groups.items()):
            if group.due and group.due <= now:
                notices += self._notices(rule, group, now)
        return notices

    def _notices(self, rule: str, group: Group, now: float) -> Iterable[Notice]:
        changed = [self.incidents[id] for id in group.changed if id in self.incidents]
        group.changed, group.due = {}, 0.0
        firing = [one for one in changed if one.standing is Standing.OPEN and not one.silenced]
        resolved = [one for one in changed if one.standing is Standing.RESOLVED and one.notified_at]
        for kind, incidents in (("firing", firing), ("resolved", resolved)):
            if not incidents:
                continue
            group.sent_at = now
            incidents.sort(key=lambda one: (-ORDER.index(one.severity), one.first))
            for incident in incidents:
                incident.notified_at = now
            worst = incidents[0]
            yield Notice(
                id=f"ntc_{worst.id}_{int(now * 1000)}_{kind}",
                kind=kind,
                at=now,
                rule=rule,
                title=worst.title,
                severity=worst.severity,
                incidents=tuple(msgspec.structs.replace(one) for one in incidents[:IN_ONE_NOTICE]),
                more=max(0, len(incidents) - IN_ONE_NOTICE),
            )

    # -- what people do ------------------------------------------------------------------------------------------

    def find(self, id: str) -> Incident:
        """Raises NotFound `no_such_incident`."""
        incident = self.incidents.get(id)
        if incident is None:
            raise NotFound("no_such_incident", f"there is no incident {id[:64]}", "see `rempart alert list`")
        return incident

    def acknowledge(self, id: str, by: str, note: str, now: float) -> Incident:
        incident = self.find(id)
        if incident.standing is Standing.OPEN:
            incident.standing, incident.by, incident.note, incident.changed_at = Standing.ACKNOWLEDGED, by, note, now
        return incident

    def resolve(self, id: str, by: str, note: str, now: float, pace: Pace) -> Incident:
        incident = self.find(id)
        if incident.standing is not Standing.RESOLVED:
            self._resolve(incident, by, now, pace)
            incident.note = note
        return incident

    def _resolve(self, incident: Incident, by: str, now: float, pace: Pace) -> None:
        incident.standing, incident.by, incident.changed_at = Standing.RESOLVED, by, now
        if incident.notified_at and not incident.silenced:
            self._changed(incident, now, pace)

    def resolve_matching(self, rule: str, principals: tuple[str, ...], now: float, pace: Pace) -> None:
        if incident := self._standing(rule, principals):
            self._resolve(incident, "recovered", now, pace)

    def silence(self, silence: Silence, now: float) -> None:
        """From now on; what waits to be sent and matches is not sent. The oldest gives way to the 201st."""
        while len(self.silences) >= MAX_SILENCES:
            del self.silences[next(iter(self.silences))]
        self.silences[silence.id] = silence
        for incident in self.incidents.values():
            if silence.matches(incident, now):
                incident.silenced = True

    def unsilence(self, id: str, now: float) -> Silence:
        """Raises NotFound `no_such_silence`."""
        silence = self.silences.pop(id, None)
        if silence is None:
            raise NotFound("no_such_silence", f"there is no silence {id[:64]}", "see `rempart alert silences`")
        for incident in self.incidents.values():
            incident.silenced = any(one.matches(incident, now) for one in self.silences.values())
        return silence
