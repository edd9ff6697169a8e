"""`rempart status`: what runs, where, and what to know about it."""

from __future__ import annotations

from typing import Any

import typer

from .control import status as ask_status
from .output import print_json, print_table, say
from .state import JsonOption, StateOption, state_dir

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def status(state: StateOption = None, as_json: JsonOption = False) -> None:
    """What runs, where, and what to know about it. Exit code 1 while something isn't ready."""
    document = ask_status(state_dir(state))
    if as_json:
        print_json(document)
    else:
        _print(document)
    if not document["ready"]:
        raise SystemExit(1)


def _print(document: dict[str, Any]) -> None:
    ready = "ready" if document["ready"] else "NOT READY"
    gateway = document["gateway"]
    where, ca = f"at {gateway['url']}", f"CA of the gateway {gateway['ca']}, "
    if not gateway["url"]:
        where, ca = "on this host; the gateway is on another one", ""
    print(f"{document['app']} ({document['profile']}) is {ready} {where}")
    print(f"trust domain {document['trust_domain']}, issuer {document['issuer']}")
    print(f"{ca}Workload API {document['workload_api']}")
    if document["demo_accounts"]:
        print(f"demo accounts {document['demo_accounts']}")
    print()
    services = {one["name"]: one for one in document["services"]}
    print_table(("service", "SPIFFE ID", "mTLS"), [(s["name"], s["spiffe_id"], s["mtls"]) for s in services.values()])
    print()
    print_table(
        ("process", "kind", "pid", "state", "restarts", "error"),
        [(p["name"], p["kind"], p["pid"], p["state"], p["restarts"], p.get("error")) for p in document["processes"]],
    )
    for risk in document["risks"]:
        say(f"\nrisk ({risk['service']}): {risk['risk']}\n  → {risk['remedy']}")
