"""Issuing CAs rotate without a gap, and fail closed."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.workloads.doubles import MemoryRecorder, SigningSupervisor

from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Unauthenticated, Unavailable
from rempart.workloads.issuing import IssuingAuthority


def authority(clock: ManualClock) -> tuple[IssuingAuthority, SigningSupervisor, MemoryRecorder]:
    supervisor, recorder = SigningSupervisor(clock), MemoryRecorder()
    roots = [Certificate.parse(der) for der in pem_to_ders(supervisor.roots["spiffe"][0])]
    return IssuingAuthority("spiffe", supervisor, roots, recorder, clock), supervisor, recorder


def test_before_the_first_signature_nothing_can_be_issued() -> None:
    with pytest.raises(Unavailable):
        authority(ManualClock())[0].issuing()


def test_rotation_replaces_key_and_certificate_and_is_recorded() -> None:
    async def main() -> None:
        clock = ManualClock()
        issuing, _, recorder = authority(clock)
        first = await issuing.rotate()
        second = await issuing.rotate(operator="uid:7")
        assert first.certificate.serial != second.certificate.serial
        assert first.key.public_der() != second.key.public_der()
        assert issuing.issuing() is second
        assert recorder.types() == ["workloads.authority_rotated"] * 2
        assert recorder.events[1].operator == "uid:7"
        assert recorder.events[1].before == {"serial": first.certificate.serial}
        described = issuing.describe()
        assert [c["serial"] for c in described["retired"]] == [first.certificate.serial]  # type: ignore[attr-defined,index]  # JSON

    asyncio.run(main())


@pytest.mark.parametrize("broken", ["supervisor", "recorder"])
def test_a_failed_rotation_leaves_the_active_one(broken: str) -> None:
    async def main() -> None:
        clock = ManualClock()
        issuing, supervisor, recorder = authority(clock)
        first = await issuing.rotate()
        supervisor.down, recorder.down = broken == "supervisor", broken == "recorder"
        with pytest.raises(Unavailable):
            await issuing.rotate()
        assert issuing.issuing() is first
        clock.advance(101)
        with pytest.raises(Unavailable):  # and when it has expired, nothing is issued
            issuing.issuing()

    asyncio.run(main())


def test_a_certificate_from_another_root_is_not_used() -> None:
    async def main() -> None:
        clock = ManualClock()
        issuing, supervisor, _ = authority(clock)
        supervisor.roots = SigningSupervisor(clock).roots
        with pytest.raises(Unauthenticated):
            await issuing.rotate()

    asyncio.run(main())


def test_it_rotates_at_half_of_its_lifetime_and_retries_until_it_works() -> None:
    async def main() -> None:
        clock = ManualClock()
        issuing, supervisor, recorder = authority(clock)
        first = await issuing.rotate()
        keeping = asyncio.create_task(issuing.keep_fresh(poll_s=0.005))
        try:
            await asyncio.sleep(0.02)
            assert issuing.issuing() is first
            supervisor.down = True
            clock.advance(51)
            async with asyncio.timeout(5):
                while "system.alarm" not in recorder.types():
                    await asyncio.sleep(0.005)
                assert issuing.issuing() is first
                supervisor.down = False
                while issuing.issuing() is first:
                    await asyncio.sleep(0.005)
        finally:
            keeping.cancel()

    asyncio.run(main())
