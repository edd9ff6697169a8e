"""Two trust domains that trust each other: bundles over both profiles, Envoys that talk, and a partner that lies."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from spiffe import TrustDomain, WorkloadApiClient
from spiffe._proto import workload_pb2, workload_pb2_grpc
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.integration.test_container_attestation import certified, served
from tests.integration.test_sds import listener, real_envoy
from tests.support import eventually, free_port

from rempart.sdk.spiffe import fetch_jwt_svid, fetch_x509_svid
from rempart.sdk.tls import _load, client_context, verify_peer

PARTNER = "partner.example"


@contextlib.contextmanager
def endpoint(context: ssl.SSLContext, bundle: Callable[[], bytes]) -> Iterator[str]:
    """An https server that gives the bundle; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bundle()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None: ...

    port = free_port()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with served(server):
        yield f"https://127.0.0.1:{port}/bundle"


def entries(domain: str, *federates_with: str) -> list[dict[str, Any]]:
    """Given by the operator: what rempart.toml declares has no partners."""
    one = {"spiffe_id": f"spiffe://{domain}/front", "selectors": [f"unix:uid:{os.getuid()}"]}
    return [{**one, "federates_with": list(federates_with)}]


def bundle_of(identity: IdentityProcess) -> bytes:
    content: bytes = identity.admin("GET", "/bundle").content
    return content


@contextlib.contextmanager
def partner() -> Iterator[IdentityProcess]:
    with running_identity([], trust_domain=PARTNER) as identity:
        assert identity.admin("POST", "/entries", {"entries": entries(PARTNER)}).status_code == 200
        yield identity


def partners(identity: IdentityProcess) -> dict[str, Any]:
    found: dict[str, Any] = identity.admin("GET", "/partners").json()["partners"][0]
    return found


def test_envoys_of_two_domains_talk_and_tokens_cross(tmp_path: Path) -> None:
    ca, context = certified(tmp_path, "web")
    with partner() as theirs, endpoint(context, lambda: bundle_of(theirs)) as url:
        relation = {"trust_domain": PARTNER, "url": url, "ca": str(ca)}
        with running_identity([], partners=[relation]) as ours:
            eventually(lambda: partners(ours)["roots"], within=5)
            ours.admin("POST", "/entries", {"entries": entries(TRUST_DOMAIN)})
            with WorkloadApiClient(ours.endpoint) as client:
                assert len(client.fetch_x509_bundles().bundles) == 1  # the entry doesn't ask for the partner yet
                ours.admin("POST", "/entries", {"entries": entries(TRUST_DOMAIN, PARTNER)})
                assert client.fetch_x509_bundles().get_bundle_for_trust_domain(TrustDomain(PARTNER))
                assert client.fetch_jwt_bundles().get_bundle_for_trust_domain(TrustDomain(PARTNER))
                token = fetch_jwt_svid("us", endpoint=theirs.endpoint).token
                assert str(client.validate_jwt_svid(token, "us").spiffe_id) == f"spiffe://{PARTNER}/front"
            port = free_port()
            with real_envoy(ours, [listener(port, "default", "ALL")]):
                their_svid, our_svid = fetch_x509_svid(theirs.endpoint), fetch_x509_svid(ours.endpoint)

                def from_there() -> bool:
                    """Their SVID and our Envoy, which they know by our bundle."""
                    context = client_context(their_svid)
                    context.load_verify_locations(cadata=our_svid.bundle_pem())
                    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain) as tls:
                        verify_peer(tls, {f"spiffe://{TRUST_DOMAIN}/front"})
                        tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                        return tls.recv(12) == b"HTTP/1.1 200"

                eventually(from_there, within=8)
                theirs.supervisor.compromise_root("spiffe", grace=2)
                eventually(lambda: len(json.loads(bundle_of(theirs))["keys"]) == 3, within=10)
                first = partners(ours)["sequence"]
                ours.stop()  # asks at once when it starts again
                ours.start()
                eventually(lambda: partners(ours)["sequence"] > first, within=8)


def test_https_spiffe_wants_the_endpoints_own_id(tmp_path: Path) -> None:
    with partner() as theirs:
        svid = fetch_x509_svid(theirs.endpoint)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load(context, svid)
        first = bundle_of(theirs).decode()
        with endpoint(context, lambda: bundle_of(theirs)) as url:
            relation = {"trust_domain": PARTNER, "url": url, "profile": "https_spiffe", "bundle": first}
            right = {**relation, "endpoint_id": f"spiffe://{PARTNER}/front"}
            with running_identity(partners=[right]) as ours:
                theirs.admin("POST", "/authorities/jwt/rotate")
                ours.stop()
                ours.start()
                known = json.loads(first)["spiffe_sequence"]
                eventually(lambda: partners(ours)["sequence"] > known, within=5)
            wrong = {**relation, "endpoint_id": f"spiffe://{PARTNER}/other"}
            with running_identity(partners=[wrong]) as ours:
                eventually(lambda: "answers there, not" in partners(ours)["failure"], within=5)
                assert partners(ours)["sequence"] == known


@pytest.mark.parametrize("lie", ["our-root", "old", "stranger"])
def test_a_partner_that_lies_gets_nothing(tmp_path: Path, lie: str) -> None:
    ca, context = certified(tmp_path, "web")
    stranger, _ = certified(tmp_path, "stranger")
    given: list[bytes] = []
    with partner() as theirs, endpoint(context, lambda: given[-1]) as url:
        good = json.loads(bundle_of(theirs))
        given.append(json.dumps(good).encode())
        relation = {"trust_domain": PARTNER, "url": url, "ca": str(stranger if lie == "stranger" else ca)}
        with running_identity(entries(TRUST_DOMAIN)[0:0], partners=[relation]) as ours:
            if lie == "stranger":
                eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in partners(ours)["failure"], within=5)
                assert partners(ours)["roots"] == []
                return
            eventually(lambda: partners(ours)["roots"], within=5)
            before = partners(ours)["roots"]
            mine = json.loads(bundle_of(ours))["keys"][0]
            bad = {**good, "keys": [*good["keys"], mine], "spiffe_sequence": good["spiffe_sequence"] + 1}
            old = {**good, "spiffe_sequence": good["spiffe_sequence"] - 1}
            given.append(json.dumps(bad if lie == "our-root" else old).encode())
            ours.stop()
            ours.start()
            eventually(lambda: partners(ours)["failure"], within=5)
            assert partners(ours)["roots"] == before
            assert any("workloads.bundle_refused" in json.dumps(event) for event in ours.events())


def test_a_change_of_a_partner_is_pushed(tmp_path: Path) -> None:
    ca, context = certified(tmp_path, "web")
    ready = threading.Event()
    with partner() as theirs:

        def bundle() -> bytes:
            return bundle_of(theirs) if ready.is_set() else b"{}"

        with endpoint(context, bundle) as url:
            relation = {"trust_domain": PARTNER, "url": url, "ca": str(ca)}
            with running_identity([], partners=[relation]) as ours:
                ours.admin("POST", "/entries", {"entries": entries(TRUST_DOMAIN, PARTNER)})
                with grpc.insecure_channel(ours.endpoint) as channel:
                    api: Any = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)  # type: ignore[no-untyped-call]  # generated
                    stream = api.FetchX509SVID(
                        workload_pb2.X509SVIDRequest(), metadata=(("workload.spiffe.io", "true"),), timeout=30
                    )
                    assert not next(stream).federated_bundles
                    ready.set()
                    assert list(next(stream).federated_bundles) == [f"spiffe://{PARTNER}"]


def test_a_partner_that_is_away_is_still_known_by_its_last_bundle(tmp_path: Path) -> None:
    """Over restarts too, for as long as its certificates are valid: what was true when it was heard is the safest."""
    ca, context = certified(tmp_path, "web")
    with partner() as theirs, contextlib.ExitStack() as away:
        url = away.enter_context(endpoint(context, lambda: bundle_of(theirs)))
        relation = {"trust_domain": PARTNER, "url": url, "ca": str(ca)}
        with running_identity([], partners=[relation]) as ours:
            ours.admin("POST", "/entries", {"entries": entries(TRUST_DOMAIN, PARTNER)})
            eventually(lambda: partners(ours)["roots"], within=5)
            known = partners(ours)["roots"]
            assert ours.admin("POST", f"/partners/{PARTNER}/refresh").json()["roots"] == 1
            assert ours.admin("POST", "/partners/nobody.example/refresh").status_code == 404
            away.close()
            assert ours.admin("POST", f"/partners/{PARTNER}/refresh").status_code == 503
            ours.stop()
            ours.start()
            eventually(lambda: "can't be fetched" in partners(ours)["failure"], within=5)
            assert partners(ours)["roots"] == known
            with WorkloadApiClient(ours.endpoint) as client:
                assert client.fetch_x509_bundles().get_bundle_for_trust_domain(TrustDomain(PARTNER))


@pytest.mark.parametrize("profile", ["https_web", "https_spiffe"])
def test_our_own_endpoint_serves_both_profiles(tmp_path: Path, profile: str) -> None:
    port = free_port()
    with running_identity([], bundle_endpoint={"profile": profile}, bundle=("127.0.0.1", port)) as theirs:
        relation = {"trust_domain": TRUST_DOMAIN, "url": f"https://127.0.0.1:{port}/bundle", "profile": profile}
        first = bundle_of(theirs).decode()
        if profile == "https_web":
            web = tmp_path / "web.pem"
            web.write_text(theirs.settings["web_root_pem"])
            relation |= {"ca": str(web)}
        else:
            relation |= {"endpoint_id": f"spiffe://{TRUST_DOMAIN}/rempart/bundle-endpoint", "bundle": first}
        with running_identity([], trust_domain=PARTNER, partners=[relation]) as ours:
            eventually(lambda: partners(ours)["sequence"] is not None, within=5)
            theirs.admin("POST", "/authorities/jwt/rotate")
            assert ours.admin("POST", f"/partners/{TRUST_DOMAIN}/refresh").json()["sequence"] == 2
            assert partners(ours)["failure"] == ""
