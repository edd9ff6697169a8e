"""`rempart audit prune` waits for the sinks: what they have not taken they would never get."""

import pytest

from rempart.cli import audit_keeping
from rempart.kernel.errors import Conflict


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the processes were asked; `.taken` is how far the one sink is."""

    class Asked(list):
        taken = 10

    found = Asked()

    def call(directory, process, method, path, body=None, *, timeout=30.0):
        found.append((process, path, body))
        if process == "shipper":
            return {"sinks": [{"name": "siem", "next": found.taken}]}
        if body["taken"] is not None and body["taken"] < 10:
            return {"runs": [], "deleted": 0, "waits_for": 10}
        return {"runs": [{"first": 0, "end": 10, "deleted": 10}], "deleted": 10, "waits_for": None}

    monkeypatch.setattr(audit_keeping, "call", call)
    (tmp_path / "run" / "admin").mkdir(parents=True)
    (tmp_path / "run" / "admin" / "shipper.sock").touch()
    return found


def test_what_every_sink_took_is_pruned(asked, tmp_path):
    audit_keeping.prune(state=tmp_path, json=True)
    assert asked == [("shipper", "/sinks", None), ("sequencer", "/prune", {"dry": False, "taken": 10})]


def test_what_a_sink_did_not_take_stays(asked, tmp_path):
    asked.taken = 9
    with pytest.raises(Conflict, match="siem"):
        audit_keeping.prune(state=tmp_path, json=True)
    assert asked[-1] == ("sequencer", "/prune", {"dry": False, "taken": 9})


def test_whoever_says_so_prunes_past_them(asked, tmp_path):
    asked.taken = 0
    audit_keeping.prune(past_sinks=True, state=tmp_path, json=True)
    assert asked == [("sequencer", "/prune", {"dry": False, "taken": None})]


def test_without_sinks_nobody_is_asked(asked, tmp_path):
    (tmp_path / "run" / "admin" / "shipper.sock").unlink()
    audit_keeping.prune(state=tmp_path, json=True)
    assert asked == [("sequencer", "/prune", {"dry": False, "taken": None})]
