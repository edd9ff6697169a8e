"""Real processes: what is killed, away, slow or refused loses nothing and slows nobody."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rsyslog import private_rsyslog
from tests.support import eventually, free_port, short_directory
from tests.support_sequencer import SequencerUnderTest
from tests.support_shipper import ShipperUnderTest

from rempart.audit.journal import Journal
from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.ocsf import encode

Make = Callable[[list[dict[str, Any]]], ShipperUnderTest]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def sequencer() -> Iterator[SequencerUnderTest]:
    with short_directory("sh") as state:
        under_test = SequencerUnderTest(state)
        under_test.start()
        yield under_test
        under_test.close()


@pytest.fixture
def shipping(sequencer: SequencerUnderTest) -> Iterator[Make]:
    """Makes shippers, not started; ends them whatever fails."""
    made: list[ShipperUnderTest] = []

    def make(sinks: list[dict[str, Any]]) -> ShipperUnderTest:
        made.append(ShipperUnderTest(sequencer.state, sinks))
        return made[-1]

    yield make
    for shipper in made:
        shipper.close()


class Receiver:
    """A webhook's other end: what it was sent, in order, with repeats."""

    def __init__(self, port: int) -> None:
        self.got: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got += [event["metadata"]["uid"] for event in json.loads(body)["data"]["events"]]
                self.send_response(204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return None

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def record(journal: Journal, *ids: str, **fields: Any) -> None:
    for id in ids:
        event = Event(
            type=EventType.LOGIN, id=id, at=time.time(), success=True, person="usr_1", ip="10.0.0.9", **fields
        )
        journal.append(encode(event, journal.source))
    journal.commit()


def logged(sequencer: SequencerUnderTest) -> list[str]:
    found: list[str] = []
    with sequencer.client() as client:
        while events := client.get(f"/entries/{len(found)}").json()["events"]:
            found += [event["metadata"]["uid"] for event in events]
    return found


def uids(path: Path) -> list[str]:
    return [json.loads(line)["metadata"]["uid"] for line in path.read_text().splitlines()] if path.exists() else []


def test_killed_again_and_again_a_file_has_everything_once_and_a_webhook_everything(
    sequencer: SequencerUnderTest, shipping: Make
) -> None:
    receiver = Receiver(free_port())
    url = f"http://127.0.0.1:{receiver.server.server_address[1]}/"
    sinks = [
        {"name": "file", "type": "jsonl", "path": "out.jsonl"},
        {"name": "hook", "type": "webhook", "url": url.rstrip("/"), "secret": SECRET},
    ]
    shipper = shipping(sinks)
    journal = Journal(sequencer.journals / "people", "people")
    for round in range(5):
        shipper.start()
        for step in range(20):
            record(journal, *(f"evt_{round}_{step}_{n}" for n in range(20)))
        some = len(receiver.got) + 1
        eventually(lambda some=some: len(receiver.got) >= some, within=10)  # type: ignore[misc]  # bound now
        shipper.stop(signal.SIGKILL)
    shipper.start()
    eventually(lambda: len(set(receiver.got) & set(logged(sequencer))) >= 2000, within=20)
    eventually(lambda: len(uids(shipper.data / "out.jsonl")) == len(logged(sequencer)), within=20)
    assert uids(shipper.data / "out.jsonl") == logged(sequencer)
    assert set(logged(sequencer)) == set(receiver.got)
    assert b"10.0.0.9" in (shipper.data / "out.jsonl").read_bytes()  # as recorded, not as sealed in the log
    shipper.close()
    journal.close()
    receiver.close()


def test_a_sink_that_is_away_slows_no_other_and_gets_everything_when_it_is_back(
    sequencer: SequencerUnderTest, shipping: Make
) -> None:
    port = free_port()
    sinks = [
        {"name": "file", "type": "jsonl", "path": "out.jsonl"},
        {"name": "hook", "type": "webhook", "url": f"http://127.0.0.1:{port}", "secret": SECRET},
    ]
    shipper = shipping(sinks)
    shipper.start()
    journal = Journal(sequencer.journals / "people", "people")
    record(journal, *(f"evt_{n}" for n in range(3000)))
    eventually(lambda: shipper.report("file")["next"] >= 3000, within=15)
    failing = eventually(lambda: shipper.report("hook") if shipper.report("hook")["failing"] else None)
    assert failing["state"] == "failing"
    assert failing["next"] == 0
    receiver = Receiver(port)
    eventually(lambda: shipper.report("hook")["next"] >= 3000, within=30)
    assert receiver.got[:3000] == logged(sequencer)[:3000]
    eventually(lambda: shipper.report("hook")["state"] == "up to date")
    path = shipper.data / "out.jsonl"
    eventually(lambda: "sink.recovered" in path.read_text())
    kinds = [json.loads(line)["unmapped"]["rempart"]["type"] for line in path.read_text().splitlines()]
    assert kinds.count("sink.failed") == 1
    assert SECRET.encode() not in path.read_bytes()
    shipper.close()
    journal.close()
    receiver.close()


def test_rsyslog_gets_every_event_in_one_line_and_knows_who_sends(
    sequencer: SequencerUnderTest, shipping: Make
) -> None:
    with private_rsyslog() as rsyslog:
        sink = {
            "name": "siem",
            "type": "syslog",
            "host": "localhost",
            "port": rsyslog.port,
            "ca": rsyslog.pki.text("ca.pem"),
        }
        sink |= {"certificate": rsyslog.pki.text("client.pem"), "key": rsyslog.pki.text("client.key")}
        shipper = shipping([sink])
        shipper.start()
        journal = Journal(sequencer.journals / "people", "people")
        hostile = 'x\r\n<13>1 2026-01-01T00:00:00Z h evil - - - forged\u2028é"]'
        record(journal, "evt_first", reason=hostile, severity=Severity.CRITICAL)
        record(journal, *(f"evt_{n}" for n in range(500)))
        eventually(lambda: shipper.report("siem")["next"] >= 501, within=20)

        def arrived() -> list[str]:
            found = []
            for line in rsyslog.lines():
                with contextlib.suppress(ValueError):  # what the killed rsyslog was just writing
                    found.append(json.loads(line[line.index("{") :])["metadata"]["uid"])
            return found

        eventually(lambda: len(arrived()) >= 501, within=20)  # what it has in memory dies with it
        rsyslog.stop(signal.SIGKILL)
        record(journal, *(f"evt_{n}" for n in range(500, 1000)))
        eventually(lambda: shipper.report("siem")["failing"], within=20)
        rsyslog.start()
        eventually(lambda: shipper.report("siem")["next"] >= 1001, within=40)

        wanted = {"evt_first", *(f"evt_{n}" for n in range(1000))}
        eventually(lambda: not wanted - set(arrived()), within=20)
        first = next(line for line in rsyslog.lines() if '"uid":"evt_first"' in line)
        assert " bank.example rempart people people.login [meta sequenceId=" in first
        assert first.startswith("106 ")  # facility 13 (log audit), severity 2
        assert json.loads(first[first.index("{") :])["status_detail"] == hostile
        assert not [line for line in rsyslog.lines() if line.startswith("13 ")]
        shipper.close()
        stranger = {**sink, "name": "stranger", "certificate": rsyslog.pki.text("stranger.pem")}
        stranger["key"] = rsyslog.pki.text("stranger.key")
        other = shipping([stranger])
        other.start()
        eventually(lambda: other.report("stranger")["failing"], within=20)
        assert other.report("stranger")["next"] == 0
        other.close()
        journal.close()
