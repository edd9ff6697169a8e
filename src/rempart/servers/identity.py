"""The identity process: issuing CAs in memory, SPIFFE Workload API and Envoy SDS on one socket, administration.

Composition root: builds everything from the boot document, serves, and ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from rempart.audit.journal import Journal
from rempart.backends.bundle_endpoint import HttpsBundles
from rempart.backends.docker_engine import DockerEngine
from rempart.backends.kubelet import Kubelet
from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, RempartError, Unavailable
from rempart.kernel.event import Event, EventType, Severity
from rempart.kernel.spiffe import SpiffeId
from rempart.protocols.http_pages import serve_pages
from rempart.servers.serving import until_stopped
from rempart.wiring.process_workloads import IdentitySettings
from rempart.workloads.adoption import Adoption
from rempart.workloads.agents.administration import AgentAdministration
from rempart.workloads.api import Administration
from rempart.workloads.attestation import Attestor
from rempart.workloads.changes import Changes
from rempart.workloads.diagnosis import Diagnosis
from rempart.workloads.docker import DockerFacts
from rempart.workloads.federation import Federation, Partner
from rempart.workloads.grpc_server import GrpcServer
from rempart.workloads.identities import Identities
from rempart.workloads.issuing import IssuingAuthority
from rempart.workloads.jwt_authority import JwtAuthority
from rempart.workloads.kubernetes import KubernetesFacts
from rempart.workloads.local_x509 import LocalX509
from rempart.workloads.metrics import IdentityMetrics
from rempart.workloads.model import Entry, Selector
from rempart.workloads.partner_routes import PartnerRoutes
from rempart.workloads.ports import ContainerFacts
from rempart.workloads.public_documents import PATH, PublicDocuments
from rempart.workloads.refusals import Refusals
from rempart.workloads.registrar import Registrar
from rempart.workloads.registrar_api import RegistrarApi
from rempart.workloads.root_follower import RootFollower
from rempart.workloads.sds import SecretDiscovery
from rempart.workloads.supervisor_client import SupervisorClient
from rempart.workloads.workload_api import WorkloadApi

from .boot import Boot
from .bundle_listener import BundleListener
from .identity_agents import agent_store, host_api, serve_agents
from .identity_state import open_identity_state

FIRST_SIGNATURE_WITHIN = 15.0


def _roots(pem: str) -> tuple[Certificate, ...]:
    return tuple(Certificate.parse(der) for der in pem_to_ders(pem))


async def _roots_now(supervisor: SupervisorClient, kind: str, pem: str) -> tuple[Certificate, ...]:
    """`pem` is as old as the supervisor; they may have been rotated since."""
    try:
        return (await supervisor.roots(kind, [])).roots
    except Unavailable:
        return _roots(pem)


def _fixed_entries(settings: IdentitySettings) -> list[Entry]:
    entries = []
    for number, static in enumerate(settings.entries):
        selectors = frozenset(map(Selector.parse, static.selectors))
        if not selectors:
            raise BadInput("bad_entries", f"{static.spiffe_id} has no selectors: it would be everybody's")
        entries.append(
            Entry(
                id=f"rempart.toml-{number}",
                spiffe_id=SpiffeId.parse(static.spiffe_id),
                selectors=selectors,
                parent_id=static.parent_id,
                ttl=static.ttl,
                federates_with=tuple(static.federates_with),
                fixed=True,
            )
        )
    return entries


def _containers(settings: IdentitySettings) -> list[ContainerFacts]:
    sources: list[ContainerFacts] = []
    if settings.docker_socket:
        sources.append(DockerFacts(DockerEngine(Path(settings.docker_socket))))
    if settings.kubelet_url:
        ca, token = (Path(name) if name else None for name in (settings.kubelet_ca, settings.kubelet_token))
        sources.append(KubernetesFacts(Kubelet(settings.kubelet_url, ca=ca, token=token)))
    return sources


async def run(boot: Boot) -> None:
    """Serve until SIGTERM or SIGINT. Raises RempartError when it can't begin."""
    settings = boot.read_settings(IdentitySettings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    if settings.spire is not None:
        from .identity_spire import run_spire

        await run_spire(boot, settings, _fixed_entries(settings), stop)
        return
    clock = SystemClock()
    changes = Changes()
    async with contextlib.AsyncExitStack() as closing:
        journal = Journal(boot.journal_dir, boot.name)
        closing.callback(journal.close)
        state = await open_identity_state(
            settings.state,
            boot.data_dir,
            boot.keys[boot.name],
            trust_domain=settings.trust_domain,
            fixed=_fixed_entries(settings),
            issuing_ttl=float(settings.issuing_ttl),
            recorder=journal,
            clock=clock,
            changes=changes,
        )
        closing.push_async_callback(state.close)
        registration = state.registration
        supervisor = SupervisorClient(boot.run_dir / "supervisor.sock")
        given = {"spiffe": settings.spiffe_root_pem, "web": settings.web_root_pem}
        spiffe, web = [
            IssuingAuthority(kind, supervisor, await _roots_now(supervisor, kind, pem), journal, clock)
            for kind, pem in given.items()
        ]
        issuer = settings.public_url + PATH if settings.public_url else f"spiffe://{settings.trust_domain}"
        jwt = JwtAuthority(
            settings.trust_domain,
            state.bundle,
            spiffe.roots,
            clock,
            key_ttl=float(settings.issuing_ttl),
            issuer=issuer,
        )
        signer = LocalX509(spiffe, state.bundle, clock, ttl=float(settings.svid_ttl))
        refusals = Refusals(journal, clock)
        federation = Federation(
            [Partner(**msgspec.to_builtins(one)) for one in settings.partners],
            HttpsBundles(),
            path=boot.data_dir / "partners.sealed",
            seal_key=boot.keys[boot.name],
            ours=lambda: [root.fingerprint for root in signer.roots],
            recorder=journal,
            clock=clock,
            announce=changes.announce,
        )
        federation.load()
        attestor = Attestor(supervisor, containers=_containers(settings))
        identities = Identities(
            trust_domain=settings.trust_domain,
            gateway=SpiffeId.parse(settings.gateway_spiffe_id),
            web_names=settings.web_names,
            svid_ttl=float(settings.svid_ttl),
            attestor=attestor,
            registration=registration,
            spiffe=signer,
            web=web,
            jwt=jwt,
            recorder=journal,
            refusals=refusals,
            changes=changes,
            clock=clock,
            federation=federation,
            refresh_hint=settings.refresh_hint,
        )
        await jwt.advance()
        await asyncio.gather(spiffe.start(FIRST_SIGNATURE_WITHIN), web.start(FIRST_SIGNATURE_WITHIN))
        await state.known_to_all()

        async def rotate_jwt(operator: str, lead: float | None) -> float | None:
            await journal.record(
                Event(
                    type=EventType.AUTHORITY_ROTATED,
                    at=clock.now(),
                    success=True,
                    operator=operator,
                    severity=Severity.INFO if lead is None else Severity.HIGH,
                    reason="asked for by the operator" if lead is None else "the JWT-SVID keys are compromised",
                    service="identity",
                    after={"kind": "jwt"},
                )
            )
            gone_at = None if lead is None else await jwt.replace_compromised(lead)
            if lead is None:
                await jwt.advance(at_once=True)
            changes.announce()
            return gone_at

        sds = SecretDiscovery(identities)
        server = GrpcServer([WorkloadApi(identities), sds], greet=attestor.greet)
        authorities = {"spiffe": spiffe, "web": web}
        operator = f"uid:{settings.operator_uid}"
        agents = None
        if "agents" in boot.sockets:
            agents = serve_agents(
                settings.agents,
                await closing.enter_async_context(agent_store(boot.data_dir / "agents.db", state.database)),
                boot.sockets["agents"],
                identities=identities,
                registration=registration,
                x509=signer,
                jwt=jwt,
                issuer=issuer,
                root=lambda: spiffe.signed_by or "",
                journal=journal,
                clock=clock,
                hosts=host_api(settings, journal, clock),
            )
        admin = Administration(
            identities,
            registration,
            authorities,
            jwt,
            rotate_jwt,
            federation,
            operator=operator,
            servers=state.servers,
            more=[
                *(AgentAdministration(agents.roster, registration, operator).routes() if agents else ()),
                *PartnerRoutes(federation).routes(),
                *Adoption(settings.trust_domain, state.bundle, journal, clock, changes.announce, operator).routes(),
                *Diagnosis(attestor, registration, supervisor, signer, clock).routes(),
            ],
        )
        metrics = IdentityMetrics(identities, registration, authorities, refusals, server, sds)
        handlers = {"admin": admin.handler(), "metrics": metrics.handler()}
        if "api" in boot.sockets:  # behind a sidecar: for registrars, or for everybody
            registrars = [Registrar(one.spiffe_id, tuple(one.paths)) for one in settings.registrars]
            documents = PublicDocuments(identities, settings.public_url + PATH) if settings.public_url else None
            public = documents.routes() if documents else []
            handlers["api"] = RegistrarApi(identities, registration, registrars, public).handler()
        pages = [await serve_pages(boot.sockets[name], handler) for name, handler in handlers.items()]
        tasks: list[asyncio.Task[Any]] = []
        if settings.bundle_endpoint is not None and "bundle" in boot.sockets:
            endpoint = BundleListener(identities, boot.sockets["bundle"], signer, settings.bundle_endpoint, clock)
            tasks.append(asyncio.create_task(endpoint.serve()))
        tasks += [
            asyncio.create_task(spiffe.keep_fresh()),
            asyncio.create_task(web.keep_fresh()),
            asyncio.create_task(RootFollower(supervisor, authorities, jwt, changes).keep_following()),
            asyncio.create_task(refusals.keep_flushing()),
            asyncio.create_task(registration.keep_swept()),
            *(asyncio.create_task(follow()) for follow in state.follow),
            *(asyncio.create_task(federation.keep_fresh(name)) for name in federation.fetched),
            asyncio.create_task(_keep_jwt_fresh(jwt, changes)),
        ]
        if agents:
            tasks += [
                asyncio.create_task(agents.listener.serve()),
                asyncio.create_task(agents.refusals.keep_flushing()),
                asyncio.create_task(agents.roster.keep_swept()),
            ]
        await server.serve(boot.sockets["workload"])
        boot.ready()
        await until_stopped(stop, pages, tasks, server.close)


async def _keep_jwt_fresh(jwt: JwtAuthority, changes: Changes) -> None:
    while True:
        with contextlib.suppress(RempartError):  # the disk is full: the keys there are stay
            if await jwt.advance():
                changes.announce()
        await asyncio.sleep(1.0)


def main() -> None:
    try:
        uvloop.run(run(Boot.from_environment()))
    except RempartError as error:
        print(f"identity: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
