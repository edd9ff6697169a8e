"""Two whole systems, two trust domains: services of rempart.toml call each other across; what a partner may not do.

`here` asks (client `agent`), `there` answers (service `hello`). A third partner, `evil.example`, is this test itself:
it holds that domain's root.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from tests.integration.conftest import Running, running, write_tiny
from tests.support import eventually, free_port, short_directory
from tests.upstream_ca import Ca, make_ca

from rempart.crypto.public_jwk import public_jwk

HERE, THERE, EVIL = "here.example", "there.example", "evil.example"
AGENT = f"spiffe://{HERE}/agent"
HELLO = f"spiffe://{THERE}/hello"
GATEWAY = f"spiffe://{THERE}/rempart/gateway"
CALL = """
import os, sys, urllib.parse, httpx
path = urllib.parse.unquote(os.environ["REMPART_HELLO_THERE_URL"].removeprefix("http+unix://"))
with httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=5) as client:
    for _ in sys.stdin:
        answer = client.get("http://hello-there/hello")
        seen = {k.lower(): v for k, v in answer.json()["headers"].items()} if answer.status_code == 200 else {}
        print(answer.status_code, seen.get("x-spiffe-id", ""), flush=True)
"""
BASE = """
[app]
name = "{name}"
trust_domain = "{domain}"
[workloads]
refresh_hint = 10
[workloads.bundle_endpoint]
listen = "127.0.0.1:{port}"
"""
PARTNER = """
[[workloads.federation]]
trust_domain = "{domain}"
url = "https://127.0.0.1:{port}/bundle"
profile = "https_spiffe"
endpoint_spiffe_id = "spiffe://{domain}/rempart/bundle-endpoint"
bundle = "{domain}.json"
"""
ASKS = """
[[client]]
name = "agent"
calls = ["hello-there"]
[[client]]
name = "other"
calls = ["hello-there"]
"""
ANSWERS = """
[[service]]
name = "hello"
command = ["python", "hello.py"]
socket = "app.sock"
routes = ["/hello"]
callers = ["spiffe://here.example/agent", "spiffe://evil.example/known"]
[[workloads.federation]]
trust_domain = "evil.example"
bundle = "evil.example.json"
"""


@dataclass(frozen=True)
class World:
    here: Running
    there: Running
    ca: Ca

    def calling(self, name: str = "agent") -> subprocess.Popen[str]:
        rempart = str(Path(sys.prefix) / "bin" / "rempart")
        command = [rempart, "run", name, "--state", str(self.here.state), "--", sys.executable, "-c", CALL]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, name: str = "agent") -> list[str]:
        with self.calling(name) as process:
            said, _ = process.communicate("\n", timeout=30)
        return said.split()

    def partner(self, of: str) -> dict[str, Any]:
        asked = (self.there if of != THERE else self.here).run("bundle", "show", "--json")
        return next(one for one in json.loads(asked.stdout)["partners"] if one["trust_domain"] == of)


def bundle_of(ca: Ca) -> str:
    der = ca.certificate.public_bytes(serialization.Encoding.DER)
    key = {**public_jwk(der), "use": "x509-svid", "x5c": [base64.b64encode(der).decode()]}
    return json.dumps({"keys": [key], "spiffe_sequence": 1})


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with short_directory() as directory, contextlib.ExitStack() as stack:
        a, b = directory / "a", directory / "b"
        ports = {HERE: free_port(), THERE: free_port()}
        ca = make_ca(EVIL, kind="P-256", uri=f"spiffe://{EVIL}")
        # Each needs a first bundle of the other: a domain's root is there from its first start on.
        alone = BASE.format(name="a", domain=HERE, port=ports[HERE])
        write_tiny(a, alone + ASKS.replace('calls = ["hello-there"]', ""))
        with running(a, state=directory / "sa") as first:
            write_tiny(b, BASE.format(name="b", domain=THERE, port=ports[THERE]) + ANSWERS)
            (b / f"{HERE}.json").write_text(first.run("bundle", "export").stdout)
        with (b / "rempart.toml").open("a") as file:
            file.write(PARTNER.format(domain=HERE, port=ports[HERE]))
        (b / f"{EVIL}.json").write_text(bundle_of(ca))
        there = stack.enter_context(running(b, state=directory / "sb"))
        (a / f"{THERE}.json").write_text(there.run("bundle", "export").stdout)
        remote = f'[[workloads.remote]]\nname = "hello-there"\nspiffe_id = "{HELLO}"\n'
        remote += f'address = "{there.mtls("hello").removeprefix("https://")}"\n'
        write_tiny(a, alone + ASKS + PARTNER.format(domain=THERE, port=ports[THERE]) + remote)
        here = stack.enter_context(running(a, state=directory / "sa"))
        yield World(here, there, ca)


def test_a_service_lets_in_exactly_the_partners_workload_that_it_names(world: World) -> None:
    assert world.call() == ["200", AGENT]
    assert world.call("other")[0] == "503"  # its own sidecar: the other side ended the handshake
    for system, partner in ((world.here, THERE), (world.there, HERE)):
        assert system.run("bundle", "refresh", partner).returncode == 0
        assert world.partner(partner)["failure"] == ""


def test_the_endpoint_shows_its_own_id_and_says_when_to_ask_again(world: World) -> None:
    assert world.here.run("bundle", "refresh", THERE).returncode == 0
    assert world.here.run("bundle", "refresh", "nobody.example").returncode == 1
    document = json.loads(world.there.run("bundle", "export").stdout)
    assert document["spiffe_refresh_hint"] == 10
    assert json.loads(world.here.run("doctor", "--json").stdout)["checks"][-1]["about"] == f"partner {THERE}"


def test_a_partners_root_is_replaced_under_traffic_and_no_call_fails(world: World) -> None:
    """A planned rotation: prepared for longer than the refresh hint, so that this side knows it by then."""
    answers: list[str] = []
    stop = threading.Event()
    before = {root["sha256"] for root in _roots(world.here)}

    def traffic() -> None:
        with world.calling() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            while not stop.is_set():
                process.stdin.write("\n")
                process.stdin.flush()
                answers.append(process.stdout.readline().strip())
                time.sleep(0.05)
            process.stdin.close()

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        assert world.here.run("keys", "rotate", "--authority", "spiffe-root", "--overlap", "14").returncode == 0
        eventually(lambda: _signed_by(world.here) not in before, within=40)
        eventually(lambda: world.partner(HERE)["sequence"] >= 2, within=15)
        time.sleep(1.0)  # some more calls under the new root
    finally:
        stop.set()
        thread.join(20)
    assert len(answers) > 50
    assert set(answers) == {f"200 {AGENT}"}


def _roots(system: Running) -> list[dict[str, Any]]:
    authorities = json.loads(system.run("bundle", "show", "--json").stdout)["authorities"]
    return next(one["roots"] for one in authorities if one["kind"] == "spiffe")


def _signed_by(system: Running) -> str:
    authorities = json.loads(system.run("bundle", "show", "--json").stdout)["authorities"]
    return next(str(one["signed_by"]) for one in authorities if one["kind"] == "spiffe")


def handshake(world: World, *names: str, tmp: Path) -> str:
    """What the sidecar of `hello` answers to who shows a leaf of evil.example's CA with these URI names."""
    leaf = make_ca("forged", world.ca, kind="P-256", is_ca=False, uris=names)
    file = tmp / "forged.pem"
    file.write_text(leaf.key_pem() + leaf.pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(file)
    host, port = world.there.mtls("hello").removeprefix("https://").split(":")
    try:
        with socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain) as tls:
            tls.sendall(b"GET /hello HTTP/1.1\r\nhost: hello\r\nconnection: close\r\n\r\n")
            answer = b""
            while part := tls.recv(65536):
                answer += part
    except (ssl.SSLError, ConnectionError):
        return "no handshake"
    return answer.decode(errors="replace")


def test_a_partner_speaks_for_itself_and_for_nobody_else(world: World, tmp_path: Path) -> None:
    own = f"spiffe://{EVIL}/known"
    assert " 200 " in handshake(world, own, tmp=tmp_path)
    for names in ((f"spiffe://{EVIL}/unknown",), (AGENT,), (HELLO,), (GATEWAY,)):
        assert handshake(world, *names, tmp=tmp_path) == "no handshake"


def test_two_uri_names_impersonate_nobody(world: World, tmp_path: Path) -> None:
    """Envoy takes the bundle by the first name and matches any: RBAC and the PDP look at all of them."""
    own = f"spiffe://{EVIL}/known"
    for names in ((own, AGENT), (own, GATEWAY), (AGENT, own), (GATEWAY, own), (own, own)):
        answer = handshake(world, *names, tmp=tmp_path)
        assert answer == "no handshake" or " 403 " in answer.partition("\r\n")[0], (names, answer)
    assert "multiple_uri_sans" in handshake(world, own, AGENT, tmp=tmp_path)
