"""Identity's part for agents on other hosts: who they are, and what they are given."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from rempart.audit.journal import MAX_BACKLOG_BYTES, Journal
from rempart.audit.segment import segment_numbers, segment_path
from rempart.backends.kubernetes_tokens import PublishedKeys, TokenReview
from rempart.backends.sql import Database
from rempart.backends.sql_agents import SCHEMA, SqlAgents
from rempart.backends.sqlite_sql import SqliteDatabase
from rempart.crypto.x509 import pem_to_ders
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event
from rempart.protocols.http_pages import paged
from rempart.protocols.ocsf import encode
from rempart.wiring.process_workloads import AgentSettings, ClusterSettings, IdentitySettings
from rempart.workloads.agents.api import AgentApi
from rempart.workloads.agents.host_api import HostApi, hosts_of
from rempart.workloads.agents.joining import (
    Cluster,
    ExistingSvid,
    Joining,
    JoinMethod,
    JoinToken,
    Kubernetes,
    Nonces,
    Possession,
)
from rempart.workloads.agents.roster import Roster, agent_refusals
from rempart.workloads.agents.signing import AgentSigning
from rempart.workloads.agents.telling import Telling
from rempart.workloads.identities import Identities
from rempart.workloads.jwt_authority import JwtAuthority
from rempart.workloads.local_x509 import LocalX509
from rempart.workloads.refusals import Refusals
from rempart.workloads.registration import Registration

from .agent_listener import AgentListener
from .identity_hosts import LocalEnforcement

MAX_TOLD = MAX_BACKLOG_BYTES // 4
"""Bytes in identity's journal from which on agents wait."""


@dataclass(frozen=True, slots=True)
class Agents:
    roster: Roster
    listener: AgentListener
    refusals: Refusals


@contextlib.asynccontextmanager
async def agent_store(path: Path, shared: Database | None) -> AsyncIterator[SqlAgents]:
    """In the database that servers share, else in a file. Raises Unavailable `store_unavailable`."""
    database = shared or SqliteDatabase(path)
    try:
        await database.ensure(SCHEMA)
        yield SqlAgents(database)
    finally:
        if shared is None:
            await database.close()


def serve_agents(
    settings: AgentSettings,
    store: SqlAgents,
    listening: socket.socket,
    *,
    identities: Identities,
    registration: Registration,
    x509: LocalX509,
    jwt: JwtAuthority,
    issuer: str,
    root: Callable[[], str],
    journal: Journal,
    clock: Clock,
    hosts: HostApi | None = None,
) -> Agents:
    """Everything is built and nothing runs yet."""
    roster = Roster(identities.trust_domain, store, journal, clock, identities.changes.announce)
    refusals = agent_refusals(journal, clock)
    nonces = Nonces(clock)
    methods: dict[str, JoinMethod] = {"join_token": JoinToken(roster)}
    if settings.x509pop_roots:
        methods["x509pop"] = Possession(roster, nonces, pem_to_ders(settings.x509pop_roots), clock)
    if settings.svid:

        def trusted() -> list[bytes]:
            return [root.der for root in x509.roots]

        methods["svid"] = ExistingSvid(roster, nonces, trusted, settings.svid, clock)

    if settings.kubernetes:
        methods["k8s"] = Kubernetes(roster, {one.name: _cluster(one, clock) for one in settings.kubernetes})

    api = AgentApi(
        identities=identities,
        registration=registration,
        roster=roster,
        joining=Joining(methods),
        nonces=nonces,
        signing=AgentSigning(registration, x509, jwt, journal, refusals, clock),
        telling=Telling(told_in(journal), clock),
        x509=x509,
        jwt=jwt,
        issuer=issuer,
        root=root,
        refusals=refusals,
        clock=clock,
        hosts=hosts,
    )
    return Agents(
        roster, AgentListener(paged(api.handler()), listening, x509, identities.trust_domain, clock), refusals
    )


def host_api(settings: IdentitySettings, journal: Journal, clock: Clock) -> HostApi:
    """For the agents of hosts with services; others are refused, also where rempart.toml names no hosts."""
    enforcement = LocalEnforcement(settings.policies_socket, settings.epochs_sockets)
    return HostApi(hosts_of(settings.hosts), enforcement, told_in(journal), clock)


def told_in(journal: Journal) -> Callable[[Event, str], Awaitable[None]]:
    """Records what agents tell, while there is room: the rest of the journal is kept for what is recorded here, without
    which nobody gets an identity. Raises Unavailable `record_behind`: agents keep their events, and tell them later."""

    async def record(event: Event, source: str) -> None:
        if journal.backlog_bytes > MAX_TOLD and _on_disk(journal.directory) > MAX_TOLD:
            raise Unavailable("record_behind", "the record is behind: events of other hosts wait", "tell them later")
        await journal.record_bytes(encode(event, source), repeat=True)

    return record


def _on_disk(directory: Path) -> int:
    """Bytes of segments: the journal itself doesn't notice at once what was integrated."""
    total = 0
    for number in segment_numbers(directory):
        with contextlib.suppress(FileNotFoundError):
            total += segment_path(directory, number).stat().st_size
    return total


def _cluster(settings: ClusterSettings, clock: Clock) -> Cluster:
    ca, token = (Path(name) if name else None for name in (settings.ca, settings.token))
    tokens = (
        TokenReview(settings.api, ca=ca, token=token)
        if settings.api
        else PublishedKeys(Path(settings.jwks), settings.issuer, clock)
    )
    return Cluster(tokens, frozenset(settings.service_accounts), settings.audience)
