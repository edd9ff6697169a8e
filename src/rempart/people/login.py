"""The one way in with a password: throttle, bounded hashing, record; then the second factor where there is one.

Whether the account is unknown or disabled, the password wrong or the code: the answer is the same, and so is the work
before it (one indexed read, one argon2id, one record). A login that succeeds was recorded durably before.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

from rempart.crypto.passwords import Argon2id
from rempart.kernel.errors import BadInput, RempartError, Throttled
from rempart.kernel.event import EventType, Severity

from .devices import Devices
from .factors.model import SecondFactorNeeded
from .hashing_pool import HashingPool
from .login_record import TOO_MANY_CODES, LoginRecord, login_failed
from .model import Account, Authenticated, Credentials, Origin, normalise_email
from .ports import AccountStore, RefreshStore
from .throttle import Attempt, Throttle

_NOBODY = "usr_nobody"


class SecondFactors(Protocol):
    """What is asked of `factors/` once the password was right."""

    async def ask(
        self, account: Account, credentials: Credentials, amr: tuple[str, ...], device: str | None
    ) -> SecondFactorNeeded | None:
        """None when this account needs no second factor."""

    async def pretend(self, alias: str, text: str | None) -> None:
        """Take as long as both others together when the code is wrong."""

    async def try_code(
        self, account: Account, credentials: Credentials, text: str, device: str | None
    ) -> tuple[str, ...] | str:
        """The methods it adds to `amr`, or why it was refused; a code that was right is used up by this call.

        Raises Throttled after too many wrong ones.
        """


class Logins:
    def __init__(
        self,
        accounts: AccountStore,
        families: RefreshStore,
        pool: HashingPool,
        hasher: Argon2id,
        throttle: Throttle,
        devices: Devices,
        record: LoginRecord,
        factors: SecondFactors,
    ) -> None:
        self._accounts, self._families = accounts, families
        self._pool, self._hasher, self._throttle, self._devices = pool, hasher, throttle, devices
        self._record, self._factors = record, factors

    @cached_property
    def _dummy(self) -> str:
        return self._hasher.hash("nobody has this password")

    def warm_up(self) -> None:
        """Compute the hash that stands for unknown accounts, so that the first of them isn't slower."""
        assert self._dummy  # nosec B101 - evaluates the cached property

    async def authenticate(
        self,
        email: str,
        password: str,
        otp: str | None,
        device: str | None,
        origin: Origin,
        *,
        in_steps: bool = True,
    ) -> Authenticated | SecondFactorNeeded:
        """`otp`: a code of an app or a backup code, given with the password. `device`: a token of `remember`.

        A door that can't ask for a second factor passes `in_steps=False`: a missing one is then a refusal like any.
        Raises Unauthenticated `login_failed`, Throttled `login_throttled` or `login_busy`, Unavailable.
        """
        try:
            address = normalise_email(email)
        except BadInput:
            address = ""  # nobody's
        alias = self._record.alias(address or email)
        found = await self._accounts.by_email(address)
        account, credentials = found or (None, Credentials(self._dummy))
        attempt, known = await self._begin(alias, account, device, origin)
        try:
            verified = await self._pool.verify(self._hasher, password, credentials.password_hash, known=known)
            outcome = await self._judge(account, credentials, verified, otp, device, in_steps, alias)
            if account is None or isinstance(outcome, str):
                await attempt.failed()
                severity = Severity.HIGH if outcome == TOO_MANY_CODES else Severity.LOW
                await self._record.refused(EventType.LOGIN_FAILED, str(outcome), alias, account, origin, severity)
                raise login_failed()
            await self._rehash(account, credentials, password)
            if isinstance(outcome, tuple):
                await self._record.succeeded(account, outcome, known, origin)
            await attempt.succeeded()
        except Throttled as error:
            self._record.tally.login("busy")
            await attempt.abandoned()
            raise error
        except BaseException:
            await attempt.abandoned()
            raise
        if isinstance(outcome, SecondFactorNeeded):
            return outcome
        return Authenticated(account=account, amr=outcome, auth_time=self._record.clock.now())

    async def check_password(self, account: Account, password: str, device: str | None, origin: Origin) -> None:
        """For who is signed in and is to prove the password again; counted and recorded as a login that fails.

        Raises Unauthenticated `login_failed`, Throttled, Unavailable.
        """
        alias = self._record.alias(account.email)
        found = await self._accounts.by_email(account.email)
        encoded = found[1].password_hash if found and found[0].id == account.id else self._dummy
        attempt, known = await self._begin(alias, account, device, origin)
        try:
            verified = await self._pool.verify(self._hasher, password, encoded, known=known)
            if not verified or encoded is self._dummy:
                await attempt.failed()
                await self._record.refused(EventType.LOGIN_FAILED, "wrong password", alias, account, origin)
                raise login_failed()
            await attempt.succeeded()
        except BaseException:
            await attempt.abandoned()
            raise

    def remember(self, account: Account) -> str:
        """A token that makes its bearer's next login that of a known device; it opens nothing."""
        return self._devices.issue(account)

    async def _begin(
        self, alias: str, account: Account | None, device: str | None, origin: Origin
    ) -> tuple[Attempt, bool]:
        """The attempt, and whether it comes from where the account was before."""
        device_id = self._devices.known(device, account)
        try:
            return await self._throttle.begin(alias, origin.network, device=device_id), device_id is not None
        except Throttled:
            if device_id is None:
                # The same read for an unknown account: who is throttled must not learn from the time it took.
                owner = account.id if account else _NOBODY
                if await self._families.knows_network(owner, origin.network):
                    try:
                        return await self._throttle.begin(alias, origin.network, known_network=True), True
                    except Throttled:
                        pass
            await self._record.refused(EventType.LOGIN_THROTTLED, "too many failures", alias, account, origin)
            raise

    async def _judge(
        self,
        account: Account | None,
        credentials: Credentials,
        verified: bool,
        otp: str | None,
        device: str | None,
        in_steps: bool,
        alias: str,
    ) -> tuple[str, ...] | SecondFactorNeeded | str:
        """The methods that proved it, what is needed besides, or why not (for the record only)."""
        if account is None or not verified or account.disabled:
            await self._factors.pretend(alias, otp)
        if account is None:
            return "unknown account"
        if not verified:
            return "wrong password"
        if account.disabled:
            return "disabled"
        device_id = self._devices.known(device, account)
        needed = await self._factors.ask(account, credentials, ("pwd",), device_id)
        if needed is None:
            return ("pwd",)
        if otp:
            try:
                more = await self._factors.try_code(account, credentials, otp, device_id)
            except Throttled:  # told openly, it would say that the password is right
                return TOO_MANY_CODES
            return more if isinstance(more, str) else ("pwd", *more, "mfa")
        return needed if in_steps else "no one-time code"

    async def _rehash(self, account: Account, credentials: Credentials, password: str) -> None:
        """Keep up with stronger parameters; a login never fails for it."""
        if self._hasher.outdated(credentials.password_hash):
            try:
                fresh = await self._pool.run(lambda: self._hasher.hash(password), known=True)
                await self._accounts.set_credentials(account, fresh, None, None)
            except RempartError:
                return
