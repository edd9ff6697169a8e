"""A token is verified once, and is as good as its key and its time say each time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.people_harness import harness

from rempart.crypto import jose
from rempart.kernel.errors import Unauthenticated
from rempart.people.access_tokens import _REMEMBERED
from rempart.people.model import Origin


def test_what_was_verified_is_not_verified_again_while_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with harness() as h:
            checked: list[str] = []
            verifies = jose.Jwks.verifies

            def counted(jwks: jose.Jwks, kid: str, token: Any) -> bool:
                checked.append(kid)
                return verifies(jwks, kid, token)

            monkeypatch.setattr(jose.Jwks, "verifies", counted)
            tokens = h.people.tokens
            token = tokens.mint(None, scope="reports", client_id="robot", ttl=60)
            assert tokens.read(token) == tokens.read(token)
            assert len(checked) == 1
            forged = token[:-20] + ("A" if token[-20] != "A" else "B") + token[-19:]
            for _ in range(2):
                with pytest.raises(Unauthenticated):
                    tokens.read(forged)
            assert len(checked) == 3
            h.clock.advance(66)
            with pytest.raises(Unauthenticated, match="expired"):
                tokens.read(token)

    asyncio.run(scenario())


def test_a_key_that_leaked_takes_what_was_verified_with_it() -> None:
    async def scenario() -> None:
        async with harness() as h:
            tokens, keys = h.people.tokens, h.people.keys
            token = tokens.mint(None, scope="reports", client_id="robot")
            assert tokens.read(token).subject == "robot"
            await keys.rotate(Origin(), retire_now=keys.access_signer.kid)
            with pytest.raises(Unauthenticated, match="unknown key"):
                tokens.read(token)

    asyncio.run(scenario())


def test_what_is_remembered_is_bounded() -> None:
    async def scenario() -> None:
        async with harness() as h:
            tokens = h.people.tokens
            made = [tokens.mint(None, scope="reports", client_id="robot") for _ in range(_REMEMBERED + 10)]
            for token in made:
                tokens.read(token)
            assert len(tokens._verified) == _REMEMBERED

    asyncio.run(scenario())
