"""What all flows use: the gateway as a client sees it, the accounts, the `rempart` command, and the report."""

from __future__ import annotations

import json
import os
import ssl
import subprocess  # nosec B404
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Flow:
    """One line of the report. `expected` is `allow` or `deny`; `status` is of HTTP, or an exit code."""

    flow: str
    title: str
    caller: str
    request: str
    expected: str
    status: int
    observed: str
    ok: bool
    decision_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Person:
    user_id: str
    email: str
    role: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed: `document` is its JSON, empty when it printed none."""

    code: int
    document: dict[str, Any]
    errors: str


class Stage:
    def __init__(self, status: Mapping[str, Any], state: str) -> None:
        self.status = status
        self.state = state
        self.flows: list[Flow] = []
        self.trust_domain = str(status["trust_domain"])
        context = ssl.create_default_context(cafile=status["gateway"]["ca"])
        self.http = httpx.Client(base_url=status["gateway"]["url"], verify=context, timeout=15.0)
        listed = json.loads(Path(status["demo_accounts"]).read_text())
        self.accounts = [Person(a["user_id"], a["email"], a["role"], a["password"]) for a in listed]
        self._tokens: dict[str, str] = {}

    @staticmethod
    def from_environment() -> Stage:
        """`REMPART_STATUS` holds what `rempart status --json` prints, or names a file with it."""
        given = os.environ.get("REMPART_STATUS", "")
        if not given:
            sys.exit("REMPART_STATUS is not set: start the demo with `rempart demo`")
        text = given if given.lstrip().startswith("{") else Path(given).read_text()
        status = json.loads(text)
        return Stage(status, os.environ.get("REMPART_STATE") or str(Path(status["demo_accounts"]).parent))

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.http.close()

    def person(self, role: str, *, nth: int = 0) -> Person:
        return [account for account in self.accounts if account.role == role][nth]

    def login(self, person: Person) -> httpx.Response:
        return self.http.post("/login", json={"email": person.email, "password": person.password})

    def token(self, person: Person) -> str:
        if person.user_id not in self._tokens:
            answer = self.login(person)
            answer.raise_for_status()
            self._tokens[person.user_id] = str(answer.json()["access_token"])
        return self._tokens[person.user_id]

    def ask(self, person: Person | None, method: str, path: str, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if person is not None:
            headers["authorization"] = f"Bearer {self.token(person)}"
        return self.http.request(method, path, headers=headers, **options)

    def answered(
        self, flow: str, title: str, caller: str, response: httpx.Response, expected: str, *, status: int, why: str = ""
    ) -> None:
        """Report an HTTP answer, which should have had `status`."""
        self.report(
            flow,
            title,
            caller,
            f"{response.request.method} {response.request.url.raw_path.decode('ascii')}",
            expected,
            response.status_code,
            ok=response.status_code == status,
            decision_id=response.headers.get("x-rempart-decision", ""),
            why=why or reason_of(response),
        )

    def report(
        self,
        flow: str,
        title: str,
        caller: str,
        request: str,
        expected: str,
        status: int,
        *,
        ok: bool,
        decision_id: str = "",
        why: str = "",
    ) -> None:
        other = "deny" if expected == "allow" else "allow"
        observed = f"{expected if ok else other} {status}"
        self.flows.append(Flow(flow, title, caller, request, expected, status, observed, ok, decision_id, why))

    def tell(self) -> None:
        """Print the report in the order of the flows, allowed before refused."""
        for flow in sorted(self.flows, key=lambda f: (int(f.flow[1:]), f.expected != "allow")):
            print(json.dumps(asdict(flow)), flush=True)

    @property
    def all_as_expected(self) -> bool:
        return bool(self.flows) and all(flow.ok for flow in self.flows)

    def rempart(self, *arguments: str, stdin: str = "") -> Ran:
        return self._run(["rempart", *arguments, "--state", self.state, "--json"], stdin)

    def as_agent(self, *command: str) -> Ran:
        """Run a command as the workload `deposit-agent`."""
        return self._run(["rempart", "run", "--state", self.state, "deposit-agent", "--", *command], "")

    def _run(self, argv: list[str], stdin: str) -> Ran:
        done = subprocess.run(  # nosec B603
            argv, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        try:
            document = json.loads(done.stdout or "{}")
        except ValueError:
            document = {}
        return Ran(done.returncode, document if isinstance(document, dict) else {}, done.stderr.strip())

    def event(self, fits: Callable[[Mapping[str, Any]], bool], *search: str, within: float = 5.0) -> dict[str, Any]:
        """The newest event that fits, once the log has it; empty when it doesn't come."""
        deadline = time.monotonic() + within
        while True:
            events = self.rempart("audit", "search", "--since", "2m", "--limit", "200", *search).document.get(
                "events", []
            )
            found = next((event for event in events if fits(event)), None)
            if found is not None or time.monotonic() > deadline:
                return dict(found or {})
            time.sleep(0.2)


def reason_of(response: httpx.Response) -> str:
    """What the answer says about itself: the detail of a problem document and its code."""
    try:
        document = response.json()
    except ValueError:
        return ""
    if isinstance(document, dict) and "code" in document:
        return f"{document.get('detail', '')} [{document['code']}]"
    return ""
