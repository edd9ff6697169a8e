"""The part of a plan that is about other hosts: which member is where, and how it is reached from here."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rempart.kernel.errors import BadInput

from . import process_workloads as ps
from .host_settings import is_address
from .plan_mesh import Member
from .settings import AppSettings, Client, Service

POLICY = "policy/current"
"""Below the state directory of another host: a link to the policy that was told last."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """This is `told.name`, one of rempart.toml's hosts: what the server told its agent, and how that reaches it."""

    told: ps.HostSettings
    servers: tuple[tuple[str, int], ...]
    evidence: tuple[str, ...] = ()


class Places:
    """Where things are, as seen from this host. Raises BadInput `no_address` where only the gateway's name is known."""

    def __init__(self, app: AppSettings, here: Elsewhere | None) -> None:
        self.app = app
        self.name = here.told.name if here else ""
        self.ports = here.told.ports if here else {}
        """Of sidecars, where they were given out already."""
        self._addresses = {host.name: host.address for host in app.hosts}
        listen = app.workloads.agents.listen[0] if app.workloads.agents else "127.0.0.1"
        self._addresses[""] = (here.told.address or here.servers[0][0]) if here else listen
        if here and not is_address(self._addresses[""]):
            why = f"the sidecars here reach the gateway's host by its address, and {self._addresses['']!r} is a name"
            raise BadInput("no_address", why, "give --server ADDRESS:PORT, or [workloads.agents] `listen` an address")

    def here(self, program: Service | Client | Member) -> bool:
        return program.host == self.name

    def listens(self, name: str, host: str, called_by: Mapping[str, set[str]]) -> str:
        """The address of a sidecar: the loopback where nobody of another host has to reach it."""
        far = host or any(one != host for one in called_by.get(name, ()))
        return self._addresses[host] if far else "127.0.0.1"

    def reached(self, host: str, listens: str) -> str:
        """From here."""
        if host != self.name:
            return self._addresses[host]
        address = ipaddress.ip_address(listens)
        return ("::1" if address.version == 6 else "127.0.0.1") if address.is_unspecified else listens

    def called_by(self) -> dict[str, set[str]]:
        """For each member the hosts of those that call it; people's keys are fetched by every sidecar of a service."""
        found: dict[str, set[str]] = {}
        programs: tuple[Service | Client, ...] = (*self.app.services, *self.app.clients)
        for program in programs:
            for callee in (*program.calls, *(("people",) if isinstance(program, Service) else ())):
                found.setdefault(callee, set()).add(program.host)
        return found


def host_settings(
    app: AppSettings, gateway: tuple[str, int], members: tuple[Member, ...]
) -> dict[str, ps.HostSettings]:
    """What the agents of the hosts are told, by their SPIFFE IDs."""
    if app.workloads.agents is None:
        return {}
    listen = app.workloads.agents.listen[0]
    programs: tuple[Service | Client, ...] = (*app.services, *app.clients)
    address = "" if ipaddress.ip_address(listen).is_unspecified else listen
    return {
        host.agent: ps.HostSettings(
            name=host.name,
            toml=app.digest,
            gateway=gateway,
            address=address,
            ports={member.name: member.mtls_port for member in members},
            services=[program.name for program in programs if program.host == host.name],
        )
        for host in app.hosts
    }


def host_agent_settings(
    app: AppSettings, elsewhere: Elsewhere, state: Path, programs: list[str]
) -> ps.HostAgentSettings:
    return ps.HostAgentSettings(
        trust_domain=app.trust_domain,
        servers=list(elsewhere.servers),
        journals_dir=str(state / "journals"),
        journals=["host-agent", "pdp", "supervisor"],
        event_sources=programs,
        policy_dir=str(state / POLICY) if app.policy_dir else "",
        evidence=list(elsewhere.evidence),
    )
