"""10,000 entries and 1,000 workloads on one host, and how many SVIDs a core signs beside the raw limit (needs root).

Each workload is a process of a user of its own with an open stream. Times are from the request to what the workload's
process has read.
"""

from __future__ import annotations

import base64
import os
import signal
import time
from collections import Counter
from typing import Any

from benchmarks.running import memory

ENTRIES, WORKLOADS, FIRST_UID, TTL = 10_000, 1_000, 70_000, 60
SIGNED = 2000


def run() -> list[dict[str, Any]]:
    if os.geteuid() != 0:
        return [*_signing(), {"what": "1,000 workloads", "skipped": "a user for each workload: needs root"}]
    return [*_signing(), *_crowd()]


def _signing() -> list[dict[str, Any]]:
    from rempart.crypto import x509
    from rempart.crypto.jose import SigningKey
    from rempart.kernel.spiffe import SpiffeId
    from rempart.workloads.authority import create_root, sign_issuing

    pem, root_key = create_root("spiffe", "bank.example")
    key = x509.EcKey.generate()
    issuing_pem = sign_issuing(
        "spiffe",
        "bank.example",
        root_certificate_pem=pem,
        root_key_der=root_key,
        csr_pem=key.request().decode(),
        ttl=9e4,
    )
    issuing = x509.Certificate.parse(x509.pem_to_ders(issuing_pem)[0])
    body = b"".join(x509.EcKey.generate().request().splitlines()[1:-1])
    request = x509.CertificateRequest.parse(base64.b64decode(body))
    spiffe_id, now = SpiffeId.parse("spiffe://bank.example/w"), time.time()

    def svid() -> None:
        x509.sign_svid(request, spiffe_id, issuing=issuing, issuing_key=key, now=now, ttl=3600)

    raw, signing = x509.EcKey.generate(), SigningKey.generate("ES256")

    def signature() -> None:
        raw.request()  # one signature, and next to nothing around it

    def token() -> None:
        signing.sign({"sub": "spiffe://bank.example/w", "aud": "a", "iat": 1, "exp": 2}, typ="JWT")

    ours, limit, jwt = (_per_core_second(work) for work in (svid, signature, token))
    return [
        {
            "what": "X.509-SVIDs signed for an agent's batch, a core",
            "against": "bare certificate requests signed",
            "ours": f"{ours:.0f}/s",
            "peer": f"{limit:.0f}/s",
            "ratio": ours / limit,
            "target": "≥ 2000/s",
        },
        {"what": "JWT-SVIDs signed, a core", "ours": f"{jwt:.0f}/s", "against": "", "peer": ""},
    ]


def _per_core_second(work: Any) -> float:
    began = time.process_time()
    for _ in range(SIGNED):
        work()
    return SIGNED / (time.process_time() - began)


def _crowd() -> list[dict[str, Any]]:
    import httpx
    from tests.identity_support import running_identity
    from tests.support import eventually
    from tests.workload_crowd import crowd

    with running_identity(svid_ttl=TTL) as identity:
        for path in (identity.directory, identity.directory / "run"):
            path.chmod(0o711)
        identity.workload_api.chmod(0o777)
        socket = str(identity.directory / "run" / "admin" / "identity.sock")
        empty = memory(pid(identity))
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket), timeout=120) as client:
            began = time.monotonic()
            wanted = [entry(f"w{number}", FIRST_UID + number) for number in range(ENTRIES - 10)]
            client.post("http://identity/entries", json={"entries": wanted}).raise_for_status()
            applied, with_entries = time.monotonic() - began, memory(pid(identity))
            with crowd(identity.workload_api, first_uid=FIRST_UID, count=WORKLOADS) as workloads:
                eventually(lambda: workloads.have() == WORKLOADS, within=60)
                full = memory(pid(identity))
                waits = []
                for number in range(5):
                    before, began = len(workloads.given[5]), time.monotonic()
                    one = {"entries": [entry(f"new{number}", FIRST_UID + 5, f"h{number}")]}
                    client.post("http://identity/entries", json=one).raise_for_status()
                    eventually(lambda: len(workloads.given[5]) > before, within=30)  # noqa: B023 - asked at once
                    waits.append(workloads.given[5][before][0] - began)
                peak = renewals(workloads)
                restarted = _restart(identity, workloads)
    return [
        row(f"apply {ENTRIES:,} entries", f"{applied:.2f} s"),
        row("memory of identity: empty, entries, workloads too", f"{empty:.0f}, {with_entries:.0f}, {full:.0f} MB"),
        row(
            f"one entry to the SVID, {WORKLOADS:,} workloads",
            f"{sorted(waits)[2]:.2f} s (worst {max(waits):.2f} s)",
            "≤ 1 s",
        ),
        row(f"renewals in the fullest second, of {WORKLOADS:,} at {TTL} s", f"{peak}", "spread"),
        row(f"after kill -9: all {WORKLOADS:,} have new SVIDs", f"{restarted:.2f} s"),
    ]


def entry(name: str, uid: int, hint: str = "", parent: str = "") -> dict[str, object]:
    selectors = [f"unix:uid:{uid}"]
    return {"spiffe_id": f"spiffe://bank.example/{name}", "selectors": selectors, "hint": hint, "parent_id": parent}


def renewals(workloads: Any) -> int:
    known = {number: len(workloads.given[number]) for number in range(WORKLOADS)}
    time.sleep(TTL * 0.55)
    renewed = [at for number, first in known.items() for at, _ in workloads.given[number][first:]]
    return max(Counter(int(at) for at in renewed).values(), default=0)


def _restart(identity: Any, workloads: Any) -> float:
    from tests.support import eventually

    known = {number: len(workloads.given[number]) for number in range(WORKLOADS)}
    identity.stop(signal.SIGKILL)
    began = time.monotonic()
    identity.start()
    eventually(lambda: all(len(workloads.given[n]) > known[n] for n in range(WORKLOADS)), within=90)
    return time.monotonic() - began


def row(what: str, ours: str, target: str = "") -> dict[str, Any]:
    return {"what": what, "against": "", "ours": ours, "peer": "", "target": target}


def pid(identity: Any) -> int:
    return int(identity.process.pid)
