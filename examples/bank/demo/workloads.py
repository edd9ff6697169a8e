"""F4's refusal, F8, F10: what workloads are, and what they may not do."""

from __future__ import annotations

import json

from .stage import Stage


def play(stage: Stage) -> None:
    _rogue_transfer(stage)
    _entries(stage)
    _svid(stage)


def _rogue_transfer(stage: Stage) -> None:
    alice, bob = stage.person("user"), stage.person("user", nth=1)
    body = json.dumps({"source": alice.user_id, "destination": bob.user_id, "amount": 1})
    ran = stage.as_agent("python", "-m", "demo.probe", "POST", "/transfers", body)
    stage.report(
        "F4",
        "another workload moves money",
        f"spiffe://{stage.trust_domain}/deposit-agent",
        "POST /transfers by mTLS",
        "deny",
        int(ran.document.get("status", 0)),
        ok=ran.document.get("status") == 403,
        decision_id=str(ran.document.get("decision_id", "")),
        why=str(ran.document.get("why", ran.errors[:200])),
    )


def _entries(stage: Stage) -> None:
    def apply(spiffe_id: str) -> None:
        document = {"entries": [{"spiffe_id": spiffe_id, "selectors": ["unix:user:ci", "unix:path:/usr/bin/ci-agent"]}]}
        ran = stage.rempart("entry", "apply", "-", stdin=json.dumps(document))  # JSON is YAML
        ours = spiffe_id.startswith(f"spiffe://{stage.trust_domain}/")
        event = stage.event(lambda e: True, "--type", "workloads.entry_changed", within=1.0 if ours else 0.0)
        stage.report(
            "F8",
            "register a workload" if ours else "register a workload of another trust domain",
            "operator",
            f"entry apply {spiffe_id}",
            "allow" if ours else "deny",
            ran.code,
            ok=(ran.code == 0) if ours else (ran.code == 2),
            decision_id=str(event.get("id", "")) if ours else "",
            why="registered; on record with before and after" if ran.code == 0 else _told(ran.errors),
        )

    apply(f"spiffe://{stage.trust_domain}/ci-agent")
    apply("spiffe://elsewhere.example/ci-agent")


def _svid(stage: Stage) -> None:
    agent = f"spiffe://{stage.trust_domain}/deposit-agent"
    ran = stage.as_agent("rempart", "svid", "x509", "--json", "--state", stage.state)
    svids = ran.document.get("svids") or [{}]
    issued = stage.event(lambda e: e.get("workload") == agent, "--type", "workloads.svid_issued", within=2.0)
    stage.report(
        "F10",
        "fetch one's X.509-SVID",
        agent,
        "Workload API FetchX509SVID",
        "allow",
        ran.code,
        ok=ran.code == 0 and svids[0].get("spiffe_id") == agent,
        decision_id=str(issued.get("id", "")),
        why="attested as the process that the supervisor started" if ran.code == 0 else _told(ran.errors),
    )
    stranger = stage.rempart("svid", "x509")
    refused = stage.event(lambda e: True, "--type", "workloads.svid_refused", within=2.0)
    stage.report(
        "F10",
        "fetch an SVID unregistered",
        "any process of this host",
        "Workload API FetchX509SVID",
        "deny",
        stranger.code,
        ok=stranger.code == 1,
        decision_id=str(refused.get("id", "")),
        why=_told(stranger.errors),
    )


def _told(errors: str) -> str:
    """The reason in what a command of ours prints to stderr with --json."""
    try:
        return str(json.loads(errors.splitlines()[-1])["error"])[:200]
    except (ValueError, KeyError, IndexError, TypeError):
        return errors[:200]
