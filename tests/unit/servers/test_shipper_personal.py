"""What each kind of sink is given of a person, by its setting `personal`, as a receiver sees it on the wire."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.sink_certificates import make_pki
from tests.unit.backends.test_sinks import SECRET, Http, bulk

from rempart.audit.feed import Page
from rempart.audit.references import references
from rempart.audit.shipping import Shipment
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import Integrity
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode
from rempart.servers.shipper import SHOWN, make_sink
from rempart.wiring.audit_sinks import PERSONAL, TYPES, SinkSettings

PERSONAL_DATA = ("192.0.2.77", "alice@bank.example", "Alice Example", "Mozilla/5.0")
LOGIN = Event(
    type=EventType.LOGIN,
    at=1_767_323_045.5,
    success=True,
    id="evt_login",
    person="usr_alice",
    ip="192.0.2.77",
    details={"amr": ["pwd"], "user_agent": "Mozilla/5.0", "seen": {"network": "192.0.2.77"}},
)
CHANGE = Event(
    type=EventType.ACCOUNT_CHANGED,
    at=1_767_323_046.5,
    success=True,
    id="evt_change",
    operator="uid:0",
    before={"email": "alice@bank.example", "role": "user"},
    after={"display_name": "Alice Example", "role": "admin"},
    details={"account": "usr_alice"},
)
STRANGER = Event(type=EventType.HANDSHAKE_REFUSED, at=1_767_323_047.5, success=False, id="evt_tls", ip="192.0.2.77")
EVENTS = [encode(event, "people") for event in (LOGIN, CHANGE, STRANGER)]


class Log:
    """Implements `audit.ports.Feed`."""

    async def read(self, start: int, wait: float) -> Page:
        if start == len(EVENTS):
            await asyncio.sleep(0.01)
        ids = [f"{number:064x}" for number in range(start, len(EVENTS))]
        return Page(start, len(EVENTS), ids, [msgspec.Raw(event) for event in EVENTS[start:]])


class TlsReceiver:
    """Takes one connection and confirms it."""

    def __init__(self, directory: Path) -> None:
        self.pki = make_pki(directory, "server", "client")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.pki.path("ca.pem"))
        context.load_cert_chain(self.pki.path("server.pem"), self.pki.path("server.key"))
        context.verify_mode = ssl.CERT_REQUIRED
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.got = b""

        def take() -> None:
            connection, _ = self.listening.accept()
            with context.wrap_socket(connection, server_side=True) as tls:
                while part := tls.recv(65536):
                    self.got += part
                tls.unwrap()

        self.thread = threading.Thread(target=take, daemon=True)
        self.thread.start()


@pytest.fixture
def http() -> Iterator[Http]:
    server = Http()
    server.answer = lambda path, body: (200, {}, bulk(*[{}] * len(EVENTS)) if path.startswith("/_bulk") else b"{}")
    yield server
    server.close()


def receiver(kind: str, http: Http, directory: Path) -> tuple[SinkSettings, Callable[[], bytes]]:
    """Settings of a sink, and what its receiver has got once it was sent."""
    if kind == "syslog":
        tls = TlsReceiver(directory)
        texts = {"ca": "ca.pem", "certificate": "client.pem", "key": "client.key"}
        trust = {name: tls.pki.text(file) for name, file in texts.items()}
        port = tls.listening.getsockname()[1]

        def taken() -> bytes:
            tls.thread.join(30)
            tls.listening.close()
            return tls.got

        return SinkSettings(name="s", type=kind, host="localhost", port=port, strict=True, **trust), taken
    if kind == "jsonl":
        return SinkSettings(name="s", type=kind, path="s.jsonl"), (directory / "s.jsonl").read_bytes
    own = {"secret": SECRET} if kind == "webhook" else {"index": "rempart", "api_key": "a2V5"}
    settings = SinkSettings(name="s", type=kind, url=http.url, **own)
    return settings, lambda: b"".join(body for *_, body in http.requests)


@pytest.mark.parametrize("personal", PERSONAL)
@pytest.mark.parametrize("kind", TYPES)
def test_a_sink_of_references_is_told_what_happened_and_nothing_of_the_person_but_the_id(
    kind: str, personal: str, http: Http, tmp_path: Path
) -> None:
    settings, taken = receiver(kind, http, tmp_path)
    clock = SystemClock()

    async def tell(*_: object) -> None:
        raise AssertionError("nothing fails here")

    async def ship() -> None:
        sink = make_sink(settings, tmp_path, "bank.example", clock)
        shipment = Shipment("s", sink, Log(), tmp_path, clock, tell, SHOWN[personal])
        task = asyncio.create_task(shipment.run())
        async with asyncio.timeout(30):
            while shipment.progress.next < len(EVENTS):
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(ship())
    got = taken().decode()
    for event in (LOGIN, CHANGE, STRANGER):
        assert event.id in got
    assert "usr_alice" in got
    assert '"admin"' in got
    found = [one for one in PERSONAL_DATA if one in got]
    assert found == (list(PERSONAL_DATA) if personal == "clear" else [])


def test_what_stays_is_an_event_still_and_sealed_boxes_go() -> None:
    sealed = json.loads(EVENTS[0])
    sealed["unmapped"]["rempart"]["sealed"] = {"usr_alice": "Ym94"}
    left = json.loads(references(json.dumps(sealed).encode()))
    own = left["unmapped"]["rempart"]
    assert (own["person"], own["details"]["amr"]) == ("usr_alice", ["pwd"])
    assert "sealed" not in own
    assert left["src_endpoint"] == {"svc_name": "people"}


@pytest.mark.parametrize("broken", [b"", b"[]", b"{}", b'{"unmapped": {"rempart": {}}}', b"\xff", b"[" * 100_000])
def test_what_can_not_be_read_is_not_passed_on(broken: bytes) -> None:
    with pytest.raises(Integrity):
        references(broken)
