"""The second step of signing in, and step-up: who has a ticket proves a factor; every factor is proved here."""

from __future__ import annotations

from rempart.kernel.errors import Unauthenticated
from rempart.kernel.event import EventType

from ..login_record import LoginRecord
from ..model import Account, Authenticated, Credentials, Origin
from ..ports import AccountStore
from ..throttle import Throttle
from .codes import Codes
from .model import Factor, OneTimeCode, Proof, SecondFactorNeeded
from .tickets import Ticket, Tickets, expired


class Factors:
    def __init__(
        self, accounts: AccountStore, codes: Codes, tickets: Tickets, throttle: Throttle, record: LoginRecord
    ) -> None:
        self._accounts, self._codes, self._tickets = accounts, codes, tickets
        self._throttle, self._record = throttle, record

    async def available(self, account: Account, credentials: Credentials) -> tuple[Factor, ...]:
        return (Factor.TOTP,) if credentials.totp is not None else ()

    async def ask(
        self, account: Account, credentials: Credentials, amr: tuple[str, ...], device: str | None
    ) -> SecondFactorNeeded | None:
        factors = await self.available(account, credentials)
        if not factors:
            return None
        return SecondFactorNeeded(ticket=self._tickets.issue(account, amr, device), factors=factors)

    async def step_up(self, account: Account, amr: tuple[str, ...]) -> SecondFactorNeeded | None:
        """For who is signed in by `amr` already and is to prove a factor now; None when they have none."""
        _, credentials = await self._account(account.id)
        return await self.ask(account, credentials, amr, None)

    async def prove(self, ticket: str, proof: Proof, origin: Origin) -> Authenticated:
        """Raises Unauthenticated `sign_in_expired` or `factor_failed`, Throttled `login_throttled`, Unavailable."""
        opened = self._tickets.open(ticket)
        account, credentials = await self._current(opened)
        if isinstance(proof, OneTimeCode):
            outcome = await self.try_code(account, credentials, proof.text, opened.device, origin)
        else:
            outcome = "no passkey"
        if isinstance(outcome, str):
            await self._record.refused(EventType.FACTOR_FAILED, outcome, account.id, account, origin)
            raise Unauthenticated("factor_failed", "the code or the passkey is wrong", "try again")
        amr = (*dict.fromkeys((*opened.amr, *outcome, "mfa")),)
        await self._record.succeeded(account, amr, opened.device is not None, origin)
        return Authenticated(account=account, amr=amr, auth_time=self._record.clock.now())

    async def try_code(
        self, account: Account, credentials: Credentials, text: str, device: str | None, origin: Origin
    ) -> tuple[str, ...] | str:
        attempt = self._throttle.begin(f"factor {account.id}", origin.network, device=device and f"factor {device}")
        try:
            why = await self._codes.spend(account, credentials, text)
        except BaseException:
            attempt.abandoned()
            raise
        if why:
            attempt.failed()
            return why
        attempt.succeeded()
        return ("otp",)

    async def _current(self, ticket: Ticket) -> tuple[Account, Credentials]:
        """Raises Unauthenticated `sign_in_expired` when the account was changed or disabled meanwhile."""
        account, credentials = await self._account(ticket.account_id)
        if account.disabled or account.epoch != ticket.epoch:
            raise expired()
        return account, credentials

    async def _account(self, account_id: str) -> tuple[Account, Credentials]:
        account = await self._accounts.get(account_id)
        found = await self._accounts.by_email(account.email) if account else None
        if found is None or found[0].id != account_id:
            raise expired()
        return found
