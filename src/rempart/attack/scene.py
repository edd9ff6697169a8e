"""What the adversary knows of the system under attack, and the means that they have there."""

from __future__ import annotations

import contextlib
import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rempart.kernel.errors import BadInput, Unavailable

from .certificates import Authority, Identity
from .wire import Address, NoAnswer, Reply, ask

Headers = Sequence[tuple[str, str]]

_REMPARTS = ("people", "observer")
_BANK = {
    "/wallet": "wallet",
    "/transactions": "wallet",
    "/payments": "payment",
    "/users": "users",
}


@dataclass(frozen=True, slots=True)
class Account:
    user_id: str
    email: str
    password: str = field(repr=False)
    role: str


@dataclass(frozen=True, slots=True)
class Session:
    account: Account
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)

    @property
    def id(self) -> str:
        return self.account.user_id

    @property
    def bearer(self) -> Headers:
        return (("Authorization", f"Bearer {self.access_token}"),)


@dataclass(frozen=True, slots=True)
class LogCheck:
    """What the log verifier said of a copy of the log."""

    ok: bool
    said: str


@dataclass(frozen=True)
class Means:
    """What the host's operator lends the adversary for attacks that need a foot on the host; each may be missing.

    `verify_log` checks a copy of the log's directory; `workload` runs the probe of `rempart.attack.inside` as the
    deposit agent and returns what it printed; `authority` can sign SVIDs that the system trusts (tests only).
    `operator` runs a `rempart` command with the given standard input and returns its JSON: it registers the clients and
    people whose owners are attacked, and the client that the adversary owns. Raises OSError or ValueError.
    `learn` has the models learn from events and rate what comes after them: principals with their level. `model` gives
    a signed model file, and what says why another is refused by its code, "" for one that is believed.
    `replay` has the rules of the watch read events in the order of a log, and gives the rules that alert.
    """

    state: Path | None = None
    verify_log: Callable[[Path], LogCheck] | None = None
    workload: Callable[[], Mapping[str, Any]] | None = None
    authority: Authority | None = None
    operator: Callable[[Sequence[str], str], Any] | None = None
    replay: Callable[[Iterable[bytes]], Sequence[str]] | None = None
    learn: Callable[[Iterable[bytes], Iterable[bytes]], Sequence[tuple[str, str]]] | None = None
    model: Callable[[], tuple[bytes, Callable[[bytes], str]]] | None = None


class Scene:
    """Safe to use from several threads. Each attack comes from a loopback address of its own, as from many machines,
    so that a rate limit that stopped one can't be mistaken for what stops the next."""

    def __init__(
        self, status: Mapping[str, Any], accounts: Sequence[Mapping[str, str]], means: Means | None = None
    ) -> None:
        try:
            gateway = urlsplit(status["gateway"]["url"])
            self.gateway = Address(
                "127.0.0.1" if gateway.hostname == "localhost" else gateway.hostname or "", gateway.port or 443
            )
            self.ca = str(status["gateway"]["ca"])
            self.issuer = str(status["issuer"])
            self.trust_domain = str(status["trust_domain"])
            self.services = {s["name"]: _service(s) for s in status["services"] if s.get("mtls")}
            self.routes = {route: s["name"] for s in status["services"] for route in s.get("routes", ())}
            self.clients = frozenset(c["name"] for c in status.get("clients", ()))
            self.addresses = {s["name"]: str(s.get("address", "")) for s in status["services"]}
            self.agents = str(status.get("agents") or "")
            self.accounts = [Account(a["user_id"], a["email"], a["password"], a["role"]) for a in accounts]
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput("bad_status", f"this is not what `rempart status --json` prints: {error!r}") from None
        self.means = means or Means()
        self.tls = ssl.create_default_context(cafile=self.ca)
        self.foreign = Authority.create("Foreign CA")
        self.notes: dict[str, Any] = {}
        self._sessions: dict[tuple[str, int], Session] = {}
        self._sources = itertools.count(2)
        self._source = threading.local()
        self._lock = threading.Lock()
        self.registering = threading.Lock()

    def lacks(self, needs: Sequence[str]) -> str:
        """The first of `needs` that this application hasn't; a route counts only when the bank's service has it.

        Another application's /users may mean something else, and who may read it is its own affair.
        """
        for need in needs:
            there = self.routes.get(need) == _BANK.get(need) if need.startswith("/") else need in self.clients
            if not there:
                return f"{need} of the example bank's" if need.startswith("/") else need
        return ""

    @property
    def private(self) -> str:
        """A path that a user may not read, in any application."""
        return "/logs" if self.lacks(("/users",)) else "/users"

    @property
    def posed(self) -> str:
        """The SPIFFE ID of a service that is worth posing as."""
        name = "payment" if "payment" in self.services or not self.services else next(iter(self.services))
        return self.services[name][1] if name in self.services else f"spiffe://{self.trust_domain}/{name}"

    def own(self) -> tuple[str, Session]:
        """A target that needs a token, and who may read it with theirs: a route of the application where there is one
        (a user's wallet at the bank), else the log and an auditor."""
        user = self.session("user")
        if not self.lacks(("/wallet",)):
            return f"/wallet?user_id={user.id}", user
        with self._lock:
            if "own" not in self.notes:
                self.notes["own"] = next((route for route in self._candidates() if self._protected(route, user)), "")
            found: str = self.notes["own"]
        return (found, user) if found else ("/logs", self.session("audit"))

    def declares(self, path: str) -> bool:
        """Whether a service of the application answers there, as opposed to one of Rempart's own or nobody."""
        return any(path == route or path.startswith(route + "/") for route in self._candidates())

    def _candidates(self) -> list[str]:
        return [route for route, service in self.routes.items() if service not in _REMPARTS]

    def _protected(self, route: str, user: Session) -> bool:
        """Whether a token is what makes the difference there."""
        with_it = self.get(route, user).status
        return self.get(route).status == 401 and with_it not in (401, 403) and with_it < 500

    def new_source(self) -> str:
        """A loopback address that nobody here came from yet; the current thread keeps it until the next call."""
        number = next(self._sources)
        value = f"127.0.{(number // 250) % 250 + 1}.{number % 250 + 1}"
        self._source.value = value
        self._source.used = {*getattr(self._source, "used", ()), value}
        return value

    def come_from(self, address: str) -> None:
        """The current thread comes from this loopback address until told otherwise."""
        self._source.value = address

    def take_sources(self) -> frozenset[str]:
        """The addresses that the current thread came from since it was last asked."""
        used = frozenset(getattr(self._source, "used", ()))
        self._source.used = set()
        return used

    @property
    def source(self) -> str:
        value: str | None = getattr(self._source, "value", None)
        return value or self.new_source()

    def account(self, role: str, index: int = 0) -> Account:
        found = [a for a in self.accounts if a.role == role]
        if len(found) <= index:
            raise Unavailable("no_account", f"there is no demo account number {index + 1} of role {role}")
        return found[index]

    def login(self, account: Account) -> Session:
        """A fresh session; raises Unavailable when the system doesn't let its own people in."""
        body = json.dumps({"email": account.email, "password": account.password}).encode()
        reply = self.ask("POST", "/login", (("Content-Type", "application/json"),), body)
        if reply.status != 200 or not isinstance(reply.json, dict):
            raise Unavailable("login_failed", f"{account.role} can't log in: {reply.said}", "see `rempart status`")
        return Session(account, reply.json["access_token"], reply.json["refresh_token"])

    def session(self, role: str, index: int = 0) -> Session:
        """Logged in once, then kept."""
        with self._lock:
            key = (role, index)
            if key not in self._sessions:
                self._sessions[key] = self.login(self.account(role, index))
            return self._sessions[key]

    def ask(
        self, method: str, target: str, headers: Headers = (), body: bytes | None = None, *, timeout: float = 8.0
    ) -> Reply:
        """At the gateway. A refusal for its rate or for being down says nothing about an attack, so that is tried again
        from elsewhere, three times at most."""
        for attempt in range(3):
            reply = ask(self.gateway, self.tls, method, target, headers, body, source=self.source, timeout=timeout)
            if reply.code not in ("rate_limited", "unavailable"):
                break
            self.new_source()
            time.sleep(0.3 * (attempt + 1))
        return reply

    def get(self, target: str, who: Session | None = None, *headers: tuple[str, str]) -> Reply:
        return self.ask("GET", target, (*(who.bearer if who else ()), *headers))

    def send(
        self, method: str, target: str, document: Any, who: Session | None = None, *headers: tuple[str, str]
    ) -> Reply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.ask(
            method, target, (("Content-Type", "application/json"), *(who.bearer if who else ()), *headers), body
        )

    def mtls(
        self,
        service: str,
        identity: Identity | None,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes | None = None,
    ) -> Reply:
        """At a service's sidecar; raises NoAnswer when the handshake is refused."""
        address = self.services[service][0]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the adversary doesn't mind whom they talk to
        if identity is not None:
            identity.load(context)
        return ask(address, context, method, target, headers, body, source=self.source)

    def agent(self) -> tuple[Identity, Mapping[str, Any]] | None:
        """The deposit agent's real SVID and what its probe saw, once; None where it can't be run."""
        with self._lock:
            if "agent" not in self.notes:
                self.notes["agent"] = None
                if self.means.workload is not None:
                    with contextlib.suppress(OSError, ValueError, KeyError):
                        seen = self.means.workload()
                        self.notes["agent"] = (Identity(seen["certificate"].encode(), seen["key"].encode()), seen)
            answer: tuple[Identity, Mapping[str, Any]] | None = self.notes["agent"]
            return answer


def _service(document: Mapping[str, Any]) -> tuple[Address, str]:
    where = urlsplit(document["mtls"])
    return Address(where.hostname or "127.0.0.1", where.port or 0), str(document["spiffe_id"])


__all__ = ["Account", "LogCheck", "Means", "NoAnswer", "Scene", "Session"]
