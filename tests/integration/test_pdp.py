"""The PDP as a real process: answers, records, survives kill -9, bad policies and a journal that can't be written."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.pdp_process import GATEWAY, PdpProcess, claims_header
from tests.support import eventually, short_directory

GOOD = """package authz

decision := {"allow": true, "rule": "authz.good", "reason": "good"} if { input.jwt.sub }
"""


@pytest.fixture
def base() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@contextlib.contextmanager
def running(base: Path, **settings: object) -> Iterator[PdpProcess]:
    pdp = PdpProcess(base, **settings)  # type: ignore[arg-type]  # settings are JSON
    try:
        assert pdp.start(), pdp.errors()
        yield pdp
    finally:
        pdp.close()


@pytest.fixture
def policy(base: Path) -> Path:
    directory = base / "policy"
    directory.mkdir()
    (directory / "authz.rego").write_text(GOOD)
    return directory


def test_an_allowed_request_is_named_and_recorded(base: Path) -> None:
    with running(base) as pdp:
        headers = {"x-rempart-peer": GATEWAY, "x-rempart-claims": claims_header(), "x-request-id": "req-1"}
        answer = pdp.ask("wallet", "GET", "/wallet?user_id=acc_1&token=geheim", headers)
        assert answer.status_code == 200
        assert answer.headers["x-rempart-subject"] == "acc_1"
        assert answer.headers["x-rempart-role"] == "user"
        assert answer.headers["x-spiffe-id"] == GATEWAY
        assert pdp.stop() == 0
        [event] = [e for e in pdp.journaled() if e["type"] == "decision"]
        assert event["id"] == answer.headers["x-rempart-decision"]
        assert event["request_id"] == "req-1"
        assert event["ip"] == "10.0.0.9"
        assert event["details"]["input"]["query"] == {"user_id": "acc_1", "token": "***"}


@pytest.mark.parametrize(
    ("point", "method", "path", "headers", "status", "code"),
    [
        ("gateway", "GET", "/wallet", {}, 401, "unauthenticated"),
        ("gateway", "GET", "/wallet", {"authorization": "Bearer e30.e30."}, 401, "invalid_token"),
        ("gateway", "GET", "/wallet", {"x-rempart-claims": claims_header(exp=1)}, 401, "invalid_token"),
        ("gateway", "GET", "/wallet", {"x-rempart-claims": claims_header(aud="other")}, 401, "invalid_token"),
        ("gateway", "GET", "/nowhere", {"x-rempart-claims": claims_header()}, 403, "unknown_route"),
        ("gateway", "GET", "/wallet/%2e%2e/auth", {}, 400, "bad_path"),
        ("gateway", "GET", "/wallet;x=1", {}, 400, "bad_path"),
        ("wallet", "GET", "/wallet", {}, 403, "no_peer"),
        ("wallet", "GET", "/wallet", {"x-rempart-peer": "spiffe://bank.test/rogue"}, 403, "peer_not_allowed"),
        ("wallet", "GET", "/wallet", {"x-rempart-peer": f"{GATEWAY},spiffe://evil.test/x"}, 403, "multiple_uri_sans"),
        ("wallet", "GET", "/wallet", {"x-rempart-peer": "spiffe://bank.test/a/../b"}, 403, "bad_spiffe_id"),
    ],
)
def test_refusals(
    shared: PdpProcess, point: str, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = shared.ask(point, method, path, headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["decision_id"] == answer.headers["x-rempart-decision"]
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.fixture(scope="module")
def shared() -> Iterator[PdpProcess]:
    with short_directory() as directory, running(directory) as pdp:
        yield pdp


def test_pipelined_questions_are_answered_in_order(shared: PdpProcess) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(shared.path("pep:gateway")))
        one = b"POST /authz/login HTTP/1.1\r\nhost: x\r\n\r\n"
        two = b"GET /authz/wallet HTTP/1.1\r\nhost: x\r\n\r\n"
        client.sendall((one + two) * 3)
        received = b""
        while received.count(b"HTTP/1.1 ") < 6 or not received.endswith(b"}"):
            received += client.recv(65536)
        statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", b"401"] * 3


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00garbage\r\n\r\n",
        b"GET /other HTTP/1.1\r\n\r\n",
        b"GET /authzx HTTP/1.1\r\n\r\n",
        b"GET /authz/x HTTP/1.1\r\n" + b"".join(b"h%d: v\r\n" % i for i in range(300)) + b"\r\n",
        b"GET /authz/x HTTP/1.1\r\nlong: " + b"a" * 400_000,
        b"GET /authz/x HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_malformed_questions_get_400_and_harm_nobody(shared: PdpProcess, raw: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(shared.path("pep:gateway")))
        with contextlib.suppress(BrokenPipeError):
            client.sendall(raw)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(65536).startswith(b"HTTP/1.1 400")
    assert shared.ask("gateway", "POST", "/login").status_code == 200


def test_every_answered_decision_is_on_disk_after_kill_9(base: Path) -> None:
    with running(base) as pdp:
        answered: list[str] = []
        enough = threading.Event()

        question = f"GET /authz/wallet HTTP/1.1\r\nx-rempart-claims: {claims_header()}\r\n\r\n".encode()

        def load() -> None:
            with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):  # until the PDP is killed
                client.settimeout(10)
                client.connect(str(pdp.path("pep:gateway")))
                while True:
                    client.sendall(question)
                    answer = b""
                    while not answer.endswith(b"\r\n\r\n"):
                        received = client.recv(4096)
                        if not received:
                            return
                        answer += received
                    answered.append(answer.partition(b"x-rempart-decision: ")[2][:30].decode())
                    if len(answered) > 400:
                        enough.set()

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert enough.wait(20)
        pdp.stop(signal.SIGKILL)
        pdp.listening["pep:gateway"].close()  # the queue of the socket is the supervisor's; here nobody serves it again
        for thread in threads:
            thread.join(20)
        recorded = {event["id"] for event in pdp.journaled()}
        assert set(answered) <= recorded
        assert len(answered) > 400


def test_a_bad_policy_never_replaces_a_good_one(base: Path, policy: Path) -> None:
    headers = {"x-rempart-claims": claims_header()}
    with running(base, policy_dir=policy) as pdp, pdp.client("admin") as admin:
        version = admin.get("/policy").json()["version"]
        (policy / "authz.rego").write_text(GOOD + "\nx := io.jwt.decode(input.t)\n")
        refused = admin.post("/policy/reload")
        assert refused.status_code == 422
        assert "authz.rego:4" in refused.json()["detail"] or "authz.rego:5" in refused.json()["detail"]
        state = admin.get("/policy").json()
        assert state["version"] == version
        assert state["refused"]
        assert pdp.ask("gateway", "GET", "/wallet", headers).status_code == 200
        # and a PDP that starts now goes on with the good one, and says so
        assert pdp.stop() == 0
        assert pdp.start(), pdp.errors()
        state = admin.get("/policy").json()
        assert (state["version"], state["source"]) == (version, "last good")
        assert state["warnings"]
        assert pdp.ask("gateway", "GET", "/wallet", headers).status_code == 200
        assert {e["type"] for e in pdp.journaled()} >= {"policy.loaded", "policy.refused", "decision"}


def test_a_changed_policy_is_taken_without_being_asked(base: Path, policy: Path) -> None:
    headers = {"x-rempart-claims": claims_header()}
    with running(base, policy_dir=policy) as pdp:
        assert pdp.ask("gateway", "GET", "/wallet", headers).status_code == 200
        (policy / "authz.rego").write_text('package authz\n\ndecision := {"allow": false, "rule": "closed"}\n')
        eventually(lambda: pdp.ask("gateway", "GET", "/wallet", headers).status_code == 403, within=15)


def test_without_any_good_policy_it_does_not_start(base: Path, policy: Path) -> None:
    (policy / "authz.rego").write_text("package authz\ndecision := {")
    pdp = PdpProcess(base, policy_dir=policy)
    try:
        assert not pdp.start()
        assert pdp.stop() == 2
        assert "authz.rego:2:" in pdp.errors()
    finally:
        pdp.close()


def test_a_policy_that_crashes_the_engine_is_refused(base: Path, policy: Path) -> None:
    headers = {"x-rempart-claims": claims_header()}
    with running(base, policy_dir=policy) as pdp, pdp.client("admin") as admin:
        recursive = "f(x) := g(x)\n\ng(x) := f(x)\n\n"
        (policy / "authz.rego").write_text(GOOD + recursive)
        assert admin.post("/policy/reload").status_code == 422
        assert pdp.ask("gateway", "GET", "/wallet", headers).status_code == 200


def test_nothing_passes_while_the_journal_can_not_be_written(base: Path) -> None:
    headers = {"x-rempart-claims": claims_header()}
    with running(base) as pdp:
        assert pdp.process is not None
        assert pdp.ask("gateway", "GET", "/wallet", headers).status_code == 200
        unlimited = resource.prlimit(pdp.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pdp.process.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))  # as a full disk: no write succeeds
        answers = [pdp.ask("gateway", "GET", "/wallet", headers) for _ in range(3)]
        assert [a.status_code for a in answers] == [503] * 3
        assert answers[0].json()["code"] == "audit_unavailable"
        resource.prlimit(pdp.process.pid, resource.RLIMIT_FSIZE, unlimited)
        eventually(lambda: pdp.ask("gateway", "GET", "/wallet", headers).status_code == 200, within=15)


def test_a_person_who_asks_too_often_waits(base: Path) -> None:
    headers = {"x-rempart-claims": claims_header()}
    with running(base, requests_per_minute=3) as pdp:
        statuses = [pdp.ask("gateway", "GET", "/wallet", headers).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        other = {"x-rempart-claims": claims_header(sub="acc_2")}
        assert pdp.ask("gateway", "GET", "/wallet", other).status_code == 200
        assert 1 <= int(pdp.ask("gateway", "GET", "/wallet", headers).headers["retry-after"]) <= 60


def test_the_observer_reads_policies_and_metrics(shared: PdpProcess) -> None:
    with shared.client("policies") as client:
        documents = client.get("/policies").json()
        assert {"rempart/base.rego", "rempart/authz.rego"} <= {document["path"] for document in documents}
        assert client.post("/policies").status_code == 404
    with shared.client("metrics") as client:
        assert "rempart_decisions_total" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("control", "point", "headers"),
    [
        ("two-uri-sans", "wallet", {"x-rempart-peer": f"{GATEWAY},spiffe://evil.test/x"}),
        ("policy", "gateway", {}),
    ],
)
def test_a_control_switched_off_lets_through_what_it_stopped(
    base: Path, control: str, point: str, headers: dict[str, str]
) -> None:
    if point == "wallet":
        headers = {**headers, "x-rempart-claims": claims_header()}
    with running(base, unsafe_disabled=[control]) as pdp:
        assert pdp.ask(point, "GET", "/wallet", headers).status_code == 200
