"""No refusal tells by its time how far the attempt came: whether the account exists, is disabled, was guessed right.

Hashing is next to free here, so that the rest of the work shows.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import pytest
from tests.people_harness import PASSWORD, Harness, harness

TOTP = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
ROUNDS = 100


async def medians(h: Harness, attempts: dict[str, tuple[str, str, str | None]]) -> dict[str, float]:
    """In milliseconds; the attempts take turns, so that what else the machine does hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in attempts}
    seen = set()
    for _ in range(ROUNDS):
        for name, (email, password, otp) in attempts.items():
            body = {"email": email, "password": password, **({"otp": otp} if otp else {})}
            h.api.cookies.clear()
            started = time.perf_counter()
            answer = await h.login(**body)
            taken[name].append(time.perf_counter() - started)
            seen.add((answer.status_code, answer.text, str(sorted(answer.headers.items()))))
    assert len(seen) == 1, seen
    return {name: statistics.median(times) * 1000 for name, times in taken.items()}


@pytest.mark.parametrize("otp", [None, "000000", "00000-00000"])
def test_refusals_take_alike(otp: str | None) -> None:
    async def scenario() -> None:
        async with harness(unsafe_disabled=["login-throttle"]) as h:
            await h.add("ann@bank.example")
            await h.add("otto@bank.example", totp=TOTP)
            off = await h.add("off@bank.example")
            await h.admin.patch(f"/users/{off['id']}", json={"disabled": True})
            found = await medians(
                h,
                {
                    "unknown": ("nobody@bank.example", PASSWORD, otp),
                    "wrong": ("ann@bank.example", "wrong", otp),
                    "disabled": ("off@bank.example", PASSWORD, otp),
                    "right without the factor": ("otto@bank.example", PASSWORD, otp),
                },
            )
            assert max(found.values()) < 1.2 * min(found.values()), found

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
            found = await medians(h, {email: (email, PASSWORD, None) for email in emails})
            assert max(found.values()) < 1.2 * min(found.values()), found

    asyncio.run(scenario())
