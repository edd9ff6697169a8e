"""SDS with a real Envoy: certificates by name, hot rotation under traffic, and what an unknown process gets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import envoy
import grpc
import pytest
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.support import eventually, free_port

from rempart.protocols.sds import messages
from rempart.protocols.sds import sds_pb2 as wire
from rempart.sdk.spiffe import fetch_x509_svid
from rempart.sdk.tls import client_context, verify_peer
from rempart.workloads.sds import METHOD

EXTENSIONS = "type.googleapis.com/envoy.extensions."
GATEWAY = f"spiffe://{TRUST_DOMAIN}/rempart/gateway"
BINARY = Path(envoy.__path__[0]) / "_bin" / "envoy"


def sds(name: str) -> dict[str, Any]:
    services = [{"envoy_grpc": {"cluster_name": "sds"}}]
    source = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": services}
    return {"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": source}}


def listener(port: int, certificate: str, trust: str | None) -> dict[str, Any]:
    context: dict[str, Any] = {"tls_certificate_sds_secret_configs": [sds(certificate)]}
    if trust:
        context["validation_context_sds_secret_config"] = sds(trust)
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
    http = {
        "@type": EXTENSIONS + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "r", "typed_config": {"@type": EXTENSIONS + "filters.http.router.v3.Router"}}],
    }
    tls = {
        "@type": EXTENSIONS + "transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": trust is not None,
        "common_tls_context": context,
    }
    chain = {"transport_socket": {"name": "tls", "typed_config": tls}, "filters": [{"name": "h", "typed_config": http}]}
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "filter_chains": [chain]}


@contextlib.contextmanager
def real_envoy(identity: IdentityProcess, listeners: list[dict[str, Any]]) -> Iterator[None]:
    h2 = {
        "@type": EXTENSIONS + "upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    address = {"pipe": {"path": str(identity.workload_api)}}
    cluster = {
        "name": "sds",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2},
        "load_assignment": {
            "cluster_name": "sds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    configuration = {
        "node": {"id": "test", "cluster": "test"},
        "static_resources": {"listeners": listeners, "clusters": [cluster]},
    }
    path = identity.directory / "envoy.json"
    path.write_text(json.dumps(configuration))
    command = [str(BINARY), "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "off"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def identity() -> Iterator[IdentityProcess]:
    entries = [{"spiffe_id": GATEWAY, "selectors": [f"unix:uid:{os.getuid()}"]}]
    with running_identity(entries, svid_ttl=3, issuing_ttl=12) as process:
        yield process


def handshake(identity: IdentityProcess, port: int) -> int:
    """One mTLS request; the serial number that Envoy showed."""
    context = client_context(fetch_x509_svid(identity.endpoint))
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain) as tls:
        assert str(verify_peer(tls, {GATEWAY})) == GATEWAY
        tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert tls.recv(64).startswith(b"HTTP/1.1 200")
        certificate = tls.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


def first_bytes(context: ssl.SSLContext, port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        return tls.recv(64)


@pytest.mark.parametrize("trust", ["ALL", "ROOTCA", f"spiffe://{TRUST_DOMAIN}"])
@pytest.mark.parametrize("certificate", ["default", GATEWAY])
def test_envoy_gets_certificate_and_trust_by_every_name(
    identity: IdentityProcess, certificate: str, trust: str
) -> None:
    port = free_port()
    with real_envoy(identity, [listener(port, certificate, trust)]):
        eventually(lambda: handshake(identity, port), within=8)
        anonymous = ssl.create_default_context(cadata=identity.settings["spiffe_root_pem"])
        anonymous.check_hostname = False
        with pytest.raises(OSError, match=r"certificate|reset|EOF"):
            first_bytes(anonymous, port)


def test_rotation_under_traffic_loses_no_handshake(identity: IdentityProcess) -> None:
    """SVIDs of 3 s and issuing CAs of 12 s: several of both come and go while connections are made all the time."""
    port = free_port()
    serials: set[int] = set()
    failures: list[BaseException] = []
    with real_envoy(identity, [listener(port, "default", "ALL")]):
        eventually(lambda: handshake(identity, port), within=8)
        stop = threading.Event()

        def traffic() -> None:
            while not stop.is_set():
                try:
                    serials.add(handshake(identity, port))
                except (OSError, AssertionError) as error:
                    failures.append(error)

        threads = [threading.Thread(target=traffic) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            first = issuing_serial(identity)
            eventually(lambda: len(serials) >= 5 and issuing_serial(identity) != first, within=25)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert not failures
    assert "rempart_sds_rejected_total 0\n" in identity.metrics()


def issuing_serial(identity: IdentityProcess) -> str:
    return str(identity.admin("GET", "/authorities").json()["authorities"][0]["active"]["serial"])


def test_the_gateway_serves_a_certificate_that_curl_trusts(identity: IdentityProcess) -> None:
    port = free_port()
    root = identity.directory / "web.pem"
    root.write_text(identity.settings["web_root_pem"])
    with real_envoy(identity, [listener(port, "web", None)]):
        for host in ("localhost", "127.0.0.1"):
            command = ["curl", "-sS", "--cacert", str(root), f"https://{host}:{port}/"]
            eventually(lambda c=command: subprocess.run(c, capture_output=True).stdout == b"hello", within=8)  # type: ignore[misc]  # binds the loop's value


def ask(identity: IdentityProcess, *requests: wire.DiscoveryRequest) -> Iterator[wire.DiscoveryResponse]:
    with grpc.insecure_channel(identity.endpoint) as channel:
        method = channel.stream_stream(
            METHOD,
            request_serializer=wire.DiscoveryRequest.SerializeToString,
            response_deserializer=wire.DiscoveryResponse.FromString,
        )
        pending = threading.Event()

        def say() -> Iterator[wire.DiscoveryRequest]:
            yield from requests
            pending.wait(10)

        try:
            yield from method(say(), timeout=10)
        finally:
            pending.set()


def request(*names: str) -> wire.DiscoveryRequest:
    return wire.DiscoveryRequest(resource_names=names, type_url=messages.SECRET)


def test_several_names_come_in_one_response_and_again_at_rotation(identity: IdentityProcess) -> None:
    responses = ask(identity, request("default", "ROOTCA", "ALL", "web"))
    first, second = next(responses), next(responses)
    assert first.version_info != second.version_info
    secrets = [wire.Secret.FromString(resource.value) for resource in first.resources]
    assert [secret.name for secret in secrets] == ["default", "ROOTCA", "ALL", "web"]
    assert b"PRIVATE KEY" in secrets[0].tls_certificate.private_key.inline_bytes
    assert secrets[2].validation_context.custom_validator_config.typed_config.type_url == messages.VALIDATOR
    assert {resource.type_url for resource in first.resources} == {messages.SECRET}
    responses.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (request(f"spiffe://{TRUST_DOMAIN}/wallet"), grpc.StatusCode.PERMISSION_DENIED),
        (request("default", "no-such-secret"), grpc.StatusCode.PERMISSION_DENIED),
        (wire.DiscoveryRequest(resource_names=["default"], type_url="x"), grpc.StatusCode.INVALID_ARGUMENT),
        (request(*(f"n{n}" for n in range(40))), grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["somebody-else", "unknown", "other-type", "too-many"],
)
def test_what_is_not_ones_own_is_refused(
    identity: IdentityProcess, message: wire.DiscoveryRequest, status: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        next(ask(identity, message))
    assert refusal.value.code() is status


def test_a_rejected_secret_is_counted_and_the_next_one_offered(identity: IdentityProcess) -> None:
    rejection = request("default")
    rejection.response_nonce = "1"
    rejection.error_detail.message = "no"
    responses = ask(identity, request("default"))
    next(responses)
    responses.close()  # type: ignore[attr-defined]  # a generator
    responses = ask(identity, request("default"), rejection)
    assert next(responses).version_info == "1"
    assert next(responses).version_info == "2"
    responses.close()  # type: ignore[attr-defined]  # a generator


def test_the_web_certificate_is_the_gateways_only() -> None:
    entries = [{"spiffe_id": f"spiffe://{TRUST_DOMAIN}/wallet", "selectors": [f"unix:uid:{os.getuid()}"]}]
    with running_identity(entries) as other, pytest.raises(grpc.RpcError) as refusal:
        next(ask(other, request("web")))
    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED


def as_spires_documentation_has_it(port: int, trust: str, allowed: str) -> dict[str, Any]:
    """Roots by SDS together with SAN matchers of one's own, as Envoy configurations written for SPIRE do it."""
    made = listener(port, "default", None)
    context = made["filter_chains"][0]["transport_socket"]["typed_config"]
    matcher = {"san_type": "URI", "matcher": {"exact": allowed}}
    context["require_client_certificate"] = True
    context["common_tls_context"]["combined_validation_context"] = {
        "default_validation_context": {"match_typed_subject_alt_names": [matcher]},
        "validation_context_sds_secret_config": sds(trust),
    }
    return made


@pytest.mark.parametrize("trust", ["ALL", "ROOTCA", f"spiffe://{TRUST_DOMAIN}"])
def test_an_envoy_configured_for_spire_works_unchanged(identity: IdentityProcess, trust: str) -> None:
    open_, closed = free_port(), free_port()
    listeners = [
        as_spires_documentation_has_it(open_, trust, GATEWAY),
        as_spires_documentation_has_it(closed, trust, f"spiffe://{TRUST_DOMAIN}/other"),
    ]
    with real_envoy(identity, [{**one, "name": str(n)} for n, one in enumerate(listeners)]):
        eventually(lambda: handshake(identity, open_), within=8)
        with pytest.raises(OSError, match=r"certificate|reset|EOF"):
            handshake(identity, closed)


def secrets_of(identity: IdentityProcess, message: wire.DiscoveryRequest) -> dict[str, wire.Secret]:
    responses = ask(identity, message)
    found = [wire.Secret.FromString(resource.value) for resource in next(responses).resources]
    responses.close()  # type: ignore[attr-defined]  # a generator
    return {secret.name: secret for secret in found}


def test_no_names_are_all_that_is_the_callers(identity: IdentityProcess) -> None:
    secrets = secrets_of(identity, wire.DiscoveryRequest(type_url=messages.SECRET))
    assert sorted(secrets) == [f"spiffe://{TRUST_DOMAIN}", GATEWAY]
    assert secrets[GATEWAY].HasField("tls_certificate")


@pytest.mark.parametrize(
    ("version", "metadata", "plain"),
    [
        ((1, 34), {}, False),
        ((2, 0), {}, False),
        ((1, 17), {}, True),
        (None, {}, False),
        (None, {"disable_spiffe_cert_validation": True}, True),
        ((1, 34), {"disable_spiffe_cert_validation": "true"}, True),
        ((1, 34), {"disable_spiffe_cert_validation": "false"}, False),
    ],
)
def test_only_who_can_not_use_the_validator_or_says_so_gets_plain_roots(
    identity: IdentityProcess, version: tuple[int, int] | None, metadata: dict[str, Any], plain: bool
) -> None:
    message = request("ROOTCA", "ALL")
    message.node.metadata.update(metadata)
    if version:
        message.node.user_agent_build_version.version.major_number = version[0]
        message.node.user_agent_build_version.version.minor_number = version[1]
    secrets = secrets_of(identity, message)
    context = secrets["ROOTCA"].validation_context
    assert (context.HasField("trusted_ca"), context.HasField("custom_validator_config")) == (plain, not plain)
    assert secrets["ALL"].validation_context.HasField("custom_validator_config")


def test_secrets_can_be_fetched_without_a_stream(identity: IdentityProcess) -> None:
    with grpc.insecure_channel(identity.endpoint) as channel:
        method = channel.unary_unary(
            METHOD.replace("Stream", "Fetch"),
            request_serializer=wire.DiscoveryRequest.SerializeToString,
            response_deserializer=wire.DiscoveryResponse.FromString,
        )
        response = method(request("default", "ROOTCA"), timeout=5)
        with pytest.raises(grpc.RpcError) as refusal:
            method(request("somebody-else"), timeout=5)
    assert [wire.Secret.FromString(one.value).name for one in response.resources] == ["default", "ROOTCA"]
    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
