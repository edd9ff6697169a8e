"""What an agent shows to join: one of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rempart.crypto.possession import prove
from rempart.kernel.errors import Conflict
from rempart.workloads.ports import ServerConnection

from . import messages
from .joining import signed_message
from .messages import Challenge, Join

ASK_WITHIN = 10.0


class Evidence(Protocol):
    """`again`: it can be shown now, or once more."""

    @property
    def again(self) -> bool: ...

    async def join(self, server: ServerConnection, csr: bytes) -> Join:
        """What is sent; raises as `ServerConnection.ask`, BadInput, Conflict `no_evidence`."""


@dataclass
class ShownToken:
    """A join token: shown once, whether or not an answer comes. Empty: the agent has joined before, and goes on as long
    as its SVID is valid."""

    token: str = ""

    @property
    def again(self) -> bool:
        return bool(self.token)

    async def join(self, server: ServerConnection, csr: bytes) -> Join:
        token, self.token = self.token, ""
        if not token:
            raise Conflict(
                "no_evidence",
                "this agent has no valid SVID, and nothing to join with",
                "make a join token on the server (`rempart agent token`) and give it to `rempart agent run`",
            )
        return Join(method="join_token", csr=csr, token=token)


@dataclass(frozen=True)
class ProjectedToken:
    """Kubernetes' service-account token, read anew each time: it is replaced every hour."""

    cluster: str
    read: Callable[[], str]
    again: bool = True

    async def join(self, server: ServerConnection, csr: bytes) -> Join:
        return Join(method="k8s", csr=csr, cluster=self.cluster, token=self.read())


@dataclass(frozen=True)
class Possessed:
    """A certificate and its key, read anew each time: `x509pop` or `svid`. `read` gives the chain (DER) and the key
    (PEM)."""

    method: str
    read: Callable[[], tuple[Sequence[bytes], bytes]]
    again: bool = True

    async def join(self, server: ServerConnection, csr: bytes) -> Join:
        answer = await server.ask("POST", "/v1/challenge", within_s=ASK_WITHIN)
        nonce = messages.read_answer(answer, Challenge).nonce
        chain, key = self.read()
        signature = prove(key, signed_message(nonce, csr))
        return Join(method=self.method, csr=csr, nonce=nonce, chain=list(chain), signature=signature)
