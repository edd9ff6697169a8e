"""The people process: accounts, login, tokens, signing keys.

Sockets: `api` (behind its sidecar), `admin` (the operator), `metrics`. File: `people.db`, unless it is PostgreSQL.
Controls that can be switched off to prove that attacks are noticed: `login-throttle`, `refresh-rotation`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from starlette.routing import Route
from starlette.types import ASGIApp

from rempart.backends.sql_epochs import SqlEpochs
from rempart.backends.sql_ring import SqlRing
from rempart.crypto.aead import derive_key
from rempart.crypto.jose import SigningKey
from rempart.crypto.passwords import Argon2id
from rempart.kernel.clock import Clock, SystemClock
from rempart.kernel.errors import RempartError
from rempart.kernel.event import Recorder
from rempart.people.access_tokens import LONGEST_TTL, AccessTokens
from rempart.people.accounts import Accounts
from rempart.people.accounts_api import AccountsFace
from rempart.people.admin_api import KeysFace
from rempart.people.administration.roles import Roles
from rempart.people.api import PublicFace
from rempart.people.authorize.id_tokens import IdTokens
from rempart.people.collapse import Collapse
from rempart.people.cors import BrowserApplications, CrossOrigin
from rempart.people.factors.notices import Notices
from rempart.people.hashing_pool import HashingPool
from rempart.people.login_record import LoginRecord
from rempart.people.metrics import PeopleMetrics
from rempart.people.one_name import OneName
from rempart.people.password_list import BREACHED, COMMON, PasswordLists
from rempart.people.password_rules import PasswordRules
from rempart.people.refresh_tokens import RefreshTokens
from rempart.people.requests import Origins, application
from rempart.people.sessions.device_keys import DeviceKeys
from rempart.people.sessions.device_keys_api import DeviceKeysFace, OffersBinding
from rempart.people.sessions.ports import SessionEnding
from rempart.people.sessions.service import Sessions
from rempart.people.signing_keys import SealedRing, SigningKeys
from rempart.people.throttle import Throttle
from rempart.protocols.asgi_server import AsgiServer
from rempart.telemetry.asgi import Traced
from rempart.telemetry.exporter import Exporter
from rempart.wiring.people_state import SQLITE
from rempart.wiring.process_people import PeopleSettings

from .backchannel_http import HttpLogoutSender
from .boot import Boot
from .hashing_aside import HashingAside
from .people_administration import SCHEMA as _ADMINISTRATION
from .people_administration import compose_administration, mailer_of
from .people_authorize import SCHEMA as _AUTHORIZATION
from .people_authorize import compose_authorization
from .people_factors import SCHEMA as _FACTORS
from .people_factors import compose_own, compose_proving
from .people_oauth import SCHEMA as _OAUTH
from .people_oauth import compose_oauth, signing_algorithms
from .people_pages import SCHEMA as _PAGES
from .people_pages import compose_pages, remember_activity
from .people_parts import People
from .people_sessions import EndedSessions, compose_sessions
from .people_settings import check_settings
from .people_state import open_state
from .people_workloads import WorkloadBundle
from .tracing import SpanCounts, exporter

LOGIN_THROTTLE = "login-throttle"
REFRESH_ROTATION = "refresh-rotation"
_MAINTENANCE = 2.0  # seconds
_LOGOUTS_EVERY = 1.0
_SWEEP_EVERY = 600.0
_SCHEMA = (*_ADMINISTRATION, *_FACTORS, *_OAUTH, *_AUTHORIZATION, *_PAGES)
_log = logging.getLogger(__name__)


async def compose(
    settings: PeopleSettings,
    data_dir: Path,
    key: bytes,
    recorder: Recorder,
    *,
    clock: Clock | None = None,
    hasher: Argon2id | None = None,
    generate: Callable[[str], SigningKey] = SigningKey.generate,
    spans: Exporter | None = None,
) -> People:
    """The composition root of this process; `key` is 32 secret bytes that stay the same across starts.

    Raises BadInput `bad_settings`, Integrity `seal_broken` and Unavailable `store_unavailable`.
    """
    check_settings(settings)
    clock = clock or SystemClock()

    def secret(purpose: str) -> bytes:
        return derive_key(key, f"people/{purpose}")

    hasher = replace(
        hasher or Argon2id(),
        pepper=lambda version: secret(f"password-pepper/{version}"),
        pepper_version=settings.factors.password_pepper,
    )

    domain = settings.audience
    state = await open_state(settings.state, data_dir, _SCHEMA, clock)
    recorder = activity = remember_activity(recorder, state.database)
    database, store, families, once = state.database, state.store, state.families, state.once
    # One processor less: woken up beside one that computes on each of them, a request would wait for its turn.
    pool = HashingPool(settings.argon2_workers, aside=HashingAside(max(1, settings.argon2_workers - 1)))
    algorithms, for_access = signing_algorithms(settings)
    keys = await SigningKeys(
        SealedRing(SqlRing(database), secret("signing-keys")),
        recorder,
        clock,
        algorithms=algorithms,
        access=for_access,
        token_ttl=LONGEST_TTL,
        key_ttl=settings.signing_key_ttl,
        lead=settings.signing_key_lead,
        shared=settings.state.database != SQLITE,
        generate=generate,
    ).start()
    throttle = Throttle(clock, state.counters("logins"), enabled=LOGIN_THROTTLE not in settings.unsafe_disabled)
    metrics = PeopleMetrics(
        queue=lambda: pool.depth,
        entries=lambda: throttle.entries,
        ages=lambda: {
            str(ring_key.state): clock.now() - ring_key.created_at
            for ring_key in sorted(keys.ring.published(), key=lambda one: -one.created_at)
        },
        more=SpanCounts(spans) if spans else None,
    )
    refusals = Collapse(recorder)
    endings: list[SessionEnding] = [EndedSessions(SqlEpochs(database), clock)]  # more rooms append themselves below
    device_keys = DeviceKeys(once, clock, key=secret("device-keys")) if settings.sessions.device_binding else None
    sessions = Sessions(
        *(state.sessions, store, recorder, refusals, clock),
        key=secret("sessions"),
        limits=settings.sessions.limits,
        keep=settings.sessions.per_person,
        device_keys=device_keys,
        ending=endings,
    )
    access = AccessTokens(keys, clock, issuer=settings.issuer, audience=domain, ttl=settings.access_ttl)
    refresh = RefreshTokens(
        families,
        store,
        access,
        recorder,
        refusals,
        clock,
        key=secret("refresh"),
        ttl=settings.refresh_ttl,
        keep=settings.sessions.grants_per_person,
        rotating=REFRESH_ROTATION not in settings.unsafe_disabled,
    )
    record = LoginRecord(recorder, refusals, clock, metrics, secret("aliases"), pool.flooded)
    proving = compose_proving(settings, database, store, families, once, pool, hasher, throttle, record, clock, secret)
    rules = PasswordRules(
        settings.factors.password_length,
        settings.factors.password_length_with_factor,
        (domain, "rempart"),
        PasswordLists((COMMON, data_dir / BREACHED)),
    )
    notices = Notices(mailer_of(settings, data_dir), domain, clock)
    accounts = Accounts(
        store,
        store,
        families,
        pool,
        hasher,
        recorder,
        clock,
        Roles(settings.roles),
        totp_key=secret("totp"),
        rules=rules,
        tell=notices.tell,
    )
    own = compose_own(
        settings,
        proving,
        accounts,
        store,
        families,
        sessions,
        once,
        rules,
        pool,
        hasher,
        record,
        notices,
        clock,
        secret,
    )
    origins = Origins(
        gateway=settings.gateway_spiffe_id or f"spiffe://{domain}/rempart/gateway",
        client_ip_header=settings.client_ip_header,
    )
    id_tokens = IdTokens(keys, clock, algorithms, issuer=settings.issuer, ttl=settings.access_ttl)
    oauth = compose_oauth(
        settings,
        secret=secret,
        database=database,
        once=once,
        accounts=store,
        families=families,
        sessions=sessions,
        access=access,
        refresh=refresh,
        logins=proving.logins,
        id_tokens=id_tokens,
        bundle=WorkloadBundle(settings.workload_api, domain, clock) if settings.workload_api else None,
        origins=origins,
        recorder=recorder,
        refusals=refusals,
        tally=metrics,
        secret_guesses=state.counters("client-secrets"),
        clock=clock,
    )
    bearers = oauth.bearers
    sender = HttpLogoutSender(settings.backchannel_ca)
    authorization = compose_authorization(
        issuer=settings.issuer,
        trust_domain=domain,
        profile=oauth.profile,
        joined_for=max(settings.refresh_ttl, *(limits.absolute for limits in settings.sessions.limits.values())),
        secret=secret,
        database=database,
        once=once,
        id_tokens=id_tokens,
        accounts=accounts,
        sessions=sessions,
        families=families,
        clients=oauth.clients,
        authentication=oauth.authentication,
        proofs=oauth.dpop,
        bearers=bearers,
        origins=origins,
        sender=sender,
        guesses=Throttle(clock, state.counters("user-codes")),
        recorder=recorder,
        refusals=refusals,
        clock=clock,
    )
    endings.append(authorization.logouts)
    public = PublicFace(proving.logins, refresh, keys, origins, jwks_max_age=settings.jwks_max_age)
    internal = AccountsFace(
        accounts,
        bearers,
        origins,
        administrators=frozenset(settings.administration_callers or [f"spiffe://{domain}/users"]),
        payment_readers=frozenset(
            settings.payment_readers or [f"spiffe://{domain}/payment", f"spiffe://{domain}/wallet"]
        ),
    )
    session_room = compose_sessions(
        sessions, database, accounts, proving.logins, access, oauth, origins, recorder, clock
    )
    administration = compose_administration(
        settings,
        data_dir,
        secret("aliases"),
        database,
        store,
        families,
        once,
        accounts,
        bearers,
        origins,
        own.reset,
        session_room.everywhere,
        recorder,
        refusals,
        clock,
    )
    pages = compose_pages(
        *(settings.issuer, domain, secret, accounts, sessions, proving, own, authorization, administration),
        *(oauth.clients, activity, origins, clock, settings.factors.password_length),
    )
    routes = [*public.routes(), *oauth.routes(authorization.grants, authorization.metadata), *authorization.routes]
    routes += session_room.routes
    if device_keys is not None:
        routes += DeviceKeysFace(sessions, device_keys, origins, issuer=settings.issuer).routes()
    api: ASGIApp = application(
        [*routes, *pages, *internal.routes(), *administration.public, *own.routes(bearers, origins)]
    )
    if device_keys is not None:
        api = OffersBinding(api, device_keys)
    if settings.other_origins:
        api = OneName(api, settings.issuer, settings.other_origins)
    api = metrics.timed(CrossOrigin(api, BrowserApplications(oauth.clients, clock)))
    return People(
        api=api if spans is None else Traced(api, spans),
        admin=application(
            [*KeysFace(keys).routes(), *oauth.operators, *authorization.operators, *administration.operators]
        ),
        metrics=application([Route("/metrics", metrics.page, methods=["GET"])]),
        accounts=accounts,
        logins=proving.logins,
        proving=proving,
        own=own,
        tokens=access,
        oauth=oauth,
        authorization=authorization,
        keys=keys,
        refusals=refusals,
        state=state,
        database=database,
        store=store,
        families=families,
        once=once,
        administration=administration,
        activity=activity,
        sender=sender,
        sessions=sessions,
        session_room=session_room,
        pool=pool,
        clock=clock,
    )


async def run(boot: Boot) -> None:
    """Serve until SIGTERM; finish what is in flight."""
    from rempart.audit.journal import Journal

    settings = boot.read_settings(PeopleSettings)
    journal = Journal(boot.journal_dir, boot.name)
    boot.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = bytes.fromhex(settings.state.shared_key) or boot.keys["people"]
    people = await compose(settings, boot.data_dir, key, journal, spans=exporter(boot))
    servers = {
        "api": AsgiServer(people.api),
        "admin": AsgiServer(people.admin, name_operator=True),
        "metrics": AsgiServer(people.metrics),
    }
    servers = {name: server for name, server in servers.items() if name in boot.sockets}
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with asyncio.TaskGroup() as group:
            await people.administration.start(boot.sockets)
            for name, server in servers.items():
                await server.listen(boot.sockets[name])
            group.create_task(_every(_MAINTENANCE, people.maintain, stopping))
            group.create_task(_every(_LOGOUTS_EVERY, people.tell_logouts, stopping))
            group.create_task(_every(_SWEEP_EVERY, people.sweep, stopping))
            boot.ready()
            await stopping.wait()
            await asyncio.gather(*(server.stop() for server in servers.values()))
    finally:
        try:
            await people.close()
        finally:
            journal.close()


async def _every(seconds: float, work: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
    """What fails is tried again: a full disk must not end the process."""
    while not stopping.is_set():
        try:
            await work()
        except RempartError as error:
            _log.error("maintenance: %s", error.code)
        try:
            await asyncio.wait_for(stopping.wait(), seconds)
        except TimeoutError:
            continue


def main() -> None:
    import uvloop

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    uvloop.run(run(Boot.from_environment()))


if __name__ == "__main__":
    main()
