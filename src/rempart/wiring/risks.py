"""What the operator should know about an application, and what to do about it."""

from __future__ import annotations

from .plan_model import Risk
from .settings import AppSettings


def risks(app: AppSettings, profile: str, unsafe_disabled: tuple[str, ...]) -> list[Risk]:
    """From the settings alone; what the host adds (one user for all, no views) the supervisor knows."""
    found = []
    for service in app.services:
        if service.port:
            found.append(
                Risk(
                    service.name,
                    f"listens on TCP 127.0.0.1:{service.port}: any local process can reach it around its sidecar",
                    'listen on a unix socket: `socket = "app.sock"` in rempart.toml',
                )
            )
            if service.calls:
                found.append(
                    Risk(
                        service.name,
                        "calls other services over local TCP ports: any local process can call in its name",
                        "use `socket` instead of `port`: its ways out become unix sockets of its own",
                    )
                )
    if profile == "production" and not app.mail.host:
        found.append(
            Risk(
                "people",
                "mails are files in data/people/outbox: nobody gets them, and who reads them can use their links",
                "name a relay in [people.mail] of rempart.toml",
            )
        )
    for control in unsafe_disabled:
        found.append(Risk("all", f"UNSAFE: the control {control} is switched off", "start without --unsafe-disable"))
    return found
