"""JWT-SVIDs: strict validation, keys published before they sign and after they stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rempart.crypto.jose import SigningKey
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput, Integrity, Unauthenticated
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.bundle_state import BundleState
from rempart.workloads.jwt_authority import MAX_TOKEN_TTL, JwtAuthority, _active, check_audiences
from rempart.workloads.model import Entry, Selector

DOMAIN = "bank.example"
ENTRY = Entry(
    id="e", spiffe_id=SpiffeId.parse(f"spiffe://{DOMAIN}/a"), selectors=frozenset({Selector.parse("unix:uid:1")})
)


def authority(path: Path, clock: ManualClock, key_ttl: float = 1000.0) -> JwtAuthority:
    state = BundleState(path / "state", b"k" * 32)
    state.load()
    made = JwtAuthority(DOMAIN, state, (), clock, key_ttl=key_ttl)
    asyncio.run(made.advance())
    return made


def test_what_is_signed_validates(tmp_path: Path) -> None:
    made = authority(tmp_path, ManualClock())
    id_, claims = made.validate(made.sign(ENTRY, ("a",)).token, "a")
    assert (id_, claims["aud"], claims["exp"] - claims["iat"]) == (ENTRY.spiffe_id, "a", 300)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()), min_size=1, max_size=8),
    st.integers(0, 10_000),
    st.characters(codec="ascii"),
)
def test_whatever_the_audiences_only_they_validate_it_and_no_changed_one(
    tmp_path: Path, audiences: list[str], place: int, other: str
) -> None:
    made = authority(tmp_path, ManualClock())
    token = made.sign(ENTRY, check_audiences(audiences)).token
    for audience in audiences:
        assert made.validate(token, audience)[0] == ENTRY.spiffe_id
    with pytest.raises(Unauthenticated):
        made.validate(token, "".join(audiences) + "!")
    at = place % len(token)
    changed = token[:at] + other + token[at + 1 :]
    if changed != token:
        with pytest.raises(Unauthenticated):
            made.validate(changed, audiences[0])


def test_of_several_audiences_each_may_validate(tmp_path: Path) -> None:
    made = authority(tmp_path, ManualClock())
    token = made.sign(ENTRY, ("a", "b")).token
    assert made.validate(token, "b")[0] == ENTRY.spiffe_id
    with pytest.raises(Unauthenticated):
        made.validate(token, "c")


def test_expired_foreign_and_changed_tokens_are_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    made = authority(tmp_path, clock)
    token = made.sign(ENTRY, ("a",)).token
    now = int(clock.now())
    claims = {"iss": f"spiffe://{DOMAIN}", "sub": str(ENTRY.spiffe_id), "aud": "a", "iat": now, "exp": now + 60}
    own = _active(made._keys, clock.now()).signing
    for bad in (
        SigningKey.generate("ES256").sign(claims, typ="JWT"),
        own.sign(claims, typ="at+jwt"),
        own.sign({k: v for k, v in claims.items() if k != "exp"}, typ="JWT"),
        own.sign(claims | {"sub": "spiffe://partner.example/a"}, typ="JWT"),
        own.sign(claims | {"sub": f"spiffe://{DOMAIN}"}, typ="JWT"),
        own.sign(claims | {"aud": "b"}, typ="JWT"),
        own.sign(claims | {"iss": "spiffe://partner.example"}, typ="JWT"),
        token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        "",
        "a.b.c",
    ):
        with pytest.raises(Unauthenticated) as refusal:
            made.validate(bad, "a")
        assert refusal.value.code == "invalid_jwt_svid"
    assert made.validate(own.sign(claims, typ="JWT"), "a")  # else the list above would prove nothing
    clock.advance(306)
    with pytest.raises(Unauthenticated, match="expired"):
        made.validate(token, "a")


def test_a_key_is_published_before_it_signs_and_until_its_tokens_have_expired(tmp_path: Path) -> None:
    clock = ManualClock()
    made = authority(tmp_path, clock)
    first = _active(made._keys, clock.now()).signing.kid
    clock.advance(501)
    assert asyncio.run(made.advance())
    assert len(made.public_keys()) == 2
    assert _active(made._keys, clock.now()).signing.kid == first  # the second one is known and does not sign yet
    clock.advance(101)
    token = made.sign(ENTRY, ("a",)).token
    assert not asyncio.run(made.advance())
    assert _active(made._keys, clock.now()).signing.kid != first
    assert made.validate(token, "a")
    clock.advance(1000 + MAX_TOKEN_TTL)
    asyncio.run(made.advance())
    assert first not in {key["kid"] for key in made.public_keys()}


def test_every_change_counts_the_sequence_up_and_nothing_else_does(tmp_path: Path) -> None:
    clock = ManualClock()
    made = authority(tmp_path, clock)
    assert made.sequence == 1
    asyncio.run(made.advance())
    assert made.sequence == 1
    asyncio.run(made.advance(at_once=True))
    assert made.sequence == 2
    assert authority(tmp_path, clock).sequence == 3  # a restart brings a new key


def test_tokens_of_the_process_before_still_validate(tmp_path: Path) -> None:
    clock = ManualClock()
    token = authority(tmp_path, clock).sign(ENTRY, ("a",)).token
    assert authority(tmp_path, clock).validate(token, "a")[0] == ENTRY.spiffe_id


def test_a_clock_that_jumps_far_leaves_a_key_that_signs(tmp_path: Path) -> None:
    clock = ManualClock()
    made = authority(tmp_path, clock)
    for jump in (1e7, -2e7):
        clock.advance(jump)
        asyncio.run(made.advance())
        assert made.validate(made.sign(ENTRY, ("a",)).token, "a")


def test_a_state_file_that_somebody_changed_is_not_believed(tmp_path: Path) -> None:
    authority(tmp_path, ManualClock())
    path = tmp_path / "state"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Integrity) as refusal:
        authority(tmp_path, ManualClock())
    assert refusal.value.code == "bundle_state_broken"


@pytest.mark.parametrize("audiences", [[], [""], ["x" * 513], [f"a{n}" for n in range(9)]])
def test_an_audience_is_required_and_bounded(audiences: list[str]) -> None:
    with pytest.raises(BadInput):
        check_audiences(audiences)
