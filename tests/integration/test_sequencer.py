"""The sequencer as a process: what is journaled can be searched, proved and verified."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support import eventually, short_directory
from tests.support_sequencer import SequencerUnderTest, over_tcp, running_sequencer

from rempart.audit.journal import Journal
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode


@pytest.fixture(scope="module")
def sequencer() -> Iterator[SequencerUnderTest]:
    records = {"ci": ["delivery"]}
    with (
        short_directory("rpq") as state,
        running_sequencer(state, services=("wallet", "ci"), records=records) as running,
    ):
        yield running


def rempart(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from rempart.cli.main import main; main()", *arguments, "--state", str(state)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def alarms_about(client: httpx.Client, text: str) -> list[dict[str, Any]]:
    alarms: list[dict[str, Any]] = client.get("/search", params={"type": "system.alarm", "text": text}).json()["events"]
    return alarms


def decision(id: str, person: str = "usr_1", **details: Any) -> Event:
    return Event(
        type=EventType.DECISION,
        id=id,
        at=time.time(),
        success=True,
        reason="the owner reads",
        person=person,
        service="wallet",
        request_id=f"req-{id}",
        details={"rule": "wallet.owner", "method": "GET", "path": "/wallet", **details},
    )


def test_a_journaled_event_is_found_at_once_shown_proved_and_verified(
    sequencer: SequencerUnderTest, tmp_path: Path
) -> None:
    journal = Journal(sequencer.journals / "pdp", "pdp")
    journal.append(encode(decision("dec_a"), "pdp"))
    journal.commit()
    shown = rempart(sequencer.state, "audit", "show", "dec_a", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["event"]["metadata"]["uid"] == "dec_a"
    by_request = json.loads(rempart(sequencer.state, "audit", "show", "req-dec_a", "--json").stdout)
    assert by_request["event"]["metadata"]["uid"] == "dec_a"
    found = json.loads(
        rempart(sequencer.state, "audit", "search", "--person", "usr_1", "--since", "5m", "--json").stdout
    )
    assert [event["id"] for event in found["events"]] == ["dec_a"]

    proof = rempart(sequencer.state, "audit", "prove", "dec_a")
    (tmp_path / "proof.json").write_text(proof.stdout)
    key = sequencer.data / "log.vkey"
    elsewhere = tmp_path / "nothing"
    right = rempart(elsewhere, "audit", "verify", str(tmp_path / "proof.json"), "--key", str(key), "--json")
    assert right.returncode == 0, right.stderr
    assert json.loads(right.stdout)["ok"] is True
    alone = [sys.executable, "-m", "rempart.audit.verifier", str(tmp_path / "proof.json"), str(key)]
    assert subprocess.run(alone, capture_output=True, check=False).returncode == 0

    document = json.loads(proof.stdout)
    document["event"]["unmapped"]["rempart"]["person"] = "usr_2"
    (tmp_path / "forged.json").write_text(json.dumps(document))
    wrong = rempart(elsewhere, "audit", "verify", str(tmp_path / "forged.json"), "--key", str(key))
    assert wrong.returncode == 1
    assert "not the one that is in the log" in wrong.stderr
    journal.close()


def test_the_whole_log_verifies_and_metrics_tell_its_size(sequencer: SequencerUnderTest) -> None:
    journal = Journal(sequencer.journals / "people", "people")
    for number in range(300):
        journal.append(encode(decision(f"dec_m{number}"), "people"))
    journal.commit()
    journal.close()
    with sequencer.client() as client:
        eventually(lambda: client.get("/events/dec_m299").status_code == 200)
    verified = rempart(sequencer.state, "audit", "verify", "--json")
    assert verified.returncode == 0, verified.stderr
    document = json.loads(verified.stdout)
    assert document["ok"] is True
    assert document["size"] >= 300
    with sequencer.client("metrics") as client:
        assert client.get("/healthz").status_code == 200
        page = client.get("/metrics").text
    assert 'rempart_audit_events_total{type="decision"}' in page
    assert "rempart_audit_lag_seconds" in page


def test_application_events_are_idempotent_and_belong_to_their_socket(sequencer: SequencerUnderTest) -> None:
    told = {"id": "evt_w1", "type": "money.moved", "at": time.time(), "success": True, "details": {"amount": 5}}
    with sequencer.client("events:wallet") as client:
        assert client.post("/events", json={"events": [told, told]}).status_code == 204
        assert client.post("/events", json={"events": [told]}).status_code == 204
        for bad in ({"type": "people.login"}, {"id": "dec_1"}, {"source": "pdp"}, {"at": "now"}, {"at": -1}):
            refused = client.post("/events", json={"events": [{**told, "id": "evt_w2", **bad}]})
            assert refused.status_code == 400, bad
            assert refused.json()["code"] == "bad_event"
        assert client.post("/events", content=b"x" * 2_000_000).status_code == 400
        assert client.get("/search").status_code == 404
    with sequencer.client() as client:
        eventually(lambda: client.get("/events/evt_w1").status_code == 200)
        found = client.get("/search", params={"type": "money.moved"}).json()["events"]
    assert [(event["id"], event["service"], event["source"]) for event in found] == [("evt_w1", "wallet", "sequencer")]


def test_a_fresh_search_looks_through_all_that_was_durable_when_it_was_asked(sequencer: SequencerUnderTest) -> None:
    journal = Journal(sequencer.journals / "fresh", "fresh")
    written = 0
    with sequencer.client() as client, sequencer.client("audit") as auditor:
        for by in (client, auditor, client):
            for _ in range(60):
                journal.append(encode(decision(f"dec_fresh{written}", "usr_fresh"), "fresh"))
                written += 1
            journal.commit()

            def page(by: httpx.Client = by) -> dict[str, Any]:
                asked = {"person": "usr_fresh", "limit": "1", "fresh": "1"}
                found: dict[str, Any] = by.get("/search", params=asked).raise_for_status().json()
                return found

            found = eventually(lambda: (p := page())["fresh"] and p, within=60)  # false is "not yet", and honest
            assert found["events"][0]["id"] == f"dec_fresh{written - 1}"
        assert "fresh" not in client.get("/search", params={"limit": "1"}).json()
    journal.append(encode(decision("dec_freshest", "usr_fresh"), "fresh"))
    journal.close()
    searched = json.loads(rempart(sequencer.state, "audit", "search", "--person", "usr_fresh", "--json").stdout)
    assert not searched["fresh"] or searched["events"][0]["id"] == "dec_freshest"


def test_deployments_are_told_by_whom_the_operator_named_and_by_the_operator(sequencer: SequencerUnderTest) -> None:
    deployed = {"id": "evt_d1", "type": "delivery.deployment", "at": time.time(), "success": True}
    deployed["details"] = {"release": "wallet", "environment": "production", "api_key": "s3cr3t"}
    with sequencer.client("events:wallet") as client:
        refused = client.post("/events", json={"events": [deployed]})
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_event")
    with sequencer.client("events:ci") as client:
        assert client.post("/events", json={"events": [deployed]}).status_code == 204
        read = {**deployed, "id": "evt_d2", "type": "secrets.read"}
        assert client.post("/events", json={"events": [read]}).status_code == 400
    after = ("--after", '{"replicas": 3}')
    recorded = rempart(
        *(
            sequencer.state,
            "audit",
            "record",
            "secrets.changed",
            "path=db/wallet",
            "version=2",
            *after,
            "--id",
            "evt_d3",
        )
    )
    assert recorded.returncode == 0, recorded.stderr
    for bad in (("people.login",), ("delivery.scan", "x"), ("delivery.scan", "--after", "[1]"), ("alert.raised",)):
        ended = rempart(sequencer.state, "audit", "record", *bad)
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, False), ended.stderr
    with sequencer.client() as client:
        own = [client.get(f"/events/{id}").json()["event"]["unmapped"]["rempart"] for id in ("evt_d1", "evt_d3")]
    assert [(one["type"], one.get("service"), one["source"]) for one in own] == [
        ("delivery.deployment", "ci", "sequencer"),
        ("secrets.changed", None, "sequencer"),
    ]
    assert own[0]["details"]["api_key"] == "***"
    assert (own[1]["path"], own[1]["details"]) == ("db/wallet", {"version": 2})
    assert own[1]["operator"]
    assert own[1]["after"] == {"replicas": 3}


def test_refusals_of_envoy_become_events_and_decided_requests_do_not(sequencer: SequencerUnderTest) -> None:
    lines: list[Any] = [
        {"kind": "tls", "pep": "gateway", "ip": "10.0.0.9", "tls_failure": "no_shared_cipher"},
        {
            "kind": "http",
            "method": "GET",
            "path": "/refused-by-envoy",
            "status": 400,
            "details": "bad",
            "decision": None,
        },
        {"kind": "http", "method": "GET", "path": "/decided", "status": 403, "decision": "dec_x"},
        {"kind": "http", "method": "GET", "path": "/fine", "status": 200},
        "not an object",
    ]
    os.write(sequencer.access_log, b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b"garbage\n")
    with sequencer.client() as client:
        eventually(lambda: client.get("/search", params={"type": "mesh."}).json()["events"])
        found = client.get("/search", params={"type": "mesh."}).json()["events"]
    assert [(event["type"], event.get("path")) for event in found] == [
        ("mesh.request_refused", "/refused-by-envoy"),
        ("mesh.handshake_refused", None),
    ]


def test_an_event_that_claims_another_source_is_refused_with_an_alarm(sequencer: SequencerUnderTest) -> None:
    journal = Journal(sequencer.journals / "rogue", "rogue")
    journal.append(encode(decision("dec_forged"), "pdp"))
    journal.append(encode(decision("dec_honest"), "rogue"))
    journal.append(b"no event at all")
    journal.commit()
    journal.close()
    with sequencer.client() as client:
        eventually(lambda: client.get("/events/dec_honest").status_code == 200)
        alarms = eventually(lambda: alarms_about(client, "rogue"))
        assert client.get("/events/dec_forged").status_code == 404
    assert len(alarms) == 1
    assert "2 records of the journal rogue were refused" in alarms[0]["reason"]
    assert alarms[0]["severity"] == "critical"


def test_bad_requests_get_problem_documents(sequencer: SequencerUnderTest) -> None:
    with sequencer.client("audit") as client:
        for path in (
            "/search?limit=0",
            "/search?limit=x",
            "/search?since=never",
            "/search?x=1",
            "/search?person=",
            "/search?before=-1",
            "/search?decision=maybe",
            "/search?fresh=2",
            "/search?limit=1&limit=2",
        ):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), path
        assert client.get("/events/nothing").status_code == 404
        assert client.get("/proofs/" + "%00" * 50).status_code == 404
        assert client.get("/else").status_code == 404
        assert client.post("/search").status_code == 405


def test_damage_in_a_journal_becomes_an_alarm_and_what_is_intact_is_kept(sequencer: SequencerUnderTest) -> None:
    directory = sequencer.journals / "damaged"
    journal = Journal(directory, "damaged")
    for number in range(3):
        journal.append(encode(decision(f"dec_d{number}"), "damaged"))
        journal.commit()
    with sequencer.client() as client:
        eventually(lambda: client.get("/events/dec_d2").status_code == 200)
    sequencer.stop()
    for number in range(3, 6):
        journal.append(encode(decision(f"dec_d{number}"), "damaged"))
        journal.commit()
    journal.close()
    segment = max(directory.glob("*.journal"))
    raw = bytearray(segment.read_bytes())
    at = raw.index(b'"dec_d4"')
    raw[at + 2] ^= 1
    segment.write_bytes(raw)
    sequencer.start()
    Journal(directory, "damaged").close()
    with sequencer.client() as client:
        eventually(lambda: client.get("/events/dec_d5").status_code == 200)
        assert client.get("/events/dec_d3").status_code == 200
        assert client.get("/events/dec_d4").status_code == 404
        alarms = eventually(lambda: alarms_about(client, "damaged"))
    assert any("1 records of the journal damaged are lost" in alarm["reason"] for alarm in alarms)


def test_the_index_is_built_again_from_the_log(sequencer: SequencerUnderTest) -> None:
    with sequencer.client() as client:
        before = client.get("/search", params={"limit": "1000"}).json()["events"]
    assert sequencer.stop() == 0
    for path in sequencer.data.glob("search.db*"):
        path.unlink()
    sequencer.start()
    with sequencer.client() as client:
        eventually(lambda: client.get("/search", params={"limit": "1000"}).json()["events"][-len(before) :] == before)


def test_killed_sequencer_continues_where_it_was(sequencer: SequencerUnderTest) -> None:
    journal = Journal(sequencer.journals / "kill", "kill")
    for round in range(4):
        for number in range(200):
            journal.append(encode(decision(f"dec_k{round}_{number}", person="usr_kill"), "kill"))
            if number % 10 == 0:
                journal.commit()
        journal.commit()
        sequencer.stop(signal.SIGKILL)
        sequencer.start()
    with sequencer.client() as client:
        eventually(lambda: client.get("/events/dec_k3_199").status_code == 200)
        found = client.get("/search", params={"person": "usr_kill", "limit": "1000"}).json()["events"]
    assert len(found) == 800
    assert len({event["id"] for event in found}) == 800
    assert rempart(sequencer.state, "audit", "verify").returncode == 0
    journal.close()


def test_export_and_checkpoint_and_tail(sequencer: SequencerUnderTest) -> None:
    exported = rempart(sequencer.state, "audit", "export", "--person", "usr_kill").stdout.splitlines()
    assert len(exported) == 800
    assert json.loads(exported[0])["class_uid"] == 6003
    note = rempart(sequencer.state, "audit", "checkpoint").stdout
    assert note.startswith("bank.example/rempart\n")
    assert "— bank.example/rempart " in note
    command = [sys.executable, "-c", "from rempart.cli.main import main; main()", "audit", "tail", "-n0", "--json"]
    tail = subprocess.Popen([*command, "--state", str(sequencer.state)], stdout=subprocess.PIPE)
    journal = Journal(sequencer.journals / "tail", "tail")
    assert tail.stdout is not None
    output = tail.stdout.fileno()
    os.set_blocking(output, False)

    def told() -> bytes:
        journal.append(encode(decision("dec_tail"), "tail"))
        journal.commit()
        return os.read(output, 65_536)

    try:
        line = eventually(told, every=0.2, within=10)
        assert json.loads(line.splitlines()[0])["id"] == "dec_tail"
    finally:
        journal.close()
        tail.terminate()
        tail.wait()
        tail.stdout.close()


def test_tampering_and_rewinding_are_found_by_the_command(sequencer: SequencerUnderTest) -> None:
    """As the operator sees it: exit code 1, and what is wrong where."""
    state = sequencer.state
    assert rempart(state, "audit", "verify").returncode == 0
    bundle = sequencer.data / "log" / "tile" / "entries" / "001"
    raw = bundle.read_bytes()
    bundle.write_bytes(raw.replace(b'"success":true', b'"success":fals', 1))
    found = rempart(state, "audit", "verify", "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["ok"] is False
    assert "tile/0/001: hash" in json.loads(found.stdout)["problems"][0]
    bundle.write_bytes(raw)
    assert rempart(state, "audit", "verify").returncode == 0

    assert sequencer.stop() == 0
    older = state / "older"
    shutil.copytree(sequencer.data, older)
    sequencer.start()
    journal = Journal(sequencer.journals / "late", "late")
    journal.append(encode(decision("dec_late"), "late"))
    journal.commit()
    journal.close()
    with sequencer.client() as client:
        eventually(lambda: client.get("/events/dec_late").status_code == 200)
    assert rempart(state, "audit", "verify").returncode == 0
    assert sequencer.stop() == 0
    shutil.rmtree(sequencer.data)
    older.rename(sequencer.data)
    rewound = rempart(state, "audit", "verify")
    assert rewound.returncode == 1
    assert "was cut or rewound" in rewound.stderr
    sequencer.start()


def test_a_log_that_was_damaged_is_not_continued(sequencer: SequencerUnderTest) -> None:
    assert sequencer.stop() == 0
    tile = max((sequencer.data / "log" / "tile" / "0").rglob("*.p/*"), key=lambda path: int(path.name))
    raw = tile.read_bytes()
    tile.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    with pytest.raises(AssertionError, match="log_damaged"):
        sequencer.start()
    tile.write_bytes(raw)
    sequencer.stop(signal.SIGKILL)
    sequencer.start()


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "--since", "never"),
        ("search", "--limit", "0"),
        ("verify", "/nowhere/proof.json"),
        ("verify", "--key", "/nowhere/log.vkey"),
        ("search", "--decision", "maybe"),
    ],
)
def test_bad_usage_is_exit_code_2(sequencer: SequencerUnderTest, arguments: tuple[str, ...]) -> None:
    ended = rempart(sequencer.state, "audit", *arguments)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr


def test_not_running_is_exit_code_3(tmp_path: Path) -> None:
    assert rempart(tmp_path, "audit", "search").returncode == 3


def test_the_log_is_served_as_tiles_and_its_key_rotates(sequencer: SequencerUnderTest, tmp_path: Path) -> None:
    journal = Journal(sequencer.journals / "rotating", "rotating")
    for number in range(300):
        journal.append(encode(decision(f"dec_r{number}"), "rotating"))
    journal.commit()
    journal.close()
    old_key = (sequencer.data / "log.vkey").read_text()
    (tmp_path / "old.vkey").write_text(old_key)
    with sequencer.client("audit") as client:
        eventually(lambda: client.get("/events/dec_r299").status_code == 200)
        note = client.get("/checkpoint").text
        first = client.get("/tile/0/000")
        assert (first.status_code, len(first.content)) == (200, 256 * 32)
        assert client.get("/tile/0/000.p/7").content == first.content[: 7 * 32]
        assert client.get("/tile/entries/000").content.startswith(client.get("/tile/entries/000.p/3").content)
        size = int(note.split("\n")[1])
        for missing in ("/tile/0/x001/000", "/tile/3/000", f"/tile/0/{size // 256:03d}.p/255", "/tile/0/000.p/300"):
            assert client.get(missing).status_code == 404, missing
        for bad in ("/tile/0/../../state", "/tile/9999/000", "/tile/entries/00", "/tile/0/000.p/0"):
            assert client.get(bad).status_code in (400, 404), bad
        assert client.post("/log-keys/rotate", json={}).status_code == 405
    rotated = rempart(sequencer.state, "keys", "rotate", "--authority", "log", "--overlap", "3600", "--json")
    assert rotated.returncode == 0, rotated.stderr
    answer = json.loads(rotated.stdout)
    assert [key["signs"] for key in answer["keys"]] == [True, True]
    again = rempart(sequencer.state, "keys", "rotate", "--authority", "log")
    assert again.returncode != 0
    assert "overlap is not over" in again.stderr
    announcement = json.loads(rempart(sequencer.state, "audit", "prove", answer["event"]).stdout)
    (tmp_path / "announcement.json").write_text(json.dumps(announcement))
    for key in (tmp_path / "old.vkey", sequencer.data / "log.vkey"):
        right = rempart(tmp_path, "audit", "verify", str(tmp_path / "announcement.json"), "--key", str(key))
        assert right.returncode == 0, right.stderr
    own = announcement["event"]["unmapped"]["rempart"]
    assert own["after"]["key"] + "\n" == (sequencer.data / "log.vkey").read_text()
    assert own["operator"] == f"uid:{os.getuid()}"
    assert rempart(sequencer.state, "audit", "verify").returncode == 0


def test_erasing_a_person_leaves_the_tree_and_search_without_their_data(sequencer: SequencerUnderTest) -> None:
    event = Event(
        type=EventType.LOGIN, id="evt_er1", at=time.time(), success=True, person="usr_erase", ip="198.51.100.77"
    )
    journal = Journal(sequencer.journals / "people2", "people2")
    journal.append(encode(event, "people2"))
    journal.commit()
    journal.close()
    with sequencer.client() as client:
        eventually(lambda: client.get("/events/evt_er1").status_code == 200)
        assert client.get("/events/evt_er1").json()["event"]["src_endpoint"] == {"ip": "198.51.100.77"}
        found = client.get("/search", params={"text": "198.51.100.77"}).json()["events"]
        assert [one["id"] for one in found] == ["evt_er1"]
        proof = client.get("/proofs/evt_er1").json()
        assert "198.51.100.77" not in json.dumps(proof)
    erased = rempart(sequencer.state, "audit", "erase", "usr_erase", "--json")
    assert erased.returncode == 0, erased.stderr
    with sequencer.client() as client:
        own = client.get("/events/evt_er1").json()["event"]["unmapped"]["rempart"]
        assert ("ip" in own, own["person"]) == (False, "usr_erase")
        eventually(lambda: client.get("/search", params={"person": "usr_erase"}).json()["events"])
        assert client.get("/search", params={"text": "198.51.100.77"}).json()["events"] == []
        recorded = client.get(f"/events/{json.loads(erased.stdout)['event']}").json()["event"]["unmapped"]["rempart"]
        assert (recorded["type"], recorded["details"]["account"]) == ("people.erased", "usr_erase")
        assert client.get("/proofs/evt_er1").json()["payload"] == proof["payload"]
    assert rempart(sequencer.state, "audit", "verify").returncode == 0


def test_the_log_is_followed_from_outside_over_http_through_a_rotation(
    sequencer: SequencerUnderTest, tmp_path: Path
) -> None:
    shutil.copy(sequencer.data / "log.vkeys", tmp_path / "keys")
    (tmp_path / "first.vkey").write_text((tmp_path / "keys").read_text().splitlines()[-1])
    with over_tcp(sequencer) as url:
        watch = ["audit", "monitor", url, "--key", str(tmp_path / "first.vkey"), "--memory", str(tmp_path / "m")]
        first = rempart(tmp_path, *watch, "--once", "--json")
        assert first.returncode == 0, first.stdout
        journal = Journal(sequencer.journals / "pdp", "pdp")
        journal.append(encode(decision("dec_followed"), "pdp"))
        journal.commit()
        journal.close()
        with sequencer.client() as client:
            eventually(lambda: client.get("/events/dec_followed").status_code == 200)
        again = json.loads(rempart(tmp_path, *watch, "--once", "--json").stdout)
        assert (again["ok"], again["added"] >= 1, again["size"] > json.loads(first.stdout)["size"]) == (True,) * 3
    gone = rempart(tmp_path, *watch, "--once")
    assert (gone.returncode, "unreachable" in gone.stderr) == (3, True)


def test_retention_by_command_deletes_what_is_over_and_not_what_is_held() -> None:
    with short_directory("rpr") as state:
        under_test = SequencerUnderTest(state, retention={"access": 30})
        try:
            under_test.start()
            old = time.time() - 40 * 86_400
            journal = Journal(under_test.journals / "pdp", "pdp")
            for number in range(300):
                event = replace(decision(f"dec_old{number}", f"usr_{number % 2}"), at=old)
                journal.append(encode(event, "pdp"))
            journal.commit()
            journal.close()
            with under_test.client() as client:
                eventually(lambda: client.get("/events/dec_old299").status_code == 200)
                held = rempart(state, "audit", "hold", "case-7", "--person", "usr_1", "--reason", "a lawsuit", "--json")
                assert held.returncode == 0, held.stderr
                listed = json.loads(rempart(state, "audit", "holds", "--json").stdout)["holds"]
                assert [one["id"] for one in listed] == ["case-7"]
                due = json.loads(rempart(state, "audit", "prune", "--dry-run", "--json").stdout)
                waiting = client.post("/prune", json={"taken": 255}).json()  # a sink has not taken the last of them
                assert (waiting["deleted"], waiting["waits_for"]) == (0, 256)
                done = json.loads(rempart(state, "audit", "prune", "--json").stdout)
                assert due["deleted"] == done["deleted"] == 128
                assert Path(done["runs"][0]["export"]).stat().st_mode & 0o777 == 0o600
                eventually(lambda: client.get("/events/dec_old1").status_code == 200)
                assert client.get("/events/dec_old0").status_code == 404
                assert client.get("/proofs/dec_old1").status_code == 200
                told = client.get(f"/events/{done['runs'][0]['event']}").json()["event"]["unmapped"]["rempart"]
                assert (told["type"], told["details"]["deleted"]) == ("system.events_pruned", 128)
                found = client.get("/search", params={"person": "usr_0", "limit": 1000}).json()["events"]
                assert len(found) == 22, "those after the last full bundle"
            assert rempart(state, "audit", "verify").returncode == 0
            assert rempart(state, "audit", "hold", "case-8", "--type", "mone.").returncode == 2
            kept = rempart(state, "audit", "erase", "usr_1")
            assert (kept.returncode, "case-7" in kept.stderr) == (1, True), kept.stderr
            assert rempart(state, "audit", "hold", "case-7", "--lift").returncode == 0
            assert rempart(state, "audit", "erase", "usr_1").returncode == 0
        finally:
            under_test.close()


def test_a_log_that_is_gone_is_not_begun_again_in_silence() -> None:
    with short_directory("rpg") as state:
        under_test = SequencerUnderTest(state)
        under_test.start()
        under_test.stop()
        shutil.rmtree(under_test.data / "log")
        (under_test.data / "state").unlink()
        with pytest.raises(AssertionError):
            under_test.start()
        under_test.close()
        assert "log_missing" in (state / "sequencer.log").read_text()
