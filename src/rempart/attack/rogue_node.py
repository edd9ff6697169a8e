"""A host of the adversary's own: they got one join token, so they have one agent's identity, and try for more."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .certificates import Identity
from .model import Actor, Attack, Outcome, not_tried
from .scene import Scene
from .wire import Address, Reply, ask

_PEM, _DER = serialization.Encoding.PEM, serialization.Encoding.DER


_NEEDS = "no agents are served here (`[workloads.agents]` of rempart.toml)"


class NoServer(Exception):
    """Nothing here listens for agents, or nobody lends an operator's hand."""


def node_attack(id: str, title: str, tried: str, expected: str, run: Callable[[Scene], Outcome]) -> Attack:
    """Not tried where `run` raises NoServer."""

    def attempt(scene: Scene) -> Outcome:
        try:
            return run(scene)
        except NoServer:
            return not_tried(_NEEDS)

    return Attack(id, Actor.ROGUE_WORKLOAD, title, tried, expected, attempt)


def request_for(key: ec.EllipticCurvePrivateKey, *uris: str) -> str:
    """A certificate request with these names, base64 of DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIFFE")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    return base64.b64encode(builder.sign(key, hashes.SHA256()).public_bytes(_DER)).decode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def say(
    scene: Scene, method: str, path: str, document: Any = None, identity: Identity | None = None, *, within: float = 8.0
) -> Reply:
    """Ask the agents' port. The adversary doesn't mind whom they talk to. Raises NoServer, NoAnswer."""
    address, context = agents_port(scene, identity)
    body = None if document is None else json.dumps(document).encode()
    return ask(address, context, method, path, (), body, source=scene.source, timeout=within)


def agents_port(scene: Scene, identity: Identity | None) -> tuple[Address, ssl.SSLContext]:
    """Where agents ask, and how who has that identity does. Raises NoServer."""
    if not scene.agents:
        raise NoServer
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        identity.load(context)
    host, _, port = scene.agents.rpartition(":")
    return Address("127.0.0.1" if host == "0.0.0.0" else host, int(port)), context  # nosec B104 - compared, not bound


@dataclass
class RogueNode:
    scene: Scene
    name: str
    spiffe_id: str
    token: str = field(repr=False)
    identity: Identity | None = None

    @staticmethod
    def of(scene: Scene) -> RogueNode:
        """It has a token and has not joined. Raises NoServer."""
        if scene.means.operator is None or not scene.agents:
            raise NoServer
        name = f"attack-{secrets.token_hex(6)}"
        made = scene.means.operator(["agent", "token", "--name", name, "--ttl", "120"], "")
        return RogueNode(scene, name, made["spiffe_id"], made["token"])

    @staticmethod
    def joined(scene: Scene) -> RogueNode:
        node = RogueNode.of(scene)
        reply = node.join()
        if reply.status != 200:
            raise ValueError(f"the node could not join: {reply.said}")
        return node

    def __enter__(self) -> RogueNode:
        """At the end of the `with` it leaves."""
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def join(self) -> Reply:
        key = new_key()
        asked = {"method": "join_token", "token": self.token, "csr": request_for(key)}
        return self._take(key, say(self.scene, "POST", "/v1/join", asked))

    def renew(self) -> Reply:
        key = new_key()
        return self._take(key, self.ask("POST", "/v1/renew", {"csr": request_for(key)}))

    def _take(self, key: ec.EllipticCurvePrivateKey, reply: Reply) -> Reply:
        if reply.status == 200:
            chain = [x509.load_der_x509_certificate(base64.b64decode(der)) for der in reply.json["svid"]]
            pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            self.identity = Identity(b"".join(one.public_bytes(_PEM) for one in chain), pem)
        return reply

    def ask(self, method: str, path: str, document: Any = None) -> Reply:
        return say(self.scene, method, path, document, self.identity)

    def sign(self, *asked: tuple[str, str]) -> Sequence[Mapping[str, Any]]:
        """What is said of each (entry, certificate request)."""
        requests = [{"entry": entry, "csr": csr} for entry, csr in asked]
        reply = self.ask("POST", "/v1/x509", {"requests": requests})
        if reply.status != 200:
            raise ValueError(f"the node could not ask: {reply.said}")
        said: Sequence[Mapping[str, Any]] = reply.json["svids"]
        return said

    def entry(self, path: str, parent: str = "") -> str:
        """An entry that the operator registers for this node, or for another one; its id."""
        operator = self.scene.means.operator
        if operator is None:
            raise NoServer
        spiffe_id = f"spiffe://{self.scene.trust_domain}/{self.name}{path}"
        entry = {"spiffe_id": spiffe_id, "parent_id": parent or self.spiffe_id, "selectors": ["unix:uid:4294967294"]}
        applied = operator(["entry", "apply", "-"], json.dumps({"entries": [entry]}))
        return str(applied["created"][0]["id"])

    def operate(self, *command: str) -> Any:
        operator = self.scene.means.operator
        if operator is None:
            raise NoServer
        return operator(command, "")

    def leave(self) -> None:
        """Take away what the operator registered."""
        operator = self.scene.means.operator
        if operator is None:
            return
        server = f"spiffe://{self.scene.trust_domain}/rempart/server"  # a node alias goes after what is below it
        for entry in sorted(operator(["entry", "list"], "")["entries"], key=lambda one: one["parent_id"] == server):
            if f"/{self.name}" in entry["spiffe_id"]:
                operator(["entry", "delete", entry["id"]], "")
        for agent in operator(["agent", "list"], "")["agents"]:
            if agent["spiffe_id"] == self.spiffe_id:
                operator(["agent", "evict", self.spiffe_id], "")
