"""Spans of a real request through real Envoys, at a receiver that reads OTLP (opentelemetry-proto, trace.proto)."""

from __future__ import annotations

import base64
import http.server
import json
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.integration.conftest import BANK, Running, running
from tests.integration.test_alerts import process
from tests.support import eventually, free_port, short_directory


@dataclass(frozen=True)
class Span:
    service: str
    trace: str
    span: str
    parent: str
    name: str
    attributes: dict[str, str]


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message (https://protobuf.dev/programming-guides/encoding)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            varint()
        elif kind == 2:
            length = varint()
            yield number, data[at : at + length]
            at += length
        else:
            at += 8 if kind == 1 else 4


def first(data: bytes, number: int) -> bytes:
    return next((value for found, value in fields(data) if found == number), b"")


def attributes(data: bytes, number: int) -> dict[str, str]:
    pairs = [value for found, value in fields(data) if found == number]
    return {first(pair, 1).decode(): first(first(pair, 2), 1).decode("utf-8", "replace") for pair in pairs}


def spans(body: bytes) -> Iterator[Span]:
    """Of an ExportTraceServiceRequest."""
    for _, resource_spans in fields(body):
        service = attributes(first(resource_spans, 1), 1).get("service.name", "")
        for number, scope in fields(resource_spans):
            for kind, span in fields(scope) if number == 2 else ():
                if kind == 2:
                    ids = [first(span, field).hex() for field in (1, 2, 4)]
                    yield Span(service, *ids, first(span, 5).decode(), attributes(span, 9))


class Collector:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.paths: set[str] = set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.paths.add(self.path)
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.headers.get("transfer-encoding") == "chunked":  # as Envoy sends it
                    while length := int(self.rfile.readline(), 16):
                        body += self.rfile.read(length)
                        self.rfile.readline()
                    self.rfile.readline()
                outer.spans += spans(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return None

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def whole(self, trace: str) -> list[Span]:
        """All spans of one trace, once they hang together below one of the gateway's."""

        def together() -> list[Span]:
            found = [span for span in list(self.spans) if span.trace == trace]
            ids = {span.span for span in found}
            roots = [(span.service, span.parent) for span in found if span.parent not in ids]
            assert roots == [("gateway", "")], roots
            assert {"gateway", "pdp"} <= {span.service for span in found}
            return found

        found = eventually(together, within=30)
        seen = -1
        while seen != len(found):  # Envoys and processes send theirs at different times
            seen, found = len(found), eventually(together, within=30)
        return found

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


@pytest.fixture(scope="module")
def traced(collector: Collector) -> Iterator[Running]:
    """The bank with tracing on."""
    with short_directory("tr") as directory:
        app = directory / "bank"
        shutil.copytree(BANK, app)
        with (app / "rempart.toml").open("a") as file:
            file.write(f'\n[tracing]\nendpoint = "http://127.0.0.1:{collector.port}"\n')
        directory.chmod(0o755)
        with running(app) as system:
            yield system


def test_one_trace_from_the_gateway_to_the_service_and_into_the_record(traced: Running, collector: Collector) -> None:
    accounts = json.loads((traced.state / "demo-accounts.json").read_text())
    alice = next(account for account in accounts if account["email"].startswith("alice"))
    strangers = "4bf92f3577b34da6a3ce929d0e0e4736"
    context = ssl.create_default_context(cafile=traced.ca)
    with httpx.Client(base_url=traced.url, verify=context) as client:
        login = {"email": alice["email"], "password": alice["password"]}
        entered = client.post("/login", json=login)
        token = entered.json()["access_token"]
        person = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["sub"]
        headers = {"authorization": f"Bearer {token}", "traceparent": f"00-{strangers}-00f067aa0ba902b7-01"}
        answer = client.get(f"/wallet?user_id={person}&secret=in-the-query", headers=headers)
    assert answer.status_code == 200, answer.text
    event = json.loads(traced.run("audit", "show", answer.headers["x-rempart-decision"], "--json").stdout)
    own = [event["event"]["unmapped"]["rempart"], *event["related"]]
    traces = {one["trace_id"] for one in own}
    assert len(traces) == 1  # the gateway's decision and the sidecar's
    (trace,) = traces
    assert trace != strangers

    found = collector.whole(trace)
    by_name = {(span.service, span.name) for span in found}
    assert {("pdp", "decide"), ("pdp", "record"), ("wallet", "GET /wallet")} <= by_name
    decided = {span.attributes["rempart.decision"] for span in found if span.name == "decide"}
    assert answer.headers["x-rempart-decision"] in decided
    assert len(decided) == 2  # at the gateway, and at the sidecar
    assert collector.paths == {"/v1/traces"}
    secrets = ("secret", person, token, alice["email"], alice["password"])
    told = [value for span in collector.spans for value in (span.name, *span.attributes.values())]
    assert not [value for value in told if any(one in value for one in secrets)]

    (login_trace,) = {
        json.loads(traced.run("audit", "show", entered.headers["x-rempart-decision"], "--json").stdout)["event"][
            "unmapped"
        ]["rempart"]["trace_id"]
    }
    steps = {(span.service, span.name) for span in collector.whole(login_trace)}
    assert {("people", name) for name in ("POST /login", "hash", "store", "record")} <= steps
    eventually(lambda: [s for s in collector.spans if (s.service, s.name, s.parent) == ("sequencer", "integrate", "")])


@pytest.mark.skipif(not shutil.which("prometheus"), reason="Prometheus isn't installed")
def test_a_real_prometheus_keeps_the_examples_and_they_name_real_traces(
    traced: Running, collector: Collector, tmp_path: Path
) -> None:
    """A slow bucket of a dashboard opens to one request: query_exemplars gives trace ids that the collector has."""
    (tmp_path / "token").write_text(traced.token("audit"))
    scrape = {
        "job_name": "rempart",
        "scheme": "https",
        "metrics_path": "/metrics",
        "authorization": {"credentials_file": str(tmp_path / "token")},
        "tls_config": {"ca_file": str(traced.ca)},
        "static_configs": [{"targets": [traced.url.removeprefix("https://")]}],
    }
    settings = {"global": {"scrape_interval": "2s", "scrape_timeout": "2s"}, "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(settings))
    port = free_port()
    prometheus = (
        *("prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"),
    )
    asked = {"start": str(time.time() - 3600), "end": str(time.time() + 3600)}

    def examples(series: str) -> set[str]:
        query = {"query": series, **asked}
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query_exemplars", params=query, trust_env=False)
        assert answer.status_code == 200, answer.text
        return {one["labels"]["trace_id"] for found in answer.json()["data"] for one in found["exemplars"]}

    with process(tmp_path / "prometheus.log", *prometheus):
        for series in ("rempart_decision_seconds_bucket", "rempart_people_request_seconds_bucket"):
            named = eventually(lambda series=series: _found(examples, series), within=60)
            eventually(lambda named=named: named <= {span.trace for span in list(collector.spans)}, within=30)
            assert len(named) <= 64


def _found(examples: Callable[[str], set[str]], series: str) -> set[str]:
    try:
        return examples(series)
    except httpx.TransportError as error:
        raise AssertionError("Prometheus doesn't answer yet") from error
