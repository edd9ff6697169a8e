"""Roots: made, sealed, and used only through the root-signer."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from typing import Any

import msgspec
import pytest

from rempart.crypto import x509
from rempart.crypto.svid import verify_issuing
from rempart.kernel.errors import BadInput, Integrity
from rempart.servers.root_signer import done
from rempart.workloads import authority
from rempart.workloads.root_rotation import NewRoot

DOMAIN = "bank.example"
OTHER_KEY = base64.b64encode(bytes(32)).decode()


def job(kind: str = "spiffe", **changes: Any) -> dict[str, Any]:
    root, key = authority.create_root(kind, DOMAIN)
    sealing = os.urandom(32)
    sealed = authority.seal_root_key(sealing, key, kind=kind, trust_domain=DOMAIN)
    return {
        "do": "sign",
        "kind": kind,
        "trust_domain": DOMAIN,
        "root": root,
        "sealed": base64.b64encode(sealed).decode(),
        "key": base64.b64encode(sealing).decode(),
        "csr": x509.EcKey.generate().request().decode(),
        "ttl": 600,
        "names": ["localhost"] if kind == "web" else [],
    } | changes


def test_what_it_signs_is_a_ca_under_the_root() -> None:
    key = x509.EcKey.generate()
    document = job(csr=key.request().decode())
    certificate = x509.Certificate.parse(x509.pem_to_ders(done(json.dumps(document).encode()))[0])
    verify_issuing(certificate, key, x509.pem_to_ders(document["root"]), now=time.time())
    assert certificate.not_after - time.time() < 601


@pytest.mark.parametrize(
    "changes",
    [{"trust_domain": "other.example"}, {"kind": "web", "names": ["a"]}, {"key": OTHER_KEY}, {"sealed": ""}],
)
def test_a_root_opens_only_for_its_own_domain_kind_and_key(changes: dict[str, Any]) -> None:
    with pytest.raises(Integrity):
        done(json.dumps(job() | changes).encode())


@pytest.mark.parametrize(
    "changes", [{"csr": "x"}, {"ttl": 0}, {"ttl": 1e12}, {"kind": "other"}, {"key": "zz"}, {"more": 1}, {"do": "open"}]
)
def test_a_senseless_job_is_bad_input(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        done(json.dumps(job() | changes).encode())


def test_a_web_ca_without_names_is_not_made() -> None:
    with pytest.raises(BadInput) as refusal:
        done(json.dumps(job("web", names=[])).encode())
    assert refusal.value.code == "unbounded_web_authority"


@pytest.mark.parametrize("kind", authority.KINDS)
def test_what_it_makes_opens_with_the_key_that_it_was_given(kind: str) -> None:
    key = os.urandom(32)
    asked = {"do": "make", "kind": kind, "trust_domain": DOMAIN, "key": base64.b64encode(key).decode()}
    new = msgspec.json.decode(done(json.dumps(asked).encode()), type=NewRoot)
    assert new.root == authority.described(new.root.certificate, new.root.sealed)
    assert new.root.sealed.startswith(f"{kind}-root-")
    private = authority.unseal_root_key(key, new.sealed_key, kind=kind, trust_domain=DOMAIN)
    assert x509.same_key(x509.pem_to_ders(new.root.certificate)[0], x509.EcKey.from_der(private))


@pytest.mark.parametrize("changes", [{"kind": "jwt"}, {"key": "QQ=="}, {"key": ""}, {"csr": "x"}])
def test_it_makes_nothing_of_a_senseless_job(changes: dict[str, Any]) -> None:
    asked = {"do": "make", "kind": "spiffe", "trust_domain": DOMAIN, "key": OTHER_KEY}
    with pytest.raises(BadInput):
        done(json.dumps(asked | changes).encode())


def test_the_process_answers_on_stdout_and_tells_no_secret_on_failure() -> None:
    document = job()
    command = [sys.executable, "-m", "rempart.servers.root_signer"]
    good = subprocess.run(command, input=json.dumps(document).encode(), capture_output=True)
    assert good.returncode == 0
    assert good.stdout.startswith(b"-----BEGIN CERTIFICATE-----")
    bad = subprocess.run(command, input=json.dumps(document | {"ttl": "x"}).encode(), capture_output=True)
    assert bad.returncode == 2
    assert json.loads(bad.stderr)["code"] == "bad_job"
    assert document["key"].encode() not in bad.stderr
