"""What Rempart tells every policy under `data.rempart`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def given_data(data: Mapping[str, Any], unsafe_disabled: Iterable[str] = ()) -> dict[str, Any]:
    """`{trust_domain, services, gateway, roles, scoped_tokens, readers_from}`, and made of it `callers`, `unsafe`.

    `callers`, `{SPIFFE ID: {service: true}}`, turns the declared `calls` round: a policy finds a caller in one step.
    A service's own `callers` are workloads of partners that may call it.
    """
    services: Mapping[str, Any] = data.get("services", {})
    callers: dict[str, dict[str, bool]] = {}
    for name, service in services.items():
        allowed = callers.setdefault(str(service["spiffe_id"]), {})
        allowed.update({str(callee): True for callee in service.get("calls", [])})
        for foreign in service.get("callers", []):
            callers.setdefault(str(foreign), {})[name] = True
    unsafe = dict.fromkeys(unsafe_disabled, True)
    return {
        "gateway": "",
        "trust_domain": "",
        "roles": {},
        "scoped_tokens": False,
        "readers_from": [],
        **data,
        "services": services,
        "callers": callers,
        "unsafe": unsafe,
    }
