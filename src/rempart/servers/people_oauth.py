"""How OAuth is put together: clients and how they prove themselves, the token endpoint, what is asked about tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import BaseRoute

from rempart.backends import sql_clients, sql_revocations
from rempart.backends.sql import Database
from rempart.backends.sql_clients import SqlClients
from rempart.backends.sql_epochs import SqlEpochs
from rempart.backends.sql_revocations import SqlRevocations
from rempart.kernel.clock import Clock
from rempart.kernel.event import Recorder
from rempart.people.access_tokens import AccessTokens
from rempart.people.api import Bearers
from rempart.people.authorize.id_tokens import IdTokens
from rempart.people.collapse import Collapse
from rempart.people.factors.model import SecondFactorNeeded
from rempart.people.login import Logins
from rempart.people.login_record import login_failed
from rempart.people.model import Authenticated, Origin
from rempart.people.oauth.admin_api import ClientsFace
from rempart.people.oauth.certificates import ClientCertificates
from rempart.people.oauth.client_assertions import ClientAssertions
from rempart.people.oauth.client_authentication import ClientAuthentication
from rempart.people.oauth.clients import Clients
from rempart.people.oauth.dpop import Dpop
from rempart.people.oauth.exchange import TokenExchangeGrant
from rempart.people.oauth.grants import ClientCredentialsGrant, PasswordGrant, RefreshGrant
from rempart.people.oauth.guesses import SecretGuesses
from rempart.people.oauth.issuing import Issuing
from rempart.people.oauth.live_tokens import LiveTokens
from rempart.people.oauth.metadata import Metadata
from rempart.people.oauth.model import Grant
from rempart.people.oauth.ports import GrantHandler, TrustBundle
from rempart.people.oauth.profile import Profile, profile_named
from rempart.people.oauth.registration import Invitations, RegistrationFace
from rempart.people.oauth.revocations import Revocations
from rempart.people.oauth.revocations_api import RevocationsFace
from rempart.people.oauth.token_endpoint import TokenEndpoint
from rempart.people.oauth.token_faces import TokenFaces
from rempart.people.oauth.workload_assertions import WorkloadAssertionGrant
from rempart.people.ports import AccountStore, OnceStore, RefreshStore, Tally
from rempart.people.refresh_tokens import RefreshTokens
from rempart.people.requests import Origins
from rempart.people.sessions.service import Sessions
from rempart.people.throttle_counters import Counters
from rempart.wiring.people_oauth import INVITED
from rempart.wiring.process_people import PeopleSettings

SCHEMA = (*sql_clients.SCHEMA, *sql_revocations.SCHEMA)


@dataclass(frozen=True)
class PasswordDoor:
    """Implements `people.oauth.ports.PasswordLogin`."""

    logins: Logins

    async def prove(self, email: str, password: str, otp: str | None, origin: Origin) -> Authenticated:
        found = await self.logins.authenticate(email, password, otp, None, origin, in_steps=False)
        if isinstance(found, SecondFactorNeeded):
            raise login_failed()
        return found


@dataclass(frozen=True)
class OAuth:
    """`routes` joins what other rooms plug in: their grants, and what they add to the metadata."""

    clients: Clients
    authentication: ClientAuthentication
    dpop: Dpop
    live: LiveTokens
    bearers: Bearers
    profile: Profile
    operators: list[BaseRoute]
    routes: Callable[[Sequence[GrantHandler], Mapping[str, Any]], list[BaseRoute]]


def signing_algorithms(settings: PeopleSettings) -> tuple[tuple[str, ...], str]:
    """All that tokens may be signed with, and that of access tokens: the setting, or the first where the security
    profile refuses that."""
    signing = profile_named(settings.security_profile).signing
    return signing, settings.signing_algorithm if settings.signing_algorithm in signing else signing[0]


def compose_oauth(
    settings: PeopleSettings,
    *,
    secret: Callable[[str], bytes],
    database: Database,
    once: OnceStore,
    accounts: AccountStore,
    families: RefreshStore,
    sessions: Sessions,
    access: AccessTokens,
    refresh: RefreshTokens,
    logins: Logins,
    id_tokens: IdTokens,
    bundle: TrustBundle | None,
    origins: Origins,
    recorder: Recorder,
    refusals: Collapse,
    tally: Tally,
    secret_guesses: Counters,
    clock: Clock,
) -> OAuth:
    """`secret(purpose)` gives a key of 32 bytes. Without `bundle` no JWT-SVID buys anything.

    Raises BadInput `bad_settings`.
    """
    issuer, domain = settings.issuer, settings.audience
    profile = profile_named(settings.security_profile)
    gateway = settings.gateway_spiffe_id or f"spiffe://{domain}/rempart/gateway"
    clients = Clients(
        SqlClients(database),
        recorder,
        clock,
        profile,
        key=secret("client-secrets"),
        gateway=gateway,
        trust_domain=domain,
    )
    dpop = Dpop(once, clock, profile, key=secret("dpop-nonces"), issuer=issuer, others=settings.other_origins)
    certificates = ClientCertificates(clock, gateway=gateway, authorities=settings.mtls_authorities)
    revocations = Revocations(
        SqlRevocations(database), recorder, clock, certificates.authorities, forget=clients.forget
    )
    authentication = ClientAuthentication(
        clients,
        ClientAssertions(once, clock, profile, issuer=issuer),
        dpop,
        SecretGuesses(secret_guesses),
        refusals,
        clock,
        certificates,
        revocations,
        gateway=gateway,
        issuer=issuer,
    )
    live = LiveTokens(access, accounts, families, once, clients, sessions, SqlEpochs(database), clock)
    own: list[GrantHandler] = [
        RefreshGrant(refresh, id_tokens),
        ClientCredentialsGrant(domain),
        PasswordGrant(PasswordDoor(logins), domain),
        TokenExchangeGrant(live, domain),
    ]
    if bundle is not None:
        own.append(WorkloadAssertionGrant(bundle, clock, issuer=issuer, trust_domain=domain))
    invitations = Invitations(once, recorder, clock) if settings.client_registration == INVITED else None
    faces = TokenFaces(authentication, access, live, refresh, origins, recorder, clock)

    def routes(handlers: Sequence[GrantHandler], metadata: Mapping[str, Any]) -> list[BaseRoute]:
        endpoint = TokenEndpoint(
            clients,
            authentication,
            [*handlers, *own],
            Issuing(access, refresh, recorder, clock),
            dpop,
            origins,
            refusals,
            clock,
            tally,
        )

        async def grants() -> Sequence[str]:
            """The password grant is told of once somebody may use it."""
            hidden = set() if await clients.any_with(Grant.PASSWORD) else {Grant.PASSWORD}
            return [grant for grant in endpoint.grants if grant not in hidden]

        registration: list[BaseRoute] = []
        more = dict(metadata)
        if invitations is not None:
            registration = RegistrationFace(clients, invitations, origins, refusals, clock).routes()
            more["registration_endpoint"] = f"{issuer}/register"
        told = Metadata(
            profile,
            grants,
            more,
            issuer=issuer,
            max_age=settings.jwks_max_age,
            mtls_url=settings.mtls_url,
        )
        return [*endpoint.routes(), *faces.routes(), *told.routes(), *registration]

    return OAuth(
        clients=clients,
        authentication=authentication,
        dpop=dpop,
        live=live,
        bearers=Bearers(live, dpop, domain, refusals, clock, certificates),
        profile=profile,
        operators=[*ClientsFace(clients, invitations).routes(), *RevocationsFace(revocations).routes()],
        routes=routes,
    )
