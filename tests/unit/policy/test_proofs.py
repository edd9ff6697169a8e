"""What the PDP remembers of DPoP proofs: each once, no more than there is room for, and nothing after its time."""

from __future__ import annotations

import pytest
from tests.oauth_support import Prover

from rempart.crypto.jose import SigningKey
from rempart.crypto.jws import Malformed
from rempart.kernel.clock import ManualClock
from rempart.policy import proofs
from rempart.policy.proofs import Proofs

ADDRESS = "https://localhost:8443/wallet"


def test_the_memory_is_bounded_and_empties_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "MOST", 3)
    clock = ManualClock()
    me = Prover(clock, SigningKey.generate("ES256"))
    seen = Proofs(clock, "https://localhost:8443/auth")

    def send() -> bytes:
        proof = me.proof("GET", ADDRESS, access_token="t")["dpop"].encode()
        seen.verify(proof, "GET", "/wallet", "t", me.jkt)
        return proof

    first = send()
    for _ in range(2):
        send()
    with pytest.raises(Malformed, match="too many"):
        send()
    with pytest.raises(Malformed, match="used before"):
        seen.verify(first, "GET", "/wallet", "t", me.jkt)
    clock.advance(76)
    send()
    with pytest.raises(Malformed, match="too old"):
        seen.verify(first, "GET", "/wallet", "t", me.jkt)
    assert len(seen._seen) == 1
