"""How authorization is put together: requests and codes, consent, devices, userinfo, logout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.routing import BaseRoute

from rempart.backends import sql_consents, sql_logouts
from rempart.backends.sql import Database
from rempart.backends.sql_consents import SqlConsents
from rempart.backends.sql_logouts import SqlLogouts
from rempart.kernel.clock import Clock
from rempart.kernel.event import Recorder
from rempart.people.accounts import Accounts
from rempart.people.authorize import codes as codes_room
from rempart.people.authorize import device as device_room
from rempart.people.authorize import interactions as interactions_room
from rempart.people.authorize import logout as logout_room
from rempart.people.authorize.arrivals import Arrivals
from rempart.people.authorize.authorize_api import PUSHED_TTL, AuthorizeFace, Pushed
from rempart.people.authorize.backchannel import BackChannel
from rempart.people.authorize.codes import CodeGrant, Codes
from rempart.people.authorize.consent import Consents
from rempart.people.authorize.consents_api import ConsentsFace
from rempart.people.authorize.device import DeviceFlow, DeviceGrant, DeviceRequest, UserCode
from rempart.people.authorize.device_api import DeviceFace
from rempart.people.authorize.id_tokens import IdTokens
from rempart.people.authorize.interactions import Interactions
from rempart.people.authorize.logout import LogoutRequest, Logouts
from rempart.people.authorize.logout_api import LogoutFace
from rempart.people.authorize.model import Code, Waiting
from rempart.people.authorize.ports import (
    Bearers,
    ClientAuthentication,
    Clients,
    Families,
    KeyProofs,
    LogoutSender,
    Sessions,
)
from rempart.people.authorize.records import Records
from rempart.people.authorize.userinfo_api import UserinfoFace
from rempart.people.collapse import Collapse
from rempart.people.oauth.profile import Profile
from rempart.people.ports import OnceStore
from rempart.people.requests import Origins
from rempart.people.throttle import Throttle

SCHEMA = (*sql_consents.SCHEMA, *sql_logouts.SCHEMA)


@dataclass(frozen=True)
class Authorization:
    """`grants` plug into the token endpoint, `metadata` into discovery. `back_channel.deliver` each second."""

    routes: list[BaseRoute]
    operators: list[BaseRoute]
    metadata: dict[str, object]
    grants: tuple[CodeGrant, DeviceGrant]
    interactions: Interactions
    devices: DeviceFlow
    consents: Consents
    logouts: Logouts
    id_tokens: IdTokens
    arrivals: Arrivals
    back_channel: BackChannel


def compose_authorization(
    *,
    issuer: str,
    trust_domain: str,
    profile: Profile,
    joined_for: float,
    secret: Callable[[str], bytes],
    database: Database,
    once: OnceStore,
    id_tokens: IdTokens,
    accounts: Accounts,
    sessions: Sessions,
    families: Families,
    clients: Clients,
    authentication: ClientAuthentication,
    proofs: KeyProofs,
    bearers: Bearers,
    origins: Origins,
    sender: LogoutSender,
    guesses: Throttle,
    recorder: Recorder,
    refusals: Collapse,
    clock: Clock,
) -> Authorization:
    """`secret(purpose)` gives a key of 32 bytes; `joined_for`: seconds for which a session may be worth a logout."""
    key, arrivals = secret("authorize"), Arrivals(clock)
    consents = Consents(SqlConsents(database), families, recorder, clock)
    told = SqlLogouts(database)
    codes = Codes(
        Records(once, clock, "code", Code, key=key, ttl=codes_room.REMEMBERED),
        accounts,
        sessions,
        families,
        told,
        id_tokens,
        recorder,
        refusals,
        clock,
        trust_domain=trust_domain,
        joined_for=joined_for,
    )
    interactions = Interactions(
        Records(once, clock, "interaction", Waiting, key=key, ttl=interactions_room.WAITS),
        clients,
        consents,
        codes,
        arrivals,
        clock,
        issuer=issuer,
    )
    devices = DeviceFlow(
        Records(once, clock, "device", DeviceRequest, key=key, ttl=device_room.REMEMBERED),
        Records(once, clock, "user-code", UserCode, key=key, ttl=device_room.LIFETIME),
        clients,
        accounts,
        sessions,
        families,
        told,
        id_tokens,
        guesses,
        recorder,
        clock,
        key=secret("user-codes"),
        trust_domain=trust_domain,
        joined_for=joined_for,
    )
    logouts = Logouts(
        Records(once, clock, "logout", LogoutRequest, key=key, ttl=logout_room.WAITS),
        clients,
        sessions,
        families,
        told,
        id_tokens,
        clock,
    )
    faces = (
        AuthorizeFace(
            interactions,
            Records(once, clock, "pushed", Pushed, key=key, ttl=PUSHED_TTL),
            clients,
            authentication,
            proofs,
            sessions,
            id_tokens,
            arrivals,
            origins,
            issuer=issuer,
            trust_domain=trust_domain,
            profile=profile,
        ),
        DeviceFace(devices, authentication, proofs, arrivals, origins, issuer=issuer),
        UserinfoFace(bearers, origins, issuer=issuer),
        LogoutFace(logouts, sessions, arrivals, origins, issuer=issuer),
    )
    return Authorization(
        routes=[route for face in faces for route in face.routes()],
        operators=ConsentsFace(consents, accounts).routes(),
        metadata={name: value for face in faces for name, value in face.metadata().items()},
        grants=(CodeGrant(codes), DeviceGrant(devices)),
        interactions=interactions,
        devices=devices,
        consents=consents,
        logouts=logouts,
        id_tokens=id_tokens,
        arrivals=arrivals,
        back_channel=BackChannel(told, clients, sender, id_tokens, recorder, clock, looking_back=joined_for),
    )
