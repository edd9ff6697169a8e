"""`rempart server run`, without its command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rempart.servers.host import Request, prepare
from rempart.wiring.check import parse_address
from rempart.wiring.server_settings import server_settings

from .output import print_json, say
from .supervised import attend


def run(
    *,
    app_dir: str | None,
    trust_domain: str,
    listen: str | None,
    detach: bool,
    profile: str,
    state: str,
    as_json: bool,
) -> None:
    began = time.monotonic()
    settings = server_settings(
        Path(app_dir) if app_dir else None, trust_domain, parse_address(listen) if listen else None
    )
    prepared = prepare(Request(state=Path(state), settings=settings, profile=profile))

    def tell(status: dict[str, Any]) -> None:
        if as_json:
            print_json(status)
        else:
            say(f"ready: agents of {settings.trust_domain} reach this server at {status['agents']}")

    attend(prepared, began, detach=detach, tell=tell)
