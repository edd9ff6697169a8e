"""Refresh tokens and what ends them (RFC 9700 section 4.14, RFC 7009)."""

from __future__ import annotations

import time

import pytest
from tests.probe.kit import SECRET, Idp


def test_rotation_then_reuse_ends_the_family(idp: Idp) -> None:
    first = idp.tokens()["refresh_token"]
    second = idp.refresh(first).json()["refresh_token"]
    third = idp.refresh(second).json()["refresh_token"]
    assert len({first, second, third}) == 3
    stolen = idp.refresh(first)
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    assert idp.refresh(third).status_code == 400


@pytest.mark.parametrize("client", ["p-two", "p-spa", "p-tv"])
def test_another_client_has_no_use_for_it(idp: Idp, client: str) -> None:
    token = idp.tokens()["refresh_token"]
    assert idp.refresh(token, client).status_code in (400, 401)
    assert idp.refresh(token).status_code in (200, 400)


def test_without_the_secret_it_is_worth_nothing(idp: Idp) -> None:
    token = idp.tokens()["refresh_token"]
    bare = {"grant_type": "refresh_token", "refresh_token": token}
    assert idp.token(bare).status_code in (400, 401)
    assert idp.token(bare | {"client_id": "p-web"}).status_code in (400, 401)
    assert idp.token(bare, auth=("p-web", "wrong")).status_code == 401
    assert idp.refresh(token).status_code == 200


def test_scopes_may_shrink_and_never_grow(idp: Idp) -> None:
    token = idp.tokens(scope="openid offline_access")["refresh_token"]
    assert idp.refresh(token, scope="openid email").json()["error"] == "invalid_scope"
    assert idp.refresh(token, scope="openid session").json()["error"] == "invalid_scope"
    less = idp.refresh(token, scope="openid").json()
    assert set(less["scope"].split()) == {"openid"}


@pytest.mark.parametrize(
    "spoil", ["", "x", "A" * 9000, "\x00", "é", "../../etc", "fam_x.y.z", "null", "{}", "' or 1=1 --"]
)
def test_nonsense_is_refused(idp: Idp, spoil: str) -> None:
    answer = idp.refresh(spoil)
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_grant", "invalid_request")


def test_cut_changed_and_longer_tokens_are_refused_and_end_nothing(idp: Idp) -> None:
    token = idp.tokens()["refresh_token"]
    for spoiled in (
        token[:-1],
        token + "A",
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        token.upper(),
        token[::-1],
    ):
        assert idp.refresh(spoiled).status_code == 400
    assert idp.refresh(token).status_code == 200


def test_revoking_ends_the_family_and_what_the_access_token_can_do(idp: Idp) -> None:
    tokens = idp.tokens()
    url = idp.endpoint("revocation_endpoint")
    assert idp.ask("POST", url, data={"token": tokens["refresh_token"]}, auth=("p-web", SECRET)).status_code == 200
    assert idp.refresh(tokens["refresh_token"]).status_code == 400
    seen = idp.ask(
        "POST", idp.endpoint("introspection_endpoint"), data={"token": tokens["access_token"]}, auth=("p-web", SECRET)
    )
    assert seen.json()["active"] is False


def test_another_client_cannot_revoke_it(idp: Idp) -> None:
    """RFC 7009 section 2.1: the token must have been issued to the client."""
    token = idp.tokens()["refresh_token"]
    answer = idp.ask("POST", idp.endpoint("revocation_endpoint"), data={"token": token}, auth=("p-two", SECRET))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert idp.refresh(token).status_code == 200


@pytest.mark.parametrize("token", ["unknown", "x" * 5000, "a.b.c", "\x00"])
def test_revoking_nonsense_is_no_error(idp: Idp, token: str) -> None:
    """RFC 7009 section 2.2."""
    answer = idp.ask("POST", idp.endpoint("revocation_endpoint"), data={"token": token}, auth=("p-web", SECRET))
    assert answer.status_code in (200, 400)


def test_a_stranger_introspects_nothing(idp: Idp) -> None:
    token = idp.tokens()["access_token"]
    url = idp.endpoint("introspection_endpoint")
    assert idp.ask("POST", url, data={"token": token}).status_code == 401
    assert idp.ask("POST", url, data={"token": token, "client_id": "p-spa"}).status_code in (400, 401, 403)
    assert idp.ask("POST", url, data={"token": token}, auth=("p-web", "wrong")).status_code == 401
    assert idp.ask("GET", url, params={"token": token}, auth=("p-web", SECRET)).status_code == 405


@pytest.mark.parametrize("token", ["", "unknown", "x" * 5000, "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."])
def test_introspecting_nonsense_says_inactive_and_nothing_else(idp: Idp, token: str) -> None:
    answer = idp.ask("POST", idp.endpoint("introspection_endpoint"), data={"token": token}, auth=("p-web", SECRET))
    if token:
        assert answer.json() == {"active": False}
    else:
        assert answer.status_code == 400


def test_introspection_tells_a_client_what_is_its_own(idp: Idp) -> None:
    tokens = idp.tokens()
    seen = idp.ask(
        "POST", idp.endpoint("introspection_endpoint"), data={"token": tokens["access_token"]}, auth=("p-web", SECRET)
    ).json()
    assert (seen["active"], seen["client_id"], seen["sub"]) == (True, "p-web", idp.person["user_id"])
    assert seen["exp"] > time.time()
    assert seen["iss"] == idp.issuer
