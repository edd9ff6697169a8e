"""What an authorization request needs of a person, and the answer once it has it.

A request that can't be answered at once waits in a once-record while pages ask the person. Whatever a page says, what
is demanded is judged here again, at the moment of the answer, against the session as it is then.
"""

from __future__ import annotations

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Conflict, NotFound

from ..model import Origin
from ..oauth.model import Client
from .arrivals import Arrivals
from .codes import Codes
from .consent import Consents
from .model import OPENID, AuthorizationRequest, Interaction, Outgoing, Step, Waiting, reaches
from .parameters import AuthorizationError
from .ports import Clients, SignedIn
from .records import Records, is_handle
from .redirects import host_of, source_of

WAITS = 1200.0  # seconds: long enough to look for one's phone
_UNMET = {
    Step.SIGN_IN: "login_required",
    Step.STEP_UP: "interaction_required",
    Step.SELECT_ACCOUNT: "account_selection_required",
    Step.CONSENT: "consent_required",
}
REFUSALS = frozenset({"access_denied", "unmet_authentication_requirements", "login_required"})


class Interactions:
    """`issuer` goes into every answer (RFC 9207)."""

    def __init__(
        self,
        waiting: Records[Waiting],
        clients: Clients,
        consents: Consents,
        codes: Codes,
        arrivals: Arrivals,
        clock: Clock,
        *,
        issuer: str,
    ) -> None:
        self._waiting, self._clients, self._consents, self._codes = waiting, clients, consents, codes
        self._arrivals, self._clock, self._issuer = arrivals, clock, issuer

    async def begin(
        self, request: AuthorizationRequest, client: Client, session: SignedIn | None, origin: Origin
    ) -> Outgoing | tuple[str, Step]:
        """The answer, when no person is needed, else the handle of the waiting request and what to ask for.

        Raises AuthorizationError where `prompt=none` forbids to ask, Throttled `too_many_waiting`.
        """
        waiting = Waiting(request=request, created_at=self._clock.now())
        step = await self._step(waiting, client, session)
        if step is Step.READY and session is not None:
            return await self._answer(request, client, session, request.scopes, origin)
        if "none" in request.prompt:
            raise AuthorizationError(_UNMET[step], "the person would have to be asked, and prompt is none")
        if session is None:
            self._arrivals.admit(origin)
        return await self._waiting.open(waiting), step

    async def get(self, id: str, session: SignedIn | None) -> Interaction:
        """Raises NotFound `no_such_interaction`."""
        waiting, client = await self._find(id)
        request = waiting.request
        return Interaction(
            id=id,
            client_id=client.id,
            client_name=client.name,
            redirect_host=host_of(request.redirect_uri),
            redirect_source=source_of(request.redirect_uri),
            scopes=request.scopes,
            step=await self._step(waiting, client, session),
            acr=request.acr,
            login_hint=request.login_hint,
            locale=request.locale,
        )

    async def choose(self, id: str, session: SignedIn) -> None:
        """The person goes on as this account. Raises NotFound `no_such_interaction`."""
        found = await self._waiting.find(id) if is_handle(id) else None
        if found is None:
            raise _gone()
        await self._waiting.replace(id, found, msgspec.structs.replace(found.value, chosen=session.id))

    async def decide(
        self,
        id: str,
        session: SignedIn,
        granted: tuple[str, ...] | None,
        origin: Origin,
    ) -> Outgoing:
        """The answer with a code; `granted` is what the person consented to, None where they were not asked.

        Of many calls one is answered. Raises NotFound `no_such_interaction`, Conflict `interaction_not_ready`.
        """
        waiting, client = await self._find(id)
        request = waiting.request
        step = await self._step(waiting, client, session)
        scopes = request.scopes
        if step is Step.CONSENT and granted is not None:
            if not granted:
                return await self.deny(id, origin)
            scopes = tuple(scope for scope in request.scopes if scope in granted or scope == OPENID)
        elif step is not Step.READY:
            raise Conflict("interaction_not_ready", "something else must be done before", "ask for it, then try again")
        await self._take(id)
        if step is Step.CONSENT:
            await self._consents.grant(session.account_id, client, scopes, origin)
        return await self._answer(request, client, session, scopes, origin)

    async def deny(self, id: str, origin: Origin, error: str = "access_denied") -> Outgoing:
        """Send the person back without. `error`: one of `REFUSALS`. Raises NotFound `no_such_interaction`."""
        waiting, _ = await self._find(id)
        await self._take(id)
        await self._codes.refused(waiting.request.client_id, error, origin)
        why = "the person said no" if error == "access_denied" else "the person can't do what is demanded"
        return self.refusal(waiting.request, AuthorizationError(error if error in REFUSALS else "access_denied", why))

    def refusal(self, request: AuthorizationRequest, error: AuthorizationError) -> Outgoing:
        return refusal(error, request.redirect_uri, request.state, request.response_mode, self._issuer)

    async def _step(self, waiting: Waiting, client: Client, session: SignedIn | None) -> Step:
        request = waiting.request
        if session is None or (request.subject and session.account_id != request.subject):
            return Step.SIGN_IN
        anew = session.auth_time >= waiting.created_at
        if "login" in request.prompt and not anew:
            return Step.SIGN_IN
        if request.max_age >= 0 and not anew and self._clock.now() - session.auth_time > request.max_age:
            return Step.SIGN_IN
        if "select_account" in request.prompt and not anew and waiting.chosen != session.id:
            return Step.SELECT_ACCOUNT
        if not reaches(session.amr, request.acr):
            return Step.STEP_UP
        if "consent" in request.prompt or (
            client.consent and not await self._consents.covers(session.account_id, client, request.scopes)
        ):
            return Step.CONSENT
        return Step.READY

    async def _answer(
        self, request: AuthorizationRequest, client: Client, session: SignedIn, scopes: tuple[str, ...], origin: Origin
    ) -> Outgoing:
        code = await self._codes.issue(request, client, session, scopes, origin)
        parameters = {"code": code, "iss": self._issuer}
        if request.state:
            parameters["state"] = request.state
        return Outgoing(request.redirect_uri, parameters, request.response_mode)

    async def _find(self, handle: str) -> tuple[Waiting, Client]:
        found = await self._waiting.find(handle) if is_handle(handle) else None
        client = await self._clients.get(found.value.request.client_id) if found else None
        if found is None or client is None:
            raise _gone()
        return found.value, client

    async def _take(self, handle: str) -> None:
        if await self._waiting.take(handle) is None:
            raise _gone()


def refusal(error: AuthorizationError, uri: str, state: str, mode: str, issuer: str) -> Outgoing:
    """RFC 6749 section 4.1.2.1 and RFC 9207."""
    parameters = {"error": error.code, "error_description": error.reason, "iss": issuer}
    if state:
        parameters["state"] = state
    return Outgoing(uri, parameters, mode)


def _gone() -> NotFound:
    return NotFound(
        "no_such_interaction", "this request is over or unknown", "go back to the application and try again"
    )
