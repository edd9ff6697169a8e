"""How factors are put together: passwords, codes, passkeys, and what people do to their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.routing import BaseRoute

from rempart.backends import sql_factors
from rempart.backends.sql import Database
from rempart.backends.sql_factors import SqlFactors
from rempart.crypto.passwords import Argon2id
from rempart.crypto.webauthn import RelyingParty
from rempart.kernel.clock import Clock
from rempart.people.accounts import Accounts
from rempart.people.api import Bearers
from rempart.people.devices import Devices
from rempart.people.factors.api import OwnFace
from rempart.people.factors.challenges import Challenges
from rempart.people.factors.codes import Codes
from rempart.people.factors.credential_changes import CredentialChanges
from rempart.people.factors.factor_reset import FactorReset
from rempart.people.factors.notices import Notices
from rempart.people.factors.own_factors import OwnFactors
from rempart.people.factors.own_password import OwnPassword
from rempart.people.factors.passkeys import Passkeys
from rempart.people.factors.proving import Factors
from rempart.people.factors.tickets import Tickets
from rempart.people.factors.totp_setup import TotpSetups
from rempart.people.hashing_pool import HashingPool
from rempart.people.login import Logins
from rempart.people.login_record import LoginRecord
from rempart.people.model import Origin
from rempart.people.password_rules import PasswordRules
from rempart.people.ports import AccountStore, OnceStore, RefreshStore
from rempart.people.requests import Origins
from rempart.people.sessions.service import Sessions
from rempart.people.throttle import Throttle
from rempart.wiring.process_people import PeopleSettings

SCHEMA = sql_factors.SCHEMA


@dataclass(frozen=True)
class ProvingRoom:
    """What proves who one is: everything that `servers/people.py` and the pages need of it."""

    logins: Logins
    factors: Factors
    passkeys: Passkeys
    store: SqlFactors
    codes: Codes
    party: RelyingParty
    challenges: Challenges


@dataclass(frozen=True)
class OwnRoom:
    factors: OwnFactors
    password: OwnPassword
    reset: FactorReset
    notices: Notices
    _proving: ProvingRoom
    _accounts: Accounts
    _sessions: Sessions

    def routes(self, bearers: Bearers, origins: Origins) -> list[BaseRoute]:
        return OwnFace(
            self.factors,
            self.password,
            self._sessions,
            bearers,
            self._accounts,
            self._proving.logins,
            origins,
            page_origin=self._proving.party.origin,
        ).routes()


@dataclass(frozen=True)
class _Endings:
    sessions: Sessions
    families: RefreshStore
    clock: Clock

    async def end_all(self, account_id: str, why: str, origin: Origin) -> None:
        await self.families.revoke_all(account_id, why, self.clock.now())
        await self.sessions.end_all(account_id, why, origin)


def relying_party(issuer: str, name: str) -> RelyingParty:
    """Its origin as browsers write it: in lower case, without the default port (RFC 6454 section 6.2)."""
    parts = urlsplit(issuer)
    host, usual = parts.hostname or "", {"https": 443, "http": 80}.get(parts.scheme)
    port = f":{parts.port}" if parts.port not in (None, usual) else ""
    return RelyingParty(host, f"{parts.scheme}://{host}{port}", name)


def compose_proving(
    settings: PeopleSettings,
    database: Database,
    accounts: AccountStore,
    families: RefreshStore,
    once: OnceStore,
    pool: HashingPool,
    hasher: Argon2id,
    throttle: Throttle,
    record: LoginRecord,
    clock: Clock,
    secret: Callable[[str], bytes],
) -> ProvingRoom:
    """`secret` derives the key of a purpose."""
    party = relying_party(settings.issuer, settings.audience)
    store = SqlFactors(database)
    codes = Codes(accounts, store, clock, secret("totp"), secret("backup-codes"))
    challenges = Challenges(once, clock, secret("passkey-challenges"))
    passkeys = Passkeys(party, store, accounts, challenges, record)
    factors = Factors(
        accounts,
        store,
        codes,
        passkeys,
        Tickets(secret("second-factor"), clock),
        throttle,
        record,
        demanding=frozenset(settings.factors.require_mfa_roles),
    )
    logins = Logins(accounts, families, pool, hasher, throttle, Devices(secret("devices")), record, factors)
    logins.warm_up()
    return ProvingRoom(logins, factors, passkeys, store, codes, party, challenges)


def compose_own(
    settings: PeopleSettings,
    proving: ProvingRoom,
    accounts: Accounts,
    account_store: AccountStore,
    families: RefreshStore,
    sessions: Sessions,
    once: OnceStore,
    rules: PasswordRules,
    pool: HashingPool,
    hasher: Argon2id,
    record: LoginRecord,
    notices: Notices,
    clock: Clock,
    secret: Callable[[str], bytes],
) -> OwnRoom:
    endings = _Endings(sessions, families, clock)
    changes = CredentialChanges(account_store, proving.store, accounts.publish, endings, notices, clock)
    setups = TotpSetups(once, clock, settings.audience, secret("totp"))
    own = OwnFactors(
        proving.factors,
        changes,
        proving.codes,
        setups,
        proving.party,
        proving.challenges,
        proving.store,
        record,
        clock,
    )
    password = OwnPassword(proving.logins, changes, rules, pool, hasher, clock)
    return OwnRoom(own, password, FactorReset(changes), notices, proving, accounts, sessions)
