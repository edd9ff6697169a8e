"""The second step of signing in, and step-up: who has a ticket proves a factor; every factor is proved here."""

from __future__ import annotations

from typing import Any

from rempart.kernel.errors import Conflict, Throttled, Unauthenticated
from rempart.kernel.event import EventType, Severity

from ..login_record import TOO_MANY_CODES, LoginRecord
from ..model import Account, Authenticated, Credentials, Origin
from ..ports import AccountStore
from ..throttle import Throttle
from .codes import Codes
from .model import Factor, Held, OneTimeCode, Person, Proof, SecondFactorNeeded
from .passkeys import Passkeys
from .ports import FactorStore
from .tickets import Ticket, Tickets, expired

NOBODY = "usr_nobody"


class Factors:
    """`demanding`: roles whose people must have a second factor."""

    def __init__(
        self,
        accounts: AccountStore,
        store: FactorStore,
        codes: Codes,
        passkeys: Passkeys,
        tickets: Tickets,
        throttle: Throttle,
        record: LoginRecord,
        *,
        demanding: frozenset[str] = frozenset(),
    ) -> None:
        self._accounts, self._store, self._codes, self._passkeys = accounts, store, codes, passkeys
        self._tickets, self._throttle, self._record = tickets, throttle, record
        self._demanding = demanding
        self._nobodys = Credentials("", codes.decoy(NOBODY))

    def demanded(self, account: Account, held: Held) -> bool:
        """Whether a password alone is not enough for this account: by its role, or because it is a short one."""
        return account.role in self._demanding or held.short_password

    async def ask(
        self, account: Account, credentials: Credentials, amr: tuple[str, ...], device: str | None
    ) -> SecondFactorNeeded | None:
        held = await self._store.held(account.id)
        factors = available(credentials, held)
        if not factors and not self.demanded(account, held):
            return None
        return SecondFactorNeeded(ticket=self._tickets.issue(account, amr, device), factors=factors)

    async def step_up(self, account: Account, amr: tuple[str, ...]) -> SecondFactorNeeded | None:
        """For who is signed in by `amr` already and is to prove a factor now; None when they have none."""
        account, credentials = await self.current(account.id)
        needed = await self.ask(account, credentials, amr, None)
        return needed if needed and needed.factors else None

    async def asked(self, ticket: str) -> tuple[Factor, ...]:
        """What the ticket's person may go on with. Raises Unauthenticated `sign_in_expired`."""
        account, credentials = await self._current(self._tickets.open(ticket))
        return available(credentials, await self._store.held(account.id))

    async def passkey_options(self, ticket: str) -> dict[str, Any]:
        """For `navigator.credentials.get`, then `prove` with PasskeyAnswer.

        Raises Unauthenticated `sign_in_expired`, Conflict `no_passkey`.
        """
        account, _ = await self._current(self._tickets.open(ticket))
        held = await self._store.held(account.id)
        if not held.passkeys:
            raise Conflict("no_passkey", "there is no passkey for this account", "choose another way")
        return self._passkeys.prove_options(held.passkeys, ticket)

    async def prove(self, ticket: str, proof: Proof, origin: Origin) -> Authenticated:
        """Raises Unauthenticated `sign_in_expired` or `factor_failed`, Throttled `login_throttled`, Unavailable."""
        opened = self._tickets.open(ticket)
        account, credentials = await self._current(opened)
        if isinstance(proof, OneTimeCode):
            try:
                outcome = await self.try_code(account, credentials, proof.text, opened.device)
            except Throttled:
                kind, who = EventType.LOGIN_THROTTLED, account.id
                await self._record.refused(kind, TOO_MANY_CODES, who, account, origin, Severity.HIGH)
                raise
        else:
            outcome = await self._passkeys.prove(account, proof.response, ticket, origin)
        if isinstance(outcome, str):
            await self._record.refused(EventType.FACTOR_FAILED, outcome, account.id, account, origin)
            raise Unauthenticated("factor_failed", "the code or the passkey is wrong", "try again")
        amr = (*dict.fromkeys((*opened.amr, *outcome, "mfa")),)
        await self._record.succeeded(account, amr, opened.device is not None, origin)
        return Authenticated(account=account, amr=amr, auth_time=self._record.clock.now())

    async def enrolling(self, ticket: str) -> Person:
        """Who must set up a first factor before they get in: for `OwnFactors`, with the ticket in place of a session.

        Raises Unauthenticated `sign_in_expired`, also for who has a factor: they must prove it.
        """
        opened = self._tickets.open(ticket)
        account, credentials = await self._current(opened)
        if available(credentials, await self._store.held(account.id)):
            raise expired()
        return Person(account=account, session="", amr=opened.amr, auth_time=opened.issued_at)

    async def pretend(self, alias: str, text: str | None) -> None:
        """The work of `ask` and of a wrong code, for nobody: a refusal doesn't tell by its time how far it came."""
        await self._store.held(NOBODY)
        self._tickets.pretend()
        if text:
            try:
                attempt = await self._throttle.begin_factor(f"nobody {alias}", None)
            except Throttled:
                return
            try:
                await self._codes.spend(NOBODY, self._nobodys, text)
            finally:
                await attempt.abandoned()

    async def try_code(
        self, account: Account, credentials: Credentials, text: str, device: str | None
    ) -> tuple[str, ...] | str:
        attempt = await self._throttle.begin_factor(account.id, device)
        try:
            why = await self._codes.spend(account.id, credentials, text)
        except BaseException:
            await attempt.abandoned()
            raise
        if why:
            await attempt.failed()
            return why
        await attempt.succeeded()
        return ("otp",)

    async def current(self, account_id: str) -> tuple[Account, Credentials]:
        """Raises Unauthenticated `sign_in_expired` when there is no such account any more."""
        account = await self._accounts.get(account_id)
        found = await self._accounts.by_email(account.email) if account else None
        if found is None or found[0].id != account_id:
            raise expired()
        return found

    async def _current(self, ticket: Ticket) -> tuple[Account, Credentials]:
        """Raises Unauthenticated `sign_in_expired` when the account was changed or disabled meanwhile."""
        account, credentials = await self.current(ticket.account_id)
        if account.disabled or account.epoch != ticket.epoch:
            raise expired()
        return account, credentials


def available(credentials: Credentials, held: Held) -> tuple[Factor, ...]:
    """Backup codes count beside another factor only."""
    factors = (*((Factor.PASSKEY,) if held.passkeys else ()), *((Factor.TOTP,) if credentials.totp is not None else ()))
    return (*factors, Factor.BACKUP_CODE) if factors and held.backup_codes else factors
