"""The identity process where SPIRE gives the trust domain's identities (`[workloads] backend = "spire"`).

It keeps SPIRE's entries what rempart.toml says, is how `rempart entry` and registrars reach SPIRE, and still makes the
gateway's web certificate, which SPIRE can't. It gives no SVIDs. Composition root, as `identity`.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from rempart.audit.journal import Journal
from rempart.backends.spire_api import SpireApi
from rempart.backends.spire_entry_store import SpireEntryStore, agent_of
from rempart.backends.spire_trust import spire_bundle
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, RempartError
from rempart.kernel.spiffe import SpiffeId
from rempart.protocols.http_pages import serve_pages
from rempart.servers.serving import until_stopped
from rempart.wiring.process_workloads import IdentitySettings, SpireSettings
from rempart.workloads.api import Administration
from rempart.workloads.attestation import Attestor
from rempart.workloads.changes import Changes
from rempart.workloads.elsewhere import Elsewhere, FixedEntries, NoPartners, WebOnly
from rempart.workloads.grpc_server import GrpcServer
from rempart.workloads.issuing import IssuingAuthority
from rempart.workloads.metrics import IdentityMetrics
from rempart.workloads.model import Bundle, Entry, Selector
from rempart.workloads.refusals import Refusals
from rempart.workloads.registrar import Registrar
from rempart.workloads.registrar_api import RegistrarApi
from rempart.workloads.root_follower import RootFollower
from rempart.workloads.sds import SecretDiscovery
from rempart.workloads.shared_registration import SharedRegistration
from rempart.workloads.supervisor_client import SupervisorClient

from .boot import Boot

PERIOD = 10.0
"""Seconds until an entry that somebody changed in SPIRE is known here; who asks sees it at once."""
RECONCILE = 30.0


class SelectorTranslator:
    """SPIRE's unix attestor knows no supervisor, but the user that each supervised process has to itself."""

    def __init__(self, users: dict[str, int]) -> None:
        self._users = users

    def __call__(self, selector: Selector) -> Selector:
        if selector.type != "supervisor":
            return selector
        name = f"{selector.value}-sidecar" if selector.kind == "sidecar" else selector.value
        if name not in self._users:
            raise BadInput(
                "spire_selector",
                f"{selector} says nothing to SPIRE, and {name[:80]!r} is no process of this host",
                "write what SPIRE's attestors find: unix:uid:…, k8s:…, docker:…",
            )
        return Selector("unix", "uid", str(self._users[name]))


async def run_spire(boot: Boot, settings: IdentitySettings, fixed: list[Entry], stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises RempartError when it can't begin."""
    spire = settings.spire or SpireSettings(agent_socket="", server_socket="")
    clock, changes, domain = SystemClock(), Changes(), settings.trust_domain
    async with contextlib.AsyncExitStack() as closing:
        journal = Journal(boot.journal_dir, boot.name)
        closing.callback(journal.close)
        api = SpireApi(Path(spire.server_socket))
        closing.push_async_callback(api.close)
        look = _Look(api, domain)
        bundle = await look()
        parent = spire.parent_id or await agent_of(api, domain)
        store = SpireEntryStore(api, domain, parent, SelectorTranslator(spire.users))
        await store.keep_fixed(fixed)
        registration = SharedRegistration(domain, fixed, store, journal, clock, changes.announce, period=PERIOD)
        await registration.refresh()
        supervisor = SupervisorClient(boot.run_dir / "supervisor.sock")
        told = await supervisor.roots("web", [])
        web = IssuingAuthority("web", supervisor, told.roots, journal, clock)
        elsewhere, refusals = Elsewhere(spire.agent_socket, bundle, look), Refusals(journal, clock)
        gateway = [entry for entry in fixed if str(entry.spiffe_id) == settings.gateway_spiffe_id]
        identities = WebOnly(
            trust_domain=domain,
            gateway=SpiffeId.parse(settings.gateway_spiffe_id),
            web_names=settings.web_names,
            svid_ttl=float(settings.svid_ttl),
            attestor=Attestor(supervisor),
            registration=FixedEntries(gateway),
            spiffe=elsewhere,
            web=web,
            jwt=elsewhere,
            recorder=journal,
            refusals=refusals,
            changes=changes,
            clock=clock,
            federation=elsewhere,
        )
        await web.start(15.0)
        sds = SecretDiscovery(identities)
        server = GrpcServer([sds])
        operator = f"uid:{settings.operator_uid}"
        authorities = {"web": web}
        admin = Administration(
            identities, registration, authorities, elsewhere, elsewhere.rotate, NoPartners(), operator=operator
        )
        metrics = IdentityMetrics(identities, registration, authorities, refusals, server, sds)
        handlers = {"admin": admin.handler(), "metrics": metrics.handler()}
        if "api" in boot.sockets:
            registrars = [Registrar(one.spiffe_id, tuple(one.paths)) for one in settings.registrars]
            handlers["api"] = RegistrarApi(identities, registration, registrars).handler()
        pages = [await serve_pages(boot.sockets[name], handler) for name, handler in handlers.items()]
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(web.keep_fresh()),
            asyncio.create_task(RootFollower(supervisor, authorities, None, changes).keep_following()),
            asyncio.create_task(refusals.keep_flushing()),
            asyncio.create_task(registration.keep_swept()),
            asyncio.create_task(registration.keep_following()),
            asyncio.create_task(elsewhere.keep_looking(changes.announce)),
            asyncio.create_task(_keep_fixed(store, fixed)),
        ]
        await server.serve(boot.sockets["workload"])
        boot.ready()
        await until_stopped(stop, pages, tasks, server.close)


class _Look:
    def __init__(self, api: SpireApi, trust_domain: str) -> None:
        self._api, self._domain = api, trust_domain

    async def __call__(self) -> Bundle:
        return spire_bundle(await self._api.bundle(), self._domain)


async def _keep_fixed(store: SpireEntryStore, fixed: list[Entry]) -> None:
    """Somebody may delete them in SPIRE."""
    while True:
        await asyncio.sleep(RECONCILE)
        with contextlib.suppress(RempartError):
            await store.keep_fixed(fixed)
