"""Few notices from many alerts, and never a first one lost."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rempart.detection.alerting.incidents import IN_ONE_NOTICE, MAX_INCIDENTS, TOO_OLD, Incidents, Pace
from rempart.detection.alerting.model import Silence, Standing
from rempart.detection.model import Alert
from rempart.kernel.errors import NotFound
from rempart.kernel.event import Severity

PACE = Pace()
_NOW = 1_700_000_000.0


def alert(number, rule="spray", about="person:usr_1", severity=Severity.HIGH, at=_NOW):
    return Alert(
        id=f"alr_{number}",
        rule=rule,
        title="A title",
        severity=severity,
        first=at,
        last=at,
        reason=f"because of {number}",
        evidence=(f"evt_{number}",),
        principals=(about,),
    )


def test_alerts_about_the_same_are_one_incident_and_one_notice():
    kept = Incidents()
    for number in range(50):
        kept.take(alert(number), _NOW + number / 100, PACE)
    assert kept.tick(_NOW + 1, PACE) == []
    (notice,) = kept.tick(_NOW + 6, PACE)
    (incident,) = notice.incidents
    assert (incident.id, incident.count, len(incident.alerts)) == ("alr_0", 50, 32)
    assert incident.evidence == ("evt_49",)
    assert kept.tick(_NOW + 400, PACE) == []


def test_a_flood_of_one_rule_is_one_notice_and_then_one_in_five_minutes():
    kept, sent = Incidents(), 0
    for number in range(1200):
        kept.take(alert(number, about=f"person:usr_{number}"), _NOW + number, PACE)
        notices = kept.tick(_NOW + number, PACE)
        sent += len(notices)
        for notice in notices:
            assert len(notice.incidents) <= IN_ONE_NOTICE
    assert sent == 4  # at 5, 305, 605 and 905 seconds


def test_rules_do_not_wait_for_each_other():
    kept = Incidents()
    kept.take(alert(1, rule="one"), _NOW, PACE)
    kept.take(alert(2, rule="two"), _NOW + 1, PACE)
    assert [notice.rule for notice in kept.tick(_NOW + 7, PACE)] == ["one", "two"]


def test_what_is_acknowledged_is_quiet_until_it_gets_worse():
    kept = Incidents()
    kept.take(alert(1, severity=Severity.MEDIUM), _NOW, PACE)
    assert kept.tick(_NOW + 6, PACE)
    kept.acknowledge("alr_1", "uid:0", "looking", _NOW + 10)
    kept.take(alert(2, severity=Severity.MEDIUM), _NOW + 20, PACE)
    assert kept.tick(_NOW + 1000, PACE) == []
    kept.take(alert(3, severity=Severity.CRITICAL), _NOW + 1001, PACE)
    (notice,) = kept.tick(_NOW + 1400, PACE)
    assert notice.severity is Severity.CRITICAL
    assert notice.incidents[0].standing is Standing.OPEN


def test_an_open_incident_is_told_again_after_hours():
    pace = Pace(quiet=1e6)
    kept = Incidents()
    kept.take(alert(1), _NOW, pace)
    assert len(kept.tick(_NOW + 5, pace)) == 1
    assert kept.tick(_NOW + 14_000, pace) == []
    kept.tick(_NOW + 14_405, pace)
    assert len(kept.tick(_NOW + 14_411, pace)) == 1


def test_quiet_resolves_and_whoever_was_told_is_told():
    kept = Incidents()
    kept.take(alert(1), _NOW, PACE)
    kept.tick(_NOW + 5, PACE)
    kept.tick(_NOW + 3601, PACE)
    (notice,) = kept.tick(_NOW + 3610, PACE)
    assert notice.kind == "resolved"
    assert kept.find("alr_1").by == "quiet"
    again = kept.take(alert(2), _NOW + 4000, PACE)
    assert again.id == "alr_2"


def test_a_silence_keeps_the_incident_and_sends_nothing():
    kept = Incidents()
    kept.silence(Silence(id="sil_1", until=_NOW + 100, by="uid:0", why="a drill", rule="spray"), _NOW)
    incident = kept.take(alert(1), _NOW, PACE)
    assert incident.silenced
    assert kept.tick(_NOW + 50, PACE) == []
    kept.take(alert(9, rule="other"), _NOW, PACE)
    assert [one.rule for one in kept.tick(_NOW + 60, PACE)] == ["other"]
    kept.tick(_NOW + 101, PACE)
    assert kept.silences == {}
    assert not kept.take(alert(2), _NOW + 102, PACE).silenced
    with pytest.raises(NotFound):
        kept.unsilence("sil_1", _NOW)


def test_a_silence_stops_what_waits_to_be_sent():
    kept = Incidents()
    kept.take(alert(1), _NOW, PACE)
    kept.silence(Silence(id="s", until=_NOW + 100, by="uid:0", why="", principal="person:usr_1"), _NOW)
    assert kept.tick(_NOW + 6, PACE) == []
    kept.unsilence("s", _NOW + 7)
    kept.take(alert(2), _NOW + 8, PACE)
    assert len(kept.tick(_NOW + 14, PACE)) == 1


def test_what_is_older_than_a_day_wakes_nobody():
    kept = Incidents()
    incident = kept.take(alert(1, at=_NOW - TOO_OLD - 1), _NOW, PACE)
    assert incident.standing is Standing.RESOLVED
    assert kept.tick(_NOW + 10, PACE) == []


def test_repeated_alerts_count_once():
    kept = Incidents()
    kept.take(alert(1), _NOW, PACE)
    kept.take(alert(1), _NOW, PACE)
    assert kept.find("alr_1").count == 1
    kept.resolve("alr_1", "uid:0", "", _NOW, PACE)
    kept.take(alert(1), _NOW, PACE)
    assert len(kept.incidents) == 1


def test_thousands_of_incidents_hide_none_of_the_latest():
    kept = Incidents()
    for number in range(MAX_INCIDENTS + 50):
        kept.take(alert(number, about=f"person:{number}"), _NOW, PACE)
    assert len(kept.incidents) == MAX_INCIDENTS
    assert kept.dropped == 50
    assert f"alr_{MAX_INCIDENTS + 49}" in kept.incidents


class Desk(RuleBasedStateMachine):
    """Whatever happens in whatever order: an open incident nobody silenced is told, and states survive a save."""

    def __init__(self):
        super().__init__()
        self.kept, self.now, self.number, self.told = Incidents(), _NOW, 0, set()

    @rule(about=st.sampled_from("abc"), name=st.sampled_from(["one", "two"]), severity=st.sampled_from(list(Severity)))
    def happens(self, about, name, severity):
        self.number += 1
        self.kept.take(alert(self.number, name, f"person:{about}", severity, self.now), self.now, PACE)

    @rule(seconds=st.sampled_from([0.5, 5, 60, 400, 4000]))
    def passes(self, seconds):
        self.now += seconds
        for notice in self.kept.tick(self.now, PACE):
            self.told |= {incident.id for incident in notice.incidents}

    @rule(data=st.data(), verb=st.sampled_from(["acknowledge", "resolve"]))
    def somebody(self, data, verb):
        if self.kept.incidents:
            id = data.draw(st.sampled_from(sorted(self.kept.incidents)))
            if verb == "acknowledge":
                self.kept.acknowledge(id, "uid:0", "", self.now)
            else:
                self.kept.resolve(id, "uid:0", "", self.now, PACE)

    @rule()
    def crashes(self):
        self.kept = msgspec.json.decode(msgspec.json.encode(self.kept), type=Incidents)

    @invariant()
    def nobody_is_forgotten(self):
        for incident in self.kept.incidents.values():
            if incident.standing is Standing.OPEN and incident.id not in self.told:
                assert incident.id in self.kept.groups[incident.rule].changed
        standing = [(i.rule, i.principals) for i in self.kept.incidents.values() if i.standing is not Standing.RESOLVED]
        assert len(standing) == len(set(standing))


TestDesk = Desk.TestCase
TestDesk.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
