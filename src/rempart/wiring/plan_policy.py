"""The part of the plan that the PDP is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rempart.people.administration.roles import complete

from . import process_settings as ps
from .plan_mesh import Member
from .plan_names import own_origins
from .settings import AppSettings


def pdp_settings(
    app: AppSettings,
    *,
    issuer: str,
    gateway_id: str,
    members: Sequence[Member],
    points: list[ps.EnforcementPoint],
    policy_dir: Path | None,
    epochs: list[str],
    risk_socket: str,
    unsafe_disabled: list[str],
) -> ps.PdpSettings:
    """`members` are all of the mesh; `points` those that ask this PDP."""
    services = {
        m.name: {"spiffe_id": m.spiffe_id, "routes": list(m.routes), "calls": list(m.calls), "callers": list(m.foreign)}
        for m in members
    }
    data: dict[str, Any] = {"trust_domain": app.trust_domain, "services": services, "gateway": gateway_id}
    data |= {"scoped_tokens": app.scoped_tokens, "readers_from": list(app.audit.readers_from)}
    data["roles"] = {name: rules.public() for name, rules in complete(app.roles).items()}
    return ps.PdpSettings(
        trust_domain=app.trust_domain,
        issuer=issuer,
        audience=app.trust_domain,
        points=points,
        routes={route: m.name for m in members for route in m.routes},
        data=data,
        policy_dir=str(policy_dir) if policy_dir else None,
        entrypoint=app.entrypoint,
        requests_per_minute=app.rates.person_per_minute,
        epochs_sockets=epochs,
        risk_socket=risk_socket,
        other_origins=own_origins(app, issuer)[1:],
        step_up=app.detection.step_up,
        unsafe_disabled=unsafe_disabled,
    )
