"""SCIM Users over accounts: the same rules and the same record as every other door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakValueDictionary

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Conflict, NotFound, RempartError
from rempart.kernel.ids import new_id
from rempart.kernel.principal import Role

from ...accounts import Accounts, Actor
from ...model import Account, normalise_email
from . import filters
from .patches import apply
from .queries import Query
from .refusals import NotAsExpected
from .user_document import (
    MULTIVALUED,
    ScimStore,
    ScimUser,
    Wanted,
    draft_user,
    read_user,
    with_version,
    write_user,
)

_PAGE = 200
NEW_ROLE = str(Role.USER)


class ScimUsers:
    """`base` is the address of the SCIM service, without a slash at its end."""

    def __init__(self, accounts: Accounts, store: ScimStore, clock: Clock, base: str) -> None:
        self._accounts, self._store, self._clock, self._base = accounts, store, clock, base
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def create(self, body: Any, actor: Actor) -> dict[str, Any]:
        """Role `user`; without a password none works until one is chosen. Raises Conflict, ScimRefusal, BadInput."""
        wanted = read_user(body)
        await self._free(wanted, None)
        account_id = new_id("usr")
        kept = self._kept(account_id, wanted)
        await self._store.put(kept)
        try:
            added = await self._accounts.add(
                account_id=account_id,
                email=wanted.email,
                role=NEW_ROLE,
                name=wanted.name,
                payment_limit=None,
                password=wanted.password,
                invited=True,
                disabled=not wanted.active,
                actor=actor,
            )
        except RempartError:
            await self._store.remove(account_id)
            raise
        return write_user(added.account, kept, self._base)

    async def get(self, account_id: str) -> dict[str, Any]:
        """Raises NotFound `no_such_account`."""
        return write_user(await self._account(account_id), await self._store.get(account_id), self._base)

    async def replace(self, account_id: str, body: Any, expected: str | None, actor: Actor) -> dict[str, Any]:
        """`expected`: `If-Match`. Raises NotAsExpected, and as `create` and `Accounts.change`."""
        async with self._turn(account_id):
            self._expect(await self.get(account_id), expected)
            return await self._write(account_id, read_user(body), actor)

    async def patch(self, account_id: str, body: Any, expected: str | None, actor: Actor) -> dict[str, Any]:
        async with self._turn(account_id):
            document = await self.get(account_id)
            self._expect(document, expected)
            return await self._write(account_id, read_user(apply(document, body, MULTIVALUED)), actor)

    async def delete(self, account_id: str, expected: str | None, actor: Actor) -> None:
        """The account is erased: disabled for good, its person forgotten, its user name free."""
        async with self._turn(account_id):
            self._expect(await self.get(account_id), expected)
            await self._accounts.erase(account_id, actor)
            await self._store.remove(account_id)

    def _turn(self, account_id: str) -> asyncio.Lock:
        """Who writes reads first: of two at once, the second one sees what the first wrote. For this instance's."""
        return self._turns.setdefault(account_id, asyncio.Lock())

    async def search(self, query: Query) -> dict[str, Any]:
        """A ListResponse. A filter that names one user is looked up, any other is held to every account."""
        tree = query.tree
        named = await self._named(tree) if tree else None
        if named is not None:
            return query.answer([document for document in named if tree and filters.matches(document, tree)])
        window = query.window(with_version)
        async for document in self._everyone():
            if tree is None or filters.matches(document, tree):
                window.add(document)
        return window.answer()

    async def _everyone(self) -> AsyncIterator[dict[str, Any]]:
        after = ""
        while page := await self._accounts.page(after, _PAGE):
            kept = await self._store.between(after, page[-1].id)
            after = page[-1].id
            for account in page:
                if not account.erased:
                    yield draft_user(account, kept.get(account.id), self._base)

    async def _named(self, tree: filters.Filter) -> list[dict[str, Any]] | None:
        """Candidates where the filter can only hold for one user; None where it can't be told."""
        parts = tree.parts if isinstance(tree, filters.All) else (tree,)
        for part in parts:
            if isinstance(part, filters.Compare) and part.operator == "eq" and isinstance(part.value, str):
                if part.path == "id":
                    return await self._documents(await self._accounts.peek(part.value))
                if part.path == "username":
                    return await self._documents(await self._by_user_name(part.value))
                if part.path in ("emails", "emails.value"):
                    return await self._documents(await self._by_email(part.value))
        return None

    async def _documents(self, account: Account | None) -> list[dict[str, Any]]:
        if account is None or account.erased:
            return []
        return [write_user(account, await self._store.get(account.id), self._base)]

    async def _by_user_name(self, user_name: str) -> Account | None:
        kept = await self._store.by_user_name(user_name)
        holder = await self._accounts.peek(kept.account_id) if kept else None
        if holder is not None and not holder.erased:
            return holder
        account = await self._by_email(user_name)
        return account if account and await self._store.get(account.id) is None else None

    async def _by_email(self, text: str) -> Account | None:
        try:
            return await self._accounts.by_email(normalise_email(text))
        except RempartError:
            return None

    async def _write(self, account_id: str, wanted: Wanted, actor: Actor) -> dict[str, Any]:
        account = await self._account(account_id)
        await self._free(wanted, account_id)
        if wanted.password is not None:
            account = (await self._accounts.reset_password(account_id, wanted.password, None, actor)).account
        changes = {"email": wanted.email, "name": wanted.name, "disabled": not wanted.active}
        account = await self._accounts.change(account_id, changes, actor)
        kept = await self._store.get(account_id)
        fresh = self._kept(account_id, wanted)
        if kept is None or _said(kept) != _said(fresh):
            await self._store.put(fresh)
            kept = fresh
        return write_user(account, kept, self._base)

    async def _free(self, wanted: Wanted, account_id: str | None) -> None:
        """A user name that looks like an address is its owner's. Raises Conflict `user_name_taken`."""
        holder = await self._by_user_name(wanted.user_name)
        if holder is not None and holder.id != account_id:
            raise Conflict("user_name_taken", "another user has this userName", "use another one")

    async def _account(self, account_id: str) -> Account:
        account = await self._accounts.get(account_id)
        if account.erased:
            raise NotFound("no_such_account", "there is no such user")
        return account

    def _kept(self, account_id: str, wanted: Wanted) -> ScimUser:
        return ScimUser(
            account_id=account_id,
            user_name=wanted.user_name,
            external_id=wanted.external_id,
            names=wanted.names,
            display_name=wanted.display_name,
            marks=wanted.marks,
            at=self._clock.now(),
        )

    def _expect(self, document: dict[str, Any], expected: str | None) -> None:
        expect(document["meta"]["version"], expected)


def expect(version: str, expected: str | None) -> None:
    """`If-Match` (RFC 7644 section 3.14). Raises NotAsExpected `version_changed`."""
    if expected and expected.strip() != "*" and version not in [tag.strip() for tag in expected.split(",")]:
        raise NotAsExpected("version_changed", "the resource was changed meanwhile", "read it again, then retry")


def _said(user: ScimUser) -> tuple[Any, ...]:
    return user.user_name, user.external_id, dict(user.names), user.display_name, dict(user.marks)
