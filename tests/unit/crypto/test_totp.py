"""RFC 6238 with its own vectors, and the window."""

from __future__ import annotations

import pytest

from rempart.crypto.totp import code, matching_step, parse_secret
from rempart.kernel.errors import BadInput

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("at", "expected"),
    [(59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
     (2000000000, "69279037"), (20000000000, "65353130")],
)  # fmt: skip
def test_rfc_6238_appendix_b(at: int, expected: str) -> None:
    assert code(SECRET, at // 30, digits=8) == expected


def test_rfc_4226_appendix_d() -> None:
    expected = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    assert [code(SECRET, counter) for counter in range(10)] == expected


def test_this_step_and_the_one_before_are_accepted() -> None:
    now = 1_700_000_010.0
    current = int(now) // 30
    for step in range(current - 3, current + 4):
        expected = step if step in (current - 1, current) else None
        assert matching_step(SECRET, code(SECRET, step), now) == expected
    for bad in ("", "000000x", "１２３４５６", "1" * 1000):
        assert matching_step(SECRET, bad, now) is None


def test_secrets_are_read_as_people_write_them() -> None:
    assert parse_secret("GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ") == SECRET
    assert parse_secret("gezdgnbvgy3tqojqgezdgnbvgy3tqojq====") == SECRET
    for bad in ("", "ABC", "1" * 32, "A" * 200, "é" * 32):
        with pytest.raises(BadInput):
            parse_secret(bad)
