"""Passkeys: signing in with one alone, and proving one beside a password (WebAuthn Level 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rempart.crypto.webauthn import Assertion, RelyingParty
from rempart.kernel.errors import BadInput, RempartError, Unauthenticated
from rempart.kernel.event import EventType, Severity

from ..login_record import LoginRecord
from ..model import Account, Authenticated, Origin
from ..ports import AccountStore
from .challenges import Challenges
from .model import Passkey
from .ports import FactorStore

_SIGN_IN = "sign-in"
_PROVE = "prove"


@dataclass(frozen=True)
class Passkeys:
    party: RelyingParty
    store: FactorStore
    accounts: AccountStore
    challenges: Challenges
    record: LoginRecord

    async def sign_in_options(self, binding: str) -> dict[str, Any]:
        """For `navigator.credentials.get`, before anybody said who they are. Stores nothing."""
        return self.party.request_options(self.challenges.make(_SIGN_IN, binding), verify=True)

    async def sign_in(self, answer: Mapping[str, Any], binding: str, origin: Origin) -> Authenticated:
        """Needs a discoverable key that verified its person: two factors in one.

        Raises Unauthenticated `passkey_failed`, the same whatever was wrong, and Unavailable.
        """
        owner: Account | None = None
        try:
            claimed = self.party.claimed(answer)
            passkey = await self.store.by_credential(claimed.credential_id)
            owner = await self.accounts.get(passkey.account_id) if passkey else None
            if passkey is None or owner is None:
                raise _failed("unknown passkey")
            if claimed.user_handle != owner.id.encode():
                raise _failed("another person's passkey")
            assertion = await self._verified(passkey, answer, claimed.challenge, _SIGN_IN, binding, origin, verify=True)
            if owner.disabled:
                raise _failed("disabled")
        except (BadInput, Unauthenticated) as error:
            await self._refused(error, owner, origin)
            raise _failed("") from None
        amr = (*_methods(passkey, assertion), "mfa")
        await self.record.succeeded(owner, amr, False, origin)
        return Authenticated(account=owner, amr=amr, auth_time=self.record.clock.now())

    def prove_options(self, passkeys: tuple[Passkey, ...], binding: str) -> dict[str, Any]:
        """For one of these keys, beside another proof."""
        allowed = [(passkey.credential_id, passkey.transports) for passkey in passkeys]
        return self.party.request_options(self.challenges.make(_PROVE, binding), allowed=allowed, verify=False)

    async def prove(
        self, account: Account, answer: Mapping[str, Any], binding: str, origin: Origin
    ) -> tuple[str, ...] | str:
        """The methods it adds to `amr`, or why not (for the record)."""
        try:
            claimed = self.party.claimed(answer)
            passkey = await self.store.by_credential(claimed.credential_id)
            if passkey is None or passkey.account_id != account.id:
                return "unknown passkey"
            return _methods(
                passkey,
                await self._verified(passkey, answer, claimed.challenge, _PROVE, binding, origin, verify=False),
            )
        except (BadInput, Unauthenticated) as error:
            return error.reason

    async def _verified(
        self,
        passkey: Passkey,
        answer: Mapping[str, Any],
        challenge: bytes,
        purpose: str,
        binding: str,
        origin: Origin,
        *,
        verify: bool,
    ) -> Assertion:
        """Raises BadInput `bad_passkey`, Unauthenticated `challenge_expired` or `passkey_cloned`."""
        self.challenges.check(challenge, purpose, binding)
        assertion = self.party.verify_assertion(answer, challenge, passkey.public_key, verify=verify)
        if assertion.synced != passkey.synced:  # section 7.2 step 19: eligibility never changes
            raise _failed("the key says otherwise than before whether it can be copied")
        await self.challenges.use(challenge)
        if not await self.store.advance(passkey.id, assertion.counter, self.record.clock.now()):
            await self.record.alarm(
                EventType.FACTOR_FAILED,
                "a passkey's counter went back: it may have been copied",
                passkey.account_id,
                origin,
                Severity.HIGH,
                passkey=passkey.id,
            )
            raise Unauthenticated("passkey_cloned", "the passkey's counter went back")
        return assertion

    async def _refused(self, error: RempartError, owner: Account | None, origin: Origin) -> None:
        alias = owner.id if owner else "unknown"
        await self.record.refused(EventType.FACTOR_FAILED, error.reason, alias, owner, origin)


def _methods(passkey: Passkey, assertion: Assertion) -> tuple[str, ...]:
    """RFC 8176: a key that can't leave its device is `hwk`, one that can `swk`; `user`: its person was verified."""
    return ("swk" if passkey.synced else "hwk", *(("user",) if assertion.verified else ()))


def _failed(why: str) -> Unauthenticated:
    return Unauthenticated(
        "passkey_failed", why or "this passkey can't be used to sign in", "try again, or sign in with your password"
    )
