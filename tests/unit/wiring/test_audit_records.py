"""`[audit.records]`: who is believed what happens outside of Rempart."""

from __future__ import annotations

from pathlib import Path

import pytest

from rempart.audit.intake import TYPES, read_events, types_with
from rempart.kernel.errors import BadInput
from rempart.kernel.event import EventType
from rempart.wiring.plan_audit import audit_settings
from rempart.wiring.process_settings import SequencerSettings
from rempart.wiring.settings import parse

APP = """[app]
name = "a"
trust_domain = "a.example"
[workloads.agents]
listen = "127.0.0.1:8444"
[[host]]
name = "far"
address = "10.0.0.2"
[[service]]
name = "web"
command = ["web"]
socket = "web.sock"
[[service]]
name = "away"
command = ["away"]
socket = "away.sock"
host = "far"
[[client]]
name = "ci"
command = ["ci"]
[audit.records]
"""


def test_each_program_may_tell_the_groups_it_is_named_for(tmp_path: Path) -> None:
    app = parse(APP + 'delivery = ["ci", "web"]\nsecrets = ["web"]\n', tmp_path)
    told = audit_settings(app, tmp_path)["sequencer"]
    assert isinstance(told, SequencerSettings)
    assert told.records == {"ci": ["delivery"], "web": ["delivery", "secrets"]}
    assert audit_settings(parse(APP, tmp_path), tmp_path)["sequencer"].records == {}  # type: ignore[attr-defined]  # as above


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('delivery = ["nobody"]', "there is no program 'nobody'"),
        ('delivery = ["away"]', "runs on another host"),
        ('people = ["web"]', "people"),
        ('delivery = "web"', "delivery"),
    ],
)
def test_what_can_not_be_meant_is_refused(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(BadInput) as raised:
        parse(APP + line + "\n", tmp_path)
    assert why in raised.value.reason


def test_nobody_can_tell_what_rempart_itself_records() -> None:
    widest = types_with(["delivery", "secrets", "people", "alert", "system", ""])
    assert widest - TYPES == {
        *(EventType.DEPLOYMENT, EventType.SCAN, EventType.SECRET_READ, EventType.SECRET_CHANGED),
    }
    body = b'{"events":[{"id":"e1","type":"delivery.scan","at":5,"success":true,"operator":"root"}]}'
    with pytest.raises(BadInput):
        read_events(body, "web")
    (event,) = read_events(body, None, widest, "uid:1000")
    assert (event.operator, event.service) == ("uid:1000", None)
