"""The watch at the running bank: an intrusion ends in exactly three alerts, each opening to its proofs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import BANK, Running, running
from tests.support import eventually


@pytest.fixture(scope="module")
def bank() -> Iterator[Running]:
    """One of its own: others' attacks would be alerts, too."""
    with running(BANK) as system:
        yield system


def intrusion(bank: Running) -> dict[str, Any]:
    done = bank.run("attack", "--intrusion", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def replayed(bank: Running) -> dict[str, Any]:
    done = bank.run("detect", "replay", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def intruded(bank: Running) -> list[Any]:
    """The alerts of one intrusion at least, also where a test runs alone."""
    if not replayed(bank)["alerts"]:
        intrusion(bank)
    alerts: list[Any] = replayed(bank)["alerts"]
    return alerts


EXPECTED = ["password_spray", "rollback_abuse", "stolen_session_escalation"]


def test_ordinary_business_raises_nothing(bank: Running) -> None:
    assert bank.run("demo").returncode == 0
    assert replayed(bank)["alerts"] == []


def test_an_intrusion_ends_in_exactly_three_alerts_and_each_opens_to_its_proofs(bank: Running, tmp_path: Path) -> None:
    alerts = intrusion(bank)["alerts"]
    assert sorted(alert["rule"] for alert in alerts) == EXPECTED
    for alert in alerts:
        directory = tmp_path / alert["id"]
        shown = bank.run("detect", "show", alert["id"], "--proofs", str(directory), "--json")
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)["alert"] == alert
        assert {path.stem for path in directory.iterdir()} == {alert["id"], *alert["evidence"]}
        for proof in directory.iterdir():
            verified = bank.run("audit", "verify", str(proof))
            assert verified.returncode == 0, verified.stderr
        text = json.dumps(alert)
        assert "127." not in text
        assert "@" not in text
    types = {
        rule: {
            json.loads(path.read_bytes())["event"]["unmapped"]["rempart"]["type"]
            for path in (tmp_path / next(a["id"] for a in alerts if a["rule"] == rule)).iterdir()
        }
        for rule in EXPECTED
    }
    assert types == {
        "password_spray": {"alert.raised", "people.login_failed"},
        "stolen_session_escalation": {"alert.raised", "decision", "people.role_changed"},
        "rollback_abuse": {"alert.raised", "money.rolled_back"},
    }


def test_a_killed_detector_loses_no_alert_and_repeats_none(bank: Running) -> None:
    before = bank.pid("detector")
    assert before is not None
    command = [str(Path(sys.prefix) / "bin" / "rempart"), "attack", "--intrusion", "--json"]
    environment = {**os.environ, "REMPART_STATE": str(bank.state), "NO_COLOR": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as playing:
        assert playing.stderr is not None
        assert any("rollback fraud" in line for line in playing.stderr)
        os.kill(before, signal.SIGKILL)
        out, _ = playing.communicate(timeout=60)
    assert sorted(alert["rule"] for alert in json.loads(out)["alerts"]) == EXPECTED
    assert eventually(lambda: bank.pid("detector") not in (None, before), within=20)
    found = replayed(bank)
    assert found["same"]
    searched = json.loads(bank.run("audit", "search", "--type", "alert.raised", "--json").stdout)["events"]
    ids = [event["id"] for event in searched]
    assert len(ids) == len(set(ids)) == len(found["alerts"])


def test_a_detector_without_its_state_begins_again_and_repeats_nothing(bank: Running) -> None:
    before = replayed(bank)["alerts"]
    state = bank.state / "data" / "detector" / "state"
    pid = bank.pid("detector")
    assert pid is not None
    eventually(state.exists, within=10)
    state.write_bytes(b"damaged" * 50)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: bank.pid("detector") not in (None, pid), within=20)

    def caught_up() -> bool:
        document = json.loads(rules(bank))
        return bool(document["taken"]) and document["taken"] >= document["size"]

    eventually(caught_up, within=20)
    assert replayed(bank)["alerts"] == before


def rules(bank: Running) -> str:
    import httpx

    path = bank.state / "run" / "admin" / "detector.sock"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        return client.get("http://detector/rules").text


def test_what_prometheus_reads(bank: Running) -> None:
    import httpx

    intruded(bank)
    path = bank.state / "run" / "metrics" / "detector.sock"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        page = client.get("http://detector/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(lines['rempart_detections_total{rule="password_spray",severity="high"}']) >= 1
    assert float(lines["rempart_detector_unreadable_total"]) == 0
    assert "rempart_detector_behind_events" in lines


def test_alerts_are_watched_as_they_come(bank: Running) -> None:
    command = [str(Path(sys.prefix) / "bin" / "rempart"), "detect", "watch", "--since", "1h", "--json"]
    environment = {**os.environ, "REMPART_STATE": str(bank.state)}
    known = len(intruded(bank))
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stdout is not None
            assert {json.loads(watching.stdout.readline())["rule"] for _ in range(known)} >= set(EXPECTED)
            intrusion(bank)
            assert sorted(json.loads(watching.stdout.readline())["rule"] for _ in range(3)) == EXPECTED
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 0
        finally:
            watching.kill()
