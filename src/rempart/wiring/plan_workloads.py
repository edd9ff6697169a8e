"""The part of the plan that the identity process is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rempart.kernel.spiffe import SpiffeId

from . import process_workloads as ps
from .catalog import epochs_path
from .plan_mesh import Member
from .plan_model import Kind
from .ports import Ports
from .settings import AppSettings

FIRST = {"agents": 8081, "bundle": 8082}


def static_entries(app: AppSettings, gateway_id: str, members: Sequence[tuple[Member, Kind]]) -> list[ps.StaticEntry]:
    """Who is who by rempart.toml: the program and the sidecar of each member, and clients by their own selectors."""

    agents = {"": "", **{host.name: host.agent for host in app.hosts}}

    def entry(spiffe_id: str, *selectors: str, partners: Sequence[str] = (), host: str = "") -> ps.StaticEntry:
        return ps.StaticEntry(
            spiffe_id=spiffe_id, selectors=list(selectors), federates_with=list(partners), parent_id=agents[host]
        )

    entries = [entry(gateway_id, "supervisor:system:gateway")]
    remotes = {remote.name: remote.spiffe_id for remote in app.workloads.remotes}
    for member, kind in members:
        foreign = (*member.foreign, *(remotes[callee] for callee in member.calls if callee in remotes))
        partners = sorted({SpiffeId.parse(one).trust_domain for one in foreign})
        for selector in (f"supervisor:{kind.value}:{member.name}", f"supervisor:sidecar:{member.name}"):
            entries.append(entry(member.spiffe_id, selector, partners=partners, host=member.host))
        for number in range(2, member.instances + 1):
            selector = f"supervisor:{kind.value}:{member.name}-{number}"
            entries.append(entry(member.spiffe_id, selector, partners=partners))
    return [*entries, *(entry(one.spiffe_id, *one.selectors, host=one.host) for one in app.clients if one.selectors)]


def identity_settings(
    app: AppSettings,
    *,
    spiffe_root: str,
    web_root: str,
    web_names: list[str],
    gateway_id: str,
    entries: list[ps.StaticEntry],
    operator_uid: int,
    hosts: dict[str, ps.HostSettings],
    run: Path,
    unsafe_disabled: list[str],
) -> ps.IdentitySettings:
    return ps.IdentitySettings(
        trust_domain=app.trust_domain,
        spiffe_root_pem=spiffe_root,
        web_root_pem=web_root,
        web_names=web_names,
        gateway_spiffe_id=gateway_id,
        entries=entries,
        svid_ttl=app.svid_ttl,
        operator_uid=operator_uid,
        registrars=[
            ps.RegistrarSettings(spiffe_id=one.spiffe_id, paths=list(one.paths)) for one in app.workloads.registrars
        ],
        public_url=app.workloads.public_url,
        refresh_hint=app.workloads.refresh_hint,
        bundle_endpoint=app.workloads.bundle_endpoint.settings if app.workloads.bundle_endpoint else None,
        partners=list(app.workloads.partners),
        docker_socket=app.workloads.docker_socket,
        state=app.workloads.state,
        spire=app.workloads.spire,
        kubelet_url=app.workloads.kubelet.url,
        kubelet_ca=app.workloads.kubelet.ca,
        kubelet_token=app.workloads.kubelet.token,
        agents=app.workloads.agents.settings if app.workloads.agents else ps.AgentSettings(),
        hosts=hosts,
        epochs_sockets=[str(run.parent / epochs_path(n + 1)) for n in range(app.state.instances)] if hosts else [],
        policies_socket=str(run / "policies.sock") if hosts and app.policy_dir else "",
        unsafe_disabled=unsafe_disabled,
    )


def identity_listeners(app: AppSettings, ports: Ports) -> dict[str, tuple[str, int]]:
    """Where identity listens for other hosts: `agents`, and `bundle` for partners."""
    wanted = {
        "agents": app.workloads.agents.listen if app.workloads.agents else None,
        "bundle": app.workloads.bundle_endpoint.listen if app.workloads.bundle_endpoint else None,
    }
    return {
        purpose: listen if listen[1] else (listen[0], ports.take(purpose, FIRST[purpose], listen[0]))
        for purpose, listen in wanted.items()
        if listen is not None
    }
