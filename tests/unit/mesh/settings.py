"""Settings that hold, to vary in tests."""

from __future__ import annotations

from typing import Any

from rempart.mesh.model import (
    Address,
    Egress,
    Files,
    GatewaySettings,
    Ingress,
    Route,
    Sds,
    SidecarSettings,
    Tokens,
    Upstream,
)

PEOPLE = Upstream("people", Address.parse("127.0.0.1:15009"), "spiffe://bank.example/rempart/people")
WALLET = Upstream("wallet", Address.parse("127.0.0.1:15001"), "spiffe://bank.example/wallet")
USERS = Upstream("users", Address.parse("127.0.0.1:15002"), "spiffe://bank.example/users")
TOKENS = Tokens("https://localhost:8443/auth", "bank.example", PEOPLE)
FILES = Files("/c.pem", "/k.pem", (("bank.example", "/ca.pem"),), "/w.pem", "/wk.pem")
CALLERS = ("spiffe://bank.example/rempart/gateway", "spiffe://bank.example/payment")


def gateway(**changes: Any) -> GatewaySettings:
    fields: dict[str, Any] = {
        "spiffe_id": "spiffe://bank.example/rempart/gateway",
        "run_dir": "/run/envoy/gateway",
        "listen": Address.parse("127.0.0.1:8443"),
        "certificates": Sds("/run/workload.sock"),
        "pdp_socket": "/run/pep/gateway.sock",
        "tokens": TOKENS,
        "upstreams": (WALLET, USERS, PEOPLE),
        "routes": (Route("/wallet", "wallet"), Route("/users", "users"), Route("/wallet/admin", "users")),
    }
    return GatewaySettings(**{**fields, **changes})


def sidecar(**changes: Any) -> SidecarSettings:
    fields: dict[str, Any] = {
        "name": "wallet",
        "spiffe_id": "spiffe://bank.example/wallet",
        "run_dir": "/run/envoy/wallet",
        "certificates": Sds("/run/workload.sock"),
        "ingress": Ingress(
            listen=WALLET.address,
            application=Address.parse("unix:/run/svc/wallet/app.sock"),
            callers=CALLERS,
            pdp_socket="/run/pep/wallet.sock",
            tokens=TOKENS,
        ),
        "egress": (Egress(Address.parse("unix:/run/egress/wallet/users.sock"), USERS),),
    }
    return SidecarSettings(**{**fields, **changes})
