"""Where people learns the keys of JWT-SVIDs: the Workload API, as every workload does."""

from __future__ import annotations

from rempart.crypto.jose import Jwks
from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError, Unavailable

KEPT = 10.0  # seconds


class WorkloadBundle:
    """Implements `people.oauth.ports.TrustBundle`. Keys are published long before they sign, so `KEPT` misses none."""

    def __init__(self, endpoint: str, trust_domain: str, clock: Clock) -> None:
        self._endpoint, self._trust_domain, self._clock = endpoint, trust_domain, clock
        self._kept: tuple[Jwks, float] | None = None

    async def jwks(self) -> Jwks:
        now = self._clock.monotonic()
        if self._kept is None or now - self._kept[1] >= KEPT:
            self._kept = (await self._fetch(), now)
        return self._kept[0]

    async def _fetch(self) -> Jwks:
        from rempart.sdk.spiffe import WorkloadApi  # gRPC is slow to import and rarely needed

        try:
            async with WorkloadApi(self._endpoint) as api:
                bundles = await api.fetch_jwt_bundles()
            return Jwks.parse(bundles[f"spiffe://{self._trust_domain}"])
        except (RempartError, KeyError) as error:
            why = error.reason if isinstance(error, RempartError) else "it has none of this trust domain"
            raise Unavailable("bundle_unavailable", f"the keys of JWT-SVIDs can't be had: {why}") from None
