"""What each sink says on the wire, and how it takes what it is answered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import socket
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.sink_certificates import make_pki
from tests.support import short_directory

from rempart.audit.merkle import leaf_hash
from rempart.audit.ports import Busy, Item, Sent
from rempart.backends.sink_elasticsearch import ElasticsearchSink
from rempart.backends.sink_jsonl import JsonlSink
from rempart.backends.sink_syslog import SyslogSink, frame
from rempart.backends.sink_tls import Trust
from rempart.backends.sink_webhook import WebhookSink
from rempart.crypto.webhooks import WebhookSigner
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput, Unavailable
from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.ocsf import encode

_AT = 1_767_323_045.5  # 2026-01-02T03:04:05.5Z
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def item(index: int, type: EventType = EventType.LOGIN, at: float = _AT, **fields: Any) -> Item:
    payload = encode(Event(type=type, at=at, success=True, id=f"evt_{index}", **fields), "people")
    return Item(index, leaf_hash(payload).hex(), payload)


class Http:
    """Answers each request with what `answer` returns for (path, body): (status, headers, body)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Callable[[str, bytes], tuple[int, dict[str, str], bytes]] = lambda path, body: (200, {}, b"{}")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.command, self.path, headers, body))
                status, extra, answer = outer.answer(self.path, body)
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_PUT = do_GET = handle_any

            def log_message(self, *args: object) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def http() -> Iterator[Http]:
    server = Http()
    yield server
    server.close()


def send(sink: Any, batch: list[Item], mark: dict[str, Any] | None = None) -> Sent:
    async def once() -> Sent:
        try:
            sent: Sent = await sink.send(batch, mark or {})
            return sent
        finally:
            await sink.close()

    return asyncio.run(once())


def elastic(http: Http) -> ElasticsearchSink:
    return ElasticsearchSink(http.url, "rempart", Trust(), ("", "a2V5"))


def bomb(mebibytes: int) -> bytes:
    """gzip of nothing but zeros."""
    packer, nothing = zlib.compressobj(9, wbits=31), bytes(1 << 20)
    return b"".join(packer.compress(nothing) for _ in range(mebibytes)) + packer.flush()


def bulk(*results: dict[str, Any]) -> bytes:
    items = [{"create": {"status": 201, **result}} for result in results]
    return json.dumps({"errors": any(r.get("status", 201) > 201 for r in results), "items": items}).encode()


# -- Elasticsearch and OpenSearch ------------------------------------------------------------------------------------


def test_a_document_is_the_event_itself_under_its_leaf_hash_in_its_month(http: Http) -> None:
    http.answer = lambda path, body: (200, {}, bulk({}, {}) if path.startswith("/_bulk") else b"{}")
    batch = [item(0), item(1, at=_AT + 40 * 86400)]
    assert send(elastic(http), batch) == Sent({"clock": int((_AT + 40 * 86400) * 1000)})
    (put, bulked) = http.requests
    assert put[:2] == ("PUT", "/_index_template/rempart")
    template = json.loads(put[3])
    assert template["index_patterns"] == ["rempart-*"]
    assert template["template"]["mappings"]["properties"]["unmapped"]["properties"]["rempart"]["dynamic"] is False
    assert bulked[2]["authorization"] == "ApiKey a2V5"
    lines = bulked[3].split(b"\n")
    assert [json.loads(line) for line in lines[:-1:2]] == [
        {"create": {"_index": f"rempart-2026.{month}", "_id": one.id}}
        for month, one in zip(("01", "02"), batch, strict=True)
    ]
    assert lines[1:-1:2] == [one.payload for one in batch]


def test_an_application_can_not_open_an_index_for_each_month_there_is(http: Http) -> None:
    http.answer = lambda path, body: (200, {}, bulk({}, {}, {}) if path.startswith("/_bulk") else b"{}")
    batch = [item(0), item(1, EventType.MONEY_MOVED, 0.0), item(2, EventType.APPLICATION, 253_402_300_799.0)]
    send(elastic(http), batch)
    months = set(re.findall(rb'"_index":"([^"]+)"', http.requests[-1][3]))
    assert months == {b"rempart-2026.01"}


def test_what_is_there_already_is_no_error_and_what_can_never_be_taken_is_told(http: Http) -> None:
    wrong = {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed to parse [x]"}}
    http.answer = lambda path, body: (200, {}, bulk({"status": 409}, wrong, {}) if "_bulk" in path else b"{}")
    sent = send(elastic(http), [item(5), item(6), item(7)])
    assert sent.rejected == {6: "mapper_parsing_exception: failed to parse [x]"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        (429, {"retry-after": "7"}, b"", Busy),
        (503, {}, b"", Busy),
        (413, {}, b"", Busy),
        (200, {}, bulk({}, {"status": 429, "error": {"type": "es_rejected_execution_exception"}}), Busy),
        (200, {}, bulk({}, {"status": 403, "error": {"type": "cluster_block_exception"}}), Unavailable),
        (200, {}, bulk({}, {"status": 404, "error": {"type": "index_not_found_exception"}}), Unavailable),
        (200, {}, bulk({}, {"status": 400, "error": {"type": "index_closed_exception"}}), Unavailable),
        (200, {}, bulk(*[{"status": 400, "error": {"type": "illegal_argument_exception"}}] * 2), Unavailable),
        (200, {}, b"<html>", Unavailable),
        (200, {}, b"[]", Unavailable),
        (200, {}, bulk({"status": 400}), Unavailable),
        (200, {}, b'{"errors": true, "items": [1, 2]}', Unavailable),
        (401, {}, b"", Unavailable),
        (302, {"location": "http://169.254.169.254/"}, b"", Unavailable),
        (500, {}, b"", Unavailable),
        (404, {}, b"", Unavailable),
    ],
)
def test_what_may_be_taken_later_is_sent_again(
    http: Http, status: int, headers: dict[str, str], body: bytes, kind: type[Unavailable]
) -> None:
    http.answer = lambda path, _: (status, headers, body) if "_bulk" in path else (200, {}, b"{}")
    with pytest.raises(Unavailable) as refused:
        send(elastic(http), [item(0), item(1)])
    assert type(refused.value) is kind
    assert "a2V5" not in str(refused.value)
    if "retry-after" in headers:
        assert isinstance(refused.value, Busy)
        assert refused.value.retry_after == 7
    assert len(http.requests) == 2  # no redirect was followed


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"errors":' * 5000, id="deep objects"),
        pytest.param(b'{"errors":true,"items":[{"create":{"status":1e999}}]}', id="a status without end"),
        pytest.param(b'{"errors":true,"items":[{"create":{"status":"9"}}]}', id="a status that is a text"),
        pytest.param(b'{"errors":true,"items":[{}]}', id="nothing of the event"),
        pytest.param(b'{"errors":true,"items":null}', id="no items"),
        pytest.param(b'{"errors":true,"items":[{"create":{"status":400,"error":"\\ud800"}}]}', id="a surrogate"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(bomb(200), id="a bomb"),
    ],
)
def test_garbage_from_a_receiver_is_sent_again_and_costs_nothing(http: Http, answer: bytes) -> None:
    packed = {"content-encoding": "gzip"} if answer.startswith(b"\x1f\x8b") else {}
    http.answer = lambda path, body: (200, packed, answer) if path.startswith("/_bulk") else (200, {}, b"{}")
    tracemalloc.start()
    with pytest.raises(Unavailable):
        send(elastic(http), [item(1)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20
    assert http.requests[0][2]["accept-encoding"] == "identity"


def test_nobody_listening_and_a_certificate_of_somebody_else_are_unavailable(http: Http, tmp_path: Path) -> None:
    pki = make_pki(tmp_path, "other")
    for url in ("http://127.0.0.1:9", http.url.replace("http:", "https:")):
        with pytest.raises(Unavailable):
            send(ElasticsearchSink(url, "rempart", Trust(ca=pki.text("ca.pem")), None), [item(0)])
    assert http.requests == []


# -- syslog ----------------------------------------------------------------------------------------------------------


def test_a_frame_is_counted_in_octets_and_is_one_line_of_printable_ascii() -> None:
    hostile = item(
        41, reason="bad\r\n<13>1 - evil - - - - forged\u2028\x7f é \U0001f600", severity=Severity.HIGH, person="usr_é"
    )
    framed = frame(hostile, "bank.example")
    length, _, message = framed.partition(b" ")
    assert int(length) == len(message)
    header = b'<107>1 2026-01-02T03:04:05.500Z bank.example rempart people people.login [meta sequenceId="42"] '
    assert message.startswith(header)
    assert re.fullmatch(rb"[\x20-\x7e]+", message)
    assert json.loads(message[len(header) :]) == json.loads(hostile.payload)


def test_a_time_that_is_none_and_a_name_that_is_none_are_the_nil_value() -> None:
    payload = json.dumps({"unmapped": {"rempart": {"id": "e", "type": "x y]\n", "source": "", "at": 10**18}}}).encode()
    assert b"<110>1 - h rempart - x?y]? [meta" in frame(Item(0, "", payload), "h")


def test_a_receiver_that_does_not_confirm_was_not_delivered_to(tmp_path: Path) -> None:
    pki = make_pki(tmp_path, "server", "client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.path("ca.pem"))
    context.load_cert_chain(pki.path("server.pem"), pki.path("server.key"))
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))

    def rude() -> None:
        connection, _ = listening.accept()
        with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=True) as tls:
            while tls.recv(65536):
                pass  # and ends without close_notify, as an attacker on the way would

    thread = threading.Thread(target=rude, daemon=True)
    thread.start()
    trust = Trust(pki.text("ca.pem"), pki.text("client.pem"), pki.text("client.key"))
    with pytest.raises(Unavailable) as refused:
        send(SyslogSink("localhost", listening.getsockname()[1], trust, "h", strict=True), [item(0)])
    assert "without confirming" in refused.value.reason
    thread.join()
    listening.close()


# -- JSON lines ------------------------------------------------------------------------------------------------------


def test_a_file_has_each_event_once_whatever_crashed() -> None:
    with short_directory() as directory:
        path = directory / "out.jsonl"
        first = send(JsonlSink(path), [item(0), item(1)])
        with path.open("ab") as file:  # a batch that was written and not confirmed, then a torn one
            file.write(item(2).payload + b"\n" + item(3).payload[:20])
        send(JsonlSink(path), [item(2), item(3)], dict(first.mark))
        assert path.read_bytes() == b"".join(item(n).payload + b"\n" for n in range(4))
        path.rename(directory / "out.1")  # rotated
        again = send(JsonlSink(path), [item(4)], dict(first.mark))
        assert path.read_bytes() == item(4).payload + b"\n"
        assert again.mark["length"] == len(item(4).payload) + 1
        (directory / "link").symlink_to("/etc/passwd")
        with pytest.raises(Unavailable):
            send(JsonlSink(directory / "link"), [item(5)])


# -- webhooks --------------------------------------------------------------------------------------------------------


def test_a_webhook_is_signed_as_standard_webhooks_says(http: Http) -> None:
    http.answer = lambda path, body: (204, {}, b"")
    batch = [item(0), item(1)]
    for _ in range(2):
        send(WebhookSink(http.url + "/in", WebhookSigner(SECRET), Trust(), ManualClock(1_700_000_000)), batch)
    (_, path, headers, body), second = http.requests
    assert path == "/in"
    assert headers["webhook-timestamp"] == "1700000000"
    signed = f"{headers['webhook-id']}.1700000000.".encode() + body
    mac = base64.b64encode(hmac.new(bytes(range(32)), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{mac}"
    assert json.loads(body)["data"]["events"] == [json.loads(one.payload) for one in batch]
    assert json.loads(body)["timestamp"] == "2026-01-02T03:04:05.500Z"
    assert (second[2]["webhook-id"], second[3]) == (headers["webhook-id"], body)  # so that a repeat is known as one


def test_the_published_vector_of_standard_webhooks() -> None:
    """https://github.com/standard-webhooks/standard-webhooks, libraries/javascript/src/index.test.ts."""
    signer = WebhookSigner("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_????", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ="])
def test_a_weak_secret_is_refused(secret: str) -> None:
    with pytest.raises(BadInput):
        WebhookSigner(secret)


@pytest.mark.parametrize(("status", "kind"), [(400, Unavailable), (410, Unavailable), (429, Busy), (413, Busy)])
def test_a_receiver_that_refuses_gets_it_again(http: Http, status: int, kind: type[Unavailable]) -> None:
    http.answer = lambda path, body: (status, {}, b"")
    with pytest.raises(kind):
        send(WebhookSink(http.url, WebhookSigner(SECRET), Trust(), ManualClock()), [item(0), item(1)])
