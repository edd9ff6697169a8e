"""The authorization endpoint and pushed requests (RFC 6749 section 3.1, RFC 9126)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, RempartError, Unauthenticated

from ..model import Origin
from ..oauth.model import Client
from ..oauth.profile import Profile
from ..requests import Origins
from . import parameters as reading
from .answers import FORM_POST_SCRIPT, error_page, proving, raw_parameters, redirect, respond
from .arrivals import Arrivals
from .id_tokens import IdTokens
from .interactions import Interactions, refusal
from .model import ACRS, AuthorizationRequest, Outgoing, Step
from .parameters import AuthorizationError
from .ports import ClientAuthentication, Clients, KeyProofs, Sessions
from .records import Records, is_handle

PUSHED_TTL = 60.0  # seconds
_URN = "urn:ietf:params:oauth:request_uri:"
_AUTHENTICATION = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


class Pushed(msgspec.Struct, frozen=True):
    """A request that was judged when it was pushed."""

    request: AuthorizationRequest


class AuthorizeFace:
    """`issuer` is also the base of this face's addresses; people are sent to the pages below it."""

    def __init__(
        self,
        interactions: Interactions,
        pushed: Records[Pushed],
        clients: Clients,
        authentication: ClientAuthentication,
        proofs: KeyProofs,
        sessions: Sessions,
        id_tokens: IdTokens,
        arrivals: Arrivals,
        origins: Origins,
        *,
        issuer: str,
        trust_domain: str,
        profile: Profile,
    ) -> None:
        self._interactions, self._pushed, self._clients = interactions, pushed, clients
        self._authentication, self._proofs = authentication, proofs
        self._sessions, self._id_tokens = sessions, id_tokens
        self._arrivals, self._origins = arrivals, origins
        self._issuer, self._trust_domain, self._profile = issuer, trust_domain, profile

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/auth/authorize", self.authorize, methods=["GET", "POST"]),
            Route("/auth/par", proving(self.push, self._proofs), methods=["POST"]),
            Route("/auth/form-post.js", self.script, methods=["GET"]),
        ]

    def metadata(self) -> dict[str, object]:
        """Fields for the discovery document (RFC 8414 section 2, OpenID Connect Discovery section 3)."""
        return {
            "authorization_endpoint": f"{self._issuer}/authorize",
            "pushed_authorization_request_endpoint": f"{self._issuer}/par",
            "require_pushed_authorization_requests": self._profile.par_only,
            "response_types_supported": ["code"],
            "response_modes_supported": list(reading.MODES),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "prompt_values_supported": list(reading.PROMPTS),
            "acr_values_supported": list(ACRS),
            "ui_locales_supported": list(reading.LOCALES),
            "claims_parameter_supported": True,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
            "require_request_uri_registration": False,
        }

    async def authorize(self, request: Request) -> Response:
        """A page for what must not be redirected, else a redirect; a 5xx for an outage only."""
        try:
            if request.method == "HEAD":
                raise BadInput("invalid_request", "this endpoint takes GET and POST")
            origin = self._origins.of(request)
            given, twice = reading.parse(await raw_parameters(request))
            client = await self._client(given, twice)
            if "request_uri" in given:
                asked = await self._take_pushed(given, twice, client)
                return await self._begin(request, asked, client, origin)
            uri = reading.redirect_uri(given, client)
        except RempartError as error:
            return error_page(request, error)
        try:
            if self._profile.par_only:
                raise AuthorizationError("invalid_request", "requests must be pushed first (RFC 9126)")
            asked = self._read(given, twice, client, uri)
            if request.method == "POST" and "origin" in request.headers:
                return await self._by_get(asked, origin)
        except AuthorizationError as error:
            if client.registered == "dynamic":  # its redirect URI is a stranger's word (RFC 9700 section 4.11.2)
                return error_page(request, error)
            return self._respond(request, refuse_as(given, twice, uri, error, self._issuer))
        except RempartError as error:
            return error_page(request, error)
        return await self._begin(request, asked, client, origin)

    async def push(self, request: Request) -> Response:
        """RFC 9126 section 2: judged here, where the client itself hears what is wrong."""
        origin = self._origins.of(request)
        given, twice = reading.parse(await raw_parameters(request))
        if twice:
            raise BadInput("invalid_request", "a parameter is given twice")
        client = await self._authentication.client(request, given, origin)
        if client.public:
            self._arrivals.admit(origin)
        if given.get("client_id", client.id) != client.id:
            raise Unauthenticated("invalid_client", "client_id is not the client that authenticated")
        if "request_uri" in given:
            raise BadInput("invalid_request", "request_uri can't be pushed")
        asked = {name: value for name, value in given.items() if name not in _AUTHENTICATION}
        jkt = await self._proofs.proved(request)
        if jkt:
            if asked.get("dpop_jkt", jkt) != jkt:
                raise BadInput("invalid_request", "dpop_jkt is not the key of the DPoP proof")  # RFC 9449 section 10.1
            asked["dpop_jkt"] = jkt
        try:
            uri = reading.redirect_uri(asked, client)
        except BadInput as error:
            raise BadInput("invalid_request", error.reason) from None  # section 2.3
        read = self._read(asked, frozenset(), client, uri)
        handle = await self._pushed.open(Pushed(read))
        document = {"request_uri": _URN + handle, "expires_in": int(self._pushed.ttl)}
        return JSONResponse(document, 201, {"cache-control": "no-store", "pragma": "no-cache"})

    async def script(self, request: Request) -> Response:
        headers = {"cache-control": "public, max-age=86400", "x-content-type-options": "nosniff"}
        return Response(FORM_POST_SCRIPT, media_type="text/javascript", headers=headers)

    async def _client(self, given: Mapping[str, str], twice: frozenset[str]) -> Client:
        """Step 2 of `parameters`."""
        if twice & {"client_id", "redirect_uri", "request_uri"}:
            raise BadInput("invalid_request", "client_id, redirect_uri or request_uri is given twice")
        client_id = given.get("client_id", "")
        client = await self._clients.get(client_id) if 0 < len(client_id) <= 200 and client_id.isprintable() else None
        if client is None:
            raise BadInput("unknown_client", "this application is not registered here")
        return client

    async def _take_pushed(
        self, given: Mapping[str, str], twice: frozenset[str], client: Client
    ) -> AuthorizationRequest:
        """All but `client_id` comes from what was pushed (RFC 9126 section 4), which is gone by this."""
        handle = given["request_uri"].removeprefix(_URN)
        if handle == given["request_uri"] or not is_handle(handle):
            raise BadInput("invalid_request_uri", "request_uri is not one that was pushed here")
        found = await self._pushed.find(handle)
        if found is None or found.value.request.client_id != client.id:
            raise BadInput("invalid_request_uri", "the pushed request is unknown, used or expired")
        if await self._pushed.take(handle) is None:
            raise BadInput("invalid_request_uri", "the pushed request is unknown, used or expired")
        return found.value.request

    def _read(self, given: Mapping[str, str], twice: frozenset[str], client: Client, uri: str) -> AuthorizationRequest:
        hint = given.get("id_token_hint", "")
        subject = ""
        if hint:
            known = self._id_tokens.read_hint(hint)
            if known is None or known.client_id != client.id:
                raise AuthorizationError("invalid_request", "id_token_hint is not an ID token of this client")
            subject = known.subject
        return reading.read(given, twice, client, uri, subject=subject, trust_domain=self._trust_domain)

    async def _by_get(self, asked: AuthorizationRequest, origin: Origin) -> Response:
        """A form on another site sends no cookie of ours (SameSite=Lax): ask the browser to come again by GET."""
        self._arrivals.admit(origin)
        handle = await self._pushed.open(Pushed(asked))
        return redirect(f"{self._issuer}/authorize", {"client_id": asked.client_id, "request_uri": _URN + handle})

    async def _begin(self, request: Request, asked: AuthorizationRequest, client: Client, origin: Origin) -> Response:
        try:
            session = await self._sessions.current(request, origin)
            outcome = await self._interactions.begin(asked, client, session, origin)
        except AuthorizationError as error:
            return self._respond(request, self._interactions.refusal(asked, error))
        except RempartError as error:
            return error_page(request, error)
        if isinstance(outcome, Outgoing):
            return self._respond(request, outcome)
        handle, step = outcome
        page = "consent" if step is Step.CONSENT else "sign-in"
        return redirect(f"{self._issuer}/{page}", {"interaction": handle})

    def _respond(self, request: Request, outgoing: Outgoing) -> Response:
        return respond(request, outgoing, script=f"{self._issuer}/form-post.js")


def refuse_as(
    given: Mapping[str, str], twice: frozenset[str], uri: str, error: AuthorizationError, issuer: str
) -> Outgoing:
    """The refusal of a request that could not be read whole: its state and mode as far as they can be told."""
    mode = given.get("response_mode", "")
    known = "response_mode" not in twice and mode in reading.MODES
    state = "" if "state" in twice else given.get("state", "")[: reading.MAX_STATE]
    return refusal(error, uri, state, mode if known else "query", issuer)
