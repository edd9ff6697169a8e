"""What an agent may show to join, and what is not believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import RSAKey
from tests.unit.workloads.doubles import DOMAIN, MemoryAgents, MemoryRecorder
from tests.x509pop import HostsCa

from rempart.backends.kubernetes_tokens import PublishedKeys
from rempart.crypto.possession import prove
from rempart.crypto.x509 import EcKey, pem_to_ders
from rempart.kernel.clock import ManualClock, SystemClock
from rempart.kernel.errors import BadInput, Denied, RempartError, Unauthenticated, Unavailable
from rempart.workloads.agents.joining import (
    MAX_NONCES,
    NONCE_TTL,
    Attested,
    Cluster,
    Joining,
    JoinToken,
    Kubernetes,
    Nonces,
    Possession,
    signed_message,
)
from rempart.workloads.agents.messages import Join
from rempart.workloads.agents.roster import Roster

CSR = EcKey.generate().request_der()


def roster(clock: Any = None) -> Roster:
    return Roster(DOMAIN, MemoryAgents(), MemoryRecorder(), clock or ManualClock(), lambda: None)


# -- join tokens -----------------------------------------------------------------------------------------------------


def test_a_token_is_for_one_agent_once_and_in_time() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        known = roster(clock)
        token, kept = await known.make_token("uid:0", ttl=60, name="b")
        assert token not in repr(kept)
        method = JoinToken(known)
        joined = await method.attest(Join("join_token", CSR, token=token))
        assert joined == Attested(f"spiffe://{DOMAIN}/rempart/agent/join_token/b")
        late, _ = await known.make_token("uid:0", ttl=60)
        clock.advance(60)
        for wrong in (token, late, "", "x" * 5000, "\ud800"):
            with pytest.raises(Unauthenticated) as refusal:
                await method.attest(Join("join_token", CSR, token=wrong))
            assert refusal.value.code == "join_token_refused"

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["a b", "..", "é"])
def test_an_agents_name_is_a_segment_of_an_id(name: str) -> None:
    with pytest.raises(BadInput):
        asyncio.run(roster().make_token("uid:0", name=name))


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(BadInput, match="no agent joins by 'tpm'"):
        asyncio.run(Joining({}).attest(Join("tpm", CSR)))


# -- nonces ----------------------------------------------------------------------------------------------------------


def test_a_nonce_is_good_once_within_a_minute() -> None:
    clock = ManualClock()
    nonces = Nonces(clock)
    first, late = nonces.give(), nonces.give()
    nonces.take(first)
    clock.advance(NONCE_TTL)
    for wrong in (first, late, "", "made up"):
        with pytest.raises(Unauthenticated):
            nonces.take(wrong)


def test_who_asks_for_thousands_of_nonces_keeps_nobody_out() -> None:
    nonces = Nonces(ManualClock())
    oldest, *_, newest = [nonces.give() for _ in range(MAX_NONCES + 1)]
    nonces.take(newest)
    with pytest.raises(Unauthenticated):
        nonces.take(oldest)


# -- possession ------------------------------------------------------------------------------------------------------


def possession(directory: Path, **host: Any) -> tuple[Possession, Nonces, list[bytes], bytes]:
    ca = HostsCa(directory)
    certificate, key = ca.host("host-7", **host)
    clock = SystemClock()
    nonces = Nonces(clock)
    method = Possession(roster(clock), nonces, pem_to_ders(ca.pem), clock)
    return method, nonces, pem_to_ders(certificate.read_bytes()), key.read_bytes()


def shown(nonces: Nonces, chain: list[bytes], key: bytes, **more: Any) -> Join:
    nonce = nonces.give()
    made: dict[str, Any] = {
        "method": "x509pop",
        "csr": CSR,
        "nonce": nonce,
        "chain": chain,
        "signature": prove(key, signed_message(nonce, CSR)),
    }
    return Join(**{**made, **more})


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_who_has_the_key_of_a_certificate_is_its_agent(tmp_path: Path, kind: str) -> None:
    method, nonces, chain, key = possession(tmp_path, kind=kind)
    first = asyncio.run(method.attest(shown(nonces, chain, key)))
    assert first == asyncio.run(method.attest(shown(nonces, chain, key)))
    assert first.rejoins
    assert "x509pop:subject:cn:host-7" in first.facts
    assert first.spiffe_id.startswith(f"spiffe://{DOMAIN}/rempart/agent/x509pop/")


def test_a_proof_is_for_one_nonce_and_one_key(tmp_path: Path) -> None:
    method, nonces, chain, key = possession(tmp_path)
    good = shown(nonces, chain, key)
    asyncio.run(method.attest(good))
    other = shown(nonces, chain, key)
    wrong = (
        good,  # replayed
        shown(nonces, chain, key, csr=EcKey.generate().request_der()),  # relayed for a key of somebody else's
        shown(nonces, chain, key, signature=other.signature),  # of another nonce
        shown(nonces, chain, EcKey.generate().to_pem()),  # a copied certificate
        shown(nonces, [], key),
        shown(nonces, [b"nonsense"], key),
        shown(nonces, chain * 5, key),
        shown(nonces, chain, key, signature=b""),
    )
    for join in wrong:
        with pytest.raises(Unauthenticated):
            asyncio.run(method.attest(join))


@pytest.mark.parametrize("usage", [{"usage": "keyEncipherment"}, {"purpose": "serverAuth"}])
def test_a_certificate_that_may_not_log_in_does_not(tmp_path: Path, usage: Mapping[str, str]) -> None:
    method, nonces, chain, key = possession(tmp_path, **usage)
    with pytest.raises(Unauthenticated, match="does not let it prove"):
        asyncio.run(method.attest(shown(nonces, chain, key)))


def test_another_ca_is_not_believed(tmp_path: Path) -> None:
    method, nonces, _, _ = possession(tmp_path)
    certificate, key = HostsCa(tmp_path, "foreign").host("host-8")
    with pytest.raises(Unauthenticated):
        asyncio.run(method.attest(shown(nonces, pem_to_ders(certificate.read_bytes()), key.read_bytes())))


# -- Kubernetes ------------------------------------------------------------------------------------------------------

KEY = RSAKey.generate_key(2048, auto_kid=True)
ISSUER = "https://kubernetes.default.svc.cluster.local"


def service_account_token(**changes: Any) -> str:
    """As a 1.30 API server makes it for a projected volume (Kubernetes "Managing Service Accounts")."""
    claims: dict[str, Any] = {
        "aud": ["rempart-server"],
        "exp": 2_000_000_000,
        "iat": 1_700_000_000,
        "iss": ISSUER,
        "jti": "aed34954-b33a-4142-b1ec-389d6bbb4936",
        "kubernetes.io": {
            "namespace": "rempart",
            "node": {"name": "node-1", "uid": "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"},
            "pod": {"name": "agent-x", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
            "serviceaccount": {"name": "agent", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
        },
        "nbf": 1_700_000_000,
        "sub": "system:serviceaccount:rempart:agent",
        **changes,
    }
    header = {"alg": "RS256", "kid": str(KEY.kid)}
    return jws.serialize_compact(header, json.dumps(claims).encode(), KEY)


def cluster(directory: Path) -> Kubernetes:
    file = directory / "keys.json"
    file.write_text(json.dumps({"keys": [{**KEY.as_dict(private=False), "alg": "RS256", "use": "sig"}]}))
    tokens = PublishedKeys(file, ISSUER, ManualClock(1_700_000_100))
    return Kubernetes(roster(), {"prod": Cluster(tokens, frozenset({"rempart:agent"}), "rempart-server")})


def test_a_node_of_a_cluster_is_one_agent(tmp_path: Path) -> None:
    joined = asyncio.run(cluster(tmp_path).attest(Join("k8s", CSR, cluster="prod", token=service_account_token())))
    uid = "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"
    assert joined.spiffe_id == f"spiffe://{DOMAIN}/rempart/agent/k8s/prod/{uid}"
    assert "k8s_psat:agent_node_name:node-1" in joined.facts
    assert joined.rejoins


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": ["https://kubernetes"]}, "k8s_token_refused"),
        ({"iss": "https://other"}, "k8s_token_refused"),
        ({"exp": 1_700_000_000}, "k8s_token_refused"),
        ({"sub": "system:node:node-1"}, "k8s_token_refused"),
        ({"sub": "system:serviceaccount:default:default"}, "k8s_account_not_allowed"),
        ({"kubernetes.io": {"namespace": "rempart"}}, "k8s_token_refused"),
        ({"kubernetes.io": "x"}, "k8s_token_refused"),
    ],
)
def test_tokens_that_are_no_agents(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    token = service_account_token(**changes)
    with pytest.raises(RempartError) as refusal:
        asyncio.run(cluster(tmp_path).attest(Join("k8s", CSR, cluster="prod", token=token)))
    assert refusal.value.code == code


def test_an_unknown_cluster_and_lost_keys(tmp_path: Path) -> None:
    known = cluster(tmp_path)
    with pytest.raises(Unauthenticated):
        asyncio.run(known.attest(Join("k8s", CSR, cluster="test", token=service_account_token())))
    (tmp_path / "keys.json").unlink()
    with pytest.raises(Unavailable):
        asyncio.run(known.attest(Join("k8s", CSR, cluster="prod", token=service_account_token())))
    assert issubclass(Denied, RempartError)
