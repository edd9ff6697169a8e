"""Logging in with a password and, where there is one, a one-time code.

Whether the account is unknown or disabled, the password wrong or the code: the answer is the same, and so is the work
before it (one indexed read, one argon2id, one record). A login that succeeds was recorded durably before.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from functools import cached_property

from rempart.crypto.aead import unseal
from rempart.crypto.passwords import Argon2id
from rempart.crypto.totp import matching_step
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, RempartError, Throttled, Unauthenticated
from rempart.kernel.event import Event, EventType, Recorder, Severity

from .collapse import Collapse
from .devices import Devices
from .hashing_pool import HashingPool
from .model import Account, Credentials, Origin, normalise_email
from .ports import AccountStore, RefreshStore, Tally
from .refresh_tokens import Grant, RefreshTokens
from .throttle import Attempt, Throttle

TOTP_CONTEXT = "people/totp/"
_NOBODY = "usr_nobody"


@dataclass(frozen=True, slots=True)
class Welcome:
    """`device` makes the bearer's next login that of a known device."""

    grant: Grant
    device: str = field(repr=False)


class Logins:
    """`key` names accounts in counters and records without telling the address; `totp_key` opens TOTP secrets."""

    def __init__(
        self,
        accounts: AccountStore,
        families: RefreshStore,
        refresh: RefreshTokens,
        pool: HashingPool,
        hasher: Argon2id,
        throttle: Throttle,
        devices: Devices,
        recorder: Recorder,
        refusals: Collapse,
        clock: Clock,
        tally: Tally,
        *,
        key: bytes,
        totp_key: bytes,
    ) -> None:
        self._accounts, self._families, self._refresh = accounts, families, refresh
        self._pool, self._hasher, self._throttle, self._devices = pool, hasher, throttle, devices
        self._recorder, self._refusals, self._clock, self._tally = recorder, refusals, clock, tally
        self._key, self._totp_key = key, totp_key

    @cached_property
    def _dummy(self) -> str:
        return self._hasher.hash("nobody has this password")

    def warm_up(self) -> None:
        """Compute the hash that stands for unknown accounts, so that the first of them isn't slower."""
        assert self._dummy  # nosec B101 - evaluates the cached property

    async def login(self, email: str, password: str, otp: str | None, device: str | None, origin: Origin) -> Welcome:
        """Raises Unauthenticated `login_failed`, Throttled `login_throttled` or `login_busy`, Unavailable."""
        try:
            address = normalise_email(email)
        except BadInput:
            address = ""  # nobody's
        alias = self._alias(address or email)
        found = await self._accounts.by_email(address)
        account, credentials = found or (None, Credentials(self._dummy))
        attempt, known = await self._begin(alias, account, device, origin)
        try:
            verified = await self._pool.run(
                lambda: self._hasher.verify(password, credentials.password_hash), known=known
            )
            why = await self._judge(account, credentials, verified, otp)
            if account is None or why:
                attempt.failed()
                await self._refused(EventType.LOGIN_FAILED, why, alias, account, origin)
                raise Unauthenticated(
                    "login_failed",
                    "the e-mail address, the password or the one-time code is wrong",
                    "try again, or ask an administrator to reset the password",
                )
            await self._rehash(account, credentials, password)
            welcome = await self._welcome(account, credentials, known, origin)
            attempt.succeeded()
        except Throttled as error:
            self._tally.login("busy")
            attempt.abandoned()
            raise error
        except BaseException:
            attempt.abandoned()
            raise
        self._tally.login("success")
        return welcome

    async def _begin(
        self, alias: str, account: Account | None, device: str | None, origin: Origin
    ) -> tuple[Attempt, bool]:
        """The attempt, and whether it comes from where the account was before."""
        device_id = self._devices.known(device, account)
        try:
            return self._throttle.begin(alias, origin.network, device=device_id), device_id is not None
        except Throttled:
            if device_id is None:
                # The same read for an unknown account: who is throttled must not learn from the time it took.
                owner = account.id if account else _NOBODY
                if await self._families.knows_network(owner, origin.network):
                    try:
                        return self._throttle.begin(alias, origin.network, known_network=True), True
                    except Throttled:
                        pass
            self._tally.login("throttled")
            await self._refused(EventType.LOGIN_THROTTLED, "too many failures", alias, account, origin)
            raise

    async def _judge(self, account: Account | None, credentials: Credentials, verified: bool, otp: str | None) -> str:
        """Why not, for the record only; "" for yes. The code is computed whether or not the password was right."""
        step = None
        if account is not None and credentials.totp is not None:
            secret = unseal(self._totp_key, credentials.totp, (TOTP_CONTEXT + account.id).encode())
            step = matching_step(secret, otp or "", self._clock.now())
        if account is None:
            return "unknown account"
        if not verified:
            return "wrong password"
        if account.disabled:
            return "disabled"
        if credentials.totp is not None:
            if step is None:
                return "wrong one-time code" if otp else "no one-time code"
            if not await self._accounts.use_step(account.id, step):
                return "one-time code used before"
        return ""

    async def _rehash(self, account: Account, credentials: Credentials, password: str) -> None:
        """Keep up with stronger parameters; a login never fails for it."""
        if self._hasher.outdated(credentials.password_hash):
            try:
                fresh = await self._pool.run(lambda: self._hasher.hash(password), known=True)
                await self._accounts.set_credentials(account, fresh, None, None)
            except RempartError:
                return

    async def _welcome(self, account: Account, credentials: Credentials, known: bool, origin: Origin) -> Welcome:
        amr = ("pwd", "otp", "mfa") if credentials.totp is not None else ("pwd",)
        grant = await self._refresh.open(account, amr, origin)
        await self._recorder.record(
            Event(
                type=EventType.LOGIN,
                at=self._clock.now(),
                success=True,
                person=account.id,
                role=str(account.role),
                workload=origin.workload,
                ip=origin.ip,
                request_id=origin.request_id,
                trace_id=origin.trace_id,
                details={"amr": list(amr), "known_place": known, "decision": origin.decision_id},
            )
        )
        return Welcome(grant, self._devices.issue(account))

    async def _refused(self, kind: EventType, why: str, alias: str, account: Account | None, origin: Origin) -> None:
        if kind is EventType.LOGIN_FAILED:
            self._tally.login("failed")
        event = Event(
            type=kind,
            at=self._clock.now(),
            success=False,
            severity=Severity.LOW,
            reason=why,
            person=account.id if account else None,
            workload=origin.workload,
            ip=origin.ip,
            request_id=origin.request_id,
            trace_id=origin.trace_id,
            details={"account": alias, "network": origin.network, "decision": origin.decision_id},
        )
        await self._refusals.record(event, origin.network, alias)

    def _alias(self, address: str) -> str:
        """Stands for an address in counters and in the record: linkable, and not readable without the key."""
        return "eml_" + hmac.digest(self._key, address[:320].encode("utf-8", "replace"), "sha256").hex()[:24]
