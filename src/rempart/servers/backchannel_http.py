"""How logout tokens travel: one POST over HTTPS, nothing believed of the answer but its status."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

TIMEOUT = 5.0  # seconds, for all of it: far below `backchannel.LEASE`


class HttpLogoutSender:
    """Implements `people.authorize.ports.LogoutSender`. No proxy of the environment, no redirect, no cookie.

    `authorities`, PEM, are believed beside the public ones."""

    def __init__(self, authorities: str = "") -> None:
        self._authorities = authorities
        self._client: httpx.AsyncClient | None = None

    async def post(self, uri: str, logout_token: str) -> bool:
        import asyncio
        import ssl

        import httpx

        if self._client is None:
            trusted = ssl.create_default_context()
            if self._authorities:
                trusted.load_verify_locations(cadata=self._authorities)
            self._client = httpx.AsyncClient(
                verify=trusted,
                follow_redirects=False,
                trust_env=False,
                timeout=TIMEOUT,
                limits=httpx.Limits(max_connections=32),
            )
        try:
            async with asyncio.timeout(TIMEOUT):
                async with self._client.stream("POST", uri, data={"logout_token": logout_token}) as answer:
                    return answer.status_code in (200, 204)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError):
            return False

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
