"""From what was granted to what is answered: the record, the refresh family, the access token, the ID token."""

from __future__ import annotations

from typing import Any

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType, Recorder
from rempart.kernel.ids import new_id
from rempart.people.access_tokens import AccessTokens
from rempart.people.refresh_tokens import RefreshTokens

from .model import Grant, Granted, TokenRequest


class Issuing:
    def __init__(self, access: AccessTokens, refresh: RefreshTokens, recorder: Recorder, clock: Clock) -> None:
        self._access, self._refresh, self._recorder, self._clock = access, refresh, recorder, clock

    async def issue(self, request: TokenRequest, granted: Granted, grant: str) -> dict[str, Any]:
        """The members of a token answer (RFC 6749 section 5.1); recorded durably before it returns."""
        client, account = request.client, granted.account
        now = self._clock.now()
        ttl = self._access.ttl if client.access_ttl is None else client.access_ttl
        if granted.until is not None:
            ttl = min(ttl, int(granted.until - now))
        if ttl <= 0:
            raise BadInput("invalid_grant", "what was granted is over")
        session, refresh_token = granted.session, granted.refresh_token
        if account is not None and not session:
            refreshable = granted.refreshable and Grant.REFRESH_TOKEN in client.grants
            bound_to = str(request.binding) if client.public else ""
            family = self._refresh.family(
                account,
                family_id=granted.grant_id,
                amr=granted.amr,
                scope=" ".join(granted.scope),
                origin=request.origin,
                client_id=client.id,
                session_id=granted.session_id,
                audience=granted.audience,
                acr=granted.acr,
                auth_time=granted.auth_time,
                bound_to=bound_to,
                **_until(now, ttl, client.refresh_ttl, refreshable=refreshable),
            )
            token = await self._refresh.begin(family, bound_to=bound_to)
            session, refresh_token = family.id, token if refreshable else ""
        if granted.settle is not None:
            await granted.settle()
        token_id = new_id("tok")
        await self._recorder.record(self._event(request, granted, grant, session, token_id))
        access_token = self._access.mint(
            account,
            scope=" ".join(granted.scope),
            session=session,
            amr=granted.amr,
            auth_time=granted.auth_time,
            acr=granted.acr,
            client_id=client.id,
            audience=granted.audience,
            ttl=ttl,
            confirmation=request.binding.confirmation,
            actor=granted.actor,
            token_id=token_id,
        )
        answer: dict[str, Any] = {
            "access_token": access_token,
            "token_type": "DPoP" if request.binding.jkt else "Bearer",
            "expires_in": ttl,
            "scope": " ".join(granted.scope),
        }
        if refresh_token:
            answer["refresh_token"] = refresh_token
        if granted.id_token is not None:
            answer["id_token"] = granted.id_token(access_token)
        return {**answer, **granted.members}

    def _event(self, request: TokenRequest, granted: Granted, grant: str, session: str, token_id: str) -> Event:
        refreshed = grant == Grant.REFRESH_TOKEN
        origin, account = request.origin, granted.account
        details: dict[str, Any] = {
            "grant": grant.rpartition(":")[2],
            "client": request.client.id,
            "token": token_id,
            "session": session or None,
            "scope": " ".join(granted.scope),
            "decision": origin.decision_id,
        }
        optional = {"audience": list(granted.audience), "bound_to": str(request.binding), "actor": granted.actor}
        return origin.stamp(
            Event(
                type=EventType.TOKEN_REFRESHED if refreshed else EventType.TOKEN_ISSUED,
                at=self._clock.now(),
                success=True,
                person=account.id if account else None,
                role=account.role if account else None,
                details={**details, **{name: value for name, value in optional.items() if value}},
            )
        )


def _until(now: float, ttl: int, refresh_ttl: int | None, *, refreshable: bool) -> dict[str, float]:
    """The family's end, where it isn't the issuer's: its access token's, or as the client is registered."""
    if not refreshable:
        return {"expires_at": now + ttl}
    return {} if refresh_ttl is None else {"expires_at": now + refresh_ttl}
