"""The document of `rempart status --json`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

from rempart import __version__
from rempart.wiring.plan_model import Kind, Plan, Process, Risk

from .managed import Managed


class Supervising(Protocol):
    """What of the supervisor is told. `adopted` maps a pid to its start time and the client it runs as."""

    @property
    def plan(self) -> Plan: ...
    @property
    def managed(self) -> Mapping[str, Managed]: ...
    @property
    def adopted(self) -> Mapping[int, tuple[int, Process]]: ...
    @property
    def ready(self) -> bool: ...
    @property
    def confined(self) -> bool: ...
    @property
    def demo_accounts(self) -> str | None: ...


def status_document(supervisor: Supervising) -> dict[str, Any]:
    plan, managed = supervisor.plan, supervisor.managed
    return {
        "ready": supervisor.ready and all(one.ready for one in managed.values()),
        "version": __version__,
        "profile": plan.profile,
        "app": plan.app_name,
        "app_dir": str(plan.app_directory),
        "state": str(plan.state),
        "supervisor": os.getpid(),
        "trust_domain": plan.trust_domain,
        "gateway": {"url": plan.gateway_url, "ca": str(plan.state / "tls" / "ca.pem")},
        "issuer": plan.issuer,
        "workload_api": f"unix://{plan.state}/run/workload.sock",
        "agents": "{}:{}".format(*plan.tcp_ports["agents"]) if "agents" in plan.tcp_ports else None,
        "services": [
            {
                "name": service.name,
                "spiffe_id": service.spiffe_id,
                "mtls": service.mtls,
                "routes": list(service.routes),
                "host": service.host or None,
                "address": managed[service.process].process.address if service.process in managed else "",
                "pids": _pids(managed.get(service.process)),
            }
            for service in plan.exposed
        ],
        "clients": [
            {"name": one.name, "spiffe_id": one.spiffe_id, "pids": _client_pids(supervisor, one)}
            for one in plan.processes
            if one.kind is Kind.CLIENT
        ],
        "processes": [_process(one) for one in managed.values()],
        "demo_accounts": supervisor.demo_accounts,
        "demo": list(plan.demo),
        "unsafe_disabled": list(plan.unsafe_disabled),
        "risks": [asdict(risk) for risk in (*plan.risks, *_host_risks(supervisor.confined))],
    }


def _pids(managed: Managed | None) -> list[int]:
    """None of a service of another host."""
    return [managed.pid] if managed is not None and managed.pid is not None else []


def _process(managed: Managed) -> dict[str, Any]:
    return {
        "name": managed.name,
        "kind": managed.process.kind.value,
        "pid": managed.pid,
        "ready": managed.ready,
        "state": managed.state,
        "restarts": managed.restarts,
        **({"error": managed.error} if managed.error else {}),
    }


def _client_pids(supervisor: Supervising, process: Process) -> list[int]:
    pids = [pid for pid, (_, client) in supervisor.adopted.items() if client.name == process.name]
    managed = supervisor.managed.get(process.name)
    return [*pids, managed.pid] if managed and managed.pid else pids


def _host_risks(confined: bool) -> list[Risk]:
    if os.geteuid() != 0:
        risk = "all processes run as one user: one that is taken over can reach the files and memory of the others"
        return [Risk("all", risk, "run `rempart up` as root: each process then gets a user and a view of its own")]
    if not confined:
        risk = "no CAP_SYS_ADMIN: processes have users of their own, but no view of their own of the state directory"
        return [Risk("all", risk, "give the container CAP_SYS_ADMIN, or keep others off this host")]
    return []
