"""Identity's part in the rotation of roots: publish what the supervisor says is trusted, sign below what signs now."""

from __future__ import annotations

import asyncio
import contextlib
import random

from rempart.crypto.x509 import Certificate
from rempart.kernel.errors import RempartError

from .changes import Changes
from .issuing import IssuingAuthority
from .jwt_authority import JwtAuthority
from .ports import Supervisor

PERIOD = 1.0


class RootFollower:
    """`jwt` keeps the bundle's sequence: it is durable before anybody is told of another bundle. None: the bundle of
    the trust domain is not ours."""

    def __init__(
        self,
        supervisor: Supervisor,
        authorities: dict[str, IssuingAuthority],
        jwt: JwtAuthority | None,
        changes: Changes,
    ) -> None:
        self._supervisor, self._authorities, self._jwt, self._changes = supervisor, authorities, jwt, changes

    async def follow(self, kind: str) -> None:
        """Look once. Raises Unavailable when the supervisor, the disk or the recorder fails; nothing is then undone."""
        authority = self._authorities[kind]
        jwt = self._jwt if kind == "spiffe" else None
        published = jwt.roots_told() if jwt else _fingerprints(authority.roots)
        told = await self._supervisor.roots(kind, published)
        if _fingerprints(told.roots) != _fingerprints(authority.roots):
            if jwt:
                await jwt.show_roots(told.roots)
            authority.trust(told.roots)
            self._changes.announce()
        authority.rotation = told.rotation
        if authority.signed_by not in (None, told.signing):
            await authority.rotate(reason="its root was replaced")
            self._changes.announce()

    async def keep_following(self) -> None:
        while True:
            for kind in self._authorities:
                with contextlib.suppress(RempartError):  # the next look is soon; the old root is still trusted
                    await self.follow(kind)
            await asyncio.sleep(PERIOD * random.uniform(0.8, 1.2))  # nosec B311 - jitter, no secret


def _fingerprints(roots: tuple[Certificate, ...]) -> list[str]:
    return [root.fingerprint for root in roots]
