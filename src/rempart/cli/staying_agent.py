"""`rempart agent run`, without its command line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rempart.kernel.errors import BadInput

from .output import print_json, say


def run(
    *,
    server: Sequence[str],
    trust_domain: str,
    bundle: str | None,
    evidence: Sequence[str],
    socket: str,
    profile: str,
    docker_socket: str,
    kubelet: Sequence[str],
    app_dir: str | None,
    detach: bool,
    state: str,
    as_json: bool,
) -> None:
    """`kubelet`: its address, and the files with its CA and our token. `bundle`: a file; without one whoever answers
    first is trusted. `evidence`: as `servers.agent_evidence` reads it."""
    import uvloop

    from rempart.kernel.spiffe import parse_trust_domain
    from rempart.servers.agent_evidence import evidence_of
    from rempart.servers.workload_agent import AgentOptions
    from rempart.servers.workload_agent import run as run_agent

    trusted = Path(bundle) if bundle else None
    if trusted is None:
        say("UNSAFE: whoever answers first is trusted (--insecure-bootstrap)")
    if app_dir is not None:
        where = Path(app_dir), Path(state)
        _run_services(*where, server, trust_domain, trusted, evidence, profile, detach=detach, as_json=as_json)
        return
    kubelet_url, kubelet_ca, kubelet_token = kubelet
    options = AgentOptions(
        servers=[_address(one) for one in server],
        trust_domain=parse_trust_domain(trust_domain),
        bundle=_bundle(trusted, trust_domain) if trusted else "",
        evidence=evidence_of(evidence),
        state=Path(state),
        socket=Path(socket),
        profile=profile,
        docker_socket=docker_socket,
        kubelet_url=kubelet_url,
        kubelet_ca=kubelet_ca,
        kubelet_token=kubelet_token,
    )

    def ready(spiffe_id: str) -> None:
        if as_json:
            print_json({"spiffe_id": spiffe_id, "workload_api": f"unix://{options.socket}"})
        else:
            say(f"{spiffe_id} serves unix://{options.socket}")

    uvloop.run(run_agent(options, ready))


def _run_services(
    app_dir: Path,
    state: Path,
    server: Sequence[str],
    trust_domain: str,
    bundle: Path | None,
    evidence: Sequence[str],
    profile: str,
    *,
    detach: bool,
    as_json: bool,
) -> None:
    from rempart.servers.host import Request, prepare
    from rempart.servers.host_joining import HostRequest
    from rempart.wiring.settings import load

    from .supervised import attend

    began = time.monotonic()
    settings = load(app_dir)
    if trust_domain not in ("", settings.trust_domain):
        why = f"{app_dir} is of the trust domain {settings.trust_domain}, not {trust_domain}"
        raise BadInput("other_trust_domain", why, "leave --trust-domain out")
    joining = HostRequest(
        servers=[_address(one) for one in server],
        bundle=_bundle(bundle, settings.trust_domain) if bundle else "",
        evidence=evidence,
    )
    prepared = prepare(Request(state=state, app_dir=app_dir, profile=profile, elsewhere=joining))

    def tell(status: dict[str, Any]) -> None:
        if as_json:
            print_json(status)
            return
        for service in status["services"]:
            say(f"{service['name']} serves {service['mtls']}")
        say(f"ready: {len(status['services'])} services of {status['app']} on this host")

    attend(prepared, began, detach=detach, tell=tell)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput("bad_address", f"{text[:80]!r} is no address of a server", "write HOST:PORT")
    return host.strip("[]"), int(port)


def _bundle(file: Path, trust_domain: str) -> str:
    """A SPIFFE bundle (JSON); from PEM made into one."""
    from rempart.servers.agent_evidence import read

    text = read(file).decode("utf-8", "replace")
    if "-----BEGIN CERTIFICATE-----" not in text:
        return text
    from rempart.crypto.x509 import Certificate, pem_to_ders
    from rempart.workloads.agents.messages import encode
    from rempart.workloads.model import Bundle
    from rempart.workloads.workload_api import spiffe_bundle

    roots = tuple(map(Certificate.parse, pem_to_ders(text)))
    return encode(spiffe_bundle(Bundle(trust_domain, roots, (), 0))).decode()
