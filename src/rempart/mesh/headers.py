"""Which headers mean identity, who may set them, and what every answer carries.

Envoy acts on the first lists before anything else reads the request (`early_header_mutation_extensions`); what a
route's `request_headers_to_remove` does comes after ext_authz, too late for identity and right for what only the PDP
needs. Names with underscores never get here: they are refused, since some frameworks read them as dashes.
"""

from __future__ import annotations

from .model import Control, Settings
from .shape import Json, typed

CLAIMS = "x-rempart-claims"
PEER = "x-rempart-peer"
ADDRESS = "x-rempart-ip"
CERTIFICATE = "x-rempart-certificate"  # SHA-256 of what a program outside the mesh came with, in hex
CLIENT_CERTIFICATE = "x-client-cert"  # that and what came along, as Envoy writes it (`Chain="…"`, URL-encoded PEM): for
# people, who believe it from the gateway alone
DECISION = "x-rempart-decision"
SUBJECT = "x-rempart-subject"
ROLE = "x-rempart-role"
CALLER = "x-spiffe-id"

FROM_PDP = (DECISION, SUBJECT, ROLE, CALLER, "traceparent", "tracestate")
FOR_PDP_ONLY = (CLAIMS, PEER, ADDRESS, CERTIFICATE)
TO_PDP = (*FOR_PDP_ONLY, "authorization", "dpop", "x-request-id", "traceparent", "origin", "user-agent")

# Not identity by our own names, and taken for it, or for another path, address or method, by somebody downstream.
_OVERRIDES = (
    "forwarded",
    "x-original-url",
    "x-original-uri",
    "x-original-method",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-host",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "remote-user",
    "x-remote-user",
    "proxy",
    "proxy-authorization",
)
_LONGEST_CHAIN = 24 * 1024  # characters; what is cut off names nobody
_OURS = ("rempart", "spiffe", "envoy")
_FORWARDED = ("for", "host", "port", "prefix", "proto", "scheme", "server", "ssl", "user", "email", "groups", "uri")


def early_mutations(settings: Settings, *, edge: bool, peer: bool, certificate: bool = False) -> Json:
    """`edge`: callers are strangers, so that request ids begin here. `peer`: the caller has an mTLS certificate.
    `certificate`: a stranger has one of their own, which proves a key and names nobody to us."""
    off = settings.unsafe_disabled
    steps: list[Json] = []
    if Control.STRIP_IDENTITY_HEADERS not in off:
        names = [f"x-({'|'.join(_OURS)})-.*", *_OVERRIDES]
        if edge:
            names += [f"x-forwarded-({'|'.join(_FORWARDED)})", "x-auth-request-.*", "x-request-id"]
            names += ["traceparent", "tracestate", "b3", "x-b3-.*"] if settings.tracing is not None else []
        # One expression over the few headers there are costs less than a search for each of these names.
        steps.append({"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "|".join(names)}}}})
    if Control.SANITIZE_XFCC not in off and not peer:
        steps.append({"remove": "x-forwarded-client-cert"})
    # Whatever is switched off, what the PDP is told about the connection is Envoy's word.
    steps.append(_set(ADDRESS, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"))
    if edge:  # Envoy's own entry would be the host's address whenever the caller is on loopback
        steps.append(_set("x-forwarded-for", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"))
    if edge:  # removed first in any case: where there is no certificate, Envoy sets nothing over what came
        steps += [{"remove": CERTIFICATE}, {"remove": CLIENT_CERTIFICATE}]
    if certificate:
        steps.append(_set(CERTIFICATE, "%DOWNSTREAM_PEER_FINGERPRINT_256%"))
    steps.append(_set(PEER, "%DOWNSTREAM_PEER_URI_SAN%") if peer else {"remove": PEER})
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(
            "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=steps
        ),
    }


def answer_headers(*, edge: bool) -> list[Json]:
    """For every answer, those that Envoy makes itself included."""
    steps: list[Json] = [{"remove": "server"}, {"remove": "x-powered-by"}]
    if edge:
        steps += [
            _set("strict-transport-security", "max-age=31536000"),
            _set("x-content-type-options", "nosniff"),
        ]
    return steps


def certificate_chain() -> Json:
    """To the service, not to the PDP: Envoy knows no other way to say what came along with a certificate."""
    return {
        "header": {"key": CLIENT_CERTIFICATE, "value": f"%REQ(x-forwarded-client-cert):{_LONGEST_CHAIN}%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def decision_on_answer() -> Json:
    """The decision's id, unless somebody further in already named theirs: the innermost one wins."""
    return {"header": {"key": DECISION, "value": f"%REQ({DECISION})%"}, "append_action": "ADD_IF_ABSENT"}


def _set(name: str, value: str) -> Json:
    return {"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
