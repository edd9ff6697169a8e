"""A host that was taken over, and on which no service runs: it speaks for services, and asks what their sidecars are
told."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

from .model import Attack, Outcome, Trace, blocked, got_through
from .rogue_node import RogueNode, node_attack
from .scene import Scene

_HOSTS = "identity: only the agents of declared hosts speak for services"
_TRACE = Trace(("workloads.agent_refused",), "no_host")


def attacks() -> Iterator[Attack]:
    yield node_attack(
        "R-node-decisions",
        "A host without services writes decisions",
        "decisions, transfers and logins at /v1/record",
        "404 no_host",
        _decisions,
    )
    yield node_attack(
        "I-node-enforcement",
        "A host without services asks what sidecars are told",
        "the application's layout, the policy, whose sessions ended",
        "404 no_host",
        _enforcement,
    )


def _decisions(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        for kind in ("decision", "money.moved", "people.login"):
            id = f"{'dec' if kind == 'decision' else 'evt'}_{secrets.token_hex(13)}"
            own = {"id": id, "type": kind, "at": int(time.time() * 1000), "success": True, "severity": "info"}
            event = {"unmapped": {"rempart": {**own, "source": "pdp", "service": "wallet", "pep": "wallet"}}}
            reply = node.ask("POST", "/v1/record", {"source": "pdp", "events": [event]})
            if reply.code != "no_host":
                return got_through(f"{kind}: {reply.said}", reply.evidence)
        return blocked("three kinds of events: no_host", _HOSTS, _TRACE)


def _enforcement(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        asked = (("GET", "/v1/host", None), ("GET", "/v1/policy", None), ("POST", "/v1/epochs", {"run": "", "seq": 0}))
        for method, path, document in asked:
            reply = node.ask(method, path, document)
            if reply.code != "no_host":
                return got_through(f"{path}: {reply.said}", reply.evidence)
        return blocked("three questions: no_host", _HOSTS, _TRACE)
