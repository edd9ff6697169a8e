"""What people do to their own credentials. Each change needs a fresh proof of who they are, is recorded with before and
after in the transaction that makes it, and ends everything that was signed in: whoever changes it goes on from the
`Authenticated` in the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rempart.crypto.webauthn import RelyingParty
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Conflict, NotFound
from rempart.kernel.event import EventType
from rempart.kernel.ids import new_id

from ..login_record import LoginRecord
from ..model import Authenticated, Credentials, Origin, clean_name
from .challenges import Challenges
from .codes import Codes
from .credential_changes import CredentialChanges, described, require_fresh
from .model import Change, Changed, Held, Passkey, Person, TotpSetup
from .ports import FactorStore
from .proving import Factors, available
from .totp_setup import TotpSetups

MOST_PASSKEYS = 20
_REGISTER = "register"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnList:
    totp: bool
    passkeys: tuple[Passkey, ...]
    backup_codes: int
    demanded: bool


class OwnFactors:
    """Every method raises Unauthenticated `proof_too_old` when `who`'s proof is older than `RECENT` or lacks the second
    factor that they have, Conflict `stale_version` when two changes meet, and Unavailable.
    """

    def __init__(
        self,
        factors: Factors,
        changes: CredentialChanges,
        codes: Codes,
        setups: TotpSetups,
        party: RelyingParty,
        challenges: Challenges,
        store: FactorStore,
        record: LoginRecord,
        clock: Clock,
    ) -> None:
        self._factors, self._changes, self._codes, self._setups = factors, changes, codes, setups
        self._party, self._challenges = party, challenges
        self._store, self._record, self._clock = store, record, clock

    async def list(self, who: Person) -> OwnList:
        """Needs no fresh proof."""
        credentials, held = await self._changes.read(who.account)
        return OwnList(
            totp=credentials.totp is not None,
            passkeys=held.passkeys,
            backup_codes=held.backup_codes,
            demanded=self._factors.demanded(who.account, held),
        )

    async def begin_totp(self, who: Person) -> TotpSetup:
        """A temporary secret, or the one of a moment ago; it counts once `confirm_totp` saw a code of it."""
        await self._fresh(who)
        return await self._setups.begin(who)

    async def confirm_totp(self, who: Person, code: str, origin: Origin) -> Changed:
        """Raises Unauthenticated `factor_failed` (try again), Conflict `no_totp_setup` (begin again)."""
        credentials, held = await self._fresh(who)
        confirmed = await self._setups.confirm(who, code)
        return await self._add(
            who, credentials, held, Change(totp=confirmed), "authenticator app added", ("otp",), origin
        )

    async def remove_totp(self, who: Person, origin: Origin) -> Changed:
        """Raises NotFound `no_such_factor`, Conflict `factor_demanded`."""
        credentials, held = await self._fresh(who)
        if credentials.totp is None:
            raise NotFound("no_such_factor", "there is no authenticator app", "read the list again")
        change = Change(remove_totp=True)
        return await self._remove(
            who, credentials, held, change, "authenticator app removed", not held.passkeys, origin
        )

    async def passkey_options(self, who: Person) -> dict[str, Any]:
        """For `navigator.credentials.create`."""
        _, held = await self._fresh(who)
        if len(held.passkeys) >= MOST_PASSKEYS:
            raise Conflict("too_many_passkeys", f"an account has at most {MOST_PASSKEYS} passkeys", "remove one first")
        return self._party.creation_options(
            self._challenges.make(_REGISTER, _binding(who)),
            user_id=who.account.id.encode(),
            email=who.account.email,
            name=who.account.name,
            registered=[(passkey.credential_id, passkey.transports) for passkey in held.passkeys],
        )

    async def add_passkey(self, who: Person, answer: Mapping[str, Any], name: str, origin: Origin) -> Changed:
        """Raises BadInput `bad_passkey`, `bad_name`, Unauthenticated `challenge_expired`, Conflict `passkey_known`."""
        credentials, held = await self._fresh(who)
        if len(held.passkeys) >= MOST_PASSKEYS:
            raise Conflict("too_many_passkeys", f"an account has at most {MOST_PASSKEYS} passkeys", "remove one first")
        challenge = self._party.claimed(answer).challenge
        self._challenges.check(challenge, _REGISTER, _binding(who))
        new = self._party.verify_registration(answer, challenge)
        passkey = Passkey(
            id=new_id("psk"),
            account_id=who.account.id,
            credential_id=new.credential_id,
            public_key=new.public_key,
            counter=new.counter,
            synced=new.synced,
            name=clean_name(name),
            transports=new.transports,
            created_at=self._clock.now(),
        )
        await self._challenges.use(challenge)
        proved = ("swk" if new.synced else "hwk", *(("user",) if new.verified else ()))
        change = Change(add_passkey=passkey)
        return await self._add(who, credentials, held, change, "passkey added", proved, origin)

    async def rename_passkey(self, who: Person, passkey_id: str, name: str, origin: Origin) -> None:
        """Raises NotFound `no_such_passkey`, BadInput `bad_name`. Nothing that is signed in ends."""
        await self._fresh(who)
        if not await self._store.rename_passkey(who.account.id, passkey_id, clean_name(name)):
            raise NotFound("no_such_passkey", "there is no such passkey", "read the list again")

    async def remove_passkey(self, who: Person, passkey_id: str, origin: Origin) -> Changed:
        """Raises NotFound `no_such_passkey`, Conflict `factor_demanded`."""
        credentials, held = await self._fresh(who)
        last = credentials.totp is None and len(held.passkeys) == 1
        change = Change(remove_passkey=passkey_id)
        return await self._remove(who, credentials, held, change, "passkey removed", last, origin)

    async def new_backup_codes(self, who: Person, origin: Origin) -> Changed:
        """In place of all old ones. Raises Conflict `no_factor`."""
        credentials, held = await self._fresh(who)
        if not available(credentials, held):
            raise Conflict("no_factor", "backup codes stand in for another factor", "set one up first")
        plain, hashes = self._codes.new_backup_codes(who.account.id)
        return await self._make(
            who, credentials, held, Change(backup_codes=hashes), "backup codes renewed", origin, plain
        )

    async def _add(
        self,
        who: Person,
        credentials: Credentials,
        held: Held,
        change: Change,
        what: str,
        proved: tuple[str, ...],
        origin: Origin,
    ) -> Changed:
        plain: tuple[str, ...] = ()
        if not available(credentials, held):
            plain, hashes = self._codes.new_backup_codes(who.account.id)
            change = replace(change, backup_codes=hashes)
        who = replace(who, amr=tuple(dict.fromkeys((*who.amr, *proved, "mfa"))))
        return await self._make(who, credentials, held, change, what, origin, plain)

    async def _remove(
        self, who: Person, credentials: Credentials, held: Held, change: Change, what: str, last: bool, origin: Origin
    ) -> Changed:
        if last and self._factors.demanded(who.account, held):
            raise Conflict(
                "factor_demanded",
                "this account must have a second factor",
                "add another one first; with a password of fifteen characters or more most roles can do without",
            )
        if last:
            change = replace(change, backup_codes=())
        return await self._make(who, credentials, held, change, what, origin, ())

    async def _make(
        self,
        who: Person,
        credentials: Credentials,
        held: Held,
        change: Change,
        what: str,
        origin: Origin,
        plain: tuple[str, ...],
    ) -> Changed:
        after = await self._changes.make(
            who.account,
            change,
            EventType.FACTOR_CHANGED,
            what,
            origin,
            before=described(credentials, held),
            actor=who.account.id,
            role=who.account.role,
        )
        if not who.session:  # this was the second step of signing in
            await self._record.succeeded(after, who.amr, False, origin)
        return Changed(
            authenticated=Authenticated(account=after, amr=who.amr, auth_time=who.auth_time), backup_codes=plain
        )

    async def _fresh(self, who: Person) -> tuple[Credentials, Held]:
        credentials, held = await self._changes.read(who.account)
        require_fresh(who, credentials, held, self._clock.now())
        return credentials, held


def _binding(who: Person) -> str:
    return f"{who.account.id} {who.session}"
