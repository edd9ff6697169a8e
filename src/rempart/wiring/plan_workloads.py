"""The part of the plan that the identity process is told."""

from __future__ import annotations

from collections.abc import Sequence

from . import process_settings as ps
from .plan_mesh import Member
from .plan_model import Kind
from .settings import AppSettings


def static_entries(app: AppSettings, gateway_id: str, members: Sequence[tuple[Member, Kind]]) -> list[ps.StaticEntry]:
    """Who is who by rempart.toml: the program and the sidecar of each member, and clients by their own selectors."""

    def entry(spiffe_id: str, *selectors: str) -> ps.StaticEntry:
        return ps.StaticEntry(spiffe_id=spiffe_id, selectors=list(selectors))

    entries = [entry(gateway_id, "supervisor:system:gateway")]
    for member, kind in members:
        entries.append(entry(member.spiffe_id, f"supervisor:{kind.value}:{member.name}"))
        entries.append(entry(member.spiffe_id, f"supervisor:sidecar:{member.name}"))
        for number in range(2, member.instances + 1):
            entries.append(entry(member.spiffe_id, f"supervisor:{kind.value}:{member.name}-{number}"))
    return [*entries, *(entry(client.spiffe_id, *client.selectors) for client in app.clients if client.selectors)]


def identity_settings(
    app: AppSettings,
    *,
    spiffe_root: str,
    web_root: str,
    web_names: list[str],
    gateway_id: str,
    entries: list[ps.StaticEntry],
    operator_uid: int,
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
        partners=list(app.workloads.partners),
        docker_socket=app.workloads.docker_socket,
        state=app.workloads.state,
        spire=app.workloads.spire,
        kubelet_url=app.workloads.kubelet.url,
        kubelet_ca=app.workloads.kubelet.ca,
        kubelet_token=app.workloads.kubelet.token,
        agents=app.workloads.agents.settings if app.workloads.agents else ps.AgentSettings(),
        unsafe_disabled=unsafe_disabled,
    )
