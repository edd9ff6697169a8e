"""requires(): the second lock, on functions and coroutines."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

import pytest

from rempart.kernel.errors import RempartError, Unauthenticated
from rempart.kernel.principal import Person
from rempart.kernel.spiffe import SpiffeId
from rempart.sdk import Caller, requires
from rempart.sdk.identity import current

PAYMENT = "spiffe://bank.example/payment"


def calling(workload: str, role: str | None) -> None:
    current.set(Caller(SpiffeId.parse(workload), Person("acc_1", role) if role is not None else None))


@requires(role="finance", workload=[PAYMENT])
def guarded(word: str) -> str:
    return word


@requires(role=("finance", "admin"))
async def guarded_coroutine(word: str) -> str:
    return word


def outcome(workload: str, role: str | None) -> tuple[str, str]:
    def play() -> tuple[str, str]:
        calling(workload, role)
        return tell(lambda: guarded("x")), tell(lambda: asyncio.run(guarded_coroutine("x")))

    def tell(call: Callable[[], str]) -> str:
        try:
            return call()
        except RempartError as error:
            return error.code

    return contextvars.copy_context().run(play)


def test_who_gets_in() -> None:
    assert outcome(PAYMENT, "finance") == ("x", "x")
    assert outcome(PAYMENT, "admin") == ("role_required", "x")
    assert outcome(PAYMENT, "Finance") == ("role_required", "role_required")
    assert outcome(PAYMENT, None) == ("token_required", "token_required")
    assert outcome(PAYMENT + "2", "finance") == ("workload_required", "x")
    assert outcome("spiffe://partner.example/payment", "finance") == ("workload_required", "x")


def test_without_a_request_nobody_gets_in() -> None:
    with pytest.raises(Unauthenticated):
        guarded("x")
    with pytest.raises(Unauthenticated):
        asyncio.run(guarded_coroutine("x"))


def test_a_guard_that_guards_nothing_is_refused_when_written() -> None:
    with pytest.raises(ValueError, match="everybody"):
        requires()
    with pytest.raises(ValueError, match="everybody"):
        requires(role=(), workload=[])


def test_a_token_is_not_shown() -> None:
    who = Caller(SpiffeId.parse(PAYMENT), authorization="Bearer secret")
    assert "secret" not in repr(who)
