"""`workloads.ports.ServiceAccountTokens`: ask the API server (TokenReview), or verify by the cluster's published keys.

TokenReview also knows that a pod was deleted; keys need no rights in the cluster. Sources: authentication.k8s.io/v1
TokenReview; Kubernetes "Managing Service Accounts" (claims of bound tokens; node references from 1.30 on).

Trusted: who owns the cluster's API server, or the file of its keys, decides which node is which agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rempart.crypto.jose import Jwks, verify_jwt
from rempart.crypto.jws import MAX_TOKEN
from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError, Unauthenticated, Unavailable
from rempart.workloads.agents.model import ServiceAccount

from .bounded_http import get_json

TIMEOUT = 8.0
MAX_ANSWER = 1 << 20
_REVIEW = "/apis/authentication.k8s.io/v1/tokenreviews"
_EXTRA = "authentication.kubernetes.io/"


class TokenReview:
    """`token` is this server's own, which may create tokenreviews; read for each question."""

    def __init__(self, url: str, *, ca: Path | None, token: Path | None) -> None:
        self._url, self._ca, self._token = url.rstrip("/"), ca, token

    async def review(self, token: str, audience: str) -> ServiceAccount:
        import ssl

        import httpx

        if not 0 < len(token) <= MAX_TOKEN:
            raise _refuse("it is no token")
        try:
            headers = {"authorization": f"Bearer {self._token.read_text('ascii').strip()}"} if self._token else {}
            context = ssl.create_default_context(cafile=str(self._ca) if self._ca else None)
        except (OSError, ValueError) as error:
            raise Unavailable("no_answer", f"the Kubernetes API server can't be asked: {error}") from None
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        transport = httpx.AsyncHTTPTransport(verify=context)
        url = self._url + _REVIEW
        answer = await get_json(transport, url, within_s=TIMEOUT, most=MAX_ANSWER, headers=headers, post=asked)
        status = _map(answer.get("status"))
        audiences = status.get("audiences")
        if status.get("authenticated") is not True:
            raise _refuse("the API server does not know it")
        if not isinstance(audiences, list) or audience not in audiences:
            raise _refuse(f"it is not for the audience {audience}")
        user = _map(status.get("user"))
        extra = _map(user.get("extra"))

        def fact(name: str) -> object:
            values = extra.get(_EXTRA + name)
            return values[0] if isinstance(values, list) and len(values) == 1 else None

        facts = {name.replace("-", "_"): fact(name) for name in ("pod-name", "pod-uid", "node-name", "node-uid")}
        return _account(user.get("username"), facts)


class PublishedKeys:
    """`keys` is a file with the cluster's key set (`kubectl get --raw /openid/v1/jwks`), read for each token: keys
    change. `issuer` as the tokens say it."""

    def __init__(self, keys: Path, issuer: str, clock: Clock) -> None:
        self._keys, self._issuer, self._clock = keys, issuer, clock

    async def review(self, token: str, audience: str) -> ServiceAccount:
        try:
            jwks = Jwks.parse(self._keys.read_bytes()[:MAX_ANSWER])
        except (OSError, RempartError) as error:
            raise Unavailable("no_answer", f"the cluster's keys can't be read: {error}") from None
        try:
            now = self._clock.now()
            claims = verify_jwt(token, jwks, typ=None, issuer=self._issuer, audience=audience, now=now)
        except RempartError as error:
            raise _refuse(error.reason) from None
        bound = _map(claims.get("kubernetes.io"))
        pod, node = _map(bound.get("pod")), _map(bound.get("node"))
        facts = {
            "pod_name": pod.get("name"),
            "pod_uid": pod.get("uid"),
            "node_name": node.get("name"),
            "node_uid": node.get("uid"),
        }
        return _account(claims.get("sub"), facts)


def _account(username: object, facts: Mapping[str, object]) -> ServiceAccount:
    """Of `system:serviceaccount:NAMESPACE:NAME`; a token that is bound to no pod and node is no agent's."""
    parts = username.split(":") if isinstance(username, str) else []
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        raise _refuse("it is of no service account")
    known = {name: value for name, value in facts.items() if isinstance(value, str) and 0 < len(value) <= 253}
    if len(known) != len(facts):
        raise _refuse("it is bound to no pod and node (Kubernetes 1.30 or newer, and a projected token)")
    return ServiceAccount(namespace=parts[2], name=parts[3], **known)


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _refuse(why: str) -> Unauthenticated:
    return Unauthenticated("k8s_token_refused", f"the service-account token is refused: {why}")
