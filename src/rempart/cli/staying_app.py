"""`rempart up`, without its command line: show an application coming up, stay until Ctrl-C."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rempart.kernel.errors import RempartError
from rempart.servers.host import Request, prepare
from rempart.wiring.check import parse_address

from .output import print_json, say
from .supervised import attend


def run(
    *,
    app_dir: str,
    detach: bool,
    profile: str,
    state: str,
    listen: str | None,
    demo: bool,
    unsafe_disabled: Sequence[str],
    as_json: bool,
) -> None:
    began = time.monotonic()
    prepared = prepare(
        Request(
            app_dir=Path(app_dir),
            state=Path(state),
            profile=profile,
            listen=parse_address(listen) if listen else None,
            unsafe_disabled=tuple(unsafe_disabled),
        )
    )
    for control in prepared.plan.unsafe_disabled:
        say(f"UNSAFE: the control {control} is switched off")

    def tell(status: dict[str, Any]) -> None:
        if not as_json:
            _tell_ready(status, began)
        flows = _play_demo(prepared.plan.state) if demo else None
        if as_json:
            print_json(status if flows is None else {**status, "flows": flows})
        elif flows:
            from .demo import print_flows

            print_flows(flows)
        if not as_json:
            _tell_next(status, prepared.plan.state, detach=detach)

    attend(prepared, began, detach=detach, tell=tell)


def _tell_ready(status: dict[str, Any], began: float) -> None:
    say(f"ready in {time.monotonic() - began:.2f} s: {status['app']} at {status['gateway']['url']}")
    for risk in status["risks"]:
        say(f"  risk ({risk['service']}): {risk['risk']}\n    → {risk['remedy']}")


def _tell_next(status: dict[str, Any], state: Path, *, detach: bool) -> None:
    ca, url = status["gateway"]["ca"], status["gateway"]["url"]
    named = "" if state == Path(".rempart").absolute() else f" --state {state}"
    say("\nWhat to try next:")
    if status["demo_accounts"]:
        accounts = status["demo_accounts"]
        email = next(one["email"] for one in json.loads(Path(accounts).read_text()) if one["role"] == "user")
        find = f"next(a for a in json.load(open('{accounts}')) if a['email'] == '{email}')"
        say(f"""  curl --cacert {ca} {url}/login -H 'content-type: application/json' -d "$(python3 -c "
import json; a = {find}
print(json.dumps({{'email': a['email'], 'password': a['password']}}))")\"""")
        say(f"  accounts and their passwords: {accounts}")
    say(f"  rempart status{named}\n  rempart demo{named}\n  rempart attack{named}\n  rempart audit verify{named}")
    say(f"  rempart down{named}" if detach else "Ctrl-C stops everything.")


def _play_demo(state: Path) -> list[dict[str, Any]]:
    from .demo import play

    try:
        return play(state)
    except RempartError as error:
        say(f"the demo did not run: {error}")
        return []
