"""From one question of an enforcement point to its answer and its record: request → input → policy → ruling.

Every question gets an answer, and every answer but a malformed question's is a decision with a record. Whatever goes
wrong on the way is a refusal. Nothing here blocks: who calls makes the record durable before the answer.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quote

from rempart.kernel.clock import Clock, rfc3339
from rempart.kernel.errors import BadInput, RempartError
from rempart.kernel.ids import new_id
from rempart.kernel.spiffe import SpiffeId

from .answer import granted, refused
from .claims import BadClaims, Claims, ClaimsReader
from .counters import Counters
from .epochs import Epochs
from .ports import Evaluator, TokenExplainer
from .proofs import Proofs, Sent
from .record import Ruling, encode
from .risks import Risks
from .target import BadTarget, Target, Targets
from .traces import DecisionTraces
from .verdict import read_verdict
from .volume import Volume

PREFIX = b"/authz"
EXPLANATIONS_PER_SECOND = 50
# W3C Trace Context section 3.2.2: a later version may append fields; identifiers of zeros are not valid.
_TRACE = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{0,64})?"
)
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}")
_REMEMBERED = 4096  # addresses whose text was found good
_REALM = re.compile(r"[^A-Za-z0-9._-]")
_OURS = b"x-rempart-claims x-rempart-peer x-rempart-ip x-rempart-certificate x-request-id"
_SINGLE = frozenset([*_OURS.split(), b"authorization", b"dpop", b"origin"])

# Controls of this room that `rempart up --unsafe-disable` can switch off, and the mesh's that are doubled here.
CONTROLS = ("two-uri-sans", "rate-limit-person", "policy")


@dataclass(frozen=True, slots=True)
class Point:
    """Who asks: known by the socket the question came in on. `service` is empty at the gateway."""

    name: str
    kind: str
    service: str = ""


@dataclass(frozen=True, slots=True)
class Deciding:
    """The policy in force: swapped as one value, so no decision can name another policy's version."""

    evaluator: Evaluator
    version: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What the PDP is told when it starts; see `wiring.process_settings.PdpSettings`.

    `managing` are the roles that administer others: refused when people has not been heard of for long."""

    trust_domain: str
    issuer: str
    audience: str
    routes: Mapping[str, str]
    gateway: str
    requests_per_minute: int
    managing: Collection[str] = ()
    other_origins: Collection[str] = ()
    disabled: Collection[str] = ()


class Refusal(Exception):
    """A refusal before policy is asked."""

    def __init__(self, status: int, code: str, reason: str, *, token_failure: str = "", retry_after: int = 0) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason = status, code, reason
        self.token_failure, self.retry_after = token_failure, retry_after


class Decider:
    """One per process, on one event loop. `deciding` may be replaced between two decisions."""

    def __init__(
        self,
        rules: Rules,
        deciding: Deciding | None,
        clock: Clock,
        source: str,
        explain: TokenExplainer,
        epochs: Epochs | None = None,
    ) -> None:
        self.deciding = deciding
        self.epochs = epochs or Epochs()
        self._told_of = self.epochs.told_of
        self._managing = frozenset(rules.managing)
        self.risks, self.counters = Risks(), Counters()
        self.traces: DecisionTraces | None = None  # set where decisions are traced
        self._rules = rules
        self._clock = clock
        self._source = source
        self._explain = explain
        off = frozenset(rules.disabled)
        self._off = off
        self._lenient_path = "normalize-path" in off
        self._limit = 0 if "rate-limit-person" in off else rules.requests_per_minute
        self._claims = ClaimsReader(
            rules.issuer,
            rules.audience,
            check_issuer="verify-token-issuer" not in off,
            check_audience="verify-token-audience" not in off,
        )
        self._targets = Targets()
        self._proofs = Proofs(clock, rules.issuer, rules.other_origins)
        self._people = Volume()
        self._others = Volume()
        self._routes = sorted(
            ((_parts(prefix), name) for prefix, name in rules.routes.items()), key=lambda r: -len(r[0])
        )
        self._second = -1
        self._second_text = ""
        self._explained = [0, 0]
        self._realm = _REALM.sub("", rules.trust_domain)
        self._known_peers: dict[bytes, str] = {}
        self._known_addresses: dict[bytes, str] = {}

    def decide(self, point: Point, method: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        """The HTTP response, and the event to make durable before it is sent."""
        started = time.perf_counter()
        now = self._clock.now()
        deciding = self.deciding
        ruling = Ruling(
            id=new_id("dec"),
            at=now,
            pep=point.name,
            allow=False,
            rule="pdp",
            reason="",
            policy_version=deciding.version if deciding else "none",
            method=method,
            path="",
            quoted_path='""',
            service=point.service,
        )
        retry_after = 0
        try:
            self._rule(point, url, headers, ruling, deciding)
        except Refusal as refusal:
            ruling.allow = False
            ruling.rule = f"pdp.{refusal.code}"
            ruling.status, ruling.code, ruling.reason = refusal.status, refusal.code, refusal.reason
            ruling.token_failure, retry_after = refusal.token_failure, refusal.retry_after
        except (Exception, RecursionError) as error:
            ruling.allow = False
            ruling.rule = "pdp.error"
            ruling.status, ruling.code = 503, "pdp_error"
            ruling.reason = (
                error.reason[:300] if isinstance(error, RempartError) else f"the PDP failed: {type(error).__name__}"
            )
        payload = encode(ruling, self._source)
        key = (ruling.pep, "allow" if ruling.allow else "deny", ruling.code)
        counts = self.counters.decisions
        counts[key] = counts.get(key, 0) + 1
        response = granted(ruling) if ruling.allow else refused(ruling, self._realm, retry_after)
        elapsed = time.perf_counter() - started
        self.counters.observe(elapsed)
        if self.traces is not None:
            self.traces.decided(ruling, elapsed)
        return response, payload

    def _rule(
        self, point: Point, url: bytes, headers: list[tuple[bytes, bytes]], ruling: Ruling, deciding: Deciding | None
    ) -> None:
        named = dict(headers)
        if len(named) != len(headers):
            for single in _SINGLE & named.keys():
                if sum(name == single for name, _ in headers) > 1:
                    raise Refusal(400, "ambiguous_headers", f"{single.decode()} came twice")
        get = named.get
        self._trace(get(b"x-request-id"), get(b"traceparent"), get(b"x-rempart-ip"), ruling)
        target = self._target(url, ruling)
        if point.kind == "gateway":
            ruling.service = self._service(target.segments)
            peer = ""
        else:
            peer = self._peer(get(b"x-rempart-peer"), ruling)
        authorization = get(b"authorization", b"")
        claims = None
        if raw := get(b"x-rempart-claims"):
            try:
                claims = self._claims.read(raw, ruling.at, authorization)
            except BadClaims as error:
                raise Refusal(
                    401, "invalid_token", f"the token is not accepted: {error}", token_failure=str(error)
                ) from None
            ruling.person, ruling.role = claims.subject, claims.role
            if claims.bound or authorization[:5].lower() == b"dpop ":
                sent = Sent(authorization, get(b"dpop"), get(b"x-rempart-certificate"))
                claims = self._bound(claims, point, url, peer, sent, target, ruling)
            if claims and (claims.subject in self._told_of or claims.client in self._told_of or self.epochs.stale):
                claims = self._superseded(claims, target, ruling)
            if claims and self.risks.of and ruling.service != "people" and self.risks.must_prove(claims, ruling.at):
                raise Refusal(401, "insufficient_user_authentication", "unusual use: log in again to go on")
        elif authorization:
            self._unverified(authorization, target, ruling)
        volume = self._count(claims, peer, ruling, point)
        if deciding is None:
            raise Refusal(503, "no_policy", "no policy is loaded")
        head, tail = self._input(point, target, claims, peer, get(b"origin"), get(b"user-agent"), volume, ruling)
        ruling.input_json = body = f'{head}{target.head},"jwt":{claims.as_json if claims else "null"}{tail}'
        if target.masked is not target.head or (claims and claims.masked is not claims.as_json):
            ruling.input_json = f'{head}{target.masked},"jwt":{claims.masked if claims else "null"}{tail}'
        verdict = read_verdict(deciding.evaluator.evaluate(body))
        ruling.allow, ruling.rule, ruling.reason = verdict.allow, verdict.rule, verdict.reason
        if verdict.allow:
            return
        if "policy" in self._off:
            ruling.allow, ruling.reason = True, f"UNSAFE, policy is switched off; it said: {verdict.reason}"[:300]
            return
        ruling.code, ruling.status = verdict.code or "forbidden", verdict.status or 403
        anonymous = claims is None and (point.kind == "gateway" or peer == self._rules.gateway)
        if anonymous and ruling.status == 403 and not verdict.rule.startswith("rempart.base."):
            ruling.code, ruling.status = "unauthenticated", 401

    # -- reading the request -------------------------------------------------------------------------------------

    def _trace(self, request_id: bytes | None, trace: bytes | None, address: bytes | None, ruling: Ruling) -> None:
        if request_id and _REQUEST_ID.fullmatch(request_id):
            ruling.request_id = request_id.decode("ascii")
        if trace and (match := _TRACE.fullmatch(trace)):
            ruling.trace_id, ruling.traceparent = match[1].decode(), trace.decode()
        else:  # absent or malformed: a trace begins here, and nothing of the old one goes on
            fresh = os.urandom(24).hex()
            ruling.trace_id, ruling.traceparent = fresh[:32], f"00-{fresh[:32]}-{fresh[32:]}-00"
            ruling.new_state = trace is not None
        if address:
            ruling.ip = self._known_addresses.get(address) or self._address(address)

    def _address(self, header: bytes) -> str:
        text = header.decode("latin-1")
        if not _ADDRESS.fullmatch(text):
            return ""
        if len(self._known_addresses) >= _REMEMBERED:
            self._known_addresses.clear()
        self._known_addresses[header] = text
        return text

    def _target(self, url: bytes, ruling: Ruling) -> Target:
        raw = url[len(PREFIX) :] or b"/"
        try:
            target = self._targets.read(raw, lenient=self._lenient_path)
        except BadTarget as error:
            shown = raw[:256].partition(b"?")[0].decode("ascii", "backslashreplace")
            ruling.path, ruling.quoted_path = shown, quote(shown)
            raise Refusal(400, "bad_path", f"the address is not accepted: {error}") from None
        ruling.path, ruling.quoted_path = target.path, target.quoted_path
        return target

    def _service(self, segments: tuple[str, ...]) -> str:
        for prefix, name in self._routes:
            if segments[: len(prefix)] == prefix:
                return name
        return ""

    def _peer(self, header: bytes | None, ruling: Ruling) -> str:
        if not header or header == b"-":
            return ""
        known = self._known_peers.get(header)
        if known is not None:
            ruling.workload = known
            return known
        text = header.decode("utf-8", "backslashreplace")
        if "," in text:
            if "two-uri-sans" not in self._off:
                raise Refusal(403, "multiple_uri_sans", "the caller's certificate names more than one identity")
            text = text.partition(",")[0].strip()
        try:
            peer = str(SpiffeId.parse(text))
        except BadInput as error:
            raise Refusal(403, "bad_spiffe_id", error.reason[:300]) from None
        if len(self._known_peers) < 1024:
            self._known_peers[header] = peer
        ruling.workload = peer
        return peer

    def _unverified(self, authorization: bytes, target: Target, ruling: Ruling) -> None:
        """A bearer token that Envoy didn't accept. People's public routes ignore it."""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() not in (b"bearer", b"dpop"):
            return
        why = self._why(token.strip(), ruling.at)
        if ruling.service == "people" and target.segments[:1] in (("login",), ("auth",)):
            ruling.token_failure = why
            return
        raise Refusal(401, "invalid_token", f"the token is not accepted: {why}", token_failure=why)

    def _bound(
        self,
        claims: Claims,
        point: Point,
        url: bytes,
        peer: str,
        sent: Sent,
        target: Target,
        ruling: Ruling,
    ) -> Claims | None:
        """A token that is bound to a key, or is sent as if it were. People judges for itself."""
        if ruling.service == "people" and target.segments[:1] in (("login",), ("auth",)):
            ruling.token_failure, ruling.person, ruling.role = "bound to a key: people looks itself", "", ""
            return None
        why = self._proofs.why_not(
            claims,
            sent,
            ruling.method,
            url[len(PREFIX) :].partition(b"?")[0].decode("latin-1") or "/",
            proved=peer == self._rules.gateway if point.kind != "gateway" else None,
        )
        if why:
            raise Refusal(401, "invalid_token", f"the token is not accepted: {why}", token_failure=why)
        return claims

    def _superseded(self, claims: Claims, target: Target, ruling: Ruling) -> Claims | None:
        """A token that was good until the person's role, password or standing changed, or its session ended. People's
        routes ignore it."""
        code, why = self.epochs.why_not(claims)
        if why:
            if ruling.service == "people" and target.segments[:1] in (("login",), ("auth",)):
                ruling.token_failure, ruling.person, ruling.role = why, "", ""
                return None
            raise Refusal(401, code, f"the token is not accepted: {why}", token_failure=why)
        if claims.role in self._managing:
            raise Refusal(503, "epochs_stale", "whether this role still stands could not be learned for too long")
        return claims

    def _why(self, token: bytes, now: float) -> str:
        second = int(now)
        self._explained = [second, 1 + self._explained[1] * (self._explained[0] == second)]
        if self._explained[1] > EXPLANATIONS_PER_SECOND:
            return "it did not verify"
        try:
            return self._explain(token.decode("ascii", "replace"), now) or "it did not verify"
        except Exception:
            return "it did not verify"

    def _count(self, claims: Claims | None, peer: str, ruling: Ruling, point: Point) -> int:
        now = self._clock.monotonic()
        if claims is None:
            return self._others.count(f"{point.name} {peer or ruling.ip}", now)
        key = f"{point.name} {claims.subject}"
        limit = self._limit if point.kind == "gateway" else 0
        if count := self._people.count(key, now, limit):
            return count
        wait = self._people.wait(key, now, limit)
        raise Refusal(429, "rate_limited", f"more than {limit} requests in a minute", retry_after=wait)

    def _input(
        self,
        point: Point,
        target: Target,
        claims: Claims | None,
        peer: str,
        origin: bytes | None,
        agent: bytes | None,
        volume: int,
        ruling: Ruling,
    ) -> tuple[str, str]:
        now = ruling.at
        second = int(now)
        if second != self._second:
            self._second, self._second_text = second, rfc3339(second)[:-4]
        age = f"{max(0, second - int(claims.issued))}" if claims and claims.issued else "null"
        head = f'{{"pep":"{point.kind}","service":{quote(ruling.service)},"method":{quote(ruling.method)},'
        tail = (
            f',"spiffe_id":{quote(peer) if peer else "null"},"request_id":{quote(ruling.request_id)},'
            f'"context":{{"time":"{self._second_text}{int(now * 1000) % 1000:03d}Z","now_ns":{int(now * 1e9)},'
            f'"ip":{quote(ruling.ip)},"volume":{{"last_minute":{volume}}},"origin":{_text(origin)},"token_age":{age},'
            f'"user_agent":{_text(agent)}{self.risks.member(claims, peer, now)}}}}}'
        )
        return head, tail


def _parts(prefix: str) -> tuple[str, ...]:
    return tuple(part for part in prefix.split("/") if part)


def _text(value: bytes | None) -> str:
    return quote(value[:256].decode("utf-8", "replace")) if value else "null"
