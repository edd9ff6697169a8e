"""What a person gets of themselves: logins and what a provisioning client said, and nothing that opens anything."""

from __future__ import annotations

from tests.unit.people.administration.test_scim_api import PASSWORD, Scim, play


def test_own_data_is_the_persons_and_holds_no_secret() -> None:
    async def body(s: Scim) -> None:
        user = await s.create(
            "bjensen",
            emails=[{"value": "ann@bank.example"}],
            externalId="hr-7",
            name={"givenName": "Ann"},
            password=PASSWORD,
        )
        token = (await s.h.login("ann@bank.example")).json()
        await s.h.add("bob@bank.example")
        await s.h.login("bob@bank.example")
        account = await s.h.people.accounts.get(user["id"])
        data = await s.h.people.administration.own_data.of(account)
        assert data["account"]["email"] == "ann@bank.example"
        assert data["provisioned"] == {"user_name": "bjensen", "external_id": "hr-7", "name": {"givenName": "Ann"}}
        assert len(data["logins"]) == 1
        told = str(data)
        assert not any(secret in told for secret in (token["refresh_token"], token["access_token"], "argon2", "bob"))

    play(body)


def test_who_was_not_provisioned_has_none_of_that() -> None:
    async def body(s: Scim) -> None:
        made = await s.h.add("ann@bank.example")
        account = await s.h.people.accounts.get(made["id"])
        assert (await s.h.people.administration.own_data.of(account))["provisioned"] is None

    play(body)
