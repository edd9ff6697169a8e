"""The probe that runs as the deposit agent: `rempart run deposit-agent -- python -m rempart.attack.inside`.

A program that was taken over has the agent's identity, and tries for more: other identities, sockets, files. What it
saw goes to stdout as one JSON document `{certificate, key, token, uid, probes: {name: {blocked, observed}}}`; key and
token (a JWT-SVID for the trust domain) are the agent's own, which its owner lends to the attack.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from rempart.kernel.errors import RempartError
from rempart.protocols.protobuf import member
from rempart.sdk.spiffe import WorkloadApi, endpoint_path, fetch_jwt_svid

from . import inside_svids
from .raw_grpc import call

_CERTIFICATE_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
_FETCH_SECRETS = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
_FETCH_X509 = "/SpiffeWorkloadAPI/FetchX509SVID"

Probe = Mapping[str, Any]


def main() -> None:
    domain = os.environ.get("REMPART_TRUST_DOMAIN", "")
    svid = asyncio.run(_own())
    probes: dict[str, Probe] = {
        "sds-other": asyncio.run(_sds([f"spiffe://{domain}/payment", f"spiffe://{domain}/wallet"])),
        "sds-web": asyncio.run(_sds(["web", f"spiffe://{domain}/rempart/gateway"])),
        "jwt-other": _jwt(f"spiffe://{domain}/payment"),
        "no-header": asyncio.run(_without_header()),
        "sockets": _sockets(),
        "files": _files(),
        "processes": _processes(),
    }
    chain = b"".join(_pem("CERTIFICATE", der) for der in svid.chain)
    key = _pem("PRIVATE KEY", svid.private_key)
    token = fetch_jwt_svid(domain).token
    probes |= asyncio.run(inside_svids.probes(domain, token))
    told = {"certificate": chain.decode(), "key": key.decode(), "token": token, "uid": os.getuid(), "probes": probes}
    print(json.dumps(told))


async def _own() -> Any:
    async with WorkloadApi() as api:
        return await api.fetch_x509_svid()


def _pem(kind: str, der: bytes) -> bytes:
    return f"-----BEGIN {kind}-----\n".encode() + base64.encodebytes(der) + f"-----END {kind}-----\n".encode()


async def _guarded(call: Callable[[], Awaitable[bytes]], secret: bytes) -> Probe:
    from grpclib.exceptions import GRPCError, StreamTerminatedError

    try:
        answer = await call()
    except GRPCError as error:
        return {"blocked": True, "observed": error.status.name}
    except (TimeoutError, OSError, StreamTerminatedError) as error:
        return {"blocked": True, "observed": type(error).__name__}
    return {"blocked": secret not in answer, "observed": f"{len(answer)} bytes"}


async def _sds(names: list[str]) -> Probe:
    """A DiscoveryRequest (field 3: resource names, field 4: type URL; node with an id in field 2)."""
    node = member(2, member(1, b"attack"))
    request = node + b"".join(member(3, name.encode()) for name in names) + member(4, _CERTIFICATE_TYPE.encode())
    return await _guarded(lambda: call(_FETCH_SECRETS, request, {}), b"PRIVATE KEY")


async def _without_header() -> Probe:
    """SPIFFE Workload API section 6.1: no `workload.spiffe.io` header, no answer."""
    return await _guarded(lambda: call(_FETCH_X509, b"", {}), b"spiffe://")


def _jwt(spiffe_id: str) -> Probe:
    try:
        token = fetch_jwt_svid("anybody", spiffe_id).token
    except (RempartError, OSError) as error:
        return {"blocked": True, "observed": getattr(error, "code", type(error).__name__)}
    return {"blocked": False, "observed": f"a token of {len(token)} characters"}


def _run_dir() -> Path:
    return Path(endpoint_path()).parent


def _sockets() -> Probe:
    """Every socket that the state directory has by its layout, but the agent's own."""
    run = _run_dir()
    paths = [run / name for name in ("control.sock", "supervisor.sock", "audit.sock", "policies.sock")]
    for process in ("people", "identity", "pdp", "sequencer"):
        paths.append(run / "admin" / f"{process}.sock")
    for service in ("wallet", "users", "payment", "people", "observer"):
        paths += [
            run / "svc" / service / "app.sock",
            run / "svc" / service / f"{service}.sock",
            run / "pep" / f"{service}.sock",
            run / "events" / f"{service}.sock",
            run / "metrics" / f"{service}.sock",
        ]
    paths += [run / "egress" / "payment" / "wallet.sock", run / "egress" / "observer" / "people.sock"]
    opened = []
    for path in paths:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(path))
            except OSError:
                continue
            opened.append(str(path.relative_to(run)))
    return {"blocked": not opened, "observed": "opened " + ", ".join(opened) if opened else f"{len(paths)} refused"}


def _files() -> Probe:
    state = _run_dir().parent
    names = (
        "secrets/master.key",
        "secrets/spiffe-root.sealed",
        "demo-accounts.json",
        "data/people",
        "data/sequencer",
        "journals/pdp",
    )
    read = []
    for name in names:
        path = state / name
        try:
            if path.is_dir():
                os.listdir(path)
            else:
                path.read_bytes()
        except OSError:
            continue
        read.append(name)
    return {"blocked": not read, "observed": "read " + ", ".join(read) if read else f"{len(names)} refused"}


def _processes() -> Probe:
    """Memory and environment of every other process."""
    read = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (entry / "environ").read_bytes():
                    read.append(entry.name)
            except OSError:
                continue
    return {"blocked": not read, "observed": f"environments of {len(read)} processes" if read else "refused"}


if __name__ == "__main__":
    main()
