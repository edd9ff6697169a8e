"""The states of a root's rotation: in every one of them, what is in use is trusted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workloads.doubles import DOMAIN

from rempart.kernel.errors import Conflict
from rempart.workloads import authority
from rempart.workloads.root_rotation import RootSet

ROOTS = [authority.described(authority.create_root("spiffe", DOMAIN, now=1000.0)[0], f"{n}.sealed") for n in range(4)]
PRINTS = [root.fingerprint for root in ROOTS]
LIFE = 100.0


def test_two_roots_have_two_names() -> None:
    """Verifiers look an issuer up by its name: with one name for both it would depend on them which is found."""
    from cryptography import x509

    names = {x509.load_pem_x509_certificate(root.certificate.encode()).subject for root in ROOTS}
    assert len(names) == len(ROOTS)


def test_the_overlap_begins_only_when_both_are_published() -> None:
    prepared = RootSet(current=ROOTS[0]).prepare(ROOTS[1], 10)
    assert prepared.advance(1e12, vouches_for=LIFE) is prepared
    assert prepared.publish([PRINTS[0]], 5000) is prepared
    published = prepared.publish(PRINTS[:2], 5000)
    assert published.publish(PRINTS[:2], 9000) is published
    assert published.advance(5009, vouches_for=LIFE) is published
    active = published.advance(5010, vouches_for=LIFE)
    assert (active.current, active.previous, active.phase) == (ROOTS[1], ROOTS[0], "retiring")
    assert active.advance(5109, vouches_for=LIFE) is active
    assert active.advance(5110, vouches_for=LIFE) == RootSet(current=ROOTS[1])


@pytest.mark.parametrize("phase", ["prepared", "retiring"])
def test_a_second_rotation_waits_for_the_first(phase: str) -> None:
    roots = RootSet(current=ROOTS[0]).prepare(ROOTS[1], 1)
    if phase == "retiring":
        roots = roots.publish(PRINTS, 1).advance(2, vouches_for=LIFE)
    assert roots.phase == phase
    with pytest.raises(Conflict) as refusal:
        roots.prepare(ROOTS[2], 1)
    assert refusal.value.code == "rotation_under_way"


def test_half_of_a_life_is_when_it_is_due() -> None:
    steady = RootSet(current=ROOTS[0])
    certificate = ROOTS[0]
    half = (certificate.not_before + certificate.not_after) / 2
    assert not steady.is_due(half - 1)
    assert steady.is_due(half)
    assert not steady.prepare(ROOTS[1], 1).is_due(half)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["rotate", "publish", "wait"]), st.integers(0, 80)), max_size=40))
def test_whatever_happens_all_that_is_valid_is_below_a_trusted_root(steps: list[tuple[str, int]]) -> None:
    """Certificates of LIFE seconds are signed all the time, peers learn what is published, and each stays verifiable
    by every peer that is at most an overlap (20 s) behind."""
    roots, now, used = RootSet(current=ROOTS[0]), 5000.0, 0
    signed = {0: now + LIFE}  # root → until when something it signed is valid
    trusted_since = {0: 0.0}
    for what, amount in steps:
        if what == "rotate" and roots.phase == "steady" and used + 1 < len(ROOTS):
            used += 1
            roots = roots.prepare(ROOTS[used], 20)
        elif what == "publish":
            roots = roots.publish([root.fingerprint for root in roots.roots], now)
            for root in roots.roots:
                trusted_since.setdefault(ROOTS.index(root), now)
        now += amount
        roots = roots.advance(now, vouches_for=LIFE)
        signer = ROOTS.index(roots.current)
        assert now - trusted_since.get(signer, now) >= 20 or signer == 0
        signed[signer] = now + LIFE
        trusted = {ROOTS.index(root) for root in roots.roots}
        assert {root for root, until in signed.items() if until > now} <= trusted
