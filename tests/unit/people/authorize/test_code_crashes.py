"""The process dies at each step of redeeming a code: no code is good twice, and nobody holds what nobody was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.authorize_support import Room, room

from rempart.kernel.errors import BadInput


class Died(BaseException):
    """The process is gone; nothing after it runs."""


class Dying:
    """Passes calls on and dies before or after the n-th one; what it did before stays done, as on a disk."""

    def __init__(self, inner: Any, fuse: list[int], *, after: bool) -> None:
        self._inner, self._fuse, self._after = inner, fuse, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*values: Any, **named: Any) -> Any:
            self._fuse[0] -= 1
            if self._fuse[0] == 0 and not self._after:
                raise Died
            answer = await found(*values, **named)
            if self._fuse[0] == 0:
                raise Died
            return answer

        return call


async def exchange(it: Room, code: str) -> bool:
    """The whole exchange as the token endpoint does it; whether it was answered."""
    granted = await it.redeem(code)
    await it.family(granted)
    return True


async def steps(it: Room, fuse: list[int], after: bool) -> Callable[[], None]:
    """Put the fuse into everything that an exchange writes to or reads from; the answer takes it out again."""
    codes = it.authorization.grants[0]._codes
    records, families = codes._records, it.people.families
    kept = {"_store": records._store, "_accounts": codes._accounts, "_sessions": codes._sessions}
    records._store = Dying(records._store, fuse, after=after)
    codes._accounts = Dying(codes._accounts, fuse, after=after)
    codes._sessions = Dying(codes._sessions, fuse, after=after)
    codes._logouts = Dying(codes._logouts, fuse, after=after)
    it.people.__dict__["families"] = Dying(families, fuse, after=after)

    def mend() -> None:
        records._store, codes._accounts, codes._sessions = kept["_store"], kept["_accounts"], kept["_sessions"]
        codes._logouts = codes._logouts._inner
        it.people.__dict__["families"] = families

    return mend


@pytest.mark.parametrize("after", [False, True])
def test_no_code_is_good_twice_wherever_the_process_dies(after: bool) -> None:
    async def run() -> None:
        async with room() as it:
            await it.sign_in()
            died_at = 0
            refusals: set[str] = set()
            for step in range(1, 30):
                code = await it.code(scope="openid offline_access")
                fuse = [step]
                mend = await steps(it, fuse, after)
                answered = 0
                try:
                    answered += await exchange(it, code)
                except Died:
                    died_at = step
                finally:
                    mend()
                for _ in range(2):
                    try:
                        answered += await exchange(it, code)
                    except BadInput as error:
                        refusals.add(error.code)
                assert answered <= 1, (step, after)
                if fuse[0] > 0:
                    break
            assert died_at >= 5  # the fuse burnt at every step there is
            assert refusals == {"invalid_grant"}

    asyncio.run(run())
