"""Bringing many accounts in, one by one: what can't be used is told, the others are made; again changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rempart.crypto.passwords import check_encoded
from rempart.kernel.errors import BadInput, RempartError

from ..accounts import Accounts, Actor, Added
from ..model import check_limit, clean_name, normalise_email
from ..requests import Body

MAX_IMPORT = 100  # accounts in one request: each may cost a hash


class NewAccount(Body, frozen=True):
    email: str
    role: str
    name: str | None = None
    payment_limit: int | None = None
    password: str | None = None
    password_hash: str | None = None
    totp: str | None = None
    disabled: bool = False


class Imports:
    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def add(self, new: NewAccount, actor: Actor, *, invited: bool = False) -> Added:
        """Raises as `Accounts.add`."""
        return await self._accounts.add(
            email=new.email,
            role=new.role,
            name=new.name,
            payment_limit=new.payment_limit,
            password=new.password,
            password_hash=new.password_hash,
            totp=new.totp,
            disabled=new.disabled,
            invited=invited,
            actor=actor,
        )

    async def run(self, accounts: Sequence[NewAccount], actor: Actor, *, dry_run: bool) -> list[dict[str, Any]]:
        """One entry for each, in order: `outcome` is `added`, `exists`, `would_add` or `refused` with `error`, `code`.

        An address that has an account is left as it is, so an import that broke off can simply be run again. Raises
        BadInput `too_many`, and what is nobody's fault (Unavailable).
        """
        if len(accounts) > MAX_IMPORT:
            raise BadInput("too_many", f"at most {MAX_IMPORT} accounts at once", "send them in parts")
        return [await self._one(new, actor, dry_run) for new in accounts]

    async def _one(self, new: NewAccount, actor: Actor, dry_run: bool) -> dict[str, Any]:
        entry: dict[str, Any] = {"email": new.email[:320]}
        try:
            address = normalise_email(new.email)
            found = await self._accounts.by_email(address)
            if found is not None:
                return {**found.public(), "outcome": "exists"}
            if dry_run:
                self._check(new, address, actor)
                return {**entry, "outcome": "would_add", "role": new.role}
            added = await self.add(new, actor)
        except RempartError as error:
            if error.status >= 500:
                raise
            return {**entry, "outcome": "refused", "error": error.reason, "code": error.code}
        entry = {**added.account.public(), "outcome": "added"}
        return entry if added.password is None else {**entry, "password": added.password}

    def _check(self, new: NewAccount, address: str, actor: Actor) -> None:
        """What `add` would refuse, without its work."""
        self._accounts.roles.check(new.role)
        if actor.person is not None:
            self._accounts.roles.require(actor.role or "", new.role)
        clean_name(new.name if new.name is not None else address.partition("@")[0])
        check_limit(new.payment_limit)
        if new.password_hash is not None:
            check_encoded(new.password_hash)
        elif new.password is not None:
            self._accounts.vet_new_password(new.password, address, new.name or "")
