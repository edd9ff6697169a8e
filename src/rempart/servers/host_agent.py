"""The agent of a host that runs services: identities, as `workload_agent` has them, and what else the sidecars and the
PDP need of the gateway's host: the policy, whose tokens are over, and a way for the record (docs/many-hosts.md).

Composition root. Sockets: `workload`, `epochs` (the PDP follows it), `events:PROGRAM`, `admin`, `metrics`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from rempart.audit.journal import Journal
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, RempartError
from rempart.protocols.http_pages import serve_pages
from rempart.wiring.process_workloads import HostAgentSettings
from rempart.workloads.attestation import Attestor
from rempart.workloads.grpc_server import GrpcServer
from rempart.workloads.refusals import Refusals
from rempart.workloads.sds import SecretDiscovery
from rempart.workloads.supervisor_client import SupervisorClient
from rempart.workloads.workload_api import WorkloadApi

from .agent_events import JournalTelling, gap_in, host_events
from .agent_evidence import evidence_to_join_again
from .agent_parts import MAX_BACKLOG, agent_parts
from .agent_status import AgentStatus
from .boot import Boot
from .host_policy import EpochRelay, PolicyCopy
from .host_record import HostRecord
from .serving import until_stopped
from .workload_agent import forget_unregistered

KEPT = "agent.sealed"


async def run(boot: Boot) -> None:
    """Serve until SIGTERM or SIGINT. Raises RempartError when it can't begin, or is no agent any more."""
    settings = boot.read_settings(HostAgentSettings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as closing:
        journal = Journal(boot.journal_dir, boot.name, max_backlog_bytes=MAX_BACKLOG)
        closing.callback(journal.close)
        parts = agent_parts(
            settings.trust_domain,
            settings.servers,
            evidence_to_join_again(settings.evidence),
            kept=boot.data_dir / KEPT,
            seal_key=boot.keys[boot.name],
            journal=journal,
            clock=clock,
        )
        closing.push_async_callback(parts.server.close)
        if not (boot.data_dir / KEPT).exists():  # whom to trust stands there: without it nobody is
            raise BadInput("not_joined", "this host has not joined", "start it again: `rempart agent run --app`")
        await parts.membership.begin("")
        refusals = Refusals(journal, clock)
        attestor = Attestor(SupervisorClient(boot.run_dir / "supervisor.sock"))
        identities = parts.identities(attestor, refusals)
        workloads = GrpcServer([WorkloadApi(identities), SecretDiscovery(identities)], greet=attestor.greet)
        gap = gap_in(journal, clock)
        tellings: dict[str, JournalTelling] = {}
        for name in settings.journals:
            directory = Path(settings.journals_dir) / name
            telling = JournalTelling(directory, boot.data_dir / f"{name}.told", host_events(parts.server, name), gap)
            closing.callback(telling.close)
            tellings[name] = telling
        own = tellings[boot.name]
        record = HostRecord(
            journal, boot.sockets, settings.event_sources, settings.access_logs, lambda: own.backlog_bytes
        )
        status = AgentStatus(parts.membership, parts.knowledge, identities, journal)
        epochs = EpochRelay(parts.server)
        for name in ("admin", "metrics"):
            closing.push_async_callback((await serve_pages(boot.sockets[name], status.page)).stop)
        for page, listening in record.servers:
            await page.listen(listening)
        working: list[asyncio.Task[Any]] = [
            asyncio.create_task(parts.membership.keep_synchronised()),
            asyncio.create_task(parts.membership.keep_fresh()),
            asyncio.create_task(refusals.keep_flushing()),
            asyncio.create_task(forget_unregistered(identities, parts.changes)),
            asyncio.create_task(record.keep_counting()),
            asyncio.create_task(epochs.serve(boot.sockets["epochs"])),
            *(asyncio.create_task(telling.keep_telling()) for telling in tellings.values()),
        ]
        if settings.policy_dir:
            policy = PolicyCopy(Path(settings.policy_dir), parts.server)
            working.append(asyncio.create_task(policy.keep_current()))
        await workloads.serve(boot.sockets["workload"])
        boot.ready()
        await until_stopped(stop, [page for page, _ in record.servers], working, workloads.close)


def main() -> None:
    try:
        uvloop.run(run(Boot.from_environment()))
    except RempartError as error:
        print(f"host-agent: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
