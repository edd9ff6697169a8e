"""Who takes part in the mesh, and where each one's sidecar is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .catalog import Own
from .plan_hosts import Places
from .plan_mesh import Member
from .ports import EGRESS_FIRST, MTLS_FIRST, Ports
from .settings import AppSettings


def mesh_members(app: AppSettings, own: Iterable[Own], state: Path, places: Places, ports: Ports) -> tuple[Member, ...]:
    """In the order that ports are given out: services, Rempart's own, clients. The same on every host but for how
    each is reached from there. Raises Unavailable `no_free_port`."""
    called_by = places.called_by()

    def place(name: str, host: str) -> dict[str, Any]:
        listens = places.listens(name, host, called_by)
        port = places.ports.get(name)
        if port is None:  # a port of another host can't be tried from here: over there it is said when it is taken
            port = ports.take(f"mtls:{name}", MTLS_FIRST, "127.0.0.1" if host else listens)
        return {"mtls_port": port, "host": host, "listens": listens, "reached": places.reached(host, listens)}

    members = []
    for service in app.services:
        address = (
            f"127.0.0.1:{service.port}" if service.port else f"unix:{state}/run/svc/{service.name}/{service.socket}"
        )
        members.append(
            Member(
                service.name,
                service.spiffe_id,
                service.routes,
                service.calls,
                address,
                tcp=bool(service.port),
                foreign=service.callers,
                **place(service.name, service.host),
            )
        )
    for one in own:
        if one.behind_sidecar:
            spiffe_id = f"spiffe://{app.trust_domain}/rempart/{one.name}"
            address = f"unix:{state}/run/svc/{one.name}/app.sock"
            where = {**place(one.name, ""), "instances": app.state.instances if one.name == "people" else 1}
            members.append(Member(one.name, spiffe_id, one.routes, one.calls, address, **where))
    for client in app.clients:
        members.append(Member(client.name, client.spiffe_id, (), client.calls, "", host=client.host))
    for member in members:
        if member.tcp and places.here(member):  # a program that insists on TCP has its ways out as TCP ports as well
            for callee in member.calls:
                member.egress_ports[callee] = ports.take(f"egress:{member.name}:{callee}", EGRESS_FIRST)
    return tuple(members)
