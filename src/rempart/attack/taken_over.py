"""A host that was taken over, whole and with its agent's identity: it lies about the time, takes what others need, asks
for what is an operator's, and comes back after it was thrown out."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from .certificates import Identity
from .model import Attack, Outcome, Trace, blocked, got_through, not_tried
from .record import find
from .rogue_node import NoServer, RogueNode, agents_port, new_key, node_attack, request_for, say
from .scene import Scene
from .wire import NoAnswer, Reply, connect, encode, exchange

_CONNECTIONS = 100
_BATCH = 500
_MOST_BATCHES = 200
_AHEAD = 300.0
"""Seconds that a recorded time may be ahead of ours: much more than a server believes."""
_ISSUED = ("workloads.svid_issued",)


def attacks() -> Iterator[Attack]:
    yield node_attack(
        "R-node-future",
        "A host tells events of the future",
        "an event of the year 2100, which would end every window of the watch",
        "it is recorded as of now",
        _future,
    )
    yield node_attack(
        "R-node-same-id",
        "A host tells an event before another host does",
        "two hosts tell different events under one id",
        "both are in the record, each as its host's",
        _same_id,
    )
    yield node_attack(
        "D-node-connections",
        "A host takes every connection",
        f"{_CONNECTIONS} connections of one agent, {_CONNECTIONS} of a workload with a real SVID, while another asks",
        "the other agent is answered",
        _connections,
    )
    yield node_attack(
        "D-node-questions",
        "A host asks without end",
        f"batches of {_BATCH} certificate requests, until the server has enough",
        "429, recorded, and another agent is answered",
        _questions,
    )
    yield node_attack(
        "E-node-alias",
        "Entries of a group that it is not in",
        "certificates and tokens for an entry below another agent's node alias, and for the alias",
        "foreign_entry",
        _alias,
    )
    yield node_attack(
        "S-node-void-token",
        "A token from before the eviction",
        "a join token that was open when its agent was evicted",
        "401",
        _void_token,
    )
    yield node_attack(
        "E-node-operator",
        "A host does what operators do",
        "agents, tokens, bans, entries, adopted authorities and rotations, at the agents' port",
        "404 to all of it",
        _operator,
    )


def _event(**more: Any) -> dict[str, Any]:
    usual = {"id": f"evt_{secrets.token_hex(13)}", "type": _ISSUED[0], "at": time.time(), "success": True}
    return {**usual, **more}


def _future(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        told = _event(at=4_102_444_800.0)
        reply = node.ask("POST", "/v1/events", {"events": [told]})
        if reply.status != 204:
            return blocked(reply.said, "telling: what agents may record", reply.evidence)
        found = [json.loads(text) for text in find(scene, told["id"], _ISSUED)]
        if not found:
            return not_tried("the event is not in the record yet")
        ahead = max(event["at"] / 1000 - time.time() for event in found)
        if ahead > _AHEAD:
            return got_through(f"recorded {ahead:.0f} s ahead of now", told["id"])
        return blocked(f"recorded {max(ahead, 0):.0f} s ahead of now", "telling: the server's own time", told["id"])


def _same_id(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as first, RogueNode.joined(scene) as second:
        told = _event(reason="the first host's")
        for node, event in ((first, told), (second, {**told, "reason": "the second host's"})):
            reply = node.ask("POST", "/v1/events", {"events": [event]})
            if reply.status != 204:
                return not_tried(f"an agent could not tell of itself: {reply.said}")
        deadline = time.monotonic() + 8
        found: list[dict[str, Any]] = []
        while len(found) < 2 and time.monotonic() < deadline:
            found = [json.loads(text) for text in find(scene, told["id"], _ISSUED)]
        sources = {str(event["source"]) for event in found}
        if len(found) != 2 or sources != {f"agent@join_token/{node.name}" for node in (first, second)}:
            return got_through(f"in the record: {sorted(sources)}")
        return blocked("both recorded, each under its host", "telling: an event is its source's", told["id"])


def _connections(scene: Scene) -> Outcome:
    workload = scene.agent()
    with RogueNode.joined(scene) as node, RogueNode.joined(scene) as other, contextlib.ExitStack() as held:
        for identity in (node.identity, workload[0] if workload else None):
            source = scene.new_source()
            for _ in range(_CONNECTIONS if identity else 0):
                try:
                    connection = held.enter_context(_open(scene, identity, source))
                    connection.sendall(encode("GET", "/v1/bundle", (("Connection", "keep-alive"),)))
                except (NoAnswer, OSError):
                    continue  # cut off: that is what is hoped for
        begun = time.monotonic()
        reply = other.ask("GET", "/v1/sync")
        took = time.monotonic() - begun
        if reply.status != 200:
            return got_through(f"the other agent was answered {reply.said} after {took:.1f} s")
        said = f"the other agent was answered after {took:.2f} s"
        return blocked(said, "listener: connections of one SVID", "the answer itself")


def _open(scene: Scene, identity: Identity | None, source: str) -> Any:
    address, context = agents_port(scene, identity)
    return connect(address, context, source=source)


def _questions(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node, RogueNode.joined(scene) as other:
        body = json.dumps({"requests": [{"entry": "entry_0", "csr": ""}] * _BATCH}).encode()
        asked = encode("POST", "/v1/x509", (("Connection", "keep-alive"),), body)
        with _open(scene, node.identity, scene.source) as connection:
            replies: list[Reply] = []
            while len(replies) < _MOST_BATCHES and all(reply.status == 200 for reply in replies[-1:]):
                replies += exchange(connection, asked)
        reply, count = replies[-1], len(replies)
        if reply.status == 200:
            return not_tried(f"{count} batches took longer than what may be asked in that time")
        if reply.code != "too_many_questions":
            return got_through(f"{count} batches: {reply.said}")
        answered = other.ask("GET", "/v1/sync")
        if answered.status != 200:
            return got_through(f"the other agent was answered {answered.said}")
        said = f"429 after {count} batches; another agent was answered"
        return blocked(said, "allowance: each agent's own", _refused(reply.code))


def _alias(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        domain, apart = f"spiffe://{scene.trust_domain}", f"spiffe://{scene.trust_domain}/{node.name}/group"
        entries = [
            {"spiffe_id": f"{apart}/batch", "parent_id": apart, "selectors": ["unix:uid:4294967294"]},
            {
                "spiffe_id": apart,
                "parent_id": f"{domain}/rempart/server",
                "selectors": [f"spiffe_id:{node.spiffe_id}-other"],
            },
        ]
        if scene.means.operator is None:
            raise NoServer
        made = scene.means.operator(["entry", "apply", "-"], json.dumps({"entries": entries}))["created"]
        told = node.ask("GET", "/v1/sync").json["entries"]
        ids = [str(one["id"]) for one in made]
        answers = node.sign(*((entry, request_for(new_key())) for entry in ids))
        if told or any(answer.get("chain") or answer["code"] != "foreign_entry" for answer in answers):
            return got_through(f"it was told of {told} and signed {answers}"[:300])
        for entry in ids:
            reply = node.ask("POST", "/v1/jwt", {"entry": entry, "audience": ["a"]})
            if reply.code != "foreign_entry":
                return got_through(reply.said, reply.evidence)
        return blocked("foreign_entry, four times", "signing: entries by parent", _refused("foreign_entry"))


def _void_token(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        node.token = node.operate("agent", "token", "--name", node.name, "--ttl", "120")["token"]
        node.operate("agent", "evict", node.spiffe_id)
        reply = node.join()
        if reply.code != "join_token_refused":
            return got_through(reply.said, reply.evidence)
        return blocked(reply.said, "roster: an eviction makes tokens void", _refused(reply.code))


def _operator(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        name = f"/agents/{node.name}"
        questions: tuple[tuple[str, str, Any], ...] = (
            ("GET", "/agents", None),
            ("POST", "/agents/tokens", {"name": node.name}),
            ("POST", f"/agents/unban/{node.name}", None),
            ("DELETE", name, None),
            ("GET", "/entries", None),
            ("POST", "/entries", {"entries": []}),
            ("GET", "/adopted", None),
            ("POST", "/adopted/spire", {"roots": [], "keys": [], "until": time.time() + 60}),
            ("DELETE", "/adopted/spire", None),
            ("POST", "/authorities/spiffe/rotate", None),
        )
        for method, path, document in questions:
            reply = say(scene, method, path, document, node.identity)
            if reply.status != 404:
                return got_through(f"{method} {path}: {reply.said}", reply.evidence)
        said = f"404, {len(questions)} times"
        return blocked(said, "agents' port: what agents ask, and nothing else", "the answers themselves")


def _refused(code: str) -> Trace:
    return Trace(("workloads.agent_refused",), code)
