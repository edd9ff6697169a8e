"""The agent: the SPIFFE Workload API and SDS of a host whose server is another one (docs/many-hosts.md).

Composition root, in one process: joins, serves, and ends on SIGTERM or when the server says that it is no agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rempart.audit.journal import Journal
from rempart.backends.docker_engine import DockerEngine
from rempart.backends.kubelet import Kubelet
from rempart.crypto.aead import derive_key
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput
from rempart.protocols.http_pages import serve_pages
from rempart.workloads.agents.evidence import Evidence
from rempart.workloads.attestation import Attestor
from rempart.workloads.changes import Changes
from rempart.workloads.docker import DockerFacts
from rempart.workloads.grpc_server import GrpcServer
from rempart.workloads.identities import Identities
from rempart.workloads.kubernetes import KubernetesFacts
from rempart.workloads.model import Told, ToldRoots
from rempart.workloads.ports import ContainerFacts
from rempart.workloads.refusals import Refusals
from rempart.workloads.sds import SecretDiscovery
from rempart.workloads.workload_api import WorkloadApi

from .agent_events import JournalTelling, gap_in, own_events
from .agent_parts import MAX_BACKLOG, agent_parts
from .agent_status import AgentStatus
from .master_key import master_key
from .state_files import StateDirectory, disk_error


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """What `rempart agent run` was told. `bundle`: SPIFFE bundle (JSON) to trust, "" to trust whoever answers."""

    servers: Sequence[tuple[str, int]]
    trust_domain: str
    bundle: str
    evidence: Evidence
    state: Path
    socket: Path
    profile: str = "dev"
    docker_socket: str = ""
    kubelet_url: str = ""
    kubelet_ca: str = ""
    kubelet_token: str = ""


class NoSupervisor:
    """Here nobody started the others: there are no facts of a supervisor."""

    async def who(self, pid: int, *, hash_program: bool = False) -> Told | None:
        return None

    async def roots(self, kind: str, published: Sequence[str]) -> ToldRoots:
        raise BadInput("no_authority", "an agent has no authority")

    async def sign(self, kind: str, request_pem: str) -> str:
        raise BadInput("no_authority", "an agent has no authority")


async def run(options: AgentOptions, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the agent's SPIFFE ID. Raises RempartError when it can't
    begin, or can't go on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as closing:
        state = StateDirectory(options.state)
        state.open()
        closing.callback(state.close)
        for name in ("secrets", "data", "journal", "run"):
            (state.path / name).mkdir(mode=0o700, exist_ok=True)
        seal_key = derive_key(master_key(state.path, options.profile), "process/agent")
        journal = Journal(state.path / "journal", "agent", max_backlog_bytes=MAX_BACKLOG)
        closing.callback(journal.close)
        parts = agent_parts(
            options.trust_domain,
            options.servers,
            options.evidence,
            kept=state.path / "data" / "agent.sealed",
            seal_key=seal_key,
            journal=journal,
            clock=clock,
        )
        server, knowledge, membership, changes = parts.server, parts.knowledge, parts.membership, parts.changes
        closing.push_async_callback(server.close)
        if not await _unless(stop, membership.begin(options.bundle)):
            return
        refusals = Refusals(journal, clock)
        identities = parts.identities(Attestor(NoSupervisor(), containers=_containers(options)), refusals)
        own = state.path / "journal"
        telling = JournalTelling(own, own / "told", own_events(server), gap_in(journal, clock))
        closing.callback(telling.close)
        workloads = GrpcServer([WorkloadApi(identities), SecretDiscovery(identities)])
        status = AgentStatus(membership, knowledge, identities, journal)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(membership.keep_synchronised()),
            asyncio.create_task(membership.keep_fresh()),
            asyncio.create_task(telling.keep_telling()),
            asyncio.create_task(refusals.keep_flushing()),
            asyncio.create_task(forget_unregistered(identities, changes)),
        ]
        admin = await serve_pages(_listen(state.path / "run" / "agent.sock", 0o600), status.page)
        closing.push_async_callback(admin.stop)
        await workloads.serve(_listen(options.socket, 0o666))
        closing.callback(options.socket.unlink, missing_ok=True)
        ready(membership.spiffe_id)
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        workloads.close()
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.wait([*tasks, stopping], timeout=2.0)
        for task in done - {stopping}:
            task.result()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do it, and raise what it raises; False when `stop` came first."""
    doing, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if doing not in done:
        doing.cancel()
        return False
    doing.result()
    return True


async def forget_unregistered(identities: Identities, changes: Changes) -> None:
    while True:
        await changes.wait(changes.version, 60.0)
        identities.forget_unregistered()


def _listen(path: Path, mode: int) -> socket.socket:
    """Raises a RempartError where the directory doesn't take it."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)  # left by an agent that was killed: the state's lock says that it doesn't run
        listening.bind(str(path))
        os.chmod(path, mode)
    except OSError as error:
        listening.close()
        raise disk_error(error, f"listening on {path}") from None
    finally:
        os.umask(before)
    listening.listen(1024)
    listening.setblocking(False)
    return listening


def _containers(options: AgentOptions) -> list[ContainerFacts]:
    sources: list[ContainerFacts] = []
    if options.docker_socket:
        sources.append(DockerFacts(DockerEngine(Path(options.docker_socket))))
    if options.kubelet_url:
        ca, token = (Path(name) if name else None for name in (options.kubelet_ca, options.kubelet_token))
        sources.append(KubernetesFacts(Kubelet(options.kubelet_url, ca=ca, token=token)))
    return sources
