"""A company's own CA above Rempart: what other people's programs think of the chain, and new files under traffic."""

from __future__ import annotations

import subprocess
from pathlib import Path

from spiffe import WorkloadApiClient
from tests.identity_support import TRUST_DOMAIN, running_identity
from tests.integration.test_root_rotation import ENTRIES, phase, traffic, trusted
from tests.integration.test_sds import GATEWAY, handshake, listener, real_envoy
from tests.support import eventually, free_port
from tests.upstream_ca import make_ca, write_upstream

from rempart.sdk.spiffe import fetch_x509_svids


def test_an_intermediate_below_an_rsa_root_is_in_every_chain_and_others_accept_it(tmp_path: Path) -> None:
    root = make_ca("company root", kind="3072")
    middle = make_ca("workloads", root, kind="P-384", path_length=1, uri=f"spiffe://{TRUST_DOMAIN}")
    upstream = write_upstream(tmp_path, TRUST_DOMAIN, middle, bundle=root)
    with running_identity(ENTRIES, upstream=upstream) as identity:
        with WorkloadApiClient(identity.endpoint) as client:
            svid = client.fetch_x509_svid()
        assert str(svid.spiffe_id) == GATEWAY
        assert len(svid.cert_chain) == 3
        (ours,) = fetch_x509_svids(identity.endpoint)
        (tmp_path / "chain.pem").write_text(ours.certificate_pem())
        assert ours.bundle_pem() == root.pem()
        command = ["openssl", "verify", "-x509_strict", "-CAfile", str(tmp_path / "root.pem")]
        command += ["-untrusted", str(tmp_path / "chain.pem"), str(tmp_path / "chain.pem")]
        verified = subprocess.run(command, capture_output=True, text=True)
        assert verified.returncode == 0, verified.stderr
        (key,) = [k for k in identity.admin("GET", "/bundle").json()["keys"] if k["use"] == "x509-svid"]
        assert key["kty"] == "RSA"
        port = free_port()
        with real_envoy(identity, [listener(port, "default", "ROOTCA")]):
            eventually(lambda: handshake(identity, port), within=8)


def test_new_files_under_traffic_refuse_no_handshake(tmp_path: Path) -> None:
    upstream = write_upstream(tmp_path, TRUST_DOMAIN, make_ca("first"))
    with running_identity(ENTRIES, svid_ttl=1800, issuing_ttl=3600, upstream=upstream) as identity:
        port = free_port()
        with real_envoy(identity, [listener(port, "default", "ALL")]):
            eventually(lambda: handshake(identity, port), within=8)
            (old,) = trusted(identity, "spiffe")
            with traffic(lambda: handshake(identity, port)) as failures:
                upstream.key.chmod(0o600)
                write_upstream(tmp_path, TRUST_DOMAIN, make_ca("second"))
                eventually(lambda: phase(identity, "spiffe") == "prepared", within=8)
                identity.supervisor.compromise_root("spiffe", grace=2)  # as fast as it goes: the first one leaked
                eventually(lambda: phase(identity, "spiffe") == "retiring", within=8)
                eventually(lambda: phase(identity, "spiffe") == "steady", within=8)
                eventually(lambda: old not in trusted(identity, "spiffe"))
            assert not failures
