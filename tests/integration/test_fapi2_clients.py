"""openid-client against people under `security_profile = "fapi2"`, over TLS."""

from __future__ import annotations

import json
import ssl
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey
from tests.node_support import converse
from tests.people_browser import Browser, sign_in
from tests.people_site import PASSWORD, people_site

pytestmark = pytest.mark.timeout(180)


def test_openid_client_with_everything_bound() -> None:
    key = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()), {"kid": "k1", "alg": "ES256"})  # type: ignore[arg-type] # joserfc takes native keys
    public, private = ({**key.as_dict(private=which), "alg": "ES256", "kid": "k1"} for which in (False, True))
    with people_site(security_profile="fapi2") as people:
        email = people.add()
        grants = ["authorization_code", "refresh_token", "client_credentials"]
        people.register("bank-app", method="private_key_jwt", jwks=[json.loads(json.dumps(public))], grants=grants)
        ca = str(people.process.directory / "tls" / "tls.pem")
        given = {
            "issuer": f"{people.origin}/auth",
            "callback": f"{people.client}/callback",
            "client": {"id": "bank-app", "jwk": private},
        }
        context = ssl.create_default_context(cafile=ca)
        with httpx.Client(base_url=people.origin, verify=context, timeout=20) as http:
            browser = Browser(http)

            def answer(question: dict[str, Any]) -> dict[str, Any]:
                if question["ask"] == "open":
                    seen = browser.open(question["url"])
                    return {"at": seen if isinstance(seen, str) else str(seen.url)}
                return {"at": sign_in(browser, question["url"], email, PASSWORD)}

            told = [one["told"] for one in converse("fapi2.mjs", given, answer, ca=ca)]
    assert told[-1] == "client credentials, bound"
