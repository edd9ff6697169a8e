"""A real OpenSearch with security: a user who may only write, restarts, 429s, closed and changed indices, and speed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.opensearch import OpenSearch, private_opensearch
from tests.support import eventually, short_directory
from tests.support_sequencer import SequencerUnderTest
from tests.support_shipper import ShipperUnderTest

from rempart.audit.journal import Journal
from rempart.audit.merkle import leaf_hash
from rempart.audit.ports import Item
from rempart.backends.sink_elasticsearch import ElasticsearchSink
from rempart.backends.sink_tls import Trust
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]
PASSWORD = "Freight-42-keeps-the-ledger"

_NULL = """
import asyncio
async def answer(reader, writer):
    while True:
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        length = next(line for line in head.lower().split(b"\\r\\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        writer.write(b'HTTP/1.1 200 OK\\r\\ncontent-length: 16\\r\\n\\r\\n{"errors":false}')
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1 << 22)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def server() -> Iterator[OpenSearch]:
    with private_opensearch() as found:
        with found.admin() as admin:
            role = {
                "cluster_permissions": ["indices:data/write/bulk*", "indices:admin/index_template/put"],
                "index_permissions": [
                    {"index_patterns": ["rempart-*"], "allowed_actions": ["create_index", "indices:data/write/*",
                                                                           "indices:admin/mapping/put"]}
                ],
            }  # fmt: skip
            api = "/_plugins/_security/api"
            assert admin.put(f"{api}/roles/shipper", json=role).is_success
            assert admin.put(f"{api}/internalusers/shipper", json={"password": PASSWORD}).is_success
            assert admin.put(f"{api}/rolesmapping/shipper", json={"users": ["shipper"]}).is_success
        yield found


@pytest.fixture
def processes() -> Iterator[contextlib.ExitStack]:
    """Ends what was started, whatever fails."""
    with contextlib.ExitStack() as stack:
        yield stack


def settings(server: OpenSearch, index: str) -> dict[str, Any]:
    sink = {"name": "siem", "type": "elasticsearch", "url": server.url, "index": index, "username": "shipper"}
    return {**sink, "password": PASSWORD, "ca": server.pki.text("ca.pem")}


def record(journal: Journal, *ids: str, **fields: Any) -> None:
    for id in ids:
        who = {"person": "usr_1", "ip": "10.0.0.9", **fields}
        event = Event(**{"type": EventType.LOGIN, "id": id, "at": time.time(), "success": True, **who})
        journal.append(encode(event, journal.source))
    journal.commit()


def decision(number: int) -> Event:
    details = {"rule": "wallet.owner", "method": "GET", "path": "/wallet", "status": 200}
    return Event(
        type=EventType.DECISION,
        id=f"dec_{number}",
        at=time.time(),
        success=True,
        person=f"usr_{number % 999}",
        reason="a person reads their own wallet",
        details=details,
    )


def count(admin: httpx.Client, index: str, query: str = "*") -> int:
    admin.post(f"/{index}-*/_refresh")
    return int(admin.get(f"/{index}-*/_count", params={"q": query}).json().get("count", -1))


def test_events_are_found_by_their_fields_once_whatever_is_killed(
    server: OpenSearch, processes: contextlib.ExitStack
) -> None:
    with short_directory("oi") as state, server.admin() as admin:
        sequencer = SequencerUnderTest(state)
        processes.callback(sequencer.close)
        sequencer.start()
        shipper = ShipperUnderTest(state, [settings(server, "rempart-a")])
        processes.callback(shipper.close)
        shipper.start()
        people, own = (Journal(sequencer.journals / name, name) for name in ("people", "wallet"))
        record(people, *(f"evt_{n}" for n in range(1000)))
        eventually(lambda: shipper.report("siem")["next"] > 500, within=30)
        shipper.stop(signal.SIGKILL)
        record(people, *(f"evt_{n}" for n in range(1000, 4000)))
        shipper.start()
        time.sleep(0.2)
        shipper.stop(signal.SIGKILL)  # in the middle of a batch
        shipper.start()
        eventually(lambda: shipper.report("siem")["next"] >= 4000, within=60)
        server.stop(signal.SIGKILL)
        record(people, *(f"evt_{n}" for n in range(4000, 5000)), reason="while it was away")
        eventually(lambda: shipper.report("siem")["failing"], within=20)
        server.start()
        hostile = {"details": {f"field {n}": {"a": n} for n in range(60)} | {"time": "no time", "deep": [[[["x"]]]]}}
        record(own, "evt_hostile", type=EventType.APPLICATION, at=0.0, ip="not an address", **hostile)
        eventually(lambda: shipper.report("siem")["next"] >= 5001, within=120)
        assert shipper.report("siem")["rejected"] == 0
        with sequencer.client() as client:
            ids: list[str] = []
            while page := client.get(f"/entries/{len(ids)}").json()["ids"]:
                ids += page
        assert count(admin, "rempart-a") == len(ids)
        assert len(admin.get("/_cat/indices/rempart-a-*?format=json").json()) in (1, 2)  # at the turn of a month: 2
        assert count(admin, "rempart-a", "unmapped.rempart.person:usr_1 AND class_uid:3002") == 5000
        assert count(admin, "rempart-a", 'unmapped.rempart.reason:"while it was away"') == 1000
        assert count(admin, "rempart-a", 'unmapped.rempart.ip:"10.0.0.0/8"') == 5000
        found = admin.get("/rempart-a-*/_search", params={"q": "metadata.uid:evt_hostile"}).json()["hits"]["hits"]
        assert [hit["_source"]["unmapped"]["rempart"]["ip"] for hit in found] == ["not an address"]
        assert found[0]["_id"] in ids
        people.close()
        own.close()


def test_what_a_changed_mapping_refuses_goes_aside_and_a_closed_index_waits(
    server: OpenSearch, processes: contextlib.ExitStack
) -> None:
    with short_directory("oi") as state, server.admin() as admin:
        body = {"index_patterns": ["rempart-b-*"], "priority": 500,
                "template": {"mappings": {"properties": {"unmapped": {"properties": {"rempart": {"properties": {
                    "reason": {"type": "integer"}}}}}}}}}  # fmt: skip
        assert admin.put("/_index_template/operators-own", json=body).is_success
        sequencer = SequencerUnderTest(state)
        processes.callback(sequencer.close)
        sequencer.start()
        shipper = ShipperUnderTest(state, [settings(server, "rempart-b")])
        processes.callback(shipper.close)
        shipper.start()
        people = Journal(sequencer.journals / "people", "people")
        record(people, "evt_1", reason="7")
        record(people, "evt_2", reason="no number")
        record(people, "evt_3", reason="8")
        eventually(lambda: shipper.report("siem")["next"] >= 3, within=30)
        # `sink.rejected` itself has a reason that is no number: it is refused as well, and told once a minute at most.
        eventually(lambda: shipper.report("siem")["state"] == "up to date", within=20)
        assert count(admin, "rempart-b") == 2
        lines = [json.loads(line) for line in (shipper.data / "siem.rejected.jsonl").read_text().splitlines()]
        assert lines[0]["index"] == 1
        assert "mapper_parsing_exception" in lines[0]["why"]
        name = admin.get("/_cat/indices/rempart-b-*?format=json").json()[0]["index"]
        admin.post(f"/{name}/_close")
        record(people, "evt_4", reason="9")
        eventually(lambda: "index_closed" in shipper.report("siem")["failing"], within=20)
        admin.post(f"/{name}/_open")
        eventually(lambda: count(admin, "rempart-b", "metadata.uid:evt_4") == 1, within=40)
        people.close()


def test_wrong_credentials_move_no_cursor_and_are_told_nowhere(
    server: OpenSearch, processes: contextlib.ExitStack
) -> None:
    with short_directory("oi") as state:
        sequencer = SequencerUnderTest(state)
        processes.callback(sequencer.close)
        sequencer.start()
        shipper = ShipperUnderTest(state, [{**settings(server, "rempart-c"), "password": "guessed-wrong"}])
        processes.callback(shipper.close)
        shipper.start()
        people = Journal(sequencer.journals / "people", "people")
        record(people, "evt_1")
        failing = eventually(lambda: shipper.report("siem")["failing"], within=20)
        assert "refuses our credentials (401)" in failing
        assert shipper.report("siem")["next"] == 0
        people.close()
        with sequencer.client() as client:
            eventually(lambda: "sink.failed" in client.get("/entries/0").text)
            assert "guessed-wrong" not in client.get("/entries/0").text


def test_it_is_the_server_that_bounds_the_speed(server: OpenSearch) -> None:
    """The same batches to OpenSearch and to a receiver that does nothing but answer."""

    def batches(start: int) -> list[list[Item]]:
        found = []
        for first in range(start, start + 20_480, 2048):
            payloads = [encode(decision(n), "pdp") for n in range(first, first + 2048)]
            found.append([Item(first + n, leaf_hash(one).hex(), one) for n, one in enumerate(payloads)])
        return found

    async def ship(sink: ElasticsearchSink, all_batches: list[list[Item]]) -> float:
        await sink.send(all_batches[0], {})
        started = time.perf_counter()
        for batch in all_batches[1:]:
            assert not (await sink.send(batch, {})).rejected
        await sink.close()
        return sum(map(len, all_batches[1:])) / (time.perf_counter() - started)

    trust = Trust(ca=server.pki.text("ca.pem"))
    real = asyncio.run(ship(ElasticsearchSink(server.url, "rempart-s", trust, ("shipper", PASSWORD)), batches(0)))
    with subprocess.Popen([sys.executable, "-c", _NULL], stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        url = f"http://127.0.0.1:{receiver.stdout.readline().strip()}"
        nothing = asyncio.run(ship(ElasticsearchSink(url, "rempart-s", Trust(), None), batches(0)))
        receiver.kill()
    print(f"OpenSearch {real:,.0f} events/s, a receiver that does nothing {nothing:,.0f} events/s")
    assert nothing > 3 * real
