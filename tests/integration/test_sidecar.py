"""A real Envoy as sidecar: who may connect, what the application sees, and what is noted of those who may not."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.support import eventually, free_port, short_directory
from tests.support_mesh import (
    AGENT,
    OTHER,
    Envoy,
    World,
    allow,
    ask_unix,
    envoy,
    one_answer,
    raw,
    tls_context,
)

from rempart.mesh.binary import envoy_command
from rempart.mesh.config import envoy_config
from rempart.mesh.model import Address, Control, Limits

REQUEST = b"POST /deposit HTTP/1.1\r\nhost: wallet\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Mesh:
    world: World
    wallet: Envoy
    agent: Envoy

    def call(self, certificate: tuple[str, str] | None, payload: bytes = REQUEST) -> bytes:
        """Over TLS with that certificate; nothing when the connection was refused."""
        try:
            return raw(self.world.wallet_port, tls_context(self.world.bank.bundle, certificate), payload, whole=False)
        except (ssl.SSLError, ConnectionError):
            return b""

    def refusal(self) -> str:
        """Why the last handshake was refused, as the access log has it."""
        line = eventually(lambda: self.wallet.find(kind="tls"))[-1]
        assert (line["pep"], line["ip"]) == ("wallet", "127.0.0.1")
        return str(line["tls_failure"])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with short_directory("mw") as directory:
        made = World(directory)
        yield made
        made.close()


@pytest.fixture(scope="module")
def running(world: World) -> Iterator[Mesh]:
    with envoy(world.wallet(), world.directory) as wallet, envoy(world.agent(), world.directory) as agent:
        yield Mesh(world, wallet, agent)


@pytest.fixture
def mesh(running: Mesh) -> Mesh:
    running.world.wallet_pdp.answer = allow
    for program in (running.world.wallet_pdp, running.world.application):
        program.seen.clear()
    running.wallet.lines.clear()
    return running


def test_an_allowed_caller_arrives_under_its_verified_name(mesh: Mesh) -> None:
    assert b"200 OK" in mesh.call(mesh.world.agent_certificate)
    assert mesh.world.wallet_pdp.last().all("x-rempart-peer") == [AGENT]
    seen = mesh.world.application.last()
    assert seen.all("x-spiffe-id") == [AGENT]
    assert f"URI={AGENT}" in str(seen.get("x-forwarded-client-cert"))


def test_no_certificate(mesh: Mesh) -> None:
    assert mesh.call(None) == b""
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in mesh.refusal()


def test_a_foreign_authority_that_signs_a_known_name(mesh: Mesh) -> None:
    assert mesh.call(mesh.world.foreign.issue("f1", AGENT)) == b""
    assert "CERTIFICATE_VERIFY_FAILED" in mesh.refusal()


def test_an_unknown_trust_domain(mesh: Mesh) -> None:
    assert mesh.call(mesh.world.foreign.issue("f2", "spiffe://evil.example/x")) == b""
    assert "no_trust_bundle_store" in mesh.refusal()


def test_a_partner_domain_s_authority_that_signs_a_local_name(mesh: Mesh) -> None:
    assert mesh.call(mesh.world.partner.issue("p1", AGENT)) == b""
    assert "CERTIFICATE_VERIFY_FAILED" in mesh.refusal()


def test_an_expired_certificate(mesh: Mesh) -> None:
    assert mesh.call(mesh.world.bank.issue("old", AGENT, days=-1)) == b""
    assert "expired" in mesh.refusal()


def test_a_certificate_without_a_name(mesh: Mesh) -> None:
    assert mesh.call(mesh.world.bank.issue("nameless")) == b""
    assert "CERTIFICATE_VERIFY_FAILED" in mesh.refusal()


@pytest.mark.parametrize("identity", [OTHER, AGENT + "/x", AGENT[:-1], "spiffe://bank.example"])
def test_an_identity_that_is_not_a_declared_caller(mesh: Mesh, identity: str) -> None:
    assert mesh.call(mesh.world.bank.issue("undeclared", identity)) == b""
    assert any(why in mesh.refusal() for why in ("SAN_match", "no_trust_bundle_store"))
    assert mesh.wallet.find(kind="tls")[-1]["peer"] == identity
    assert not mesh.world.wallet_pdp.seen


def test_plaintext(mesh: Mesh) -> None:
    with socket.create_connection(("127.0.0.1", mesh.world.wallet_port), timeout=5) as plain:
        plain.sendall(REQUEST)
        assert b"HTTP" not in plain.recv(100)
    assert "HTTP_REQUEST" in mesh.refusal()


def test_who_connects_and_says_nothing_is_not_noted(mesh: Mesh) -> None:
    socket.create_connection(("127.0.0.1", mesh.world.wallet_port)).close()
    mesh.call(None)
    assert len(eventually(lambda: mesh.wallet.find(kind="tls"))) == 1


def test_two_names_in_one_certificate_are_shown_to_the_pdp_and_never_pass(mesh: Mesh) -> None:
    """Envoy takes the bundle of the first name and would match the second: a partner could be anybody here."""
    twofold = mesh.world.partner.issue("two", "spiffe://partner.example/x", AGENT)
    answer = mesh.call(twofold)
    assert mesh.world.wallet_pdp.last().get("x-rempart-peer") == f"spiffe://partner.example/x,{AGENT}"
    assert b"403 Forbidden" in answer  # though this PDP allowed it
    assert not mesh.world.application.seen
    line = eventually(lambda: mesh.wallet.find(kind="http"))[0]
    assert line["details"].startswith("rbac_access_denied")
    assert line["peer"] == f"spiffe://partner.example/x,{AGENT}"


@pytest.mark.parametrize(
    "header",
    [
        "x-spiffe-id: spiffe://bank.example/payment",
        "X-Spiffe-Id: spiffe://bank.example/payment",
        "x-rempart-subject: root",
        "x-rempart-role: admin",
        "x-rempart-peer: spiffe://bank.example/payment",
        "x-rempart-claims: eyJzdWIiOiJyb290In0",
        "x-forwarded-client-cert: URI=spiffe://bank.example/payment",
        "x-envoy-original-path: /admin",
        "x-original-url: /admin",
        "forwarded: for=10.6.6.6",
    ],
)
def test_a_caller_with_a_certificate_can_t_claim_another_identity(mesh: Mesh, header: str) -> None:
    name, _, value = header.partition(": ")
    payload = REQUEST.replace(b"\r\n\r\n", f"\r\n{header}\r\n{header}\r\n\r\n".encode())
    assert b"200 OK" in mesh.call(mesh.world.agent_certificate, payload)
    for program in (mesh.world.wallet_pdp, mesh.world.application):
        assert value not in " ".join(program.last().all(name.lower()))


def test_the_gateway_s_request_id_is_kept(mesh: Mesh) -> None:
    payload = REQUEST.replace(b"\r\n\r\n", b"\r\nx-request-id: abc-1\r\n\r\n")
    mesh.call(mesh.world.agent_certificate, payload)
    assert mesh.world.wallet_pdp.last().get("x-request-id") == "abc-1"
    assert mesh.world.application.last().get("x-request-id") == "abc-1"


def test_the_way_out_adds_the_own_identity_and_only_that(mesh: Mesh) -> None:
    way = mesh.world.agent().egress[0].listen.path
    with httpx.Client(transport=httpx.HTTPTransport(uds=way)) as client:
        response = client.post(
            "http://wallet/deposit",
            content=b"{}",
            headers={
                "authorization": "Bearer x",
                "idempotency-key": "k",
                "x-request-id": "abc-2",
                "x-spiffe-id": "spiffe://bank.example/payment",
                "x-rempart-subject": "root",
                "x-forwarded-client-cert": "URI=spiffe://bank.example/payment",
            },
        )
    assert response.status_code == 200
    seen = mesh.world.application.last()
    assert (seen.method, seen.path, seen.body) == ("POST", "/deposit", b"{}")
    assert seen.all("x-spiffe-id") == [AGENT]
    assert seen.get("authorization") == "Bearer x"
    assert seen.get("idempotency-key") == "k"
    assert seen.get("x-request-id") == "abc-2"
    assert seen.get("x-rempart-subject") is None
    assert "payment" not in str(seen.headers)


def test_the_way_out_says_unavailable_when_the_target_is_another(mesh: Mesh) -> None:
    settings = mesh.world.agent()
    way = settings.egress[0]
    wrong = dataclasses.replace(
        way,
        listen=Address(path=str(mesh.world.directory / "wrong.sock")),
        to=dataclasses.replace(way.to, spiffe_id="spiffe://bank.example/users"),
    )
    stranger = dataclasses.replace(
        settings, name="stranger", run_dir=str(mesh.world.directory / "stranger"), egress=(wrong,)
    )
    with (
        envoy(stranger, mesh.world.directory),
        httpx.Client(transport=httpx.HTTPTransport(uds=wrong.listen.path)) as client,
    ):
        response = client.post("http://users/deposit", headers={"authorization": "Bearer secret"})
    assert response.status_code == 503
    assert response.json()["code"] == "unavailable"
    assert not mesh.world.wallet_pdp.seen


def test_a_client_workload_listens_to_nobody_but_its_own_application(mesh: Mesh) -> None:
    listeners = ask_unix(f"{mesh.agent.settings.run_dir}/admin.sock", "/listeners").decode()
    assert "127.0.0.1" not in listeners.partition("\r\n\r\n")[2]


def test_a_dead_application_is_503_and_back_at_once_when_it_is_back(mesh: Mesh) -> None:
    mesh.world.application.stop()
    try:
        answer = mesh.call(mesh.world.agent_certificate)
        assert b"503 Service Unavailable" in answer
        assert b"application/problem+json" in answer
    finally:
        mesh.world.application.start()
    assert b"200 OK" in mesh.call(mesh.world.agent_certificate)


def test_a_dead_pdp_is_503_and_back_at_once_when_it_is_back(mesh: Mesh) -> None:
    mesh.world.wallet_pdp.stop()
    try:
        assert b"503 Service Unavailable" in mesh.call(mesh.world.agent_certificate)
        assert not mesh.world.application.seen
    finally:
        mesh.world.wallet_pdp.start()
    assert b"200 OK" in mesh.call(mesh.world.agent_certificate)


def test_a_connection_ends_after_its_time_so_that_a_removed_authority_dies_out(mesh: Mesh) -> None:
    settings = dataclasses.replace(
        mesh.world.wallet(limits=Limits(max_connection_s=0.3)),
        name="brief",
        run_dir=str(mesh.world.directory / "brief"),
    )
    assert settings.ingress
    brief = free_port()
    settings = dataclasses.replace(
        settings,
        name="brief",
        run_dir=str(mesh.world.directory / "brief"),
        ingress=dataclasses.replace(settings.ingress, listen=Address("127.0.0.1", brief)),
    )
    context = tls_context(mesh.world.bank.bundle, mesh.world.agent_certificate)
    with (
        envoy(settings, mesh.world.directory),
        socket.create_connection(("127.0.0.1", brief), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        keep = REQUEST.replace(b"connection: close\r\n", b"")
        closes = []

        def asked_to_leave() -> bool:
            connection.sendall(keep)
            answer = one_answer(connection)
            assert b"200 OK" in answer  # no request is lost on the way
            closes.append(b"connection: close" in answer)
            return closes[-1]

        eventually(asked_to_leave, every=0.1)
        assert closes[0] is False


def test_switched_off_the_list_of_callers_admits_any_known_workload(mesh: Mesh) -> None:
    settings = mesh.world.wallet(Control.PEER_ALLOW_LIST)
    assert settings.ingress
    port = free_port()
    settings = dataclasses.replace(
        settings,
        name="open",
        run_dir=str(mesh.world.directory / "open"),
        ingress=dataclasses.replace(settings.ingress, listen=Address("127.0.0.1", port)),
    )
    with envoy(settings, mesh.world.directory):
        context = tls_context(mesh.world.bank.bundle, mesh.world.bank.issue("any", OTHER))
        assert b"200 OK" in raw(port, context, REQUEST, whole=False)
        foreign = tls_context(mesh.world.bank.bundle, mesh.world.foreign.issue("f3", AGENT))
        with contextlib.suppress(ssl.SSLError, ConnectionError):  # refused early, or late in the handshake
            assert raw(port, foreign, REQUEST) == b""
    assert mesh.world.application.last().all("x-spiffe-id") == [OTHER]


def test_a_port_in_use_ends_envoy_with_the_reason(mesh: Mesh) -> None:
    """Two Envoys of one user never share a port unnoticed."""
    settings = dataclasses.replace(mesh.world.wallet(), run_dir=str(mesh.world.directory / "clash"))
    Path(settings.run_dir).mkdir()
    path = mesh.world.directory / "clash.json"
    path.write_text(json.dumps(envoy_config(settings)))
    done = subprocess.run(envoy_command(path, concurrency=1), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0
    assert "Address already in use" in done.stderr


def test_killed_and_started_again_it_takes_over_its_sockets(mesh: Mesh) -> None:
    settings = mesh.world.agent()
    again = dataclasses.replace(
        settings,
        name="again",
        run_dir=str(mesh.world.directory / "again"),
        egress=(dataclasses.replace(settings.egress[0], listen=Address(path=str(mesh.world.directory / "a.sock"))),),
    )
    with envoy(again, mesh.world.directory) as first:
        first.process.kill()
        first.process.wait(5)
    with (
        envoy(again, mesh.world.directory),
        httpx.Client(transport=httpx.HTTPTransport(uds=again.egress[0].listen.path)) as client,
    ):
        assert client.post("http://wallet/deposit").status_code == 200
