"""The token endpoint (RFC 6749 section 3.2): one client, one grant, one answer.

1. the form is read, and names a grant type that is enabled;
2. the client is authenticated, and the keys that the request proves are known;
3. the client may use this grant type;
4. its handler says what is granted;
5. that is recorded, minted and answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Denied, RempartError, Unauthenticated
from rempart.kernel.event import Event, EventType, Severity
from rempart.people.collapse import Collapse
from rempart.people.model import Origin
from rempart.people.ports import Tally
from rempart.people.requests import Json, Origins, no_store, oauth, read_form

from .client_authentication import ClientAuthentication
from .clients import Clients
from .dpop import HEADER, NONCE_HEADER, Dpop
from .issuing import Issuing
from .model import FIRST_PARTY_CLIENT, Binding, Client, Grant, TokenRequest
from .ports import GrantHandler

_NOT_RECORDED = frozenset({"authorization_pending", "slow_down", "use_dpop_nonce"})  # part of every honest exchange


class RecordedRefusal(BadInput):
    """A refusal that its handler has recorded itself."""


class TokenEndpoint:
    def __init__(
        self,
        clients: Clients,
        authentication: ClientAuthentication,
        handlers: Sequence[GrantHandler],
        issuing: Issuing,
        dpop: Dpop,
        origins: Origins,
        refusals: Collapse,
        clock: Clock,
        tally: Tally,
    ) -> None:
        enabled = clients.profile.grants
        self._handlers = {handler.grant: handler for handler in handlers if handler.grant in enabled}
        self._clients, self._authentication, self._issuing, self._dpop = clients, authentication, issuing, dpop
        self._origins, self._refusals, self._clock, self._tally = origins, refusals, clock, tally

    def routes(self) -> list[BaseRoute]:
        return [Route("/auth/token", self.token, methods=["POST"])]

    @property
    def grants(self) -> tuple[str, ...]:
        """The grant types that are enabled."""
        return tuple(self._handlers)

    async def token(self, request: Request) -> Response:
        response = await oauth(self._answer)(request)
        if HEADER in request.headers:
            response.headers[NONCE_HEADER] = self._dpop.nonce()
        return response

    async def _answer(self, request: Request) -> Response:
        origin = self._origins.of(request)
        form = await read_form(request)
        grant = form.get("grant_type", "")
        if not grant:
            raise BadInput("invalid_request", "grant_type is missing")
        handler = self._handlers.get(grant)
        if handler is None:
            raise BadInput("unsupported_grant_type", "this grant type is not supported", "see the metadata")
        client, binding = await self._client(request, form, origin, grant)
        try:
            if grant not in client.grants:
                raise BadInput("unauthorized_client", "this client may not use this grant type")
            asked = TokenRequest(client=client, form=form, origin=origin, binding=binding)
            answer = await self._issuing.issue(asked, await handler.redeem(asked), grant)
        except (BadInput, Denied, Unauthenticated) as error:
            self._count(grant, "refused")
            if error.code not in _NOT_RECORDED and not isinstance(error, RecordedRefusal):
                await self._refused(error, client, origin, grant)
            raise
        self._count(grant, "success")
        return Json(answer, headers=no_store())

    async def _client(
        self, request: Request, form: Mapping[str, str], origin: Origin, grant: str
    ) -> tuple[Client, Binding]:
        """Who logged in at `/login` names no client when they refresh; a JWT-SVID says itself which client it is."""
        if grant in (Grant.REFRESH_TOKEN, Grant.JWT_BEARER) and not self._authentication.named(request, form):
            client = FIRST_PARTY_CLIENT
            if grant == Grant.JWT_BEARER:
                client = await self._workload(form, origin)
            return client, await self._authentication.binding(request, client, origin)
        return await self._authentication.authenticate(request, form, origin)

    async def _workload(self, form: Mapping[str, str], origin: Origin) -> Client:
        from .workload_assertions import claimed_subject

        if "assertion" not in form:
            raise BadInput("invalid_request", "assertion is missing")
        found = await self._clients.workload(claimed_subject(form["assertion"]))
        if found is None:  # RFC 7523 section 3.1
            raise BadInput("invalid_grant", "no client is named, and the assertion is of none")
        return found

    def _count(self, grant: str, outcome: str) -> None:
        self._tally.token(grant, outcome)
        if grant == Grant.REFRESH_TOKEN:
            self._tally.refresh(outcome)

    async def _refused(self, error: RempartError, client: Client, origin: Origin, grant: str) -> None:
        event = origin.stamp(
            Event(
                type=EventType.TOKEN_REFUSED,
                at=self._clock.now(),
                success=False,
                severity=Severity.LOW,
                reason=f"{error.code}: {error.reason}",
                details={"grant": grant.rpartition(":")[2], "client": client.id},
            )
        )
        await self._refusals.record(event, origin.network, client.id, error.code)
