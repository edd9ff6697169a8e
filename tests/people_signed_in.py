"""Somebody signed in, as the services of `people/factors` are told of them."""

from __future__ import annotations

from tests.people_harness import Harness

from rempart.people.factors.model import Person


async def person(
    h: Harness,
    account_id: str,
    *,
    amr: tuple[str, ...] = ("pwd",),
    session: str = "ses_1",
    proved_ago: float = 0.0,
) -> Person:
    account = await h.people.accounts.get(account_id)
    return Person(account=account, session=session, amr=amr, auth_time=h.clock.now() - proved_ago)
