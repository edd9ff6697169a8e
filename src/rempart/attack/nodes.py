"""Another host that was taken over, or pretends to be one of ours: at the port where agents ask the server."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from .model import Attack, Outcome, Trace, blocked, got_through, not_tried
from .rogue_node import NoServer, RogueNode, new_key, node_attack, request_for, say
from .scene import Scene
from .wire import Address, NoAnswer, Reply, connect

_HALF_OPEN = 80


def attacks() -> Iterator[Attack]:
    for row in _table():
        yield node_attack(*row)


def _table() -> tuple[tuple[str, str, str, str, Callable[[Scene], Outcome]], ...]:
    """Id, title, what is tried, what is expected."""
    return (
        (
            *("S-node-token-replay", "A join token, replayed", "a join token by ten at once, and once more"),
            *("401, and one agent", _token_replay),
        ),
        ("S-node-token-guess", "A join token, guessed", "made-up, empty and huge tokens", "401", _token_guess),
        (
            *("I-node-foreign-entries", "Another host's entries", "an agent asks for certificates of another host's"),
            *("its own entries, and foreign_entry", _foreign_entries),
        ),
        (
            *("E-node-foreign-token", "A token of another host's workload", "/v1/jwt for another host's entry"),
            *("403", _foreign_token),
        ),
        (
            *("E-node-foreign-san", "A request that names somebody else"),
            *(
                "requests with the SPIFFE IDs of a service, the gateway, the server, and two",
                "foreign_san",
                _foreign_san,
            ),
        ),
        (
            *("S-node-key-reuse", "One key for two identities", "one key for two entries and for the agent itself"),
            *("key_reused", _key_reuse),
        ),
        (
            *("E-node-banned", "A banned host", "a banned agent synchronises, renews, asks for certificates"),
            *("403 to all of it", _banned),
        ),
        ("E-node-evicted", "An evicted host", "an SVID valid for an hour, after the eviction", "403", _evicted),
        ("S-node-old-svid", "A copy of an agent's SVID", "the one before the last two renewals", "403", _superseded),
        ("E-node-workload", "A workload as a host", "the deposit agent's SVID at the agents' port", "403", _workload),
        (
            *("S-node-own-ca", "An agent's name by a CA of one's own", "an agent's id, expired, twice, as a CA, none"),
            *("the handshake fails, or 401", _own_ca),
        ),
        (
            *("R-node-events", "A host writes somebody else's history", "decisions, logins, made-up ids as an agent"),
            *("400", _events),
        ),
        (
            *("S-node-impostor", "An impostor takes join tokens", "a workload with a real SVID in the server's place"),
            *("the agent sends nothing", _impostor),
        ),
        (
            *("D-node-half-open", "Half-open handshakes", f"{_HALF_OPEN} silent connections, while an agent asks"),
            *("the agent is answered", _half_open),
        ),
        (
            *("D-node-nonsense", "Nonsense at the agents' port", "huge, malformed and deep bodies, unknown paths"),
            *("4xx, and no 5xx", _nonsense),
        ),
    )


def _trace(code: str) -> Trace:
    return Trace(("workloads.agent_refused",), code)


def _refused(reply: Reply, code: str, by: str) -> Outcome:
    if reply.code == code and 400 <= reply.status < 500:
        return blocked(reply.said, by, _trace(code))
    return got_through(reply.said, reply.evidence)


def _token_replay(scene: Scene) -> Outcome:
    node = RogueNode.of(scene)
    replies: list[Reply] = []
    lock = threading.Lock()

    def join(source: str) -> None:
        scene.come_from(source)
        asked = {"method": "join_token", "token": node.token, "csr": request_for(new_key())}
        reply = say(scene, "POST", "/v1/join", asked)
        with lock:
            replies.append(reply)

    with node:
        threads = [threading.Thread(target=join, args=(scene.source,)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        joined = sum(reply.status == 200 for reply in replies)
        if joined != 1:
            return got_through(f"{joined} agents joined with one token")
        return _refused(node.join(), "join_token_refused", "roster: a token is taken once")


def _token_guess(scene: Scene) -> Outcome:
    outcome = not_tried("nothing was asked")
    for token in (secrets.token_urlsafe(32), "", "%", "' OR 1=1 --", "x" * 100_000, "\u0000"):
        asked = {"method": "join_token", "token": token, "csr": request_for(new_key())}
        outcome = _refused(say(scene, "POST", "/v1/join", asked), "join_token_refused", "roster: unknown tokens")
        if not outcome.blocked:
            return outcome
    return outcome


def _foreign_entries(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        own = node.entry("/own")
        foreign = node.entry("/foreign", f"spiffe://{scene.trust_domain}/rempart/agent/join_token/{node.name}-other")
        listed = [entry["id"] for entry in node.ask("GET", "/v1/sync").json["entries"]]
        if foreign in listed or own not in listed:
            return got_through(f"it was told of {listed}")
        home = [entry["id"] for entry in node.operate("entry", "list")["entries"] if not entry["parent_id"]]
        answers = node.sign(*((entry, request_for(new_key())) for entry in (foreign, *home[:3], "", "entry_0")))
        if any(answer.get("chain") or answer["code"] != "foreign_entry" for answer in answers):
            return got_through(f"it was signed {answers}"[:300])
        return blocked("only its own entries; foreign_entry", "signing: entries by parent", _trace("foreign_entry"))


def _foreign_token(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        foreign = node.entry("/foreign", f"spiffe://{scene.trust_domain}/rempart/agent/join_token/{node.name}-other")
        reply = node.ask("POST", "/v1/jwt", {"entry": foreign, "audience": [scene.trust_domain]})
        return _refused(reply, "foreign_entry", "signing: entries by parent")


def _foreign_san(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        own, domain = node.entry("/own"), f"spiffe://{scene.trust_domain}"
        mine = f"{domain}/{node.name}/own"
        others = (scene.posed, f"{domain}/rempart/gateway", f"{domain}/rempart/server", node.spiffe_id, domain)
        requests = [request_for(new_key(), name) for name in others]
        requests.append(request_for(new_key(), mine, scene.posed))
        answers = node.sign(*((own, csr) for csr in requests))
        if any(answer.get("chain") or answer["code"] != "foreign_san" for answer in answers):
            return got_through(f"it was signed {answers}"[:300])
        return blocked("foreign_san, six times", "signing: what a request asks for", _trace("foreign_san"))


def _key_reuse(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        first, second, key = node.entry("/first"), node.entry("/second"), new_key()
        answers = node.sign((first, request_for(key)), (second, request_for(key)))
        if not answers[0].get("chain"):
            return not_tried(f"its own certificate was refused: {answers[0]}")
        if answers[1].get("chain") or answers[1]["code"] != "key_reused":
            return got_through(f"it was signed {answers[1]}"[:300])
        reply = node.ask("POST", "/v1/renew", {"csr": request_for(key)})
        return _refused(reply, "key_reused", "signing: one key, one identity")


def _banned(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        own = node.entry("/own")
        node.operate("agent", "ban", node.spiffe_id)
        outcome = not_tried("nothing was asked")
        asked = {"requests": [{"entry": own, "csr": request_for(new_key())}]}
        for reply in (
            node.ask("GET", "/v1/sync"),
            node.ask("POST", "/v1/x509", asked),
            node.ask("POST", "/v1/jwt", {"entry": own, "audience": ["a"]}),
            node.renew(),
        ):
            outcome = _refused(reply, "agent_banned", "roster: bans")
            if not outcome.blocked:
                return outcome
        return outcome


def _evicted(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        node.operate("agent", "evict", node.spiffe_id)
        outcome = _refused(node.ask("GET", "/v1/sync"), "agent_unknown", "roster: known agents")
        return outcome if not outcome.blocked else _refused(node.renew(), "agent_unknown", "roster: known agents")


def _superseded(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        copy = node.identity
        for _ in range(2):
            node.renew()
            node.ask("GET", "/v1/sync")
        node.identity = copy
        return _refused(node.ask("GET", "/v1/sync"), "agent_superseded", "roster: the serial of each agent's SVID")


def _workload(scene: Scene) -> Outcome:
    agent = scene.agent()
    if agent is None:
        return not_tried("the deposit agent can't be run here (`rempart run deposit-agent`)")
    outcome = not_tried("nothing was asked")
    for method, path, document in (("GET", "/v1/sync", None), ("POST", "/v1/renew", {"csr": request_for(new_key())})):
        reply = say(scene, method, path, document, agent[0])
        outcome = _refused(reply, "not_an_agent", "agents' port: ids below /rempart/agent/")
        if not outcome.blocked:
            return outcome
    return outcome


def _own_ca(scene: Scene) -> Outcome:
    authority = scene.means.authority or scene.foreign
    name = f"spiffe://{scene.trust_domain}/rempart/agent/join_token/x"
    outcome = not_tried("nothing was asked")
    for identity in (
        authority.issue(name, age=timedelta(days=1)),
        scene.foreign.issue(name),
        authority.issue(name, f"{name}y"),
        scene.foreign.issue(name, ca=True),
        None,
    ):
        try:
            reply = say(scene, "GET", "/v1/sync", None, identity)
        except NoAnswer as refusal:
            outcome = blocked(str(refusal), "mTLS: the trust domain's roots", "the handshake fails")
            continue
        if reply.status not in (401, 403):
            return got_through(reply.said, reply.evidence)
        outcome = blocked(reply.said, "agents' port: SVIDs of this trust domain", _trace(reply.code))
    return outcome


def _events(scene: Scene) -> Outcome:
    with RogueNode.joined(scene) as node:
        usual = {"id": "evt_" + "0" * 26, "type": "workloads.svid_issued", "at": time.time(), "success": True}
        outcome = not_tried("nothing was asked")
        for change in (
            {"type": "decision"},
            {"type": "people.login"},
            {"type": "money.moved"},
            {"id": "dec_" + "0" * 26},
            {"id": "../x"},
            {"at": -1},
            {"severity": "none"},
        ):
            reply = node.ask("POST", "/v1/events", {"events": [{**usual, **change}]})
            outcome = _refused(reply, "bad_event", "telling: what agents may record")
            if not outcome.blocked:
                return outcome
        return outcome


def _impostor(scene: Scene) -> Outcome:
    workload = scene.agent()
    operator = scene.means.operator
    if workload is None or operator is None or scene.means.state is None:
        return not_tried("the deposit agent can't be run here (`rempart run deposit-agent`)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    workload[0].load(context)
    heard: list[bytes] = []
    with RogueNode.of(scene) as node, socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(15)

        def listen() -> None:
            try:
                connection, _ = listening.accept()
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.settimeout(5)
                    heard.append(secure.recv(4096))
            except OSError as error:
                heard.append(f"!{error}".encode())

        thread = threading.Thread(target=listen)
        thread.start()
        said = _run_agent(scene, node, listening.getsockname()[1])
        thread.join()
    if any(one and not one.startswith(b"!") for one in heard):
        return got_through(f"the impostor was sent {len(heard[0])} bytes")
    if "not_the_server" not in said:
        return not_tried(f"the agent said: {said[:200]}")
    return blocked("not_the_server: nothing was sent", "agent: the server's SPIFFE ID", "the agent's own words")


def _run_agent(scene: Scene, node: RogueNode, port: int) -> str:
    """Start an agent that is led to the impostor; what it says as it gives up."""
    import tempfile
    from pathlib import Path

    operator, trusted = scene.means.operator, scene.means.state
    if operator is None or trusted is None:
        raise NoServer
    with tempfile.TemporaryDirectory(prefix="rpi") as directory:
        bundle = ["--bundle", str(trusted / "trust" / "bundle.pem"), "--join-token-file", "-"]
        place = ["--state", str(Path(directory) / "s"), "--server", f"127.0.0.1:{port}"]
        try:
            operator(["agent", "run", "--trust-domain", scene.trust_domain, *place, *bundle], node.token)
        except (OSError, ValueError) as error:
            return str(error)
    return "it ran"


def _half_open(scene: Scene) -> Outcome:
    host, _, port = scene.agents.rpartition(":")
    address = Address("127.0.0.1" if host == "0.0.0.0" else host, int(port))  # nosec B104 - compared, not bound
    with RogueNode.joined(scene) as node, contextlib.ExitStack() as held:
        source = scene.new_source()
        for _ in range(_HALF_OPEN):
            held.enter_context(connect(address, None, source=source))
        begun = time.monotonic()
        reply = node.ask("GET", "/v1/sync")
        took = time.monotonic() - begun
        if reply.status != 200 or took > 5:
            return got_through(f"the agent was answered {reply.said} after {took:.1f} s")
        return blocked(f"answered after {took:.2f} s", "listener: bounds for strangers", "the answer itself")


def _nonsense(scene: Scene) -> Outcome:
    deep: object = 1
    for _ in range(500):
        deep = [deep]
    good = {"method": "join_token", "token": "x", "csr": request_for(new_key())}  # nosec B105 - no password
    outcome = not_tried("nothing was asked")
    for method, path, document in (
        ("POST", "/v1/join", {**good, "csr": "AAAA"}),
        ("POST", "/v1/join", {**good, "csr": 7}),
        ("POST", "/v1/join", {**good, "method": "nobody"}),
        ("POST", "/v1/join", {**good, "more": deep}),
        ("POST", "/v1/join", {**good, "token": "x" * 2_000_000}),
        ("POST", "/v1/join", []),
        ("GET", "/v1/sync?seen=" + "x" * 5000, None),
        ("POST", "/v1/x509", {"requests": []}),
        ("DELETE", "/v1/join", None),
        ("GET", "/../../etc/passwd", None),
    ):
        reply = say(scene, method, path, document)
        if not 400 <= reply.status < 500:
            return got_through(f"{method} {path[:40]}: {reply.said}")
        outcome = blocked(reply.said, "agents' port: strict input", Trace(("workloads.agent_refused",)))
    return outcome
