"""Roots replaced under traffic: prepared, activated, retired, and nobody is refused; whoever is killed goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.identity_support import IdentityProcess, running_identity
from tests.integration.conftest import TINY, Running, running, write_tiny
from tests.integration.test_sds import GATEWAY, handshake, listener, real_envoy
from tests.support import eventually, free_port, short_directory

from rempart.crypto.x509 import pem_to_ders
from rempart.sdk.spiffe import X509Svid, fetch_jwt_svid, fetch_x509_svid
from rempart.sdk.tls import client_context


def authority(identity: IdentityProcess, kind: str) -> dict[str, Any]:
    found = identity.admin("GET", "/authorities").json()["authorities"]
    return next(one for one in found if one["kind"] == kind)


def trusted(identity: IdentityProcess, kind: str) -> list[str]:
    return [root["sha256"] for root in authority(identity, kind)["roots"]]


def sequence(identity: IdentityProcess) -> int:
    return int(identity.admin("GET", "/bundle").json()["spiffe_sequence"])


def phase(identity: IdentityProcess, kind: str) -> str:
    return str(authority(identity, kind)["root_rotation"].get("phase"))


@contextlib.contextmanager
def traffic(request: Callable[[], object]) -> Iterator[list[BaseException]]:
    """`request` all the time, in two threads; what failed is collected."""
    failures: list[BaseException] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                request()
            except (OSError, AssertionError) as error:
                failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()


UNHURRIED = "[rates]\naddress_per_second = 100000\naddress_burst = 100000\nperson_per_minute = 1000000\n"
ENTRIES = [{"spiffe_id": GATEWAY, "selectors": [f"unix:uid:{os.getuid()}"]}]


def test_the_spiffe_root_is_replaced_under_traffic() -> None:
    with running_identity(ENTRIES, svid_ttl=3, issuing_ttl=6) as identity:
        port = free_port()
        with real_envoy(identity, [listener(port, "default", "ALL")]):
            eventually(lambda: handshake(identity, port), within=8)
            (old,), before = trusted(identity, "spiffe"), sequence(identity)
            bundle = identity.directory / "trust" / "bundle.pem"
            with traffic(lambda: handshake(identity, port)) as failures:
                identity.supervisor.rotate_root("spiffe", overlap=2)
                eventually(lambda: len(trusted(identity, "spiffe")) == 2, within=5)
                assert sequence(identity) > before
                assert len(pem_to_ders(bundle.read_text())) == 2
                assert phase(identity, "spiffe") == "prepared"
                eventually(lambda: phase(identity, "spiffe") == "retiring", within=8)
                eventually(lambda: phase(identity, "spiffe") == "steady", within=15)
                (new,) = eventually(lambda: trusted(identity, "spiffe"))
            assert new != old
            assert not failures
        assert len(pem_to_ders(bundle.read_text())) == 1
        assert len(list((identity.directory / "secrets").glob("spiffe-root*.sealed"))) == 1
        assert "rempart_sds_rejected_total 0\n" in identity.metrics()
        kinds = [event["unmapped"]["rempart"] for event in identity.events()]
        assert any("its root was replaced" in str(event) for event in kinds)


def test_a_compromised_root_is_replaced_within_seconds_and_no_new_handshake_is_refused() -> None:
    """SVIDs and issuing CAs that live for an hour: only the forced rotation can have ended the old root."""
    with running_identity(ENTRIES, svid_ttl=1800, issuing_ttl=3600) as identity:
        port = free_port()
        with real_envoy(identity, [listener(port, "default", "ALL")]):
            eventually(lambda: handshake(identity, port), within=8)
            (old,), stolen = trusted(identity, "spiffe"), fetch_x509_svid(identity.endpoint)
            started = time.monotonic()
            with traffic(lambda: handshake(identity, port)) as failures:
                identity.supervisor.compromise_root("spiffe", grace=2)
                eventually(lambda: phase(identity, "spiffe") == "retiring", within=6)
                eventually(lambda: phase(identity, "spiffe") == "steady", within=6)
                (new,) = eventually(lambda: [root for root in trusted(identity, "spiffe") if root != old])
            assert time.monotonic() - started < 12
            assert new != old
            assert not failures
            with pytest.raises(OSError, match=r"certificate|reset|EOF|unknown ca"):
                eventually_refused(stolen, port)
            handshake(identity, port)


def eventually_refused(svid: X509Svid, port: int) -> None:
    """A handshake with what the old root vouches for; its client still believes in both."""
    context = client_context(svid)
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        if not tls.recv(1):
            raise ConnectionResetError("EOF")


def test_compromised_jwt_keys_are_gone_within_seconds() -> None:
    with running_identity(ENTRIES) as identity:
        old = fetch_jwt_svid(["a"], "", identity.endpoint)
        before = {key["kid"] for key in authority(identity, "jwt")["keys"]}
        answer = identity.admin("POST", "/authorities/jwt/rotate", {"compromised": True, "overlap": 1}).json()
        assert fetch_jwt_svid(["a"], "", identity.endpoint).token == old.token  # nobody knows the new key yet
        assert len(authority(identity, "jwt")["keys"]) == 2
        eventually(lambda: fetch_jwt_svid(["a"], "", identity.endpoint).token != old.token, within=4)
        eventually(lambda: not before & {key["kid"] for key in authority(identity, "jwt")["keys"]}, within=5)
        assert time.time() >= answer["old_gone_at"]
        assert fetch_jwt_svid(["a"], "", identity.endpoint).token != old.token


def test_one_command_ends_all_trust_in_a_leaked_issuing_ca_and_says_how_long_it_took() -> None:
    with short_directory() as directory:
        app = write_tiny(directory / "app")
        (app / "rempart.toml").write_text(TINY + UNHURRIED)
        with running(app, state=directory / "s") as system:
            _replace_a_leaked_issuing_ca(system)


def _replace_a_leaked_issuing_ca(system: Running) -> None:
    before = (system.state / "trust" / "bundle.pem").read_text()
    token = system.token("user")
    context = ssl.create_default_context(cafile=system.ca)

    def request() -> None:
        answer = httpx.get(
            f"{system.url}/hello", headers={"authorization": f"Bearer {token}"}, verify=context, timeout=10
        )
        assert answer.status_code == 200, answer.text
        time.sleep(0.05)  # leaves the processors to what is tested

    with traffic(request) as failures:
        done = system.run("keys", "rotate", "--authority", "spiffe-issuing", "--compromised", "--overlap", "3")
    assert done.returncode == 0, done.stderr
    assert "nobody who follows the Workload API or SDS trusts it" in done.stderr
    assert not failures
    after = (system.state / "trust" / "bundle.pem").read_text()
    assert len(pem_to_ders(after)) == 1
    assert after != before
    request()


def test_the_web_root_is_replaced_while_clients_read_the_file_again() -> None:
    with running_identity(ENTRIES, svid_ttl=3, issuing_ttl=6) as identity:
        port, ca = free_port(), identity.directory / "tls" / "ca.pem"

        def request() -> bytes:
            context = ssl.create_default_context(cafile=str(ca))
            with (
                socket.create_connection(("127.0.0.1", port), 5) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as tls,
            ):
                tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                return tls.recv(64)

        with real_envoy(identity, [listener(port, "web", None)]):
            eventually(request, within=8)
            old = ca.read_text()
            with traffic(request) as failures:
                identity.supervisor.rotate_root("web", overlap=2)
                eventually(lambda: phase(identity, "web") == "retiring", within=8)
                assert ca.read_text().startswith(old)
                eventually(lambda: phase(identity, "web") == "steady", within=15)
            assert not failures
        assert len(pem_to_ders(ca.read_text())) == 1
        assert ca.read_text() not in old


def test_identity_killed_at_every_step_comes_back_with_the_roots_of_that_step() -> None:
    with running_identity(svid_ttl=3, issuing_ttl=4) as identity:
        seen = [sequence(identity)]
        (old,) = trusted(identity, "spiffe")

        def kill_and_start() -> None:
            identity.stop(signal.SIGKILL)
            identity.start()
            seen.append(sequence(identity))

        identity.supervisor.rotate_root("spiffe", overlap=1)
        kill_and_start()
        assert len(trusted(identity, "spiffe")) == 2
        eventually(lambda: phase(identity, "spiffe") == "retiring", within=8)
        kill_and_start()
        assert len(trusted(identity, "spiffe")) == 2
        eventually(lambda: phase(identity, "spiffe") == "steady", within=10)
        kill_and_start()
        (new,) = trusted(identity, "spiffe")
        assert new != old
        assert seen == sorted(set(seen))
        assert identity.admin("GET", "/bundle").json()["keys"]
