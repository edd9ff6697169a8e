"""The models at a running system: a month of record, a training, an unusual login that has to be proved again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.conftest import TINY, Running, running, write_tiny
from tests.support import eventually, short_directory

from rempart.audit.journal import Journal
from rempart.cli.state import call
from rempart.detection.models.model import Subject
from rempart.detection.models.staged import BEGIN, staged
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

PASSWORD = "a long enough pass phrase 7"
DAYS = 24
ALICE, BOB = "alice@tiny.example", "bob@tiny.example"


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    with short_directory() as directory:
        settings = TINY + "\n[detection]\nmodels = true\n"
        with running(write_tiny(directory / "app", settings), state=directory / "s") as started:
            yield started


@pytest.fixture(scope="module")
def people(system: Running) -> dict[str, str]:
    """Accounts by address: their ids. Their record goes back a month; now is a time at which they never come."""
    found = {}
    for address in (ALICE, BOB):
        done = system.run("user", "add", "--email", address, "--role", "user", "--json", input=PASSWORD + "\n")
        assert done.returncode == 0, done.stderr
        found[address] = json.loads(done.stdout)["id"]
    write_history(system.state, list(found.values()))
    eventually(lambda: models(system)["logins"]["samples"] >= 400, within=60)
    eventually(lambda: caught_up(system), within=60)
    return found


def write_history(state: Path, accounts: list[str]) -> None:
    """As the journal of a people process that was here before."""
    shift = time.time() - 2 * 3600 - (BEGIN + DAYS * 86_400)
    events = []
    for one in staged(Subject.LOGINS, DAYS, 5):
        if not one.label:
            own = one.own
            events.append(
                (own["at"] / 1000 + shift, own["type"], own["success"], own["person"], own["ip"], own["details"])
            )
    other_side = (time.time() + 9 * 3600) % 86_400  # the middle of their day is on the other side of the clock
    for number, account in enumerate(accounts):
        for day in range(2, DAYS):
            midnight = time.time() // 86_400 * 86_400 - day * 86_400
            at = midnight + (other_side + number * 1800 + day * 700) % 86_400
            details = {"amr": ["pwd", "otp", "mfa"], "known_place": True}
            events.append((at, EventType.LOGIN, True, account, f"10.9.{number}.1", details))
    directory = state / "journals" / "history"
    like = os.stat(state / "journals" / "people")
    directory.mkdir(mode=0o2770)
    journal = Journal(directory, "history")
    for at, kind, success, person, ip, details in sorted(events, key=lambda one: one[0]):
        event = Event(type=EventType(kind), at=at, success=success, person=person, ip=ip, details=details)
        journal.append(encode(event, "history"))
    journal.commit()
    journal.close()
    for path in (directory, *directory.iterdir()):
        os.chown(path, like.st_uid, like.st_gid)


def models(system: Running) -> dict[str, Any]:
    done = system.run("models", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {one["subject"]: one for one in json.loads(done.stdout)["models"]}


def tls(system: Running) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=system.ca)


def log_in(system: Running, address: str, password: str = PASSWORD) -> tuple[int, str]:
    answer = httpx.post(
        f"{system.url}/login", json={"email": address, "password": password}, verify=tls(system), timeout=30
    )
    return answer.status_code, answer.json().get("access_token", "")


def hello(system: Running, token: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.get(f"{system.url}/hello", headers=headers, verify=tls(system), timeout=30)


def events(system: Running, kind: str) -> list[dict[str, Any]]:
    """All that were recorded until now."""
    asked = f"/search?type={kind}&limit=50&full=1&fresh=1"
    page = eventually(lambda: (p := call(system.state, "sequencer", "GET", asked))["fresh"] and p, within=30)
    return [one["event"]["unmapped"]["rempart"] for one in page["events"]]


def rules_saw_everything(system: Running) -> None:
    """The rules have taken all that is recorded by now; `events` finds what they said of it."""
    events(system, "alert.raised")
    size = call(system.state, "sequencer", "GET", "/index")["size"]
    eventually(lambda: call(system.state, "detector", "GET", "/rules")["taken"] >= size, within=60)


def test_without_a_record_there_is_no_model_and_it_says_how_much_is_missing(system: Running) -> None:
    assert models(system)["deployments"]["why"] == "not enough data: 0 of 60 rows"
    done = system.run("models", "train", "deployments")
    assert done.returncode == 1
    assert "0 of 60" in done.stderr


def test_an_unusual_login_has_to_be_proved_again_and_with_a_refusal_before_it_alerts(
    system: Running, people: dict[str, str]
) -> None:
    done = system.run("models", "train", "logins", "--json", timeout=400)
    assert done.returncode == 0, done.stderr
    assert models(system)["logins"]["state"] == "in force"
    assert log_in(system, ALICE, "not the pass phrase")[0] == 401
    status, token = log_in(system, ALICE)
    assert status == 200
    refused = eventually(lambda: (a := hello(system, token)).status_code == 401 and a, within=30)
    assert refused.json()["code"] == "insufficient_user_authentication"
    assert 'error="insufficient_user_authentication"' in refused.headers["www-authenticate"]

    # The way out: once more, in another second (`auth_time` has no fractions). It is asked for once.
    eventually(lambda: hello(system, log_in(system, ALICE)[1]).status_code == 200, within=30, every=0.5)
    assert hello(system, token).status_code == 401

    risks = [one for one in events(system, "models.risk_raised") if one["person"] == people[ALICE]]
    (risk,) = [one for one in risks if one["details"]["level"] == "high"]  # a medium one may have come before
    assert risk["details"]["reasons"][0]["words"]
    assert risk["source"] == "models"
    alerts = eventually(lambda: events(system, "alert.raised"), within=30)
    (alert,) = [one["details"]["alert"] for one in alerts if one["rule"] == "risky_login_after_refusal"]
    assert alert["origin"] == "rule+model"
    assert alert["score"] == risk["details"]["score"]
    assert risk["id"] in alert["evidence"]


def test_a_model_alone_alerts_nobody_and_an_operator_may_clear_it(system: Running, people: dict[str, str]) -> None:
    status, token = log_in(system, BOB)
    assert status == 200
    eventually(lambda: hello(system, token).status_code == 401, within=30)
    rules_saw_everything(system)
    assert [a for a in events(system, "alert.raised") if a.get("person") == people[BOB]] == []
    assert system.run("models", "risks", "--clear", people[BOB]).returncode == 0
    eventually(lambda: hello(system, token).status_code == 200, within=10)
    (cleared,) = eventually(lambda: events(system, "models.risk_cleared"), within=30)
    assert cleared["operator"] == f"uid:{os.getuid()}"
    assert system.run("models", "risks", "--clear", people[BOB]).returncode == 1


def test_a_killed_process_goes_on_with_its_model_and_raises_nothing_twice(
    system: Running, people: dict[str, str]
) -> None:
    before = len(events(system, "models.risk_raised"))
    assert restart(system)
    found = eventually(lambda: models_or_none(system), within=30)
    assert found["logins"]["state"] == "in force"
    eventually(lambda: caught_up(system), within=30)
    assert len(events(system, "models.risk_raised")) == before


@pytest.mark.parametrize("harm", ["changed", "older", "pickle"])
def test_a_model_file_that_is_not_the_one_that_was_signed_is_refused(
    system: Running, people: dict[str, str], harm: str
) -> None:
    directory = system.state / "data" / "models" / "models"
    if harm == "older":
        assert system.run("models", "train", "logins", timeout=400).returncode == 0
    newest = sorted(directory.glob("logins-*.model"))[-1]
    kept = newest.read_bytes()
    if harm == "changed":
        newest.write_bytes(kept.replace(b'"high":', b'"hihg":', 1))
    elif harm == "older":
        shutil.copyfile(sorted(directory.glob("logins-*.model"))[-2], newest)
    else:
        newest.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    try:
        restart(system)
        found = eventually(lambda: models_or_none(system), within=30)["logins"]
        assert found["state"] == "refused"
        code = {"changed": "model_tampered", "older": "model_older", "pickle": "not_a_model"}[harm]
        eventually(lambda: [one for one in events(system, "models.refused") if one["code"] == code], within=20)
    finally:
        newest.write_bytes(kept)
        restart(system)
    assert eventually(lambda: models_or_none(system), within=30)["logins"]["state"] == "in force"


def models_or_none(system: Running) -> dict[str, Any]:
    done = system.run("models", "list", "--json")
    return {one["subject"]: one for one in json.loads(done.stdout)["models"]} if done.returncode == 0 else {}


def caught_up(system: Running) -> bool:
    found = json.loads(system.run("models", "list", "--json").stdout)
    return bool(found["taken"] == found["size"] > 0)


def restart(system: Running) -> int:
    pid = system.pid("models")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return eventually(lambda: (new := system.pid("models")) not in (None, pid) and new, within=30)
