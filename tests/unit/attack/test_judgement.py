"""The judge is strict: where nothing is protected, no attack counts as blocked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.attack.naive import naive_system

from rempart.attack import access, handshakes, headers, logins, paths, tokens
from rempart.attack.campaign import _run
from rempart.attack.model import Attack
from rempart.attack.scene import Scene


@pytest.fixture(scope="module")
def naive() -> Iterator[Scene]:
    with naive_system() as scene:
        yield scene


def attacks() -> list[Attack]:
    chosen = [*access.attacks(), *headers.attacks(), *paths.attacks(), *tokens.attacks()]
    chosen += [a for a in handshakes.attacks() if a.id.startswith("S-")]
    chosen += [a for a in logins.attacks() if not a.alone and a.id != "I-enumeration-text"]
    return [a for a in chosen if a.id not in ("R-request-id", "S-jwt-hs256-public-pem", "E-grant-types")]


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: attack.id)
def test_on_a_system_that_believes_everything_every_attack_gets_through(attack: Attack, naive: Scene) -> None:
    outcome = _run(naive, attack).outcome
    assert outcome.blocked is False, outcome
    assert "proves nothing" not in outcome.observed, outcome
