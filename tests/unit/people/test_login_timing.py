"""No refusal tells by its time how far the attempt came: whether the account exists, is disabled, was guessed right.

Hashing is next to free here, so that the rest of the work shows.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time

import pytest
from tests.people_harness import PASSWORD, Harness, harness

from rempart.crypto.passwords import Argon2id

TOTP = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
ROUNDS = 100


async def assert_alike(h: Harness, attempts: dict[str, tuple[str, str, str | None]]) -> None:
    """Up to four measurements: what the work itself makes differ differs in all of them, what the machine does not."""
    for _ in range(4):
        found = await typical(h, attempts)
        if max(found.values()) < 1.18 * min(found.values()):
            return
    pytest.fail(str(found))


async def typical(h: Harness, attempts: dict[str, tuple[str, str, str | None]]) -> dict[str, float]:
    """First quartiles in milliseconds of processor time, of all threads: what else the machine does hardly counts."""
    taken: dict[str, list[float]] = {name: [] for name in attempts}
    seen = set()
    for _ in range(ROUNDS):
        for name, (email, password, otp) in random.sample(sorted(attempts.items()), len(attempts)):
            body = {"email": email, "password": password, **({"otp": otp} if otp else {})}
            h.api.cookies.clear()
            started = time.process_time()
            answer = await h.login(**body)
            taken[name].append(time.process_time() - started)
            seen.add((answer.status_code, answer.text, str(sorted(answer.headers.items()))))
    assert len(seen) == 1, seen
    return {name: statistics.quantiles(times)[0] * 1000 for name, times in taken.items()}


@pytest.mark.parametrize("otp", [None, "000000", "00000-00000"])
def test_refusals_take_alike(otp: str | None) -> None:
    async def scenario() -> None:
        async with harness(unsafe_disabled=["login-throttle"]) as h:
            await h.add("ann@bank.example")
            await h.add("otto@bank.example", totp=TOTP)
            off = await h.add("off@bank.example")
            await h.admin.patch(f"/users/{off['id']}", json={"disabled": True})
            await assert_alike(
                h,
                {
                    "unknown": ("nobody@bank.example", PASSWORD, otp),
                    "wrong": ("ann@bank.example", "wrong", otp),
                    "disabled": ("off@bank.example", PASSWORD, otp),
                    "right without the factor": ("otto@bank.example", PASSWORD, otp),
                },
            )

    asyncio.run(scenario())


def test_hashing_takes_alike_whether_or_not_the_account_exists() -> None:
    async def scenario() -> None:
        async with harness(unsafe_disabled=["login-throttle"]) as h:
            h.people.logins._hasher = Argon2id(memory=4096, passes=1)
            h.people.logins.__dict__.pop("_dummy", None)
            h.people.logins.warm_up()
            hashed = h.people.logins._hasher.hash(PASSWORD)
            await h.admin.post("/users", json={"email": "ann@bank.example", "role": "user", "password_hash": hashed})
            attempts: dict[str, tuple[str, str, str | None]] = {
                "known": ("ann@bank.example", "wrong", None),
                "unknown": ("nobody@bank.example", "wrong", None),
            }
            await assert_alike(h, attempts)

    asyncio.run(scenario())


def test_the_throttled_are_told_alike_whether_or_not_they_exist() -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.add("ann@bank.example")
            off = await h.add("off@bank.example")
            await h.admin.patch(f"/users/{off['id']}", json={"disabled": True})
            emails = ("ann@bank.example", "off@bank.example", "nobody@bank.example")
            for _ in range(12):
                for email in emails:
                    while (await h.login(email, "wrong")).status_code == 429 and _ < 5:
                        h.clock.advance(1)
            await assert_alike(h, {email: (email, PASSWORD, None) for email in emails})

    asyncio.run(scenario())
